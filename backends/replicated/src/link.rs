//! Links: one connection to each peer, authenticated by TLS before a byte of it is looked at.
//!
//! Locks are taken in one order: the engine's, then that of the links. A link comes and goes under
//! both, so that the engine sends nothing over a link that it was not told of, and hears nothing from
//! one that it was told is gone.

mod addresses;
mod frames;
mod queue;
mod refusals;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use steadfast_core::StoreError;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use self::addresses::Addresses;
use self::frames::{EmptyFrames, HEADER, read_frame, write_frame};
use self::queue::{Frames, Queue, queue};
use self::refusals::{Refusal, Refusals};
use crate::credentials::Credentials;
use crate::engine::Message;
use crate::membership::{BEAT, Membership, SwimMembership};
use crate::node::{Net, Node};
use crate::placement::Name;
use crate::record::{MAX_SKEW, millis};
use crate::sockets::{self, TcpListener, TcpStream};
use crate::wire::{self, Frame, Hello, MAX_FRAME};

/// All links of a node.
pub(crate) struct Links {
    node: Weak<Node>,
    name: Name,
    cluster: String,
    address: String,
    seeds: Vec<String>,
    credentials: Option<Credentials>,
    started: Instant,
    open: Mutex<Open>,
    last_link: AtomicU64,
}

struct Open {
    links: BTreeMap<Name, Link>,
    addresses: Addresses,
    refusals: Refusals,
    membership: Box<dyn Membership>,
    look_up_at: Duration,
    has_looked_up: bool,
}

struct Link {
    number: u64,
    /// Whether the node with the lower name dialled; of two links that cross, that one stays.
    is_preferred: bool,
    since: Duration,
    /// Where the peer says that it is found.
    address: String,
    queue: Queue,
    /// Ends the link when it is dropped.
    ends: Option<oneshot::Sender<Infallible>>,
}

impl Links {
    /// # Errors
    ///
    /// When there is no randomness to be had.
    pub(crate) fn new(
        node: &Arc<Node>,
        cluster: String,
        address: String,
        seeds: Vec<String>,
        credentials: Option<Credentials>,
    ) -> Result<Arc<Self>, StoreError> {
        let mut seed = [0; 8];
        node.env.fill(&mut seed)?;
        let (name, seed) = (node.name().clone(), u64::from_le_bytes(seed));
        let membership = SwimMembership::new(name.clone(), sockets::incarnation(), seed);
        let open = Open {
            links: BTreeMap::new(),
            addresses: Addresses::default(),
            refusals: Refusals::default(),
            membership: Box::new(membership),
            look_up_at: Duration::ZERO,
            has_looked_up: false,
        };
        Ok(Arc::new(Self {
            node: Arc::downgrade(node),
            name,
            cluster,
            address,
            seeds,
            credentials,
            started: Instant::now(),
            open: Mutex::new(open),
            last_link: AtomicU64::new(0),
        }))
    }

