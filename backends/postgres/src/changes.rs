//! The change feed: changes made on any node, recorded while there are listeners.
//!
//! Functions of the database record their changes in the same transaction while a listener is
//! registered. Listeners poll at intervals, and immediately when a node notifies them after a
//! change. `NOTIFY` is only used as a wake-up call outside of the changing transaction: inside it
//! would take a lock of the whole server, and commits would queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::stream;
use steadfast_core::{Change, ChangeStream, EndReason, Env, RecordId, Version};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender, WeakSender};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::access::{Access, Line};
use crate::connection::{Argument, Malformed, Row, Statement};
use crate::database::{Database, Resend};
use crate::error::Failure;
use crate::statements::Feed;

/// The listeners of this process. They share one line to the database, opened for the first of
/// them.
#[derive(Clone)]
pub(crate) struct Changes(Arc<Shared>);

struct Shared {
    source: Source,
    relay: Mutex<Option<Relay>>,
    /// True while every change is reported.
    is_up: Arc<AtomicBool>,
    bell: Arc<AtomicU8>,
}

/// The source of changes.
#[derive(Clone)]
struct Source {
    access: Access,
    feed: Feed,
    env: Env,
}

/// The task that listens for all, on the runtime that first asked for it.
struct Relay {
    sender: WeakSender<Change>,
    task: JoinHandle<()>,
}

impl Changes {
    pub(crate) fn new(access: Access, feed: Feed, env: Env) -> Self {
        Self(Arc::new(Shared {
            source: Source { access, feed, env },
            relay: Mutex::default(),
            is_up: Arc::default(),
            bell: Arc::default(),
        }))
    }

    pub(crate) fn listen(&self) -> ChangeStream {
        let receiver = self.0.subscribe();
        // Read after subscribing: a change of the flag in between is received as well.
        let is_down = !self.0.is_up.load(Ordering::SeqCst);
        let listening = Listening { receiver, shared: Arc::downgrade(&self.0), is_down };
        ChangeStream::new(stream::unfold(listening, Listening::next))
    }

    /// Notifies the listeners soon, once for all changes until then.
    pub(crate) fn ring(&self, database: &Database) {
        let bell = &self.0.bell;
        if bell.swap(RUNG, Ordering::SeqCst) == SILENT {
            let ringing = Ringing(Some(Arc::clone(bell)));
            tokio::spawn(ringing.ring(database.clone(), self.0.source.feed.clone()));
        }
    }
}

impl Shared {
    /// Subscribes. Starts the listening task if none is running, or if its runtime has ended.
    fn subscribe(&self) -> Receiver<Change> {
        let mut relay = self.relay.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = relay.as_ref().and_then(|relay| relay.sender.upgrade()) {
            return sender.subscribe();
        }
        let (sender, receiver) = broadcast::channel(KEPT);
        let (weak, up) = (sender.downgrade(), Up(Arc::clone(&self.is_up)));
        let task = tokio::spawn(keep_relaying(self.source.clone(), up, sender));
        *relay = Some(Relay { sender: weak, task });
        receiver
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let relay = self.relay.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(relay) = relay {
            relay.task.abort();
        }
    }
}

/// A subscription.
struct Listening {
    receiver: Receiver<Change>,
    shared: Weak<Shared>,
    is_down: bool,
}

impl Listening {
    async fn next(mut self) -> Option<(Change, Self)> {
        if self.is_down {
            self.is_down = false;
            return Some((Change::Down, self));
        }
        match self.receiver.recv().await {
            Ok(change) => Some((change, self)),
            Err(RecvError::Lagged(_)) => Some((Change::Missed, self)),
            // The runtime of the listening task has ended. Start another task in this runtime,
            // unless it is shutting down: a task then ends as it starts.
            Err(RecvError::Closed) => {
                self.receiver = self.shared.upgrade()?.subscribe();
                (!self.receiver.is_closed()).then_some((Change::Down, self))
            }
        }
    }
}

/// Marks the feed as down when dropped, which also happens when its runtime ends.
struct Up(Arc<AtomicBool>);

