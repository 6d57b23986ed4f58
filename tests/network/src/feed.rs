//! A listener whose connection fails. It has to receive every change, or learn afterwards that it
//! missed some.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use steadfast_core::{
    Change, ChangeStream, Deleted, Deletion, LoginPolicy, Outcome, Patch, RecordId, RequestHint,
    SessionStore,
};
use testkit::faults::{Fault, FaultProxy, Heard};
use testkit::within;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::case::{Case, Situation};
use crate::deployment::{Deployment, Space};
use crate::report::Report;
use crate::scene::{hash, visitor};
use crate::verdict::Effect;

/// Runs cases of a listener sequentially, in a space of its own.
pub struct FeedWorker {
    deployment: Arc<Deployment>,
    space: Space,
    direct: Arc<dyn SessionStore>,
    wire: FaultProxy,
}

impl FeedWorker {
    pub async fn start(deployment: &Arc<Deployment>, space: Space) -> Self {
        deployment.prepare(space).await;
        let wire = FaultProxy::start(&deployment.address()).await;
        let direct = deployment.direct(space).await;
        Self { deployment: Arc::clone(deployment), space, direct, wire }
    }

    /// Records the conversations of a healthy listener: a few changes, and a quiet time.
    pub async fn listen(&self, situation: Situation) -> Vec<Heard> {
        let store = self.store().await;
        let listener = self.listener(&store, situation).await;
        let mut changes = Changes::new(&*self.direct).await;
        if situation == Situation::Cold {
            within(listener.received(Change::Missed)).await;
        }
        for _ in 0..CHANGES {
            within(listener.received(changes.next(&*self.direct).await)).await;
        }
        sleep(QUIET).await;
        self.wire.heard()
    }

    pub async fn run(&self, case: Case) -> Report {
        let Case { situation, operation, failure, conversation, direction, after, .. } = case;
        let fault = Fault { conversation, direction, after, action: failure.action(operation) };
        let start = Instant::now();
        let store = self.store().await;
        if situation == Situation::Cold {
            self.wire.arm(fault);
        }
        let listener = self.listener(&store, situation).await;
        let mut changes = Changes::new(&*self.direct).await;
        match situation {
            Situation::Cold => {
                tokio::select! {
                    () = listener.received(Change::Missed) => {}
                    () = self.struck() => {}
                }
            }
            _ => self.wire.arm(fault),
        }
        for _ in 0..CHANGES {
            changes.next(&*self.direct).await;
        }
        let was_reached = timeout(STRIKES_WITHIN, self.struck()).await.is_ok();
        self.wire.lift();
        let recovered = timeout(RECOVERS_WITHIN, self.recovery(&listener, &mut changes)).await;
        let verdict = match recovered {
            Ok(()) => changes.judge(&listener),
            Err(_) => {
                Err(format!("the listener did not recover; {}", changes.described(&listener)))
            }
        };
        let (failed, was_retried, was_too_soon) = (false, false, false);
        let took = start.elapsed();
        Report { case, verdict, was_reached, failed, took, was_retried, was_too_soon }
    }

    /// Opens a store that only listens, and has no connection yet.
    async fn store(&self) -> Arc<dyn SessionStore> {
        let store = self.deployment.store(self.wire.address(), self.space).await;
        within(self.wire.end_all()).await;
        store
    }

    /// Returns a listener that has just started, or one that already receives changes.
    async fn listener(&self, store: &Arc<dyn SessionStore>, situation: Situation) -> Listener {
        let listener = Listener::start(Arc::clone(store));
        if situation == Situation::Cold {
            return listener;
        }
        within(listener.received(Change::Missed)).await;
        let mut changes = Changes::new(&*self.direct).await;
        loop {
            let open = self.wire.mark().await;
            within(listener.received(changes.next(&*self.direct).await)).await;
            if self.wire.heard().len() == open && self.wire.mark().await == open {
                return listener;
            }
        }
    }

    async fn struck(&self) {
        while !self.wire.was_struck() {
            sleep(SHORT_PAUSE).await;
        }
    }

    /// Makes a change from time to time until the listener receives it.
    async fn recovery(&self, listener: &Listener, changes: &mut Changes) {
        loop {
            let change = changes.next(&*self.direct).await;
            if timeout(BETWEEN_CHANGES, listener.received(change)).await.is_ok() {
                return;
            }
        }
    }
}

/// The events that one listener received, with their times.
struct Listener {
    told: Arc<Told>,
    listening: JoinHandle<()>,
}