    /// Accepts and dials, until the node is gone.
    pub(crate) fn start(self: &Arc<Self>, listener: TcpListener) {
        tokio::spawn(serve(Arc::downgrade(self), listener));
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn hello(&self, node: &Node) -> Hello {
        let open = self.lock();
        let known = open.links.values().map(|link| link.address.clone()).take(MAX_KNOWN);
        Hello {
            cluster: self.cluster.clone(),
            name: self.name.clone(),
            protocol: PROTOCOL,
            features: 0,
            wall: millis(node.env.now()),
            address: self.address.clone(),
            known: known.collect(),
        }
    }

    /// Whether a node may be linked with.
    fn examine(&self, node: &Node, hello: &Hello) -> Result<(), Refusal> {
        let skew = millis(node.env.now()).abs_diff(hello.wall);
        if hello.cluster != self.cluster {
            Err(Refusal::OtherService(hello.cluster.clone()))
        } else if hello.protocol != PROTOCOL {
            Err(Refusal::Protocol(hello.protocol))
        } else if hello.name == self.name {
            Err(Refusal::SameName)
        } else if skew > MAX_SKEW.as_millis() as u64 {
            Err(Refusal::Clock(Duration::from_millis(skew)))
        } else {
            Ok(())
        }
    }

    /// Tells the operator why the node at an address is no peer, unless that was said already.
    fn refuse(&self, address: &str, why: &Refusal) -> io::Error {
        if self.lock().refusals.is_new(address, why) {
            tracing::warn!(target: "steadfast", address, %why, "a node is refused as a peer");
        }
        io::ErrorKind::PermissionDenied.into()
    }

    /// Lets time pass for the membership, and tells the engine who is dead.
    fn tend(&self, node: &Node) {
        let (dead, may_hide) = {
            let (mut open, now) = (self.lock(), self.now());
            open.membership.pass(now);
            open.carry_gossip();
            (open.membership.dead(), open.may_hide_somebody(&self.name))
        };
        node.drive(|engine, _| engine.expect_others(may_hide));
        for name in dead {
            node.drive(|engine, now| {
                let is_linked = self.lock().links.contains_key(&name);
                if !is_linked {
                    engine.down(now, &name);
                }
            });
        }
    }

    /// Dials whoever is not linked.
    fn dial(self: &Arc<Self>) {
        let (mut open, now) = (self.lock(), self.now());
        if open.look_up_at <= now {
            open.look_up_at = now + if open.links.is_empty() { LOOK_UP_ALONE } else { LOOK_UP };
            tokio::spawn(Arc::clone(self).look_up());
        }
        let Open { links, addresses, .. } = &mut *open;
        for address in addresses.due(now, |name| *name == self.name || links.contains_key(name)) {
            tokio::spawn(Arc::clone(self).call(address));
        }
    }

    /// A name may stand for many nodes, and for others later.
    async fn look_up(self: Arc<Self>) {
        for seed in &self.seeds {
            let looked_up = tokio::time::timeout(CONNECT_WITHIN, sockets::look_up(seed)).await;
            let addresses = looked_up.ok().and_then(Result::ok).unwrap_or_default();
            self.lock().addresses.learn(addresses.iter().map(ToString::to_string));
        }
        self.lock().has_looked_up = true;
    }

    async fn call(self: Arc<Self>, address: String) {
        let connected = tokio::time::timeout(CONNECT_WITHIN, self.connect(&address)).await;
        let (mut open, now) = (self.lock(), self.now());
        match connected {
            Ok(Ok(name)) => {
                open.addresses.found(&address, &name);
                open.refusals.forget(&address);
            }
            Ok(Err(error)) => {
                let is_refused = error.kind() == io::ErrorKind::ConnectionRefused;
                open.addresses.failed(now, &address, is_refused);
            }
            Err(_) => open.addresses.failed(now, &address, false),
        }
        open.addresses.dialled(&address);
    }

    /// Who is found at an address. It is linked then, unless it was already, or is this node.
    async fn connect(self: &Arc<Self>, address: &str) -> io::Result<Name> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        match self.credentials.clone() {
            None => self.greet_dialled(stream, address).await,
            Some(credentials) => {
                let connector = TlsConnector::from(credentials.client);
                let connected = connector.connect(Credentials::server_name(), stream).await;
                let stream = connected.map_err(|error| match error.kind() {
                    io::ErrorKind::InvalidData => self.refuse(address, &Refusal::Stranger),
                    _ => error,
                })?;
                if !Credentials::is_node(stream.get_ref().1) {
                    return Err(self.refuse(address, &Refusal::Stranger));
                }
                self.greet_dialled(stream, address).await
            }
        }
    }

    async fn greet_dialled<S: Stream>(
        self: &Arc<Self>,
        mut stream: S,
        address: &str,
    ) -> io::Result<Name> {
        let hello = self.greet(&mut stream).await?;
        let node = self.node.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let is_this_node = hello.name == self.name && hello.address == self.address;
        if !is_this_node {
            self.examine(&node, &hello).map_err(|why| self.refuse(address, &why))?;
            self.register(&node, stream, &hello, None);
        }
        Ok(hello.name)
    }

