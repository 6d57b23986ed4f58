//! Clients, and the answers that they may get.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use steadfast_core::{
    Clock, Deletion, KeyId, LoginPolicy, Lookup, Outcome, Patch, Record, RecordId, RequestHint,
    SecretHash, SessionStore, StoreError, Version,
};

use super::host::SimulatedClock;
use super::{Phase, Ran, World};
use crate::ReplicatedStore;

/// The knowledge of all clients taken together.
pub(super) struct Oracle {
    random: SmallRng,
    sessions: Vec<Session>,
    wrong: Option<String>,
    ran: Ran,
    trace: DefaultHasher,
}

#[derive(Clone)]
struct Session {
    id: RecordId,
    state: State,
    seen: Option<Version>,
    /// One key, with one writer at a time, who counts up.
    attempted: i64,
    known: i64,
    is_writing: bool,
    added: i64,
    maybe_added: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    Ended,
    /// Its creation or its end is under way, or was not confirmed.
    Unknown,
}

#[derive(Clone, Copy, Debug, Hash)]
enum Call {
    Create,
    Put(i64),
    Add,
}

impl Oracle {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: SmallRng::seed_from_u64(seed),
            sessions: Vec::new(),
            wrong: None,
            ran: Ran::default(),
            trace: DefaultHasher::new(),
        }
    }

    pub(super) fn is_right(&self) -> Result<(), String> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    pub(super) fn ran(&self) -> Ran {
        Ran { trace: self.trace.finish(), ..self.ran }
    }

    fn complain(&mut self, at: usize, why: &str) {
        let (id, session) = (self.sessions[at].id, &self.sessions[at]);
        let state = (session.state, session.known, session.attempted, session.added);
        self.wrong.get_or_insert_with(|| format!("session {at}, {id}: {why}: {state:?}"));
    }

    fn note(&mut self, what: impl Hash, failed: bool) {
        what.hash(&mut self.trace);
        (turmoil::sim_elapsed(), failed).hash(&mut self.trace);
        self.ran.calls += 1;
        self.ran.failed += u64::from(failed);
    }

    fn add_session(&mut self) -> usize {
        let mut bytes: [u8; 16] = self.random.random();
        bytes[6] = 0x40 | (bytes[6] & 0x0f);
        self.sessions.push(Session {
            id: RecordId::from_bytes(bytes),
            state: State::Unknown,
            seen: None,
            attempted: 0,
            known: 0,
            is_writing: false,
            added: 0,
            maybe_added: 0,
        });
        self.sessions.len() - 1
    }

    fn outcome(&mut self, at: usize, call: Call, outcome: &Outcome) {
        let session = &mut self.sessions[at];
        match (outcome, call) {
            (Outcome::Applied(applied), call) => {
                session.seen = session.seen.max(Some(applied.version));
                match call {
                    Call::Create => session.state = State::Live,
                    Call::Put(value) => session.known = session.known.max(value),
                    Call::Add => session.added += 1,
                }
            }
            (Outcome::Gone, _) if session.state == State::Live => {
                self.complain(at, "a live session is lost to a write");
            }
            (Outcome::Gone, _) => {}
            (other, _) => self.complain(at, &format!("nothing was of this kind: {other:?}")),
        }
    }

    fn looked_up(&mut self, at: usize, asked: &Session, lookup: &Lookup) {
        let Lookup::Found(found) = lookup else {
            if (asked.state, self.sessions[at].state) == (State::Live, State::Live) {
                self.complain(at, "a live session is lost");
            }
            return;
        };
        let number = |key| {
            let json = found.record.values.get(key);
            json.map_or(0, |json| std::str::from_utf8(json).unwrap().parse().unwrap())
        };
        let (value, count): (i64, i64) = (number("a"), number("n"));
        if asked.state == State::Ended {
            self.complain(at, "a session lives on after its end");
        } else if value < asked.known || count < asked.added {
            self.complain(at, &format!("{value} and {count} are older than what is carried"));
        } else if value > self.sessions[at].attempted || count > self.sessions[at].maybe_added {
            self.complain(at, &format!("nobody wrote {value} and {count}"));
        }
        let session = &mut self.sessions[at];
        session.known = session.known.max(value);
        session.seen = session.seen.max(Some(found.record.version));
    }
}

/// One client, until there is quiet for good.
pub(super) async fn run(world: &Rc<RefCell<World>>, store: &ReplicatedStore, mut random: SmallRng) {
    loop {
        let phase = world.borrow().phase;
        match phase {
            Phase::Busy => act(world, store, &mut random).await,
            Phase::Quiet => {}
            Phase::Reading => return,
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..20))).await;
    }
}

