//! The change feed: published by the scripts, received on separate connections.
//!
//! A listener subscribes on every server that has records, so that it does not depend on servers
//! forwarding messages to each other. Duplicates are reported once. The feed yields
//! [`Change::Missed`] when the beats of [`feed`](crate::feed) reveal a gap, and [`Change::Down`]
//! when messages that the listener publishes on each server do not return.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::stream::{self, BoxStream, SelectAll, StreamExt as _};
use steadfast_core::{Change, ChangeStream, Env, StoreError};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender, WeakSender};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::connection::{Listener, Server, Servers};
use crate::error::Fault;
use crate::feed::{Ledger, Message, Numbers};
use crate::script::Script;

/// The feed: messages that this node publishes, and messages it receives once it has a listener.
pub(crate) struct Changes(Arc<Shared>);

struct Shared {
    wire: Arc<Wire>,
    state: Mutex<State>,
}

/// The means of publishing a message.
struct Wire {
    channel: String,
    servers: Arc<Servers>,
    script: Script,
}

#[derive(Default)]
struct State {
    sender: Option<u64>,
    numbers: Numbers,
    beating: Option<AbortHandle>,
    hearing: Option<Hearing>,
}

struct Hearing {
    /// The strong sender belongs to the listening task. Listeners thus notice when that task ends
    /// with its runtime.
    sender: WeakSender<Change>,
    is_up: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Changes {
    pub(crate) fn new(channel: String, servers: Arc<Servers>, script: Script) -> Self {
        let wire = Arc::new(Wire { channel, servers, script });
        Self(Arc::new(Shared { wire, state: Mutex::default() }))
    }

    /// Allocates a number for the message that a script may publish.
    pub(crate) fn number(&self, env: &Env) -> Result<Numbered<'_>, StoreError> {
        let mut state = self.0.state();
        let sender = state.sender(env)?;
        let number = state.numbers.begin(Instant::now());
        Ok(Numbered { shared: &self.0, sender, number: Some(number) })
    }

    pub(crate) fn listen(&self, env: &Env) -> Result<ChangeStream, StoreError> {
        let (heard, shared, env) = (self.0.hear(env)?, Arc::downgrade(&self.0), env.clone());
        let next = move |mut heard: Heard| {
            let (shared, env) = (Weak::clone(&shared), env.clone());
            async move {
                loop {
                    if let Some(first) = heard.first.take() {
                        return Some((first, heard));
                    }
                    match heard.receiver.recv().await {
                        Ok(change) => return Some((change, heard)),
                        Err(RecvError::Lagged(_)) => return Some((heard.after_a_gap(), heard)),
                        // The store is gone, or the runtime of the listening task has ended. Start
                        // another task in this runtime, unless it is shutting down: a task then ends
                        // as it starts.
                        Err(RecvError::Closed) => {
                            heard = shared.upgrade()?.hear(&env).ok()?;
                            if heard.receiver.is_closed() {
                                return None;
                            }
                        }
                    }
                }
            }
        };
        Ok(ChangeStream::new(stream::unfold(heard, next)))
    }
}

impl Shared {
    /// Subscribes to the changes from now on. Starts the listening task in this runtime if there is
    /// none.
    fn hear(&self, env: &Env) -> Result<Heard, StoreError> {
        let mut state = self.state();
        let heard = state.hearing.as_ref().and_then(|hearing| {
            let receiver = hearing.sender.upgrade()?.subscribe();
            let is_up = Arc::clone(&hearing.is_up);
            // Read after subscribing, so that no transition is missed in between.
            let is_down = !is_up.load(Ordering::Acquire);
            Some(Heard { first: is_down.then_some(Change::Down), receiver, is_up })
        });
        if let Some(heard) = heard {
            return Ok(heard);
        }
        let id = state.sender(env)?;
        let (sender, receiver) = broadcast::channel(KEPT);
        let listeners = Listeners { sender, is_up: Arc::default() };
        let (sender, is_up) = (listeners.sender.downgrade(), Arc::clone(&listeners.is_up));
        let task = tokio::spawn(hear(Arc::clone(&self.wire), id, listeners)).abort_handle();
        state.hearing = Some(Hearing { sender, is_up: Arc::clone(&is_up), task });
        Ok(Heard { first: Some(Change::Down), receiver, is_up })
    }