    /// Somebody dialled this node: a stranger, until it has shown that it is none.
    async fn welcome(self: Arc<Self>, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        match self.credentials.clone() {
            None => self.greet_stranger(stream).await,
            Some(credentials) => {
                let acceptor = TlsAcceptor::from(credentials.server);
                let stream = in_time(HANDSHAKE_WITHIN, acceptor.accept(stream)).await?;
                if !Credentials::is_node(stream.get_ref().1) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                self.greet_stranger(stream).await
            }
        }
    }

    /// Waits for the first frame before there is a link: whoever dialled hangs up instead if it has
    /// one to this node already, under another address.
    async fn greet_stranger<S: Stream>(self: &Arc<Self>, mut stream: S) -> io::Result<()> {
        let greet = async {
            let hello = self.greet(&mut stream).await?;
            let first = read_frame(&mut stream, MAX_FRAME, HELLO_WITHIN).await?;
            Ok((hello, first))
        };
        let (hello, first) = in_time(HELLO_WITHIN, greet).await?;
        let node = self.node.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        self.examine(&node, &hello).map_err(|why| self.refuse(&hello.address, &why))?;
        self.register(&node, stream, &hello, Some(first));
        Ok(())
    }

    async fn greet<S: Stream>(&self, stream: &mut S) -> io::Result<Hello> {
        let node = self.node.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let body = self.hello(&node).encode();
        drop(node);
        write_frame(stream, &body).await?;
        stream.flush().await?;
        let answer = read_frame(stream, MAX_HELLO, HELLO_WITHIN).await?;
        Hello::decode(&answer).map_err(io::Error::other)
    }

    /// Registers a link, unless there is a better one. `first` came over it if it was not dialled here.
    fn register<S: Stream>(
        self: &Arc<Self>,
        node: &Node,
        stream: S,
        hello: &Hello,
        first: Option<Vec<u8>>,
    ) {
        let is_preferred = first.is_none() == (self.name < hello.name);
        let number = self.last_link.fetch_add(1, Ordering::Relaxed);
        let ((queue, frames), (ends, ended)) = (queue(), oneshot::channel());
        let since = self.now();
        let address = hello.address.clone();
        let link = Link { number, is_preferred, since, address, queue, ends: Some(ends) };
        let is_registered = node.drive(|engine, now| {
            let is_new = self.lock().insert(hello, link, first.is_none());
            if is_new {
                engine.linked(now, &hello.name);
            }
            is_new
        });
        if is_registered {
            let link =
                Arc::clone(self).run(stream, hello.name.clone(), number, first, frames, ended);
            tokio::spawn(link);
        }
    }

    /// Carries frames both ways until the link ends. Each way is a task of its own, so that a peer
    /// that sends without end does not keep anything from being sent.
    async fn run<S: Stream>(
        self: Arc<Self>,
        stream: S,
        name: Name,
        number: u64,
        first: Option<Vec<u8>>,
        frames: Frames,
        ended: oneshot::Receiver<Infallible>,
    ) {
        let (reader, writer) = tokio::io::split(stream);
        let mut writing = tokio::spawn(write(writer, frames));
        tokio::select! {
            biased;
            _ = ended => {}
            _ = &mut writing => {}
            _ = self.read(reader, &name, number, first) => {}
        }
        writing.abort();
        self.unregister(&name, number);
    }

    /// Takes one frame after the other, the next one when this one is done with: who sends faster than
    /// that fills its socket, and waits.
    async fn read<S: Stream>(
        &self,
        mut reader: ReadHalf<S>,
        from: &Name,
        number: u64,
        first: Option<Vec<u8>>,
    ) -> io::Result<()> {
        let mut next = first;
        let mut empty = EmptyFrames::since(Instant::now());
        loop {
            let body = match next.take() {
                Some(first) => first,
                None => read_frame(&mut reader, MAX_FRAME, SILENT_FOR).await?,
            };
            if body.is_empty() && empty.are_too_many(Instant::now()) {
                return Err(io::Error::other("a flood of empty frames"));
            }
            // Frames that are there already are read without waiting: others have their turn, too.
            tokio::task::coop::consume_budget().await;
            let node = self.node.upgrade().ok_or(io::ErrorKind::NotConnected)?;
            self.take(&node, from, number, &body)?;
        }
    }

