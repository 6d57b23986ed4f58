//! A wire between clients and one server that fails at a given byte.
//!
//! It knows nothing of what it carries, so a conversation under TLS is cut at any byte like a plain one.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Stands between clients and a server, writes down what passes, and breaks one conversation where it is
/// told to. Every connection ends with it.
pub struct FaultProxy {
    address: String,
    wire: Arc<Wire>,
    accepting: JoinHandle<()>,
}

/// The fault, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The conversation, by its number since the last [`FaultProxy::mark`].
    pub conversation: usize,
    pub direction: Direction,
    /// The number of bytes that pass in this direction before it happens, counted from that mark.
    pub after: u64,
    pub action: Action,
}

/// A direction of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// The fault of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Both sides see a reset.
    Reset,
    /// Both sides see an orderly end.
    Close,
    /// The receiving side sees an orderly end. The other direction goes on.
    HalfClose,
    /// Nothing more passes in this direction, and both connections stay open.
    Swallow,
    /// The rest passes this much later.
    Delay(Duration),
    /// The client sees a reset. Its sent bytes reach the server this much later.
    Strand(Duration),
}

/// The traffic of one conversation since the last mark.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub to_server: Stream,
    pub to_client: Stream,
}

/// The traffic of one direction.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub bytes: Vec<u8>,
    /// The end of each piece that came together, in bytes.
    pub ends: Vec<usize>,
}