/// Makes one call.
async fn act(world: &Rc<RefCell<World>>, store: &ReplicatedStore, random: &mut SmallRng) {
    let sessions = world.borrow().oracle.sessions.len();
    if sessions < 8 || random.random_range(0..30) == 0 {
        return create(world, store).await;
    }
    let at = random.random_range(0..sessions);
    match random.random_range(0..20) {
        0..10 => drop(read(world, store, at).await),
        10..15 => put(world, store, at).await,
        15..19 => add(world, store, at).await,
        _ => delete(world, store, at).await,
    }
}

/// Reads every session, until each was answered.
pub(super) async fn read_everything(world: &Rc<RefCell<World>>, store: &ReplicatedStore) {
    let sessions = world.borrow().oracle.sessions.len();
    for at in 0..sessions {
        let mut tries = 0;
        while read(world, store, at).await.is_err() && tries < 100 {
            tries += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if tries == 100 {
            world.borrow_mut().oracle.complain(at, "it cannot be read any more");
        }
    }
}

async fn create(world: &Rc<RefCell<World>>, store: &ReplicatedStore) {
    let at = world.borrow_mut().oracle.add_session();
    let id = world.borrow().oracle.sessions[at].id;
    let now = SimulatedClock.now();
    let hash = SecretHash::from_parts(KeyId::NONE, [7; 32]);
    let record = Record::new(hash, now, now + HOUR, now + 8 * HOUR);
    let outcome = store.create(id, record, LoginPolicy::default()).await;
    told(world, at, Call::Create, outcome);
}

async fn put(world: &Rc<RefCell<World>>, store: &ReplicatedStore, at: usize) {
    let (id, value) = {
        let session = &mut world.borrow_mut().oracle.sessions[at];
        if session.state != State::Live || session.is_writing {
            return;
        }
        session.is_writing = true;
        session.attempted += 1;
        (session.id, session.attempted)
    };
    let _writing = Writing { world, at };
    let mut patch = Patch::new();
    patch.put("a", value.into()).unwrap();
    let outcome = store.update(id, &patch, &RequestHint::default()).await;
    told(world, at, Call::Put(value), outcome);
}

async fn add(world: &Rc<RefCell<World>>, store: &ReplicatedStore, at: usize) {
    let id = {
        let session = &mut world.borrow_mut().oracle.sessions[at];
        if session.state != State::Live {
            return;
        }
        session.maybe_added += 1;
        session.id
    };
    let mut patch = Patch::new();
    patch.add("n", 1).unwrap();
    let outcome = store.update(id, &patch, &RequestHint::default()).await;
    told(world, at, Call::Add, outcome);
}

async fn delete(world: &Rc<RefCell<World>>, store: &ReplicatedStore, at: usize) {
    let id = {
        let session = &mut world.borrow_mut().oracle.sessions[at];
        if session.state != State::Live {
            return;
        }
        session.state = State::Unknown;
        session.id
    };
    let deleted = store.delete(id, &Deletion::LOGOUT).await;
    let oracle = &mut world.borrow_mut().oracle;
    oracle.note((at, "delete"), deleted.is_err());
    if deleted.is_ok() {
        oracle.sessions[at].state = State::Ended;
    }
}

/// Reads a session as a client that carries what is known of it.
async fn read(
    world: &Rc<RefCell<World>>,
    store: &ReplicatedStore,
    at: usize,
) -> Result<(), StoreError> {
    let asked = world.borrow().oracle.sessions[at].clone();
    let hint = RequestHint { min_version: asked.seen, ..RequestHint::default() };
    let lookup = store.load(asked.id, None, &hint).await;
    let oracle = &mut world.borrow_mut().oracle;
    oracle.note((at, "read"), lookup.is_err());
    lookup.map(|lookup| oracle.looked_up(at, &asked, &lookup))
}

/// A write that is not confirmed may have happened or not.
fn told(world: &RefCell<World>, at: usize, call: Call, outcome: Result<Outcome, StoreError>) {
    let oracle = &mut world.borrow_mut().oracle;
    oracle.note((at, call), outcome.is_err());
    if let Ok(outcome) = outcome {
        oracle.outcome(at, call, &outcome);
    }
}

/// Lets the next one write when this one is answered, or crashes.
struct Writing<'w> {
    world: &'w RefCell<World>,
    at: usize,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.world.borrow_mut().oracle.sessions[self.at].is_writing = false;
    }
}

const HOUR: Duration = Duration::from_secs(3_600);