    /// Publishes beats when they are due, in a task of this runtime, until none are left.
    fn beat(self: &Arc<Self>) {
        let mut state = self.state();
        if state.beating.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            state.beating = Some(runtime.spawn(beat(Arc::downgrade(self))).abort_handle());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire {
    /// Publishes on a server, if it accepts writes.
    async fn publish(&self, server: &Arc<Server>, message: &[u8]) -> Result<(), Fault> {
        let call = self.script.publishing(&self.channel, message);
        let call = call.once();
        let published = server.call_again(&call);
        tokio::time::timeout(TICK, published).await.unwrap_or(Err(Fault::Silent)).map(drop)
    }
}

impl State {
    fn sender(&mut self, env: &Env) -> Result<u64, StoreError> {
        if let Some(sender) = self.sender {
            return Ok(sender);
        }
        let mut bytes = [0; 8];
        env.fill(&mut bytes)?;
        Ok(*self.sender.insert(u64::from_be_bytes(bytes)))
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A subscription. It yields `first` before the received changes.
struct Heard {
    first: Option<Change>,
    receiver: Receiver<Change>,
    is_up: Arc<AtomicBool>,
}

impl Heard {
    /// Returns the change to report for those that a slow listener lost. One of them may have been
    /// `Down`.
    fn after_a_gap(&self) -> Change {
        if self.is_up.load(Ordering::Acquire) { Change::Missed } else { Change::Down }
    }
}

/// The listeners of this node, and the state of the feed.
struct Listeners {
    sender: Sender<Change>,
    is_up: Arc<AtomicBool>,
}

impl Listeners {
    /// Sends a change. The send fails only if there are no listeners.
    fn tell(&self, change: Change) {
        let _ = self.sender.send(change);
    }

    /// Reports `Missed`, except while the feed is down: there it would mean that the feed is up
    /// again.
    fn missed(&self) {
        if self.is_up.load(Ordering::Acquire) {
            self.tell(Change::Missed);
        }
    }

    fn is_up(&self, is_up: bool) {
        if self.is_up.swap(is_up, Ordering::AcqRel) != is_up {
            self.tell(if is_up { Change::Missed } else { Change::Down });
        }
    }
}

/// The number of a message that a script may publish. If it is dropped before the answer, the
/// message may have been published.
pub(crate) struct Numbered<'s> {
    shared: &'s Arc<Shared>,
    sender: u64,
    /// `None` once the number is settled.
    number: Option<u64>,
}

impl Numbered<'_> {
    /// Returns the first bytes of the message.
    pub(crate) fn stamp(&self) -> [u8; 16] {
        let mut stamp = [0; 16];
        stamp[..8].copy_from_slice(&self.sender.to_be_bytes());
        stamp[8..].copy_from_slice(&self.number.unwrap_or_default().to_be_bytes());
        stamp
    }

    /// Records whether a message was published and had a receiver; `None` if that is not known.
    pub(crate) fn settle(mut self, was_heard: Option<bool>) {
        self.end(was_heard);
    }

    fn end(&mut self, was_heard: Option<bool>) {
        let Some(number) = self.number.take() else {
            return;
        };
        self.shared.state().numbers.settle(number, was_heard, Instant::now());
        if was_heard != Some(false) {
            self.shared.beat();
        }
    }
}

impl Drop for Numbered<'_> {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// The first bytes of a script that publishes nothing.
pub(crate) const UNSTAMPED: [u8; 16] = [0; 16];

async fn beat(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(TICK).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let message = {
            let mut state = shared.state();
            let beat = state.numbers.beat(Instant::now());
            if beat.is_none() && !state.numbers.is_waiting() {
                state.beating = None;
                return;
            }
            beat.map(|beat| Message::beat(state.sender.unwrap_or_default(), beat))
        };
        let wire = Arc::clone(&shared.wire);
        drop(shared);
        let Some(message) = message else {
            continue;
        };
        for server in wire.servers.primaries().await.unwrap_or_default() {
            if let Err(fault) = wire.publish(&server, &message).await {
                tracing::debug!(target: "steadfast", ?fault, "failed to publish a beat");
            }
        }
    }
}

/// Listens forever, on one set of connections after another.
async fn hear(wire: Arc<Wire>, sender: u64, listeners: Listeners) {
    loop {
        match Ears::open(&wire, sender).await {
            Ok(mut ears) => {
                listeners.is_up(true);
                ears.pass_on(&wire, &listeners).await;
            }
            Err(fault) => {
                tracing::debug!(target: "steadfast", ?fault, "failed to subscribe to the feed");
            }
        }
        listeners.is_up(false);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Subscriptions on every server that has records.
struct Ears {
    /// The random id by which this node recognizes its own messages.
    sender: u64,
    servers: Vec<Arc<Server>>,
    /// Messages with the index of their server; `None` at the end of a subscription.
    messages: SelectAll<BoxStream<'static, (u64, Option<Vec<u8>>)>>,
    /// The time at which each server last returned an echo of this node.
    echoed: Vec<Instant>,
    ledger: Ledger,
}

impl Ears {
    async fn open(wire: &Wire, sender: u64) -> Result<Self, Fault> {
        let servers = wire.servers.primaries().await?;
        let subscribe = |server: &Arc<Server>| {
            let server = Arc::clone(server);
            async move { Listener::subscribe(server.listen().await?, &wire.channel).await }
        };
        let listeners = try_join_all(servers.iter().map(subscribe)).await?;
        let messages = listeners.into_iter().zip(0..).map(|(listener, server)| {
            let next = move |listener: Option<Listener>| async move {
                let mut listener = listener?;
                let message = listener.next().await;
                let rest = message.is_some().then_some(listener);
                Some(((server, message), rest))
            };
            stream::unfold(Some(listener), next).boxed()
        });
        let messages = stream::select_all(messages);
        let echoed = vec![Instant::now(); servers.len()];
        Ok(Self { sender, servers, messages, echoed, ledger: Ledger::default() })
    }

    /// Forwards changes until a subscription ends, an echo stays away, or another server has
    /// records.
    async fn pass_on(&mut self, wire: &Arc<Wire>, listeners: &Listeners) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = Instant::now();
        loop {
            tokio::select! {
                biased;
                message = self.messages.next() => match message {
                    Some((server, Some(message))) => {
                        match self.hear(server, &message) {
                            Some(changes) => changes.into_iter().for_each(|change| listeners.tell(change)),
                            None => listeners.missed(),
                        }
                    }
                    _ => return,
                },
                _ = ticks.tick() => {
                    self.echo(wire);
                    let now = Instant::now();
                    let silent = self.echoed.iter().map(|at| now - *at).max().unwrap_or_default();
                    listeners.is_up(silent <= SILENT);
                    if self.ledger.has_silence(now) {
                        listeners.missed();
                    }
                    if silent > LOST {
                        return;
                    }
                    if now - looked > LOOKS_EVERY {
                        looked = now;
                        if has_moved(&self.servers, wire).await {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Returns the new changes of a message, or `None` if some were or may have been missed.
    fn hear(&mut self, server: u64, message: &[u8]) -> Option<Vec<Change>> {
        let now = Instant::now();
        // A later release may send messages that this one cannot parse. They may report any change.
        match Message::of(message)? {
            Message::Changes { sender, number, changes } => {
                let is_new = self.ledger.hear(sender, number, now);
                Some(if is_new { changes } else { Vec::new() })
            }
            Message::Beat { sender, beat } => self.ledger.check(sender, beat, now).then(Vec::new),
            Message::Echo { sender, server: over } => {
                // An echo only proves that the server works over which it was sent.
                if sender == self.sender
                    && over == server
                    && let Ok(at) = usize::try_from(server)
                {
                    self.echoed[at] = now;
                }
                Some(Vec::new())
            }
        }
    }

    /// Publishes an echo on every server.
    fn echo(&self, wire: &Arc<Wire>) {
        for (server, number) in self.servers.iter().zip(0..) {
            let (wire, server) = (Arc::clone(wire), Arc::clone(server));
            let message = Message::echo(self.sender, number);
            tokio::spawn(async move { wire.publish(&server, &message).await.map_err(drop) });
        }
    }
}

/// Returns true if other servers have the records now.
async fn has_moved(servers: &[Arc<Server>], wire: &Wire) -> bool {
    let looking = tokio::time::timeout(TICK, wire.servers.primaries()).await;
    let Ok(Ok(primaries)) = looking else {
        return false;
    };
    let is_known = |server| servers.iter().any(|known| Arc::ptr_eq(known, server));
    primaries.len() != servers.len() || !primaries.iter().all(is_known)
}

/// The number of changes buffered for a slow listener. Beyond it, the listener receives
/// [`Change::Missed`].
const KEPT: usize = 1_024;

/// The pause between two attempts to listen.
const PAUSE: Duration = Duration::from_millis(200);

/// The interval between beats, and between echoes.
const TICK: Duration = Duration::from_millis(250);

/// The time without an echo after which other messages may be missing too.
const SILENT: Duration = Duration::from_millis(750);

/// The time without an echo after which new connections are opened.
const LOST: Duration = Duration::from_secs(2);

/// The interval at which the servers that have records are determined.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovered_feed_reports_its_gap() {
        let (sender, mut receiver) = broadcast::channel(KEPT);
        let listeners = Listeners { sender, is_up: Arc::default() };
        listeners.missed();
        assert!(receiver.is_empty());
        listeners.is_up(true);
        listeners.missed();
        listeners.is_up(false);
        listeners.missed();
        listeners.is_up(true);
        let told: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        assert_eq!(told, [Change::Missed, Change::Missed, Change::Down, Change::Missed]);
    }

    #[test]
    fn a_slow_listener_still_learns_of_a_cut() {
        let (sender, receiver) = broadcast::channel(1);
        let listeners = Listeners { sender, is_up: Arc::default() };
        let is_up = Arc::clone(&listeners.is_up);
        let heard = Heard { first: None, receiver, is_up };
        listeners.is_up(true);
        assert_eq!(heard.after_a_gap(), Change::Missed);
        listeners.is_up(false);
        assert_eq!(heard.after_a_gap(), Change::Down);
    }
}
