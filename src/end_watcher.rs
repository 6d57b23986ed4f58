//! Tells long-lived connections that their session changed or ended.
//!
//! One task per layer serves all of them. It reads the store's changes, and asks the store about a session
//! only if the changes cannot tell. An idle connection costs neither time nor a store call.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::stream::{self, FuturesUnordered, StreamExt};
use steadfast_core::{
    Absence, Change, ChangeStream, EndReason, Env, Lookup, RecordId, RequestHint, StoreError,
    Timestamp, Version,
};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::bounds::Bounds;
use crate::measure::{ShownFeed, ShownWait};
use crate::replaceable::Replaceable;
use crate::store_client::{Purpose, StoreClient};

/// The longest time in which [`Session::ended`](crate::Session::ended) may miss the end of a session while the
/// store reports no changes: 10 s. With fewer than 1,000 sessions it is shorter, down to 1 s.
pub const RECHECK: Duration = Duration::from_secs(10);

/// The sessions that connections wait for.
#[derive(Debug, Default)]
pub(crate) struct EndWatcher {
    state: Mutex<State>,
    /// Wakes the task when a session has to be checked sooner than planned.
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    watched: HashMap<RecordId, WatchedSession>,
    /// The times at which to ask the store about a session.
    checks: BTreeSet<(Instant, RecordId)>,
    /// The known deadlines of sessions.
    deadlines: BTreeSet<(Timestamp, RecordId)>,
    next_number: u64,
    is_running: bool,
    is_closed: bool,
    /// True while the feed of changes is complete.
    is_feed_up: bool,
}

/// A session, and the connections that wait for its end.
#[derive(Debug)]
struct WatchedSession {
    deadline: Timestamp,
    check: Option<Instant>,
    waiters: HashMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    /// The sign-in under which the connection loaded the session.
    sign_in: u64,
    notifier: Notifier,
}

/// The channel that wakes a connection.
#[derive(Debug)]
enum Notifier {
    /// Reports the end only.
    End(oneshot::Sender<EndReason>),
    /// Reports changes as well.
    Update(watch::Sender<Update>),
}

/// The latest state of a session that a connection follows.
#[derive(Clone, Copy, Debug, Default)]
struct Update {
    version: Option<Version>,
    over: Option<EndReason>,
}

/// The result of waiting for an update of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SessionUpdate {
    Changed,
    Ended(EndReason),
}

/// The state of a session for a connection that wants to wait for its end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EndStatus {
    Live(LoadedSession),
    Ended(EndReason),
}

/// A session whose end a connection waits for, as it was loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadedSession {
    pub(crate) id: RecordId,
    pub(crate) sign_in: u64,
    pub(crate) version: Version,
    pub(crate) deadline: Timestamp,
}

impl EndWatcher {
    /// Waits for the end of a session.
    pub(crate) async fn ended(
        self: &Arc<Self>,
        client: &StoreClient,
        bounds: &Replaceable<Bounds>,
        loaded: LoadedSession,
    ) -> EndReason {
        let (sender, ended) = oneshot::channel();
        let Some(registration) = self.register(client, bounds, loaded, Notifier::End(sender))
        else {
            return EndReason::Shutdown;
        };
        let reason = ended.await;
        drop(registration);
        // Without a reason the task was cut off together with its runtime.
        reason.unwrap_or(EndReason::Shutdown)
    }

