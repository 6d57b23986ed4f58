//! A relay in front of the nodes, which listens in and does harm on request.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::common::within;

/// The bytes that go over the wire between nodes. Nothing passes any more when it is dropped.
pub struct Tap {
    wire: Arc<watch::Sender<Wire>>,
    relays: JoinSet<()>,
}

#[derive(Default)]
struct Wire {
    connections: Vec<Connection>,
    /// Comes over the next bytes that pass.
    harm: VecDeque<Harm>,
    harmed: Option<usize>,
}

/// One connection to a node.
#[derive(Clone)]
pub struct Connection {
    pub to: SocketAddr,
    /// Sent by the side that dialled.
    pub said: Vec<u8>,
    pub answered: Vec<u8>,
    pub has_ended: bool,
}

/// The ways in which a relay treats bytes.
#[derive(Clone, Debug)]
pub enum Harm {
    Flip,
    Drop,
    Repeat,
    Insert(Vec<u8>),
}

impl Tap {
    pub fn new() -> Self {
        Self { wire: Arc::new(watch::Sender::new(Wire::default())), relays: JoinSet::new() }
    }

    /// An address that leads to a node.
    pub async fn in_front_of(&mut self, to: SocketAddr) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        self.relays.spawn(accept(listener, to, Arc::clone(&self.wire)));
        address
    }

    pub fn connections(&self) -> Vec<Connection> {
        self.wire.borrow().connections.clone()
    }

    /// All that passed.
    pub fn heard(&self) -> Vec<u8> {
        let connections = self.connections();
        connections.into_iter().flat_map(|one| [one.said, one.answered].concat()).collect()
    }

    /// Does harm to a connection, and waits until its nodes end it.
    pub async fn harm(&self, harm: Harm) {
        self.wire.send_modify(|wire| {
            wire.harmed = None;
            wire.harm.push_back(harm);
        });
        let is_over = |wire: &Wire| wire.harmed.is_some_and(|one| wire.connections[one].has_ended);
        let mut wire = self.wire.subscribe();
        within(wire.wait_for(is_over)).await.unwrap();
    }

    /// Waits until this number of connections have ended.
    pub async fn ended(&self, count: usize) {
        let ended = |wire: &Wire| wire.connections.iter().filter(|one| one.has_ended).count();
        let mut wire = self.wire.subscribe();
        within(wire.wait_for(|wire| ended(wire) >= count)).await.unwrap();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, wire: Arc<watch::Sender<Wire>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(relay(stream, to, Arc::clone(&wire)));
    }
}

async fn relay(stream: TcpStream, to: SocketAddr, wire: Arc<watch::Sender<Wire>>) {
    let Ok(node) = TcpStream::connect(to).await else {
        return;
    };
    let mut number = 0;
    wire.send_modify(|wire| {
        number = wire.connections.len();
        let (said, answered) = (Vec::new(), Vec::new());
        wire.connections.push(Connection { to, said, answered, has_ended: false });
    });
    let ((peer_says, peer_hears), (node_says, node_hears)) =
        (stream.into_split(), node.into_split());
    tokio::select! {
        _ = pass(peer_says, node_hears, &wire, number, |one| &mut one.said) => {}
        _ = pass(node_says, peer_hears, &wire, number, |one| &mut one.answered) => {}
    }
    wire.send_modify(|wire| wire.connections[number].has_ended = true);
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    wire: &watch::Sender<Wire>,
    number: usize,
    kept: impl Fn(&mut Connection) -> &mut Vec<u8>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut bytes = buffer[..read].to_vec();
        wire.send_modify(|wire| {
            kept(&mut wire.connections[number]).extend(&bytes);
            if let Some(harm) = wire.harm.pop_front() {
                bytes = harm.done_to(&bytes);
                wire.harmed = Some(number);
            }
        });
        to.write_all(&bytes).await?;
    }
}

impl Harm {
    fn done_to(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Flip => {
                let mut flipped = bytes.to_vec();
                flipped[bytes.len() / 2] ^= 0x10;
                flipped
            }
            Self::Drop => Vec::new(),
            Self::Repeat => bytes.repeat(2),
            Self::Insert(clear) => [&clear, bytes].concat(),
        }
    }
}
