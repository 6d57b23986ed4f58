//! One node: an engine, driven by real time and a network.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use steadfast_core::{Change, Drained, Env, Event, StoreError};
use steadfast_replication::call::{Failure, Reply};
use steadfast_replication::cluster::Suspected;
use steadfast_replication::context::Now;
use steadfast_replication::engine::{Effect, Engine, Packet};
use steadfast_replication::member::{Boot, Name};
use steadfast_replication::membership;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::cluster_log;
use crate::metrics::{self, Published, Traffic};
use crate::status::Status;
use crate::system::uptime;

/// The transport of packets to the other nodes. No method waits.
pub(crate) trait Net: Send + Sync + 'static {
    /// Queues a packet for a peer; in order, or the link ends. Returns its length in bytes.
    fn send(&self, to: Boot, packet: &Packet) -> usize;
    /// The bytes that wait for each peer.
    fn queued(&self) -> BTreeMap<Boot, usize>;
    /// Tells the others that this node is about to end.
    fn leave(&self);
}

/// A node that is running.
pub(crate) struct Node {
    pub(crate) env: Env,
    name: Name,
    boot: Boot,
    driven: Mutex<Driven>,
    net: OnceLock<Arc<dyn Net>>,
    changes: OnceLock<broadcast::Sender<Change>>,
    drained: watch::Sender<Option<Drained>>,
    status: watch::Sender<Status>,
    /// True if a task of the node panicked.
    is_broken: AtomicBool,
}

/// Declares its node broken if its task panics: without time that passes, nothing else works.
struct Guard(Weak<Node>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(node) = self.0.upgrade()
        {
            node.is_broken.store(true, Ordering::Relaxed);
        }
    }
}

/// The state under the one lock of a node.
struct Driven {
    engine: Engine,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
    sent: Traffic,
    suspected: BTreeSet<Boot>,
}

impl Node {
    pub(crate) fn new(name: Name, boot: Boot, engine: Engine, env: Env) -> Arc<Self> {
        let driven = Driven {
            engine,
            waiting: HashMap::new(),
            sent: Traffic::default(),
            suspected: BTreeSet::new(),
        };
        Arc::new(Self {
            env,
            name,
            boot,
            driven: Mutex::new(driven),
            net: OnceLock::new(),
            changes: OnceLock::new(),
            drained: watch::channel(None).0,
            status: watch::channel(Status::default()).0,
            is_broken: AtomicBool::new(false),
        })
    }