    /// Follows a session until it is over; `None` once the process stops.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        client: &StoreClient,
        bounds: &Replaceable<Bounds>,
        loaded: LoadedSession,
    ) -> Option<Subscription> {
        let (sender, news) = watch::channel(Update::default());
        let registration = self.register(client, bounds, loaded, Notifier::Update(sender))?;
        Some(Subscription { news, _registration: registration })
    }

    /// Ends every wait, now and from now on: the process stops.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let watched = std::mem::take(&mut state.watched);
        state.checks.clear();
        state.deadlines.clear();
        drop(state);
        for waiter in watched.into_values().flat_map(|watched| watched.waiters.into_values()) {
            waiter.notifier.over(EndReason::Shutdown);
        }
        self.news.notify_one();
    }

    /// Plans a check of every session within [`RECHECK`], because some may be over by now.
    pub(crate) fn recheck_all(&self, env: &Env) {
        self.lock().recheck_all(env);
        self.news.notify_one();
    }

    fn register(
        self: &Arc<Self>,
        client: &StoreClient,
        bounds: &Replaceable<Bounds>,
        loaded: LoadedSession,
        notifier: Notifier,
    ) -> Option<Registration> {
        let mut state = self.lock();
        if state.is_closed {
            return None;
        }
        state.next_number += 1;
        let number = state.next_number;
        // The session may have ended since it was loaded, before its changes were listened to.
        state.watch(loaded, number, notifier);
        state.check_at(loaded.id, Instant::now());
        if !std::mem::replace(&mut state.is_running, true) {
            let running =
                RunningTask { watcher: Arc::downgrade(self), news: Arc::clone(&self.news) };
            state.is_feed_up = true;
            let changes = client.store.changes();
            let (client, bounds) = (client.clone(), bounds.clone());
            tokio::spawn(serve(running, client, bounds, changes));
        }
        drop(state);
        self.news.notify_one();
        let (watcher, shown) = (Arc::clone(self), ShownWait::new());
        Some(Registration { watcher, id: loaded.id, number, _shown: shown })
    }

    fn on_change(&self, change: Change, env: &Env) {
        let mut state = self.lock();
        match change {
            Change::Ended(id, reason) => state.end(id, |_| Some(reason)),
            // The change does not say which sign-in a waiter belongs to, so the store is asked.
            Change::SignedIn(id, _) => state.check_at(id, Instant::now()),
            Change::Patched(id, version) => state.changed(id, version),
            Change::Missed => {
                state.is_feed_up = true;
                state.recheck_all(env);
            }
            Change::Down => {
                state.is_feed_up = false;
                state.recheck_all(env);
            }
        }
    }

    /// Records the result of a check.
    fn on_lookup(
        &self,
        id: RecordId,
        answer: Result<Lookup, StoreError>,
        bounds: &Replaceable<Bounds>,
        env: &Env,
    ) {
        let mut state = self.lock();
        match answer {
            Ok(Lookup::Found(found)) => {
                let record = found.record;
                state.end(id, |of| (of != record.sign_in).then_some(EndReason::Superseded));
                state.changed(id, record.version);
                let absolute = bounds.absolute_deadline(&record);
                match env.now() < absolute {
                    true => state.on_alive(id, absolute.min(record.idle_deadline), env),
                    false => state.end(id, |_| Some(EndReason::Expired)),
                }
            }
            Ok(Lookup::Absent(absence)) => state.end(id, |_| Some(end_reason(absence))),
            Ok(Lookup::Superseded) => state.end(id, |_| Some(EndReason::Logout)),
            // An error is not an end: a later check decides.
            Err(_) => state.check_later(id, env),
        }
    }

    /// Plans checks of the sessions that are due to expire, and returns the time of the next work.
    fn next_wakeup(&self, wall: Timestamp) -> Instant {
        let mut state = self.lock();
        state.expire(wall);
        let tick = Instant::now() + TICK;
        state.checks.first().map_or(tick, |(at, _)| tick.min(*at))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn watch(&mut self, loaded: LoadedSession, number: u64, notifier: Notifier) {
        let deadline = loaded.deadline;
        let deadlines = &mut self.deadlines;
        let watched = self.watched.entry(loaded.id).or_insert_with(|| {
            deadlines.insert((deadline, loaded.id));
            WatchedSession { deadline, check: None, waiters: HashMap::new() }
        });
        watched.waiters.insert(number, Waiter { sign_in: loaded.sign_in, notifier });
    }

    /// Tells the subscribers of a session that it has this version.
    fn changed(&mut self, id: RecordId, version: Version) {
        let Some(watched) = self.watched.get(&id) else { return };
        for waiter in watched.waiters.values() {
            waiter.notifier.changed(version);
        }
    }

    /// Ends the waits for a session whose sign-in has a reason to end.
    fn end(&mut self, id: RecordId, reason: impl Fn(u64) -> Option<EndReason>) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        for (number, waiter) in std::mem::take(&mut watched.waiters) {
            match reason(waiter.sign_in) {
                Some(reason) => waiter.notifier.over(reason),
                None => drop(watched.waiters.insert(number, waiter)),
            }
        }
        self.forget_unwatched(id);
    }

    fn forget(&mut self, id: RecordId, number: u64) {
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.waiters.remove(&number);
            self.forget_unwatched(id);
        }
    }

    fn forget_unwatched(&mut self, id: RecordId) {
        if self.watched.get(&id).is_some_and(|watched| watched.waiters.is_empty())
            && let Some(watched) = self.watched.remove(&id)
        {
            self.deadlines.remove(&(watched.deadline, id));
            watched.check.map(|at| self.checks.remove(&(at, id)));
        }
    }

    /// Plans a check of a session at this time, unless an earlier one is planned.
    fn check_at(&mut self, id: RecordId, at: Instant) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        if let Some(planned) = watched.check {
            if planned <= at {
                return;
            }
            self.checks.remove(&(planned, id));
        }
        watched.check = Some(at);
        self.checks.insert((at, id));
    }

    /// Returns the time within which each session is checked: as short as 100 checks per second allow.
    fn recheck_time(&self) -> Duration {
        let count = u32::try_from(self.watched.len()).unwrap_or(u32::MAX);
        CHECK_INTERVAL.saturating_mul(count).clamp(MIN_RECHECK, RECHECK)
    }

    /// Plans a check of each session. The checks are spread, so that they do not reach the store at one moment.
    fn recheck_all(&mut self, env: &Env) {
        let (ids, within): (Vec<_>, _) =
            (self.watched.keys().copied().collect(), self.recheck_time());
        for id in ids {
            self.check_at(id, random_time_within(within, env));
        }
    }

    fn check_later(&mut self, id: RecordId, env: &Env) {
        let half = self.recheck_time() / 2;
        self.check_at(id, random_time_within(half, env) + half);
    }

    /// Records that a session lives until a deadline, unless it is used again.
    fn on_alive(&mut self, id: RecordId, deadline: Timestamp, env: &Env) {
        if let Some(watched) = self.watched.get_mut(&id) {
            self.deadlines.remove(&(watched.deadline, id));
            watched.deadline = deadline;
            self.deadlines.insert((deadline, id));
        }
        if !self.is_feed_up {
            self.check_later(id, env);
        }
    }

    /// Plans checks of the sessions that are due to expire.
    fn expire(&mut self, wall: Timestamp) {
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= wall
        {
            self.deadlines.pop_first();
            self.check_at(id, Instant::now());
        }
    }

    /// Takes the next session to check, if its time has come.
    fn take_due(&mut self) -> Option<RecordId> {
        let (at, id) = *self.checks.first()?;
        if at > Instant::now() {
            return None;
        }
        self.checks.pop_first();
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.check = None;
        }
        Some(id)
    }
}

