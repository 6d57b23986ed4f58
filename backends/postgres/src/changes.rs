//! What happened on any node, as far as somebody listens.
//!
//! Functions of the database write down what they change while a listener is registered, in the same
//! transaction. Listeners read that at intervals, and at once when a node rings them after a change.
//! `NOTIFY` is for ringing alone: told by it, changes would be committed one after the other, because it
//! takes a lock of the whole server.

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

use crate::connection::{Argument, Connection, Malformed, Row, Statement};
use crate::error::Failure;
use crate::hosts::Hosts;
use crate::pool::{Pool, Resend};
use crate::statements::Feed;

/// The listeners of this process. They share one connection, made for the first of them.
#[derive(Clone)]
pub(crate) struct Changes(Arc<Shared>);

struct Shared {
    source: Source,
    relay: Mutex<Option<Relay>>,
    /// Whether everything is told from now on.
    is_up: Arc<AtomicBool>,
    bell: Arc<AtomicU8>,
}

/// Where changes are read.
#[derive(Clone)]
struct Source {
    hosts: Arc<Hosts>,
    /// Whether a connection to these hosts can be rung.
    can_be_rung: bool,
    feed: Feed,
    env: Env,
}

/// What listens for all, on the runtime where it was first asked for.
struct Relay {
    sender: WeakSender<Change>,
    task: JoinHandle<()>,
}

impl Changes {
    pub(crate) fn new(hosts: Arc<Hosts>, can_be_rung: bool, feed: Feed, env: Env) -> Self {
        Self(Arc::new(Shared {
            source: Source { hosts, can_be_rung, feed, env },
            relay: Mutex::default(),
            is_up: Arc::default(),
            bell: Arc::default(),
        }))
    }

    pub(crate) fn listen(&self) -> ChangeStream {
        let receiver = self.0.subscribe();
        // Asked after that: what it is told from now on, it hears.
        let is_down = !self.0.is_up.load(Ordering::SeqCst);
        let listening = Listening { receiver, shared: Arc::downgrade(&self.0), is_down };
        ChangeStream::new(stream::unfold(listening, Listening::next))
    }

    /// Rings those who listen, soon, and once for everything that happens until then.
    pub(crate) fn ring(&self, pool: &Pool) {
        let bell = &self.0.bell;
        if bell.swap(RUNG, Ordering::SeqCst) == SILENT {
            let ringing = Ringing(Some(Arc::clone(bell)));
            tokio::spawn(ringing.ring(pool.clone(), self.0.source.feed.clone()));
        }
    }
}

impl Shared {
    /// Begins to listen where nothing does, or where the runtime that did has ended.
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

/// One listener.
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
            Err(RecvError::Closed) => {
                self.receiver = self.shared.upgrade()?.subscribe();
                Some((Change::Down, self))
            }
        }
    }
}

/// Says that nothing is told any more, also where its runtime ends.
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

