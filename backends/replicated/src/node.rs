//! One node: an engine, driven by real time and a network.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use steadfast_core::{Change, Drained, Env, Event, RecordId, StoreError};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::Instant;

use crate::engine::config::BEAT;
use crate::engine::{Config, Effect, Engine, Failure, Health, Message, Now, Reply, Request};
use crate::metrics::{self, Kind, Published, Traffic};
use crate::placement::Name;
use crate::sockets;

/// What carries messages to the other nodes. No method waits.
pub(crate) trait Net: Send + Sync + 'static {
    /// Queues a message for a peer; in order, or the link is closed. Says how many bytes it has.
    fn send(&self, to: &Name, message: Message) -> usize;
    /// The bytes that wait for each peer.
    fn queued(&self) -> BTreeMap<Name, usize>;
    /// Closes the link to a peer with whatever is queued, and dials anew.
    fn close(&self, peer: &Name);
    /// The node has nothing left that anybody needs: whoever misses it soon need not wait for it.
    fn leave(&self);
}

/// A node that is running.
pub(crate) struct Node {
    pub(crate) env: Env,
    name: Name,
    started: Instant,
    driven: Mutex<Driven>,
    net: OnceLock<Arc<dyn Net>>,
    changes: OnceLock<broadcast::Sender<Change>>,
    drained: watch::Sender<Option<Drained>>,
    health: watch::Sender<Health>,
}

/// What is under the one lock of a node.
struct Driven {
    engine: Engine,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
    sent: Traffic,
}

impl Node {
    pub(crate) fn new(name: Name, config: Config, env: Env) -> Result<Arc<Self>, StoreError> {
        let mut seed = [0; 16];
        env.fill(&mut seed)?;
        let [low, high] = [&seed[..8], &seed[8..]]
            .map(|half| u64::from_le_bytes(half.try_into().expect("half of 16 bytes")));
        let now = Now { mono: Duration::ZERO, wall: env.now() };
        let engine = Engine::new(name.clone(), sockets::incarnation(), config, now, low ^ high);
        Ok(Arc::new(Self {
            env,
            name,
            started: Instant::now(),
            driven: Mutex::new(Driven {
                engine,
                waiting: HashMap::new(),
                sent: Traffic::default(),
            }),
            net: OnceLock::new(),
            changes: OnceLock::new(),
            drained: watch::channel(None).0,
            health: watch::channel(Health::default()).0,
        }))
    }