    /// Connects the node to its network, and lets time pass for it until it is dropped.
    pub(crate) fn start(self: &Arc<Self>, net: Arc<dyn Net>) {
        // A second network is a mistake of this crate alone, and the first one stays.
        let _ = self.net.set(net);
        let node = Arc::downgrade(self);
        let guard = Guard(Weak::clone(&node));
        tokio::spawn(async move {
            let _guard = guard;
            let mut beat = tokio::time::interval(BEAT);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut published, mut ticked, mut looked) =
                (Published::default(), uptime(), uptime());
            loop {
                beat.tick().await;
                if uptime().saturating_sub(ticked) > STALL {
                    // Frames that arrived while this process stood still are read first: they may be
                    // the answers whose absence would be judged.
                    tokio::time::sleep(CATCH_UP).await;
                }
                ticked = uptime();
                let Some(node) = node.upgrade().filter(|node| !node.is_broken()) else {
                    return;
                };
                node.with_engine(Engine::tick);
                if ticked >= looked + LOOK_EVERY {
                    looked = ticked;
                    node.look();
                    node.publish(&mut published);
                }
            }
        });
    }

    pub(crate) fn boot(&self) -> Boot {
        self.boot
    }

    /// Makes a call, and waits for its answer.
    pub(crate) async fn call(
        &self,
        ask: impl FnOnce(&mut Engine, Now) -> u64,
    ) -> Result<Reply, StoreError> {
        if self.is_broken() {
            return Err(StoreError::unavailable(Broken));
        }
        let answer = {
            let mut driven = self.lock();
            let number = ask(&mut driven.engine, self.now());
            let mut effects = driven.engine.take_effects();
            let is_answer = |effect: &Effect| matches!(effect, Effect::Answer(answered, _) if *answered == number);
            if let Some(at) = effects.iter().position(is_answer)
                && let Effect::Answer(_, reply) = effects.remove(at)
            {
                self.act(&mut driven, effects);
                return known(reply);
            }
            let (answer, waits) = oneshot::channel();
            driven.waiting.insert(number, answer);
            self.act(&mut driven, effects);
            waits
        };
        known(answer.await.map_err(|_| StoreError::Timeout)?)
    }

    /// Lets something happen to the engine, and does what follows.
    pub(crate) fn with_engine<T>(&self, happen: impl FnOnce(&mut Engine, Now) -> T) -> T {
        let mut driven = self.lock();
        let happened = happen(&mut driven.engine, self.now());
        let effects = driven.engine.take_effects();
        self.act(&mut driven, effects);
        happened
    }

    /// Returns the changes from now on, and whether the node sees all of them.
    pub(crate) fn listen(&self) -> (broadcast::Receiver<Change>, bool) {
        let changes = self.changes.get_or_init(|| broadcast::channel(CHANGES_KEPT).0);
        // First, so that no change after the question to the engine is missed.
        let receiver = changes.subscribe();
        let hears_all = self.with_engine(Engine::listen);
        (receiver, hears_all)
    }

    pub(crate) async fn drain(&self, drain: membership::Drain) -> Result<Drained, StoreError> {
        let mut drained = self.drained.subscribe();
        self.drained.send_replace(None);
        self.with_engine(|engine, now| engine.drain(now, drain));
        let done = drained.wait_for(Option::is_some).await;
        let done = done.map_err(|_| StoreError::Timeout)?;
        done.ok_or(StoreError::Timeout)
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Looks how the node is, and logs what changed.
    pub(crate) fn look(&self) -> Status {
        let status = {
            let mut driven = self.lock();
            let Driven { engine, suspected, .. } = &mut *driven;
            suspected.retain(|boot| engine.membership().suspects(*boot));
            Status::of(engine, self.now())
        };
        self.status.send_if_modified(|known| {
            let is_new = *known != status;
            if is_new {
                cluster_log::status(&self.name, known, &status);
                *known = status.clone();
            }
            is_new
        });
        status
    }

    /// Publishes how the node is, now and then.
    fn publish(&self, published: &mut Published) {
        if !published.is_due(uptime()) {
            return;
        }
        let (figures, sent, names) = {
            let driven = self.lock();
            (driven.engine.figures(self.now()), driven.sent.clone(), names(&driven.engine))
        };
        let queued = self.net.get().map(|net| net.queued()).unwrap_or_default();
        let is_ready = self.status.borrow().problem.is_none();
        published.publish(&self.name, &figures, is_ready, sent.by_name(&names, &queued));
    }

    fn now(&self) -> Now {
        Now { mono: uptime(), wall: self.env.now() }
    }

    /// Does what an engine wants done. Under its lock, so that packets leave in their order.
    fn act(&self, driven: &mut Driven, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(number, reply) => {
                    if let Some(answer) = driven.waiting.remove(&number) {
                        // The caller may be gone; the call is done all the same.
                        let _ = answer.send(reply);
                    }
                }
                Effect::Changed(change) => {
                    if let Some(changes) = self.changes.get() {
                        let _ = changes.send(change);
                    }
                }
                Effect::Expired(id) => Event::Expired.emit(Some(id)),
                Effect::Evicted(id) => Event::Capacity.emit(Some(id)),
                Effect::Drained { moved, lost } => {
                    self.on_net(Net::leave);
                    self.drained.send_replace(Some(Drained { moved, lost }));
                }
                Effect::Send(to, packet) => self.send(driven, to, &packet),
                Effect::Cluster(membership::Effect::Suspected(boot, why)) => {
                    self.suspected(driven, boot, why);
                }
                Effect::Cluster(effect) => cluster_log::effect(&self.name, &effect),
                _ => {}
            }
        }
    }

    /// The engine repeats it: only the first time is news.
    fn suspected(&self, driven: &mut Driven, boot: Boot, why: Suspected) {
        if driven.suspected.insert(boot) {
            let silent = if let Suspected::Silent(silent) = why { silent } else { Duration::ZERO };
            metrics::detected(&self.name, silent);
            cluster_log::suspected(&self.name, boot, why);
        }
    }

    fn send(&self, driven: &mut Driven, to: Boot, packet: &Packet) {
        self.on_net(|net| driven.sent.count(to, packet, net.send(to, packet)));
    }

    fn on_net(&self, act: impl FnOnce(&dyn Net)) {
        if let Some(net) = self.net.get() {
            act(&**net);
        }
    }

    /// Returns true if a part of the node panicked: its answers can no longer be trusted.
    pub(crate) fn is_broken(&self) -> bool {
        self.driven.is_poisoned() || self.is_broken.load(Ordering::Relaxed)
    }

    /// Ends the calls that wait, with an error: nothing answers them any more.
    pub(crate) fn abandon(&self) {
        self.lock().waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Driven> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The engine panicked.
#[derive(Debug, thiserror::Error)]
#[error("the replication of this node failed: restart its process")]
pub(crate) struct Broken;

/// The members' names.
fn names(engine: &Engine) -> BTreeMap<Boot, Name> {
    let members = engine.membership().epoch().map(|epoch| epoch.members()).unwrap_or_default();
    members.iter().map(|member| (member.boot, member.name.clone())).collect()
}

fn known(reply: Reply) -> Result<Reply, StoreError> {
    match reply {
        Reply::Failed(Failure::Timeout) => Err(StoreError::Timeout),
        Reply::Failed(Failure::UnknownKey(key)) => Err(StoreError::UnknownKey(key)),
        Reply::Failed(failure) => Err(StoreError::unavailable(failure)),
        reply => Ok(reply),
    }
}

/// The interval of the engine's timer.
const BEAT: Duration = Duration::from_millis(20);

/// The interval at which a node checks its own status.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A beat that is late by so much shows that this process stood still, and how long what arrived since
/// then is read before time passes.
const STALL: Duration = Duration::from_millis(100);
const CATCH_UP: Duration = Duration::from_millis(10);

/// Changes kept for a listener that is slow.
pub(crate) const CHANGES_KEPT: usize = 1_024;