impl Up {
    fn set(&self, is_up: bool) {
        self.0.store(is_up, Ordering::SeqCst);
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Relays changes forever.
async fn keep_relaying(source: Source, up: Up, sender: Sender<Change>) {
    // The send fails only if there are no listeners.
    let tell = |change| drop(sender.send(change));
    loop {
        match source.open().await {
            Ok(mut reader) => {
                up.set(true);
                tell(Change::Missed);
                let why = reader.relay(&sender).await;
                up.set(false);
                tell(Change::Down);
                tracing::debug!(target: "steadfast", %why, "lost the change feed");
            }
            Err(why) => tracing::debug!(target: "steadfast", %why, "no change feed yet"),
        }
        sleep(PAUSE).await;
    }
}

impl Source {
    /// Registers a listener. Once it returns, every change is reported to it.
    async fn open(&self) -> Result<Reader, Failure> {
        let opening = async {
            let mut line = self.access.open(&self.feed).await?;
            let mut random = [0; 16];
            self.env.fill(&mut random).map_err(|error| Failure::Connection(error.into()))?;
            let listener = Uuid::from_bytes(random);
            run(&mut line, &self.feed.register, &[("listener", &listener)]).await?;
            let row = one(run(&mut line, &self.feed.writers, &[]).await?)?;
            let seen: String = row.get(0).map_err(malformed)?;
            let writers: Option<Vec<String>> = row.get(1).map_err(malformed)?;
            let passed = VecDeque::from([(Instant::now(), seen.clone())]);
            let reader = Reader { line, feed: self.feed.clone(), listener, seen, passed };
            Ok((reader, writers.unwrap_or_default()))
        };
        let opened = timeout(ANSWERS_WITHIN, opening).await;
        let (mut reader, writers) = opened.unwrap_or(Err(Failure::Hung))?;
        while !writers.is_empty() && reader.are_writing(&writers).await? {
            sleep(LOOKS_EVERY).await;
            reader.stay().await?;
        }
        Ok(reader)
    }
}

/// A registered listener.
struct Reader {
    line: Line,
    feed: Feed,
    listener: Uuid,
    /// The snapshot of the last poll, in the database's own notation.
    seen: String,
    /// Snapshots at earlier renewals of the registration.
    passed: VecDeque<(Instant, String)>,
}

impl Reader {
    /// Relays changes until an error occurs.
    async fn relay(&mut self, sender: &Sender<Change>) -> Failure {
        loop {
            match self.look().await {
                Ok(changes) => changes.into_iter().for_each(|change| drop(sender.send(change))),
                Err(failure) => return failure,
            }
            if let Err(failure) = self.wait().await {
                return failure;
            }
        }
    }

    /// Returns the changes committed since the last poll.
    async fn look(&mut self) -> Result<Vec<Change>, Failure> {
        let arguments: [Argument<'_>; 2] = [("listener", &self.listener), ("seen", &self.seen)];
        let rows = run(&mut self.line, &self.feed.poll, &arguments).await?;
        let first = rows.first().ok_or(NO_ROW)?;
        self.seen = first.get(0).map_err(malformed)?;
        if first.get::<Option<bool>>(1).map_err(malformed)? != Some(true) {
            return Err(LAPSED);
        }
        self.stay().await?;
        rows.iter()
            .filter_map(|row| change(row).transpose())
            .collect::<Result<_, _>>()
            .map_err(malformed)
    }

    /// Waits for a notification, or for the polling interval.
    async fn wait(&mut self) -> Result<(), Failure> {
        let Line::Rung(connection) = &mut self.line else {
            sleep(LOOKS_EVERY).await;
            return Ok(());
        };
        if let Ok(rung) = timeout(LOOKS_UNRUNG_EVERY, connection.notified()).await {
            rung?;
            sleep(LOOKS_AT_MOST_EVERY).await;
        }
        Ok(())
    }

    async fn are_writing(&mut self, writers: &Vec<String>) -> Result<bool, Failure> {
        let arguments: [Argument<'_>; 1] = [("writers", writers)];
        let row = one(run(&mut self.line, &self.feed.are_writing, &arguments).await?)?;
        row.get(0).map_err(malformed)
    }

    /// Renews the registration when it is due.
    async fn stay(&mut self) -> Result<(), Failure> {
        if self.passed.back().is_some_and(|(at, _)| at.elapsed() < RENEWED_EVERY) {
            return Ok(());
        }
        let arguments: [Argument<'_>; 1] = [("listener", &self.listener)];
        if run(&mut self.line, &self.feed.renew, &arguments).await?.is_empty() {
            return Err(LAPSED);
        }
        self.passed.push_back((Instant::now(), self.seen.clone()));
        self.forget().await
    }

    /// Deletes changes that are so old that every registered listener has read them.
    async fn forget(&mut self) -> Result<(), Failure> {
        let is_past = |(at, _): &(Instant, String)| at.elapsed() > KEPT_FOR;
        let mut past = None;
        while self.passed.front().is_some_and(is_past) {
            past = self.passed.pop_front();
        }
        let Some((_, seen)) = past else { return Ok(()) };
        let arguments: [Argument<'_>; 1] = [("seen", &seen)];
        run(&mut self.line, &self.feed.forget, &arguments).await.map(drop)
    }
}

/// A notification that is being sent.
struct Ringing(Option<Arc<AtomicU8>>);

impl Ringing {
    async fn ring(mut self, database: Database, feed: Feed) {
        while !self.is_done() {
            // A failure does no harm: listeners also poll.
            let _ = database.rows(Resend::Freely, &feed.ring, &[("channel", &feed.channel)]).await;
            sleep(RINGS_AT_MOST_EVERY).await;
        }
    }

    /// Returns true if there was no change since the notification was sent.
    fn is_done(&mut self) -> bool {
        let Some(bell) = &self.0 else { return true };
        let order = Ordering::SeqCst;
        if bell.compare_exchange(RINGING, SILENT, order, order).is_ok() {
            self.0 = None;
            return true;
        }
        bell.store(RINGING, order);
        false
    }
}

impl Drop for Ringing {
    /// Resets the state if the runtime ends while a notification is being sent.
    fn drop(&mut self) {
        if let Some(bell) = &self.0 {
            bell.store(SILENT, Ordering::SeqCst);
        }
    }
}

/// No change since the last notification.
const SILENT: u8 = 0;
/// A notification is needed.
const RUNG: u8 = 1;
/// A notification for all changes so far is being sent.
const RINGING: u8 = 2;

async fn run(
    line: &mut Line,
    statement: &Statement,
    arguments: &[Argument<'_>],
) -> Result<Vec<Row>, Failure> {
    let answer = timeout(ANSWERS_WITHIN, line.run(statement, arguments)).await;
    answer.map_err(|_| Failure::Hung)?.map_err(|failed| failed.failure)
}

fn one(rows: Vec<Row>) -> Result<Row, Failure> {
    rows.into_iter().next().ok_or(NO_ROW)
}

/// Parses the change in a row, if there is one.
fn change(row: &Row) -> Result<Option<Change>, Malformed> {
    let Some(what) = row.get::<Option<&str>>(2)? else { return Ok(None) };
    let id = RecordId::from(row.get::<Uuid>(3)?);
    let version = || Ok::<_, Malformed>(Version(u64::try_from(row.get::<i64>(4)?)?));
    Ok(Some(match what {
        "patched" => Change::Patched(id, version()?),
        "signed in" => Change::SignedIn(id, version()?),
        _ => match what.strip_prefix("ended ").and_then(EndReason::from_name) {
            Some(reason) => Change::Ended(id, reason),
            // A later release may report changes that this one does not know. Anything may have
            // changed.
            None => Change::Missed,
        },
    }))
}

#[allow(clippy::needless_pass_by_value, reason = "it takes the place of another error")]
fn malformed(_: Malformed) -> Failure {
    Failure::Protocol("an answer of another form")
}

const LAPSED: Failure = Failure::Protocol("the registration of the listener has lapsed");
const NO_ROW: Failure = Failure::Protocol("an answer without a row");

/// The number of changes buffered for a slow listener. Beyond it, the listener receives
/// [`Change::Missed`].
const KEPT: usize = 1_024;

/// The polling interval without notifications.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// The polling interval with notifications: a node may die between a change and its notification.
const LOOKS_UNRUNG_EVERY: Duration = Duration::from_millis(500);

/// The shortest time between two polls, and between two notifications of a node.
const LOOKS_AT_MOST_EVERY: Duration = Duration::from_millis(5);
const RINGS_AT_MOST_EVERY: Duration = Duration::from_millis(20);

/// A registration is valid for 30 s.
const RENEWED_EVERY: Duration = Duration::from_secs(10);

/// The time that changes are kept, which exceeds the validity of a registration.
const KEPT_FOR: Duration = Duration::from_secs(60);

const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// The pause after a failure to listen.
const PAUSE: Duration = Duration::from_millis(200);