    fn take(&self, node: &Node, from: &Name, number: u64, body: &[u8]) -> io::Result<()> {
        let message = match body {
            // It says that its sender is there, and nothing else.
            [] => None,
            body => match wire::decode(body).map_err(io::Error::other)? {
                Some(Frame::Message(message)) => Some(message),
                Some(Frame::Gossip(gossip)) => {
                    self.take_gossip(from, number, &gossip)?;
                    None
                }
                None => None,
            },
        };
        let is_current = node.drive(|engine, now| {
            let is_current = self.lock().is_current(from, number);
            match message {
                _ if !is_current => {}
                Some(message) => engine.receive(now, from, message),
                None => engine.heard(now, from),
            }
            is_current
        });
        is_current.then_some(()).ok_or(io::ErrorKind::NotConnected.into())
    }

    fn take_gossip(&self, from: &Name, number: u64, gossip: &[u8]) -> io::Result<()> {
        let (mut open, now) = (self.lock(), self.now());
        if open.is_current(from, number) {
            open.membership.heard(now, from, gossip).map_err(io::Error::other)?;
            open.carry_gossip();
        }
        Ok(())
    }

    fn unregister(&self, name: &Name, number: u64) {
        let Some(node) = self.node.upgrade() else {
            return;
        };
        node.drive(|engine, now| {
            let was_current = self.lock().remove(name, Some(number), self.now());
            if was_current {
                engine.unlinked(now, name);
            }
        });
    }
}

impl Net for Links {
    fn send(&self, to: &Name, message: Message) -> usize {
        let mut open = self.lock();
        let Some(link) = open.links.get_mut(to).filter(|link| link.is_up()) else {
            return 0;
        };
        let frame = wire::encode(&message);
        let bytes = HEADER + frame.len();
        if frame.len() > MAX_FRAME || !link.queue.put(frame, MAX_QUEUED) {
            link.end();
        }
        bytes
    }

    fn queued(&self) -> BTreeMap<Name, usize> {
        let open = self.lock();
        open.links.iter().map(|(name, link)| (name.clone(), link.queue.bytes())).collect()
    }

    fn close(&self, peer: &Name) {
        self.lock().remove(peer, None, self.now());
    }

    fn leave(&self) {
        let (mut open, now) = (self.lock(), self.now());
        open.membership.leave(now);
        open.carry_gossip();
    }
}

impl Open {
    /// Puts a link in the place of the one before.
    fn insert(&mut self, hello: &Hello, link: Link, is_dialled: bool) -> bool {
        self.addresses.learn(hello.known.iter().take(MAX_KNOWN).cloned());
        self.addresses.found(&hello.address, &hello.name);
        let before = self.links.get(&hello.name).filter(|before| before.is_up());
        if before.is_some_and(|before| before.stays(&link, is_dialled)) {
            return false;
        }
        self.membership.reached(link.since, &hello.name);
        self.links.insert(hello.name.clone(), link);
        true
    }

    /// Whether others may be there whom this node has not met.
    fn may_hide_somebody(&self, me: &Name) -> bool {
        let is_linked = |name: &Name| self.links.contains_key(name);
        !self.has_looked_up || self.addresses.hide_somebody(me, is_linked)
    }

    fn is_current(&self, name: &Name, number: u64) -> bool {
        self.links.get(name).is_some_and(|link| link.number == number)
    }

    /// Removes the link to a peer, if it has that number still, or whichever it has.
    fn remove(&mut self, name: &Name, number: Option<u64>, now: Duration) -> bool {
        let is_meant = |link: &Link| number.is_none_or(|number| link.number == number);
        let was_current = self.links.get(name).is_some_and(is_meant);
        if was_current {
            self.links.remove(name);
            self.membership.lost(now, name);
        }
        was_current
    }

    /// Sends what the membership has to say, like datagrams: not at all where there is no link, or
    /// where others wait already.
    fn carry_gossip(&mut self) {
        for (to, gossip) in self.membership.take_gossip() {
            if let Some(link) = self.links.get_mut(&to) {
                link.queue.put(wire::encode_gossip(&gossip), MAX_QUEUED / 4);
            }
        }
    }
}