#[derive(Default)]
struct Told {
    changes: Mutex<Vec<(Instant, Change)>>,
    more: Notify,
}

impl Listener {
    fn start(store: Arc<dyn SessionStore>) -> Self {
        let told = Arc::new(Told::default());
        let changes = store.changes().expect("the store has a change feed");
        let listening = tokio::spawn(listen(store, changes, Arc::clone(&told)));
        Self { told, listening }
    }

    /// Waits until the listener received a change.
    async fn received(&self, change: Change) {
        loop {
            let more = self.told.more.notified();
            if self.told().iter().any(|(_, told)| *told == change) {
                return;
            }
            more.await;
        }
    }

    fn told(&self) -> Vec<(Instant, Change)> {
        self.told.changes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(store: Arc<dyn SessionStore>, mut changes: ChangeStream, told: Arc<Told>) {
    while let Some(change) = changes.next().await {
        let heard = (Instant::now(), change);
        told.changes.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
        told.more.notify_waiters();
    }
    drop(store);
}

/// Changes of a record, with the time at which each was requested.
struct Changes {
    id: RecordId,
    made: Vec<(Instant, Change)>,
}

impl Changes {
    async fn new(store: &dyn SessionStore) -> Self {
        let id = store.mint().expect("there is randomness");
        create(store, id).await;
        Self { id, made: Vec::new() }
    }

    /// Makes the next change: two writes, then the end of the record, then the same with another
    /// one.
    async fn next(&mut self, store: &dyn SessionStore) -> Change {
        let start = Instant::now();
        let change = match self.made.len() % 3 {
            2 => {
                let ended = store.delete(self.id, &Deletion::LOGOUT).await;
                assert!(matches!(ended, Ok(Deleted::Ended)), "{ended:?}");
                Change::Ended(self.id, Deletion::LOGOUT.reason)
            }
            n => {
                let mut patch = Patch::new();
                patch.put("n", (n as i64).into()).expect("a key");
                let written = store.update(self.id, &patch, &RequestHint::default()).await;
                let Ok(Outcome::Applied(applied)) = written else { panic!("{written:?}") };
                Change::Patched(self.id, applied.version)
            }
        };
        self.made.push((start, change));
        if matches!(change, Change::Ended(..)) {
            self.id = store.mint().expect("there is randomness");
            create(store, self.id).await;
        }
        change
    }

    /// Checks that the listener received each change, or learned after it that it missed some.
    fn judge(&self, listener: &Listener) -> Result<Effect, String> {
        let told = listener.told();
        let mut effect = Effect::Whole;
        for (made, change) in &self.made {
            if told.iter().any(|(_, told)| told == change) {
                continue;
            }
            effect = Effect::None;
            let is_covered = |(at, told): &(Instant, Change)| at >= made && *told == Change::Missed;
            if !told.iter().any(is_covered) {
                return Err(format!(
                    "the listener missed {change:?} without notice; {}",
                    self.described(listener)
                ));
            }
        }
        Ok(effect)
    }

    fn described(&self, listener: &Listener) -> String {
        let Some((start, _)) = self.made.first() else { return "nothing was changed".to_owned() };
        let at = |events: &[(Instant, Change)]| {
            let events = events.iter().map(|(at, change)| {
                let late = at.saturating_duration_since(*start).as_millis();
                format!("{late} ms: {change:?}")
            });
            events.collect::<Vec<_>>().join(", ")
        };
        format!("made: {}; received: {}", at(&self.made), at(&listener.told()))
    }
}

/// Creates a record, as soon as the server confirms it. On a busy machine, a store without a
/// connection may have to wait.
async fn create(store: &dyn SessionStore, id: RecordId) {
    let record = visitor(store, hash(store));
    within(async {
        loop {
            match store.create(id, record.clone(), LoginPolicy::default()).await {
                Ok(Outcome::Applied(_)) => return,
                Ok(other) => panic!("unexpected answer to a create: {other:?}"),
                Err(_) => sleep(SHORT_PAUSE).await,
            }
        }
    })
    .await;
}

/// The number of changes in a row.
const CHANGES: usize = 2;

/// The quiet time for which a listener is observed.
const QUIET: Duration = Duration::from_millis(600);

/// The pause between two checks.
const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// The time within which a byte passes that passed in the recording.
const STRIKES_WITHIN: Duration = Duration::from_secs(6);

/// The time within which a listener recovers, from a silent server in the worst case.
const RECOVERS_WITHIN: Duration = Duration::from_secs(25);

/// The pause between two changes while a listener recovers.
const BETWEEN_CHANGES: Duration = Duration::from_millis(700);
