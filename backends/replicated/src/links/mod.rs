//! Links: one connection to each peer, authenticated by TLS before a byte of it is looked at.
//!
//! Locks are taken in one order: the engine's, then that of the links. A link begins and ends under
//! both, so that the engine never sends over a link that it does not know, and never receives over
//! one that has ended for it.

mod addresses;
mod carry;
mod dial;
mod discovery;
mod frames;
mod greet;
mod queue;
mod refusals;
mod strangers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use steadfast_core::StoreError;
use steadfast_replication::context::Now;
use steadfast_replication::engine::{Engine, Packet};
use steadfast_replication::member::Boot;
use steadfast_replication::membership::Hello;
use steadfast_replication::wire::{self, Ends, MAX_KNOWN};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use self::addresses::Addresses;
use self::discovery::Seeds;
use self::frames::HEADER;
use self::queue::{Queue, queue};
use self::refusals::Refusals;
use crate::credentials::Credentials;
use crate::detector::Detector;
use crate::node::{Net, Node};
use crate::system::{TcpListener, uptime};

/// All links of a node.
pub(crate) struct Links {
    node: Weak<Node>,
    me: Boot,
    place: Place,
    credentials: Mutex<Option<Credentials>>,
    open: Mutex<Open>,
    last_link: AtomicU64,
}

/// The addresses of a node, and those where it looks for others.
pub(crate) struct Place {
    /// The name of the service.
    pub(crate) cluster: String,
    /// The address at which others dial this node.
    pub(crate) address: String,
    pub(crate) seeds: Vec<String>,
    /// The longest frame, in bytes.
    pub(crate) max_frame: usize,
}

struct Open {
    links: BTreeMap<Boot, Link>,
    addresses: Addresses,
    /// Boots whose side closed the link, until they were dialled again.
    closed: BTreeSet<Boot>,
    seeds: Seeds,
    refusals: Refusals,
    detector: Detector,
}

struct Link {
    number: u64,
    /// True if the node with the lower boot dialled: of two links that cross, that one stays.
    is_preferred: bool,
    since: Duration,
    /// The address that the peer advertises.
    address: String,
    queue: Queue,
    /// Ends the link when it is dropped.
    ends: Option<oneshot::Sender<Infallible>>,
}

impl Links {
    /// # Errors
    ///
    /// If the system gives no random numbers.
    pub(crate) fn new(
        node: &Arc<Node>,
        place: Place,
        credentials: Option<Credentials>,
    ) -> Result<Arc<Self>, StoreError> {
        let mut seed = [0; 8];
        node.env.fill(&mut seed)?;
        let me = node.boot();
        let open = Open {
            links: BTreeMap::new(),
            addresses: Addresses::default(),
            closed: BTreeSet::new(),
            seeds: Seeds::new(&place),
            refusals: Refusals::default(),
            detector: Detector::new(me, u64::from_le_bytes(seed)),
        };
        Ok(Arc::new(Self {
            node: Arc::downgrade(node),
            me,
            place,
            credentials: Mutex::new(credentials),
            open: Mutex::new(open),
            last_link: AtomicU64::new(0),
        }))
    }

    /// Accepts and dials, until the node is gone.
    pub(crate) fn start(self: &Arc<Self>, listener: TcpListener) {
        tokio::spawn(strangers::serve(Arc::downgrade(self), listener));
    }

    /// Has connections from now on authenticated with other secrets.
    pub(crate) fn replace_credentials(&self, credentials: Credentials) {
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = Some(credentials);
    }

    fn credentials(&self) -> Option<Credentials> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass for the failure detector, and tells the engine what it and discovery found.
    fn maintain(&self, node: &Node) {
        let dead = {
            let mut open = self.lock();
            open.detector.pass(uptime());
            open.carry_gossip();
            open.detector.dead()
        };
        node.with_engine(|engine, now| {
            self.tell_discovery(engine, now);
            let open = self.lock();
            for boot in dead.into_iter().filter(|boot| !open.links.contains_key(boot)) {
                engine.reported_dead(now, boot);
            }
        });
    }

    /// Tells the engine which addresses do not answer, if they are others than before.
    fn tell_discovery(&self, engine: &mut Engine, now: Now) {
        let mut open = self.lock();
        let Open { seeds, addresses, links, .. } = &mut *open;
        let is_there = |boot| boot == self.me || links.contains_key(&boot);
        let news = seeds.news(addresses, self.me, is_there, uptime());
        drop(open);
        if let Some(discovery) = news {
            engine.discovered(now, discovery);
        }
    }