/// Relays changes for ever.
async fn keep_relaying(source: Source, up: Up, sender: Sender<Change>) {
    // An error says that nobody listens any more.
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
    /// Registers a listener, on a connection of its own to the primary, and returns once everything that
    /// is changed is told to it.
    async fn open(&self) -> Result<Reader, Failure> {
        let opening = async {
            let opened = self.hosts.connect().await;
            let mut connection = opened.map_err(|error| Failure::Connection(error.into()))?;
            if self.can_be_rung {
                connection.batch(&format!("LISTEN \"{}\"", self.feed.channel)).await?;
            }
            let mut random = [0; 16];
            self.env.fill(&mut random).map_err(|error| Failure::Connection(error.into()))?;
            let listener = Uuid::from_bytes(random);
            run(&mut connection, &self.feed.register, &[("listener", &listener)]).await?;
            let row = one(run(&mut connection, &self.feed.writers, &[]).await?)?;
            let seen: String = row.get(0).map_err(malformed)?;
            let writers: Option<Vec<String>> = row.get(1).map_err(malformed)?;
            let (feed, can_be_rung) = (self.feed.clone(), self.can_be_rung);
            let passed = VecDeque::from([(Instant::now(), seen.clone())]);
            let reader = Reader { connection, feed, can_be_rung, listener, seen, passed };
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
    connection: Connection,
    feed: Feed,
    can_be_rung: bool,
    listener: Uuid,
    /// What the database looked like at the last look, in its own words.
    seen: String,
    /// The same at earlier ones, when the registration was renewed.
    passed: VecDeque<(Instant, String)>,
}

impl Reader {
    /// Relays changes until that fails.
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

    /// What was committed since the last look.
    async fn look(&mut self) -> Result<Vec<Change>, Failure> {
        let arguments: [Argument<'_>; 2] = [("listener", &self.listener), ("seen", &self.seen)];
        let rows = run(&mut self.connection, &self.feed.poll, &arguments).await?;
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

    /// Waits until it is rung, or for long enough.
    async fn wait(&mut self) -> Result<(), Failure> {
        if !self.can_be_rung {
            sleep(LOOKS_EVERY).await;
            return Ok(());
        }
        if let Ok(rung) = timeout(LOOKS_UNRUNG_EVERY, self.connection.notified()).await {
            rung?;
            sleep(LOOKS_AT_MOST_EVERY).await;
        }
        Ok(())
    }

    async fn are_writing(&mut self, writers: &Vec<String>) -> Result<bool, Failure> {
        let arguments: [Argument<'_>; 1] = [("writers", writers)];
        let row = one(run(&mut self.connection, &self.feed.are_writing, &arguments).await?)?;
        row.get(0).map_err(malformed)
    }

    /// Renews the registration now and then.
    async fn stay(&mut self) -> Result<(), Failure> {
        if self.passed.back().is_some_and(|(at, _)| at.elapsed() < RENEWED_EVERY) {
            return Ok(());
        }
        let arguments: [Argument<'_>; 1] = [("listener", &self.listener)];
        if run(&mut self.connection, &self.feed.renew, &arguments).await?.is_empty() {
            return Err(LAPSED);
        }
        self.passed.push_back((Instant::now(), self.seen.clone()));
        self.forget().await
    }

    /// Forgets changes that were there so long ago that every listener has seen them, or is not
    /// registered any more.
    async fn forget(&mut self) -> Result<(), Failure> {
        let is_past = |(at, _): &(Instant, String)| at.elapsed() > KEPT_FOR;
        let mut past = None;
        while self.passed.front().is_some_and(is_past) {
            past = self.passed.pop_front();
        }
        let Some((_, seen)) = past else { return Ok(()) };
        let arguments: [Argument<'_>; 1] = [("seen", &seen)];
        run(&mut self.connection, &self.feed.forget, &arguments).await.map(drop)
    }
}

/// A bell that is being rung.
struct Ringing(Option<Arc<AtomicU8>>);

impl Ringing {
    async fn ring(mut self, pool: Pool, feed: Feed) {
        while !self.is_done() {
            // Those who listen look at intervals in any case.
            let _ = pool.rows(Resend::Freely, &feed.ring, &[("channel", &feed.channel)]).await;
            sleep(RINGS_AT_MOST_EVERY).await;
        }
    }

    /// Whether nothing happened since it was last rung.
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
    /// The runtime ended in the middle of it.
    fn drop(&mut self) {
        if let Some(bell) = &self.0 {
            bell.store(SILENT, Ordering::SeqCst);
        }
    }
}

/// Nothing happened since it was rung.
const SILENT: u8 = 0;
/// It is to be rung.
const RUNG: u8 = 1;
/// It is being rung for everything that happened so far.
const RINGING: u8 = 2;

async fn run(
    connection: &mut Connection,
    statement: &Statement,
    arguments: &[Argument<'_>],
) -> Result<Vec<Row>, Failure> {
    let answer = timeout(ANSWERS_WITHIN, connection.run(statement, arguments)).await;
    answer.map_err(|_| Failure::Hung)?.map_err(|failed| failed.failure)
}

fn one(rows: Vec<Row>) -> Result<Row, Failure> {
    rows.into_iter().next().ok_or(NO_ROW)
}

/// The change in a row, if there is one.
fn change(row: &Row) -> Result<Option<Change>, Malformed> {
    let Some(what) = row.get::<Option<&str>>(2)? else { return Ok(None) };
    let id = RecordId::from(row.get::<Uuid>(3)?);
    let version = || Ok::<_, Malformed>(Version(u64::try_from(row.get::<i64>(4)?)?));
    Ok(Some(match what {
        "patched" => Change::Patched(id, version()?),
        "signed in" => Change::SignedIn(id, version()?),
        _ => match what.strip_prefix("ended ").and_then(EndReason::from_name) {
            Some(reason) => Change::Ended(id, reason),
            // Of a later release. Whatever it is, what is known of the record may be wrong.
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

/// Changes kept for a listener that is slow; beyond them it is told [`Change::Missed`].
const KEPT: usize = 1_024;

/// How often to look for changes where nothing rings.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// How often to look, rung or not: a node may have died between a change and its ring.
const LOOKS_UNRUNG_EVERY: Duration = Duration::from_millis(500);

/// How long after a look, at least, the next one is; and how long a node rings only once.
const LOOKS_AT_MOST_EVERY: Duration = Duration::from_millis(5);
const RINGS_AT_MOST_EVERY: Duration = Duration::from_millis(20);

/// A registration counts for 30 s.
const RENEWED_EVERY: Duration = Duration::from_secs(10);

/// How long changes are kept, longer than a registration counts.
const KEPT_FOR: Duration = Duration::from_secs(60);

const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// How long nobody tries to listen after that failed.
const PAUSE: Duration = Duration::from_millis(200);