impl Notifier {
    /// Reports a version, unless the connection knows a later one.
    fn changed(&self, version: Version) {
        if let Self::Update(news) = self {
            news.send_if_modified(|news| {
                let is_news = news.version < Some(version);
                news.version = news.version.max(Some(version));
                is_news
            });
        }
    }

    /// Reports the end. If that fails, the connection is gone.
    fn over(self, reason: EndReason) {
        match self {
            Self::End(ended) => drop(ended.send(reason)),
            Self::Update(news) => news.send_modify(|news| news.over = Some(reason)),
        }
    }
}

/// A session that a connection follows. Dropping it ends the subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    news: watch::Receiver<Update>,
    _registration: Registration,
}

impl Subscription {
    /// Waits until the session has a later version than this one, or is over.
    pub(crate) async fn after(&mut self, version: Version) -> SessionUpdate {
        loop {
            let news = *self.news.borrow_and_update();
            match news.over {
                Some(reason) => return SessionUpdate::Ended(reason),
                None if news.version > Some(version) => return SessionUpdate::Changed,
                None => {}
            }
            // The channel closed without a reason, so the task was cut off together with its runtime.
            if self.news.changed().await.is_err() && self.news.borrow().over.is_none() {
                return SessionUpdate::Ended(EndReason::Shutdown);
            }
        }
    }
}

