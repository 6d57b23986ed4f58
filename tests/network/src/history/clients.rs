//! Clients that share records, and the history of their calls.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use linearizability::{Event, Step};
use steadfast::Timeouts;
use steadfast_core::{
    Deleted, Deletion, Found, LoginPolicy, Lookup, Outcome, Patch, Proof, RecordId, RequestHint,
    Rotation, SecretHash, SessionStore, StoreError,
};
use testkit::within;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::draw::Draw;
use crate::scene::{hash, member, principal, visitor};

/// A part of a record. Each part is a key with a history of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A value that is set, and replaced under an expectation.
    Value,
    /// A counter.
    Counter,
    /// The secret, which rotations replace.
    Secret,
    /// Whether the record is live.
    Life,
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Value, Self::Counter, Self::Secret, Self::Life];
}

/// The calls for each part of each record.
pub type Histories = BTreeMap<(Part, RecordId), Vec<Event>>;

/// Active clients, and their records.
pub struct Clients {
    shared: Arc<Shared>,
    working: JoinSet<()>,
}

struct Shared {
    start: Instant,
    stores: Vec<Arc<dyn SessionStore>>,
    records: Vec<Mutex<Kept>>,
    /// Sessions that are going to end, the oldest first.
    ending: Mutex<VecDeque<RecordId>>,
    histories: Mutex<Histories>,
    stop: AtomicBool,
    /// The next number to write.
    next: AtomicI64,
    answered: AtomicI64,
}

/// A record, as the clients know it.
struct Kept {
    id: RecordId,
    /// Every secret that it ever had, with its number.
    secrets: Vec<(SecretHash, i64)>,
}

impl Clients {
    /// Starts this number of clients. Each uses one of the stores.
    pub async fn start(stores: Vec<Arc<dyn SessionStore>>, clients: usize, seed: u64) -> Self {
        let mut records = Vec::new();
        for _ in 0..RECORDS {
            records.push(Mutex::new(within(created(&*stores[0])).await));
        }
        let ids = records.iter().map(|record| kept(record).id);
        let born = |id| ((Part::Life, id), vec![Event::answered(BORN, 0, 0)]);
        let histories = Mutex::new(ids.map(born).collect());
        let shared = Arc::new(Shared {
            start: Instant::now(),
            stores,
            records,
            ending: Mutex::default(),
            histories,
            stop: AtomicBool::new(false),
            next: AtomicI64::new(100),
            answered: AtomicI64::new(0),
        });
        for _ in 0..ENDING {
            shared.begin(&*shared.stores[0]).await;
        }
        let mut working = JoinSet::new();
        for client in 0..clients {
            let draw = Draw::from(seed.wrapping_add(client as u64));
            working.spawn(Client { shared: Arc::clone(&shared), client, draw }.work());
        }
        Self { shared, working }
    }

    /// Returns the time since the start, in nanoseconds.
    pub fn now(&self) -> u64 {
        self.shared.now()
    }