    /// Connects the node to its network, and lets time pass for it until it is dropped.
    pub(crate) fn start(self: &Arc<Self>, net: Arc<dyn Net>) {
        // A second network is a mistake of this crate alone, and the first one stays.
        let _ = self.net.set(net);
        let node = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(BEAT);
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut published = Published::default();
            loop {
                beat.tick().await;
                let Some(node) = node.upgrade() else {
                    return;
                };
                node.drive(Engine::tick);
                node.look();
                node.publish(&mut published);
            }
        });
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// Puts a call, and waits for its answer.
    pub(crate) async fn call(
        &self,
        request: Request,
        within: Duration,
    ) -> Result<Reply, StoreError> {
        let answer = {
            let mut driven = self.lock();
            let number = driven.engine.call(self.now(), request, within);
            let mut effects = driven.engine.take_effects();
            let is_answer = |effect: &Effect| matches!(effect, Effect::Answer(answered, _) if *answered == number);
            match effects.iter().position(is_answer).map(|at| effects.remove(at)) {
                Some(Effect::Answer(_, reply)) => {
                    self.act(&mut driven, effects);
                    return known(reply);
                }
                _ => {
                    let (answer, waits) = oneshot::channel();
                    driven.waiting.insert(number, answer);
                    self.act(&mut driven, effects);
                    waits
                }
            }
        };
        known(answer.await.map_err(|_| StoreError::Timeout)?)
    }

    /// Lets something happen to the engine, and does what follows.
    pub(crate) fn drive<T>(&self, happen: impl FnOnce(&mut Engine, Now) -> T) -> T {
        let mut driven = self.lock();
        let happened = happen(&mut driven.engine, self.now());
        let effects = driven.engine.take_effects();
        self.act(&mut driven, effects);
        happened
    }

    /// What changes from now on, and whether everything is told for now.
    pub(crate) fn listen(&self) -> (broadcast::Receiver<Change>, bool) {
        let changes = self.changes.get_or_init(|| broadcast::channel(CHANGES_KEPT).0);
        // First, so that nothing that is said after the look at the links goes by.
        let receiver = changes.subscribe();
        let hears_all = self.drive(Engine::listen);
        (receiver, hears_all)
    }

    pub(crate) async fn drain(&self) -> Result<Drained, StoreError> {
        let mut drained = self.drained.subscribe();
        self.drained.send_replace(None);
        self.drive(Engine::drain);
        let done = drained.wait_for(Option::is_some).await;
        let done = done.map_err(|_| StoreError::Timeout)?;
        done.ok_or(StoreError::Timeout)
    }

    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Looks how the node is.
    pub(crate) fn look(&self) -> Health {
        let health = self.lock().engine.health();
        self.health.send_if_modified(|known| {
            if health.is_crowded && !known.is_crowded {
                let nodes = health.members;
                tracing::warn!(target: "steadfast", nodes, "every write goes to every node: use backups");
            }
            std::mem::replace(known, health) != health
        });
        health
    }

    /// Publishes how the node is, now and then.
    fn publish(&self, published: &mut Published) {
        if !published.is_due(self.started.elapsed()) {
            return;
        }
        let (figures, sent) = {
            let driven = self.lock();
            (driven.engine.figures(), driven.sent.clone())
        };
        let queued = self.net.get().map(|net| net.queued()).unwrap_or_default();
        published.publish(&self.name, &figures, sent, &queued);
    }

    fn now(&self) -> Now {
        Now { mono: self.started.elapsed(), wall: self.env.now() }
    }

    /// Does what an engine wants done. Under its lock, so that messages leave in their order.
    fn act(&self, driven: &mut Driven, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(number, reply) => {
                    if let Some(answer) = driven.waiting.remove(&number) {
                        // Whoever asked may be gone; what was asked for is done all the same.
                        let _ = answer.send(reply);
                    }
                }
                Effect::Changed(change) => {
                    if let Some(changes) = self.changes.get() {
                        let _ = changes.send(change);
                    }
                }
                Effect::Expired(id) => self.expired(id),
                Effect::Evicted(id) => Event::Capacity.emit(Some(id)),
                Effect::Drained { moved, lost } => {
                    self.on_net(Net::leave);
                    self.drained.send_replace(Some(Drained { moved, lost }));
                }
                Effect::TakenForDead(silent) => metrics::detected(&self.name, silent),
                Effect::Send(to, message) => self.send(driven, &to, message),
                Effect::Close(peer) => self.on_net(|net| net.close(&peer)),
            }
        }
    }

    fn send(&self, driven: &mut Driven, to: &Name, message: Message) {
        let kind = Kind::of(&message);
        self.on_net(|net| driven.sent.count(to, kind, net.send(to, message)));
    }

    fn expired(&self, id: RecordId) {
        if !crate::engine::message::is_index(id) {
            Event::Expired.emit(Some(id));
        }
    }

    fn on_net(&self, act: impl FnOnce(&dyn Net)) {
        if let Some(net) = self.net.get() {
            act(&**net);
        }
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

fn known(reply: Reply) -> Result<Reply, StoreError> {
    match reply {
        Reply::Failed(Failure::Timeout) => Err(StoreError::Timeout),
        Reply::Failed(Failure::UnknownKey(key)) => Err(StoreError::UnknownKey(key)),
        Reply::Failed(failure) => Err(StoreError::unavailable(failure)),
        reply => Ok(reply),
    }
}

/// Changes kept for a listener that is slow.
pub(crate) const CHANGES_KEPT: usize = 1_024;