    /// Registers a link, unless there is a better one. `first` is the frame that arrived over it, if the
    /// peer dialled.
    fn register<S: Stream>(
        self: &Arc<Self>,
        node: &Node,
        stream: S,
        peer: Peer,
        first: Option<Vec<u8>>,
    ) {
        let is_dialled = first.is_none();
        let boot = peer.hello.member.boot;
        let number = self.last_link.fetch_add(1, Ordering::Relaxed);
        let ((queue, frames), (ends, ended)) = (queue(), oneshot::channel());
        let link = Link {
            number,
            is_preferred: is_dialled == (self.me < boot),
            since: uptime(),
            address: peer.address.clone(),
            queue,
            ends: Some(ends),
        };
        let is_registered = node.with_engine(|engine, now| {
            let is_new = self.lock().insert(&peer, link, is_dialled);
            if is_new {
                engine.connected(now, peer.hello);
                self.tell_discovery(engine, now);
            }
            is_new
        });
        if is_registered {
            let link = carry::run(Arc::clone(self), stream, (boot, number), first, frames, ended);
            tokio::spawn(link);
        }
    }

    /// Removes a link that ended; `is_closed` if the other side closed it.
    fn unregister(self: &Arc<Self>, (boot, number): (Boot, u64), is_closed: bool) {
        let Some(node) = self.node.upgrade() else {
            return;
        };
        let was_current = node.with_engine(|engine, now| {
            let was_current = self.lock().remove(boot, number, is_closed);
            if was_current {
                engine.disconnected(now, boot, false);
                self.tell_discovery(engine, now);
            }
            was_current
        });
        // A process that ended refuses the next connection: that is known sooner than its silence.
        if was_current {
            self.dial();
        }
    }
}

impl Net for Links {
    fn send(&self, to: Boot, packet: &Packet) -> usize {
        let mut open = self.lock();
        let Some(link) = open.links.get_mut(&to).filter(|link| link.is_up()) else {
            return 0;
        };
        let frame = wire::encode(packet, Ends { from: self.me, to });
        let bytes = HEADER + frame.len();
        if frame.len() > self.place.max_frame || !link.queue.put(frame, MAX_QUEUED) {
            link.end();
        }
        bytes
    }

    fn queued(&self) -> BTreeMap<Boot, usize> {
        let open = self.lock();
        open.links.iter().map(|(boot, link)| (*boot, link.queue.bytes())).collect()
    }

    fn leave(&self) {
        let mut open = self.lock();
        open.detector.leave(uptime());
        open.carry_gossip();
    }
}

/// A node that greeted, and may be linked with.
struct Peer {
    hello: Hello,
    address: String,
    known: Vec<String>,
}

impl Open {
    /// Puts a link in the place of the one before.
    fn insert(&mut self, peer: &Peer, link: Link, is_dialled: bool) -> bool {
        let boot = peer.hello.member.boot;
        self.addresses.learn(peer.known.iter().take(MAX_KNOWN).cloned());
        self.addresses.found(&peer.address, boot);
        let before = self.links.get(&boot).filter(|before| before.is_up());
        if before.is_some_and(|before| before.stays(&link, is_dialled)) {
            return false;
        }
        self.closed.remove(&boot);
        self.detector.reached(link.since, boot);
        self.links.insert(boot, link);
        true
    }

    fn is_current(&self, (boot, number): (Boot, u64)) -> bool {
        self.links.get(&boot).is_some_and(|link| link.number == number)
    }

    fn remove(&mut self, boot: Boot, number: u64, is_closed: bool) -> bool {
        let was_current = self.is_current((boot, number));
        if was_current {
            self.links.remove(&boot);
            self.detector.lost(uptime(), boot);
            self.addresses.dial_again(boot);
            if is_closed {
                self.closed.insert(boot);
            }
        }
        was_current
    }

    /// Sends what the detector has to say, like datagrams: it is dropped where there is no link, or where
    /// much waits already.
    fn carry_gossip(&mut self) {
        for (to, gossip) in self.detector.take_gossip() {
            if let Some(link) = self.links.get_mut(&to) {
                link.queue.put(wire::encode_gossip(gossip), MAX_QUEUED / 4);
            }
        }
    }

    fn known(&self) -> Vec<String> {
        self.links.values().map(|link| link.address.clone()).take(MAX_KNOWN).collect()
    }
}

impl Link {
    /// Returns true if the link stays, and the peer needs no other. The side that dials had no link
    /// when it began; the other side knows then that its own is dead, unless the two have just
    /// crossed.
    fn stays(&self, other: &Self, is_dialled: bool) -> bool {
        let is_young = other.since.saturating_sub(self.since) < CROSS_WITHIN;
        if is_dialled {
            self.is_preferred || !other.is_preferred
        } else {
            self.is_preferred && !other.is_preferred && is_young
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

/// The transport of a link.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// The time for which two nodes that dialled each other may have two links.
const CROSS_WITHIN: Duration = Duration::from_secs(1);

/// Bytes that wait for a peer, at most; then its link is closed. Its frames are sent again by the engine.
const MAX_QUEUED: usize = 16 << 20;