    /// Waits until the clients got this number of further answers.
    pub async fn wait_for_answers(&self, answers: i64) {
        let until = self.shared.answered.load(Ordering::Relaxed) + answers;
        while self.shared.answered.load(Ordering::Relaxed) < until {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until, for each of these parts, a change was confirmed that began after this call.
    pub async fn wait_for_changes(&self, parts: &[Part]) {
        let now = self.now();
        while !parts.iter().all(|part| self.shared.has_changed(*part, now)) {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops the clients, reads every record once more, and returns the histories.
    pub async fn stop(self) -> Histories {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.working.join_all().await;
        let ids: Vec<_> = self.shared.histories().keys().map(|(_, id)| *id).collect();
        for id in ids {
            while !self.shared.read(&*self.shared.stores[0], id).await {}
        }
        std::mem::take(&mut *self.shared.histories())
    }
}

struct Client {
    shared: Arc<Shared>,
    client: usize,
    draw: Draw,
}

impl Client {
    async fn work(mut self) {
        let shared = Arc::clone(&self.shared);
        while !shared.stop.load(Ordering::Relaxed) {
            let store = &*shared.stores[self.client % shared.stores.len()];
            let record = &shared.records[self.draw.below(RECORDS)];
            let id = kept(record).id;
            match self.draw.below(20) {
                0..6 => _ = shared.read(store, id).await,
                6..10 => shared.write(store, id).await,
                10..12 => shared.replace(store, id).await,
                12..16 => shared.count(store, id).await,
                16..19 => shared.rotate(store, record).await,
                _ => shared.end_one(store).await,
            }
        }
    }
}

impl Shared {
    /// Reads a record. Returns true if there was an answer.
    async fn read(&self, store: &dyn SessionStore, id: RecordId) -> bool {
        let invoked = self.now();
        let load = timeout(normal(), store.load(id, None, &RequestHint::default())).await;
        let Some(answer) = answer(load) else {
            self.pause().await;
            return false;
        };
        let Lookup::Found(Found { record: found, .. }) = answer else {
            self.note(Part::Life, id, invoked, Step::Read(DEAD));
            return true;
        };
        self.note(Part::Life, id, invoked, Step::Read(ALIVE));
        self.note(Part::Value, id, invoked, Step::Read(number(found.values.get("value"))));
        self.note(Part::Counter, id, invoked, Step::Read(number(found.values.get("counter"))));
        let known = self.records.iter().map(kept).find(|kept| kept.id == id);
        if let Some(secret) = known.and_then(|kept| kept.number(&found.secret)) {
            self.note(Part::Secret, id, invoked, Step::Read(secret));
        }
        true
    }

    async fn write(&self, store: &dyn SessionStore, id: RecordId) {
        let new = self.next.fetch_add(1, Ordering::Relaxed);
        let mut patch = Patch::new();
        patch.put("value", new.into()).expect("a key");
        self.update(store, id, Part::Value, &patch, Step::Write(new), |_| Step::Write(new)).await;
    }

    /// Reads a value, and replaces it if it is unchanged.
    async fn replace(&self, store: &dyn SessionStore, id: RecordId) {
        let load = timeout(normal(), store.load(id, None, &RequestHint::default())).await;
        let Some(Lookup::Found(found)) = answer(load) else { return self.pause().await };
        let value = found.record.values.get("value");
        let (from, to) = (number(value), self.next.fetch_add(1, Ordering::Relaxed));
        let mut patch = Patch::new();
        patch.put("value", to.into()).expect("a key");
        patch.expect("value", value.map(|_| from.into())).expect("a key");
        let step = |outcome: &Outcome| match outcome {
            Outcome::Conflict => Step::Missed(from),
            _ => Step::Replace { from, to },
        };
        self.update(store, id, Part::Value, &patch, Step::Replace { from, to }, step).await;
    }

    async fn count(&self, store: &dyn SessionStore, id: RecordId) {
        let mut patch = Patch::new();
        patch.add("counter", 1).expect("a key");
        let step = |outcome: &Outcome| match outcome {
            Outcome::Applied(applied) => Step::Count(Some(applied.counters[0].1)),
            _ => Step::Count(None),
        };
        self.update(store, id, Part::Counter, &patch, Step::Count(None), step).await;
    }

    async fn rotate(&self, store: &dyn SessionStore, record: &Mutex<Kept>) {
        let (id, old, from, new, to) = {
            let mut kept = kept(record);
            let (old, from) = *kept.secrets.last().expect("it was created with one");
            let (new, to) = (hash(store), self.next.fetch_add(1, Ordering::Relaxed));
            kept.secrets.push((new, to));
            (kept.id, old, from, new, to)
        };
        let mut patch = Patch::new();
        patch.rotate(Proof::from(old), Rotation { hash: new, authentication: None });
        let invoked = self.now();
        let updated = timeout(critical(), store.update(id, &patch, &RequestHint::default())).await;
        let step = Step::Replace { from, to };
        match answer(updated) {
            Some(Outcome::Applied(_)) => return self.note(Part::Secret, id, invoked, step),
            Some(Outcome::Superseded | Outcome::Gone) => {
                self.note(Part::Secret, id, invoked, Step::Missed(from));
            }
            Some(other) => panic!("unexpected answer to a rotation: {other:?}"),
            None => {
                self.note_unanswered(Part::Secret, id, invoked, step);
                self.pause().await;
            }
        }
        self.learn(store, record).await;
    }

    /// Reads the record's secret, after a rotation that may have failed.
    async fn learn(&self, store: &dyn SessionStore, record: &Mutex<Kept>) {
        let id = kept(record).id;
        let load = timeout(normal(), store.load(id, None, &RequestHint::default())).await;
        if let Some(Lookup::Found(found)) = answer(load) {
            let mut kept = kept(record);
            if let Some(at) =
                kept.secrets.iter().position(|(known, _)| *known == found.record.secret)
            {
                let current = kept.secrets.remove(at);
                kept.secrets.push(current);
            }
        }
    }

    /// Ends an older session, and begins a new one.
    async fn end_one(&self, store: &dyn SessionStore) {
        let waiting = self.ending().pop_front();
        if let Some(id) = waiting {
            let invoked = self.now();
            let delete = timeout(critical(), store.delete(id, &Deletion::LOGOUT)).await;
            let died = Step::Replace { from: ALIVE, to: DEAD };
            match answer(delete) {
                // A repeated delete finds nothing.
                Some(Deleted::Ended | Deleted::Gone) => self.note(Part::Life, id, invoked, died),
                Some(Deleted::Superseded) => panic!("there was one sign-in"),
                None => {
                    self.note_unanswered(Part::Life, id, invoked, died);
                    self.pause().await;
                }
            }
            self.read(store, id).await;
        }
        self.begin(store).await;
    }

    async fn begin(&self, store: &dyn SessionStore) {
        let id = store.mint().expect("there is randomness");
        let who = principal(&format!("user-{id}"));
        let invoked = self.now();
        let create = store.create(id, member(store, &who, 0), LoginPolicy::default());
        match answer(timeout(critical(), create).await) {
            Some(Outcome::Applied(_)) => self.note(Part::Life, id, invoked, BORN),
            Some(other) => panic!("unexpected answer to a create: {other:?}"),
            None => {
                self.note_unanswered(Part::Life, id, invoked, BORN);
                return self.pause().await;
            }
        }
        self.ending().push_back(id);
    }

    async fn update(
        &self,
        store: &dyn SessionStore,
        id: RecordId,
        part: Part,
        patch: &Patch,
        unanswered: Step,
        answered: impl Fn(&Outcome) -> Step,
    ) {
        let invoked = self.now();
        let updated = timeout(normal(), store.update(id, patch, &RequestHint::default())).await;
        match answer(updated) {
            Some(Outcome::Gone) => self.note(Part::Life, id, invoked, Step::Read(DEAD)),
            Some(outcome @ (Outcome::Applied(_) | Outcome::Conflict)) => {
                self.note(part, id, invoked, answered(&outcome));
            }
            Some(other) => panic!("unexpected answer to a patch: {other:?}"),
            None => {
                self.note_unanswered(part, id, invoked, unanswered);
                self.pause().await;
            }
        }
    }

    fn note(&self, part: Part, id: RecordId, invoked: u64, step: Step) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let event = Event::answered(step, invoked, self.now());
        self.histories().entry((part, id)).or_default().push(event);
    }

    fn note_unanswered(&self, part: Part, id: RecordId, invoked: u64, step: Step) {
        let event = Event::unanswered(step, invoked);
        self.histories().entry((part, id)).or_default().push(event);
    }

    fn has_changed(&self, part: Part, since: u64) -> bool {
        let is_new =
            |event: &Event| event.is_certain && event.step.changes() && event.invoked >= since;
        let histories = self.histories();
        histories.iter().any(|((of, _), events)| *of == part && events.iter().any(is_new))
    }

    /// Pauses, like a client that was asked to try later.
    async fn pause(&self) {
        sleep(Duration::from_millis(100)).await;
    }

    fn ending(&self) -> MutexGuard<'_, VecDeque<RecordId>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn histories(&self) -> MutexGuard<'_, Histories> {
        self.histories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

impl Kept {
    fn number(&self, secret: &SecretHash) -> Option<i64> {
        self.secrets.iter().find(|(known, _)| known == secret).map(|(_, number)| *number)
    }
}

/// Creates a record, as soon as the server confirms it.
async fn created(store: &dyn SessionStore) -> Kept {
    let (id, secret) = (store.mint().expect("there is randomness"), hash(store));
    let record = visitor(store, secret);
    loop {
        match store.create(id, record.clone(), LoginPolicy::default()).await {
            Ok(Outcome::Applied(_)) => return Kept { id, secrets: vec![(secret, 0)] },
            Ok(other) => panic!("unexpected answer to a create: {other:?}"),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

fn kept(record: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the answer, if there was one in time.
fn answer<T>(call: Result<Result<T, StoreError>, tokio::time::error::Elapsed>) -> Option<T> {
    call.ok()?.ok()
}

/// Returns the number in a record, or 0 if it has none.
fn number(value: Option<&[u8]>) -> i64 {
    let text = value.map(|value| std::str::from_utf8(value).expect("a number"));
    text.map_or(0, |text| text.parse().expect("a number"))
}

fn normal() -> Duration {
    Timeouts::default().normal
}

fn critical() -> Duration {
    Timeouts::default().critical
}

const DEAD: i64 = 0;

const ALIVE: i64 = 1;

const BORN: Step = Step::Replace { from: DEAD, to: ALIVE };

/// Few, so that clients use the same ones.
const RECORDS: usize = 6;

/// Many, so that a session ends well after its start.
const ENDING: usize = 200;