impl FaultProxy {
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let wire = Arc::new(Wire::default());
        let accepting = tokio::spawn(accept(listener, server.to_owned(), Arc::clone(&wire)));
        Self { address, wire, accepting }
    }

    /// Returns the address for clients.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Begins to count from 0, while nothing is under way: waits for what is late, ends broken
    /// conversations, numbers the others in the order in which they were opened, and says how many
    /// those are.
    pub async fn mark(&self) -> usize {
        self.settled().await;
        let mut state = self.wire.state();
        state.fault = None;
        state.conversations.retain(|conversation| conversation.is_open && !conversation.is_broken);
        for conversation in &mut state.conversations {
            conversation.heard = Heard::default();
            conversation.was_struck = false;
        }
        state.conversations.len()
    }

    /// Has a conversation break, once. It may have to be opened first.
    pub fn arm(&self, fault: Fault) {
        self.wire.state().fault = Some(fault);
        self.wire.armed.send_modify(|times| *times += 1);
    }

    /// Takes a fault back that did not happen yet, and says whether it did.
    pub fn lift(&self) -> bool {
        self.wire.state().fault = None;
        self.was_struck()
    }

    /// Returns true if the fault happened.
    pub fn was_struck(&self) -> bool {
        let state = self.wire.state();
        state.conversations.iter().any(|conversation| conversation.was_struck)
    }

    /// Waits until nothing is on its way that is late.
    pub async fn settled(&self) {
        let mut late = self.wire.late.subscribe();
        late.wait_for(|late| *late == 0).await.expect("the wire is there");
    }

    /// Ends every conversation in an orderly way, and returns when none is open.
    pub async fn end_all(&self) {
        while self.mark().await > 0 {
            let (direction, after, action) = (Direction::ToClient, 0, Action::Close);
            self.arm(Fault { conversation: 0, direction, after, action });
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Returns the traffic since the last mark, one entry per conversation.
    pub fn heard(&self) -> Vec<Heard> {
        let state = self.wire.state();
        state.conversations.iter().map(|conversation| conversation.heard.clone()).collect()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.wire.state().conversations.clear();
    }
}

#[derive(Default)]
struct Wire {
    state: Mutex<State>,
    /// The number of faults that were armed.
    armed: watch::Sender<u64>,
    /// The number of late pieces.
    late: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    opened: u64,
    conversations: Vec<Conversation>,
}

struct Conversation {
    key: u64,
    heard: Heard,
    is_open: bool,
    was_struck: bool,
    is_broken: bool,
    /// Dropped, it ends the conversation.
    _leash: oneshot::Sender<()>,
}

impl Wire {
    fn open(&self) -> (u64, oneshot::Receiver<()>) {
        let (leash, end) = oneshot::channel();
        let mut state = self.state();
        let key = state.opened;
        state.opened += 1;
        let (is_open, was_struck, is_broken) = (true, false, false);
        let heard = Heard::default();
        let conversation =
            Conversation { key, heard, is_open, was_struck, is_broken, _leash: leash };
        state.conversations.push(conversation);
        (key, end)
    }

    fn close(&self, key: u64) {
        let mut state = self.state();
        if let Some(conversation) = state.conversations.iter_mut().find(|one| one.key == key) {
            conversation.is_open = false;
        }
    }

    /// Records the bytes that pass, and returns their number and the fault after them.
    ///
    /// Before they pass: as soon as they have, the other side may act on them.
    fn passing(&self, key: u64, direction: Direction, bytes: &[u8]) -> (usize, Option<Action>) {
        let mut state = self.state();
        let left = state.left(key, direction).and_then(|left| usize::try_from(left).ok());
        let passing = left.map_or(bytes.len(), |left| left.min(bytes.len()));
        let Some(conversation) = state.conversations.iter_mut().find(|one| one.key == key) else {
            return (passing, None);
        };
        if passing > 0 {
            let stream = conversation.heard.of_mut(direction);
            stream.bytes.extend_from_slice(&bytes[..passing]);
            stream.ends.push(stream.bytes.len());
        }
        if left != Some(passing) {
            return (passing, None);
        }
        let action = state.fault.take().map(|fault| fault.action);
        let conversation = state.conversations.iter_mut().find(|one| one.key == key);
        if let (Some(conversation), Some(action)) = (conversation, action) {
            conversation.was_struck = true;
            conversation.is_broken = !matches!(action, Action::Delay(_));
        }
        (passing, action)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the number of bytes in a direction before the fault, if it is there.
    fn left(&self, key: u64, direction: Direction) -> Option<u64> {
        let fault = self.fault.as_ref().filter(|fault| fault.direction == direction)?;
        let conversation = self.conversations.get(fault.conversation)?;
        let passed = conversation.heard.of(direction).bytes.len() as u64;
        (conversation.key == key).then(|| fault.after.checked_sub(passed))?
    }
}

impl Heard {
    pub fn of(&self, direction: Direction) -> &Stream {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn of_mut(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}

async fn accept(listener: TcpListener, server: String, wire: Arc<Wire>) {
    while let Ok((client, _)) = listener.accept().await {
        let (key, leash) = wire.open();
        let (server, wire) = (server.clone(), Arc::clone(&wire));
        tokio::spawn(async move {
            converse(client, &server, &wire, key, leash).await;
            wire.close(key);
        });
    }
}

async fn converse(
    client: TcpStream,
    server: &str,
    wire: &Wire,
    key: u64,
    mut leash: oneshot::Receiver<()>,
) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (to, from) = (&mut to_server, &mut from_client);
    let forth = Passage { wire, key, direction: Direction::ToServer, from, to };
    let (to, from) = (&mut to_client, &mut from_server);
    let back = Passage { wire, key, direction: Direction::ToClient, from, to };
    let end = tokio::select! {
        end = both(forth.run(), back.run()) => end,
        _ = &mut leash => End::Finished,
    };
    match end {
        End::Finished => {}
        End::Reset => {
            reset(to_client);
            reset(to_server);
        }
        End::Close => {
            let _ = tokio::join!(to_client.shutdown(), to_server.shutdown());
            // With something unread, the end would be a reset.
            tokio::select! {
                _ = async { tokio::join!(drain(&mut from_client), drain(&mut from_server)) } => {}
                _ = leash => {}
            }
        }
        End::Strand { mut late, by } => {
            let _late = Late::new(wire);
            late.extend(received(&from_client));
            reset(to_client);
            drop(from_client);
            sleep(by).await;
            let _ = to_server.write_all(&late).await;
            let _ = to_server.shutdown().await;
            // The server is through with it when it hangs up.
            let _ = timeout(HANGS_UP_WITHIN, drain(&mut from_server)).await;
        }
    }
}

/// The end of a direction, or of both.
enum End {
    /// It ended without a fault.
    Finished,
    Reset,
    Close,
    Strand {
        late: Vec<u8>,
        by: Duration,
    },
}

/// Waits for both directions, unless one ends for both.
async fn both(forth: impl Future<Output = End>, back: impl Future<Output = End>) -> End {
    let (mut forth, mut back) = (pin!(forth), pin!(back));
    tokio::select! {
        end = &mut forth => match end {
            End::Finished => back.await,
            end => end,
        },
        end = &mut back => match end {
            End::Finished => forth.await,
            end => end,
        },
    }
}

/// One direction of a conversation.
struct Passage<'w> {
    wire: &'w Wire,
    key: u64,
    direction: Direction,
    from: &'w mut OwnedReadHalf,
    to: &'w mut OwnedWriteHalf,
}

impl Passage<'_> {
    async fn run(mut self) -> End {
        let mut armed = self.wire.armed.subscribe();
        let mut buffer = vec![0; 16 << 10];
        loop {
            // A fault before the first byte waits for none.
            if let Some(end) = self.pass(&[]).await {
                return end;
            }
            let read = tokio::select! {
                read = self.from.read(&mut buffer) => read,
                _ = armed.changed() => continue,
            };
            match read {
                Ok(0) => {
                    let _ = self.to.shutdown().await;
                    return End::Finished;
                }
                Ok(read) => {
                    if let Some(end) = self.pass(&buffer[..read]).await {
                        return end;
                    }
                }
                Err(_) => return End::Reset,
            }
        }
    }

    /// Passes bytes on, up to the fault if it is on the way, and says how the direction ends by it.
    async fn pass(&mut self, bytes: &[u8]) -> Option<End> {
        let (passing, action) = self.wire.passing(self.key, self.direction, bytes);
        let (now, rest) = bytes.split_at(passing);
        // Bytes that the other side no longer accepts are lost; it may still send.
        if self.to.write_all(now).await.is_err() {
            drain(self.from).await;
            return Some(End::Finished);
        }
        self.strike(action?, rest).await
    }

    async fn strike(&mut self, action: Action, rest: &[u8]) -> Option<End> {
        match action {
            Action::Reset => Some(End::Reset),
            Action::Close => Some(End::Close),
            Action::HalfClose => {
                let _ = self.to.shutdown().await;
                drain(self.from).await;
                Some(End::Finished)
            }
            Action::Swallow => {
                drain(self.from).await;
                std::future::pending().await
            }
            Action::Delay(by) => {
                let _late = Late::new(self.wire);
                sleep(by).await;
                // There is one fault at a time, and this was it.
                Box::pin(self.pass(rest)).await
            }
            Action::Strand(by) => {
                let late = match self.direction {
                    Direction::ToServer => rest.to_vec(),
                    Direction::ToClient => Vec::new(),
                };
                Some(End::Strand { late, by })
            }
        }
    }
}

/// Something is late until this is dropped.
struct Late<'w>(&'w Wire);

impl<'w> Late<'w> {
    fn new(wire: &'w Wire) -> Self {
        wire.late.send_modify(|late| *late += 1);
        Self(wire)
    }
}

impl Drop for Late<'_> {
    fn drop(&mut self) {
        self.0.late.send_modify(|late| *late -= 1);
    }
}

/// Has a connection end with a reset, once its other half is dropped too.
fn reset(half: OwnedWriteHalf) {
    let _ = half.as_ref().set_zero_linger();
    // Dropped, it would send an orderly end first.
    half.forget();
}

/// The bytes that arrived and were not read yet.
fn received(from: &OwnedReadHalf) -> Vec<u8> {
    let (mut received, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    while let Ok(read @ 1..) = from.try_read(&mut buffer) {
        received.extend_from_slice(&buffer[..read]);
    }
    received
}

async fn drain(from: &mut OwnedReadHalf) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(1..) = from.read(&mut buffer).await {}
}

const HANGS_UP_WITHIN: Duration = Duration::from_secs(2);