impl Link {
    /// Whether it stays, and another one to the same peer is not needed. Who dials had no link when it
    /// began; who is dialled knows then that its own is dead, unless the two have just crossed.
    fn stays(&self, other: &Self, is_dialled: bool) -> bool {
        let is_young = other.since.saturating_sub(self.since) < CROSS_WITHIN;
        match is_dialled {
            true => self.is_preferred || !other.is_preferred,
            false => self.is_preferred && !other.is_preferred && is_young,
        }
    }

    fn is_up(&self) -> bool {
        self.ends.is_some()
    }

    /// Ends it from under the engine's lock: its task tells the engine, when it is free.
    fn end(&mut self) {
        self.ends = None;
    }
}

/// What a link runs over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Those who dialled this node and have not shown yet that they are peers. A newer one takes the place
/// of the oldest one: whoever is slow to do so cannot keep a peer out.
#[derive(Default)]
struct Strangers(VecDeque<AbortHandle>);

impl Strangers {
    fn admit(&mut self, stranger: AbortHandle) {
        if self.0.len() >= MAX_STRANGERS {
            self.0.retain(|stranger| !stranger.is_finished());
        }
        if self.0.len() >= MAX_STRANGERS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(stranger);
    }
}

async fn serve(links: Weak<Links>, listener: TcpListener) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut strangers = Strangers::default();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = beat.tick() => None,
            accepted = listener.accept() => Some(accepted),
        };
        let Some(links) = links.upgrade() else {
            return;
        };
        let Some(node) = links.node.upgrade() else {
            // Ends every link.
            return links.lock().links.clear();
        };
        match accepted {
            None => {
                links.tend(&node);
                links.dial();
            }
            Some(Ok((stream, _))) => {
                let welcome = tokio::spawn(Arc::clone(&links).welcome(stream));
                strangers.admit(welcome.abort_handle());
            }
            // There is no descriptor left for it: that passes.
            Some(Err(_)) => tokio::time::sleep(BEAT).await,
        }
    }
}

async fn write<S: Stream>(writer: WriteHalf<S>, mut frames: Frames) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(16 << 10, writer);
    loop {
        match tokio::time::timeout(SPEAK_EVERY, frames.next()).await {
            Ok(Some(frame)) => {
                write_frame(&mut writer, &frame).await?;
                frames.sent(&frame);
            }
            Ok(None) => return Ok(()),
            // An empty frame says that this node is there.
            Err(_) => write_frame(&mut writer, &[]).await?,
        }
        if frames.is_empty() {
            writer.flush().await?;
        }
    }
}

async fn in_time<T>(
    within: Duration,
    happen: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    tokio::time::timeout(within, happen).await.map_err(io::Error::from)?
}

/// How often the seeds are looked up: they may be others later, and halves that do not know of each
/// other find each other there.
const LOOK_UP: Duration = Duration::from_secs(10);
const LOOK_UP_ALONE: Duration = Duration::from_secs(1);

/// How long a node that was dialled may take to become a peer.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How long a stranger may take for its handshake, and then to say who it is.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(1);
/// Protocol 1 knows no sign-ins: a node that speaks it would let an old request write to a session that
/// somebody else signed in to.
const PROTOCOL: u64 = 2;

const HELLO_WITHIN: Duration = Duration::from_secs(1);

/// How many strangers there may be at a time.
const MAX_STRANGERS: usize = 256;

/// How long a link may be silent, and how often something is said.
const SILENT_FOR: Duration = Duration::from_millis(1_500);
const SPEAK_EVERY: Duration = Duration::from_millis(500);

/// For how long two nodes that dialled each other may have two links.
const CROSS_WITHIN: Duration = Duration::from_secs(1);

/// Bytes that wait for a peer, at most; then its link is closed, and it is repaired later.
const MAX_QUEUED: usize = 16 << 20;

/// Bytes of a hello, and addresses that one peer may name.
const MAX_HELLO: usize = 64 << 10;
const MAX_KNOWN: usize = 256;