/// A wait in progress. It is removed when the future that waits is dropped.
#[derive(Debug)]
struct Registration {
    watcher: Arc<EndWatcher>,
    id: RecordId,
    number: u64,
    _shown: ShownWait,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.watcher.lock().forget(self.id, self.number);
    }
}

/// The task's right to run. If the runtime ends before the watcher, the next wait starts another task.
struct RunningTask {
    watcher: Weak<EndWatcher>,
    news: Arc<Notify>,
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.upgrade() {
            watcher.lock().is_running = false;
        }
    }
}

/// Serves all waits until the layer is gone.
async fn serve(
    running: RunningTask,
    client: StoreClient,
    bounds: Replaceable<Bounds>,
    changes: Option<ChangeStream>,
) {
    let (client, env) = (&client, client.store.env());
    let mut changes = changes.unwrap_or_else(silent_feed);
    let (mut checks, mut feed) = (FuturesUnordered::new(), ShownFeed::new());
    while let Some(watcher) = running.watcher.upgrade() {
        let next_check = watcher.next_wakeup(env.now());
        while checks.len() < MAX_CONCURRENT_CHECKS
            && let Some(id) = watcher.lock().take_due()
        {
            checks.push(async move { (id, client.load(id, None, &NO_HINT, Purpose::Use).await) });
        }
        // The task holds no strong reference while it waits, or it would outlive the layer.
        drop(watcher);
        let event = tokio::select! {
            change = changes.next() => TaskEvent::Change(change),
            Some((id, answer)) = checks.next() => TaskEvent::Lookup(id, answer),
            () = running.news.notified() => continue,
            () = sleep_until(next_check) => continue,
        };
        let Some(watcher) = running.watcher.upgrade() else { return };
        match event {
            TaskEvent::Change(Some(change)) => {
                feed.hear(change);
                watcher.on_change(change, env);
            }
            TaskEvent::Change(None) => changes = silent_feed(),
            TaskEvent::Lookup(id, answer) => watcher.on_lookup(id, answer, &bounds, env),
        }
    }
}

enum TaskEvent {
    Change(Option<Change>),
    Lookup(RecordId, Result<Lookup, StoreError>),
}

/// The reason why a session with an absent record ended, if the store can tell.
pub(crate) fn end_reason(absence: Absence) -> EndReason {
    match absence {
        Absence::Expired => EndReason::Expired,
        Absence::Unknown | Absence::Lost => EndReason::Logout,
    }
}

/// The feed of a store that reports no changes, or none any more.
fn silent_feed() -> ChangeStream {
    ChangeStream::new(stream::iter([Change::Down]).chain(stream::pending()))
}

/// Returns a random time within this span from now.
fn random_time_within(span: Duration, env: &Env) -> Instant {
    let mut random = [0; 2];
    // Without randomness all checks come at the same time, which only burdens the store.
    let _ = env.fill(&mut random);
    Instant::now() + span * u32::from(u16::from_be_bytes(random)) / u32::from(u16::MAX)
}

/// The interval at which the application's clock is compared with the first deadline.
const TICK: Duration = Duration::from_secs(1);

/// The pause between two checks while the feed is down, if they are spread evenly.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The time within which each session is checked while the feed is down and few are followed.
const MIN_RECHECK: Duration = Duration::from_secs(1);

/// The highest number of concurrent store calls.
const MAX_CONCURRENT_CHECKS: usize = 32;

/// An empty hint, because the check does not come from a client.
static NO_HINT: RequestHint = RequestHint { routes: Vec::new(), min_version: None };
