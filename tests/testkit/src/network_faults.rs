//! The wires between nodes: what one node sends to another passes here, is written down, and is held
//! for as long as that direction is cut.
//!
//! Held data is not lost. It arrives when the wire is mended, as TCP would send it again, and a node
//! does not notice that the other side closed a connection in that time. This needs no privilege, only
//! the `/proc` of Linux, which says whose a connection is.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ports::own_addresses;

/// Wires between nodes, which are known by their numbers. Their connections end with them.
#[derive(Default)]
pub struct Wires {
    shared: Arc<Shared>,
    listening: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    /// The addresses of the nodes, which their command lines say, and those of no other process.
    bound: Mutex<Vec<String>>,
    /// Directions in which nothing passes.
    cuts: watch::Sender<BTreeSet<Way>>,
    streams: Mutex<Vec<Vec<u8>>>,
}

/// The link from one node to another.
type Way = (usize, usize);

impl Wires {
    /// One more node, which is reached at an address: where it has to be bound.
    pub fn lay(&mut self, reached: &str) -> String {
        let [bound] = own_addresses();
        let listener = listen(reached);
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let mut nodes = self.shared.bound.lock().unwrap();
        self.listening.spawn(accept(listener, nodes.len(), Arc::clone(&self.shared)));
        nodes.push(bound.clone());
        bound
    }

    /// Lets nothing pass from one node to another any more, without a word to either of them.
    pub fn cut(&self, from: usize, to: usize) {
        self.shared.cuts.send_modify(|cuts| _ = cuts.insert((from, to)));
    }

    /// Lets everything pass again, first what was held.
    pub fn mend(&self) {
        self.shared.cuts.send_modify(BTreeSet::clear);
    }

    /// The traffic, one entry per direction of a connection.
    pub fn streams(&self) -> Vec<Vec<u8>> {
        self.shared.streams.lock().unwrap().clone()
    }
}

impl Shared {
    /// Waits until all these ways are open; `false` if they never will be.
    async fn open(&self, ways: &[Way]) -> bool {
        let is_open = |cuts: &BTreeSet<Way>| ways.iter().all(|way| !cuts.contains(way));
        self.cuts.subscribe().wait_for(is_open).await.is_ok()
    }

    fn new_stream(&self) -> usize {
        let mut streams = self.streams.lock().unwrap();
        streams.push(Vec::new());
        streams.len() - 1
    }
}

/// Listens at an address that was free. A process that is being started holds for a moment what this one
/// has closed.
fn listen(address: &str) -> std::net::TcpListener {
    for _ in 0..100 {
        if let Ok(listener) = std::net::TcpListener::bind(address) {
            return listener;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{address} is taken");
}

async fn accept(listener: TcpListener, to: usize, shared: Arc<Shared>) {
    let mut carried = JoinSet::new();
    while let Ok((dialled, _)) = listener.accept().await {
        while carried.try_join_next().is_some() {}
        carried.spawn(carry(dialled, to, Arc::clone(&shared)));
    }
}

async fn carry(dialled: TcpStream, to: usize, shared: Arc<Shared>) {
    let bound = shared.bound.lock().unwrap().clone();
    let (near, far) = (dialled.local_addr().unwrap(), dialled.peer_addr());
    let nodes = bound.clone();
    let dialler = move || dialler(far.ok()?, near, &nodes);
    // A closed side sends nothing.
    let Some(from) = tokio::task::spawn_blocking(dialler).await.unwrap() else { return };
    // Shaking hands takes both directions.
    if !shared.open(&[(from, to), (to, from)]).await {
        return;
    }
    let Ok(accepted) = TcpStream::connect(&bound[to]).await else { return };
    let _ = (dialled.set_nodelay(true), accepted.set_nodelay(true));
    let ((from_one, to_one), (from_other, to_other)) =
        (dialled.into_split(), accepted.into_split());
    tokio::join!(
        pass(from_one, to_other, (from, to), &shared),
        pass(from_other, to_one, (to, from), &shared),
    );
}

/// Passes on what comes, and in the end that it ended.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, shared: &Shared) {
    let stream = shared.new_stream();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or_default();
        let passes = shared.open(&[way]).await;
        if !passes || read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        shared.streams.lock().unwrap()[stream].extend_from_slice(&buffer[..read]);
    }
}

/// The number of the node that dialled from one address to another.
fn dialler(from: SocketAddr, to: SocketAddr, bound: &[String]) -> Option<usize> {
    let socket = socket(from, to)?;
    processes().into_iter().find_map(|process| {
        let line = std::fs::read(process.join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line);
        let node = bound.iter().position(|bound| line.contains(&format!("bind={bound}&")))?;
        owns(&process, &socket).then_some(node)
    })
}

/// Returns the system's number for the socket of a connection between two addresses.
fn socket(from: SocketAddr, to: SocketAddr) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("this is Linux");
    let ends = format!(" {} {} ", hexadecimal(from), hexadecimal(to));
    // It may have many thousands of lines, of connections that ended.
    let line = &table[table.find(&ends)?..];
    line.split_whitespace().nth(INODE).map(|inode| format!("socket:[{inode}]"))
}

/// An address as that table has it.
fn hexadecimal(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("loopback is {address}") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

fn processes() -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let is_process = |path: &PathBuf| path.join("cmdline").exists();
    all.map(|entry| entry.path()).filter(is_process).collect()
}

fn owns(process: &std::path::Path, socket: &str) -> bool {
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().filter_map(Result::ok);
    let mut targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.any(|target| target.as_os_str() == socket)
}

/// The column of a socket's number in that table, counted from its addresses.
const INODE: usize = 8;
