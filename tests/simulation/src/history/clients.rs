//! Clients that call the nodes and record the answers.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::{
    Deleted, EndReason, Found, KeyId, LoginPolicy, Lookup, Outcome, Patch, Principal, Proof,
    RawJson, Realm, Record, RecordId, Rejection, Rotation, SecretHash, Timestamp, Version,
};

use super::{Asked, Call, History, Key, Session, State, Subject, Told};
use crate::process::{Process, Reply, Request};
use crate::random::Random;
use crate::world::{Answer, Clock, World};

/// The behaviour of clients.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// The approximate number of calls per second.
    pub rate: u32,
    /// The number of concurrent sessions.
    pub sessions: usize,
    /// The number of principals that log in.
    pub principals: usize,
    /// True if a client stays with a node as long as the node is up.
    pub is_sticky: bool,
    /// The idle lifetime of every fourth session.
    pub short_life: Duration,
    /// True if the first node gets reads only.
    pub only_reads: bool,
    /// About one of this number of calls ends its session.
    pub ends: usize,
    /// The largest size in bytes of the extra value that is written beside the others.
    pub blob: usize,
}

impl Default for Habits {
    fn default() -> Self {
        let short_life = Duration::from_secs(20);
        Self {
            rate: 120,
            sessions: 10,
            principals: 3,
            is_sticky: false,
            short_life,
            only_reads: false,
            ends: 120,
            blob: 0,
        }
    }
}

/// Clients that call the nodes and record the answers.
#[derive(Debug)]
pub struct Clients {
    habits: Habits,
    random: Random,
    history: History,
    /// The clients' view of their sessions.
    known: Vec<Known>,
    /// The unanswered calls: the ticket, and the index in the history.
    open: BTreeMap<u64, usize>,
    floors: Vec<u64>,
    /// The last number that was used for a value or a secret.
    last: u64,
    next_at: Duration,
}

/// A client's view of its session.
#[derive(Clone, Debug)]
struct Known {
    is_live: bool,
    secret: Option<u64>,
    replaced: Option<u64>,
    version: Option<Version>,
    keys: [i64; 2],
    touch_at: Duration,
    /// True if the session is only counted. A session that is also cleared cannot be counted
    /// exactly.
    counts: bool,
}

/// A service that clients call.
pub trait Service {
    /// True time.
    fn time(&self) -> Duration;
    /// How many machines there are.
    fn machines(&self) -> usize;
    /// Watches which nodes serve a record.
    fn watch(&mut self, id: RecordId);
    /// Whether a balancer sends calls to a node.
    fn takes_calls(&self, at: usize) -> bool;
    /// Returns true if a process was stopped at this time or later.
    fn stood_still(&self, at: usize, since: Duration) -> bool;
    /// Asks a node; `None` if nothing runs there.
    fn call(&mut self, at: usize, request: Request, within: Duration) -> Option<u64>;
    /// Returns the answers since the last call.
    fn take_answers(&mut self) -> Vec<Answer>;
}

impl<P: Process> Service for World<P> {
    fn time(&self) -> Duration {
        self.time()
    }

    fn machines(&self) -> usize {
        self.nodes().len()
    }

    fn watch(&mut self, id: RecordId) {
        self.watch(id);
    }

    fn takes_calls(&self, at: usize) -> bool {
        self.takes_calls(at)
    }

    fn stood_still(&self, at: usize, since: Duration) -> bool {
        self.stood_still(at, since)
    }

    fn call(&mut self, at: usize, request: Request, within: Duration) -> Option<u64> {
        self.call(at, request, within)
    }

    fn take_answers(&mut self) -> Vec<Answer> {
        self.take_answers()
    }
}

/// The deadline of a call.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// The longest delay of an answer after the deadline of its call.
const GRACE: Duration = Duration::from_millis(250);

impl Clients {
    /// Creates clients without sessions.
    pub fn new(seed: u64, habits: Habits) -> Self {
        let caps = (0..habits.principals).map(|n| [3, 1_000][n % 2]).collect();
        Self {
            habits,
            random: Random::new(seed, 3),
            history: History { caps, ..History::default() },
            known: Vec::new(),
            open: BTreeMap::new(),
            floors: vec![0; habits.principals],
            last: 0,
            next_at: Duration::ZERO,
        }
    }

    /// Returns the calls and their answers.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Allows nodes to end sessions of visitors for their budgets.
    pub fn expect_evictions(&mut self) {
        self.history.evicts = true;
    }

    /// Records that nothing is broken from this time on.
    pub fn all_is_well(&mut self, since: Duration) {
        self.history.well_since = Some(since);
    }

    /// Returns the number of unanswered calls.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Makes the calls that are due.
    pub fn act<S: Service>(&mut self, service: &mut S) {
        while self.next_at <= service.time() {
            let pause = 2_000_000 / u64::from(self.habits.rate);
            self.next_at = service.time() + Duration::from_micros(self.random.draw() % pause);
            self.call(service);
        }
    }

    /// Takes the answers.
    ///
    /// # Errors
    ///
    /// Returns an answer that was too late or did not match its call.
    pub fn hear<S: Service>(&mut self, service: &mut S) -> Result<(), String> {
        for answer in service.take_answers() {
            if let Some(at) = self.open.remove(&answer.ticket) {
                self.told(service, at, answer)?;
            }
        }
        self.keep_deadlines(service)
    }

    /// Loads every session through every node, and lists the sessions of every principal.
    pub fn look_at_everything<S: Service>(&mut self, service: &mut S) {
        for node in 0..service.machines() {
            for session in 0..self.known.len() {
                let replaced = self.known[session].replaced;
                self.ask(service, node, Subject::Session(session), load(None, None));
                if replaced.is_some() {
                    self.ask(service, node, Subject::Session(session), load(replaced, None));
                }
            }
            for principal in 0..self.floors.len() {
                self.ask(service, node, Subject::Principal(principal), Asked::List);
            }
        }
    }

    fn call<S: Service>(&mut self, service: &mut S) {
        let live = self.known.iter().filter(|known| known.is_live).count();
        if live < self.habits.sessions || self.random.one_in(60) {
            self.create(service);
        } else if self.random.one_in(12) && !self.floors.is_empty() {
            self.call_for_principal(service);
        } else {
            let session = self.random.below(self.known.len());
            self.call_for_session(service, session);
        }
    }

    fn create<S: Service>(&mut self, service: &mut S) {
        let secret = self.number();
        let is_login = !self.floors.is_empty() && self.random.one_in(3);
        let principal = is_login.then(|| self.random.below(self.floors.len()));
        let is_late = self.random.one_in(5);
        let epoch = principal.map(|at| self.floors[at].saturating_sub(u64::from(is_late)));
        let is_short = self.random.one_in(4);
        let idle = if is_short { self.habits.short_life } else { 50 * HOUR };
        let id = session_id(self.random.bytes());
        service.watch(id);
        self.history.sessions.push(Session { id, principal, idle });
        self.known.push(Known {
            is_live: true,
            secret: Some(secret),
            replaced: None,
            version: None,
            keys: [0, 0],
            touch_at: service.time() + idle / 4,
            counts: self.random.one_in(3),
        });
        let session = self.known.len() - 1;
        self.ask_any(service, Subject::Session(session), Asked::Create { secret, epoch });
    }

    fn call_for_principal<S: Service>(&mut self, service: &mut S) {
        let principal = self.random.below(self.floors.len());
        let mut asked = Asked::List;
        if self.random.one_in(8) {
            self.floors[principal] += 1;
            asked = Asked::DeleteAll(self.floors[principal]);
        }
        self.ask_any(service, Subject::Principal(principal), asked);
    }

    fn call_for_session<S: Service>(&mut self, service: &mut S, session: usize) {
        let known = self.known[session].clone();
        if !known.is_live {
            // Ended sessions are read again for a while.
            let is_seen = session + 40 > self.known.len() && self.random.one_in(3);
            if is_seen {
                self.ask_any(service, Subject::Session(session), load(None, None));
            }
            return;
        }
        let asked = match known.touch_at <= service.time() {
            true => self.touch(service.time(), session),
            false => self.draw(&known),
        };
        if asked == Asked::Delete {
            self.known[session].is_live = false;
        }
        self.ask_any(service, Subject::Session(session), asked);
    }

    /// Touches a session. Sometimes its client waits until shortly before the deadline.
    fn touch(&mut self, time: Duration, session: usize) -> Asked {
        let idle = self.history.sessions[session].idle;
        let wait = if self.random.one_in(4) { idle * 3 / 4 } else { idle / 4 };
        self.known[session].touch_at = time + wait;
        Asked::Touch(time + idle)
    }

    fn draw(&mut self, known: &Known) -> Asked {
        let key = if self.random.one_in(2) { Key::A } else { Key::B };
        let number = self.number();
        let carried = known.version.filter(|_| !self.random.one_in(4));
        if self.habits.only_reads {
            return load(None, carried);
        }
        match self.random.below(40) {
            0..=7 if known.counts => Asked::Add,
            0..=3 | 8..=13 => Asked::Put(key, number as i64),
            4..=5 => Asked::Swap(key, known.keys[key as usize], number as i64),
            6 => Asked::Remove(key),
            7 => Asked::Clear,
            14..=15 => known.secret.map_or(load(None, carried), |old| Asked::Rotate(old, number)),
            16..=18 if known.replaced.is_some() => load(known.replaced, carried),
            19 if self.random.one_in((self.habits.ends / 40).max(1)) => Asked::Delete,
            20..=23 => load(known.secret, carried),
            _ => load(None, carried),
        }
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn ask_any<S: Service>(&mut self, service: &mut S, subject: Subject, asked: Asked) {
        let nodes = service.machines();
        let home = match subject {
            Subject::Session(n) | Subject::Principal(n) if self.habits.is_sticky => n % nodes,
            _ if self.habits.only_reads => 0,
            _ => self.random.below(nodes),
        };
        // A balancer skips nodes that are down, or about to end.
        let turns = (0..nodes).map(|turn| (home + turn) % nodes);
        let takes = |node: &usize| service.takes_calls(*node);
        if let Some(node) = turns.into_iter().find(takes) {
            self.ask(service, node, subject, asked);
        }
    }

    fn ask<S: Service>(&mut self, service: &mut S, node: usize, subject: Subject, asked: Asked) {
        let request = self.request(subject, &asked, service.time());
        let Some(ticket) = service.call(node, request, PATIENCE) else {
            return;
        };
        if let (Asked::Rotate(..), Subject::Session(session)) = (&asked, subject) {
            self.known[session].secret = None;
        }
        let begin = service.time();
        let told = Told::Nothing("not answered".to_owned());
        self.open.insert(ticket, self.history.calls.len());
        self.history.calls.push(Call { subject, asked, node, begin, end: begin, told });
    }

    fn request(&self, subject: Subject, asked: &Asked, time: Duration) -> Request {
        match subject {
            Subject::Session(session) => self.request_for_session(session, asked, time),
            Subject::Principal(at) => match asked {
                Asked::DeleteAll(epoch) => Request::DeleteAll {
                    principal: principal(at),
                    except: None,
                    epoch: Some(*epoch),
                },
                _ => Request::List { principal: principal(at) },
            },
        }
    }

    fn request_for_session(&self, session: usize, asked: &Asked, time: Duration) -> Request {
        let Session { id, principal: whose, idle } = self.history.sessions[session].clone();
        let now = wall(time);
        match asked {
            Asked::Create { secret, epoch } => {
                let record = Record {
                    principal: whose.map(principal),
                    authenticated: whose.map(|_| now),
                    ..Record::new(hash(*secret), now, now + idle, now + 100 * HOUR)
                };
                let cap = whose.map_or(1_000, |at| self.history.caps[at]);
                Request::Create {
                    id,
                    record: record.into(),
                    policy: LoginPolicy { cap, epoch: *epoch, ..LoginPolicy::default() },
                }
            }
            Asked::Load { secret, carried } => {
                let proof = secret.map(|secret| Proof::from(hash(secret)));
                Request::Load { id, proof, seen: *carried }
            }
            Asked::Delete => Request::Delete { id, proof: None, reason: EndReason::Logout },
            asked => {
                let mut patch = patch(asked);
                if let (Asked::Put(_, number), 1..) = (asked, self.habits.blob) {
                    let len = *number as usize * 7_919 % self.habits.blob;
                    let json = RawJson::encode(&"x".repeat(len)).expect("a text is JSON");
                    patch.put("blob", json).expect("the blob is within the limit");
                }
                Request::Update { id, patch: patch.into() }
            }
        }
    }

    fn told<S: Service>(&mut self, service: &S, at: usize, answer: Answer) -> Result<(), String> {
        let is_reply = answer.reply.is_some();
        let call = &mut self.history.calls[at];
        call.end = answer.at;
        call.told = match answer.reply {
            None => Told::Nothing("its process ended".to_owned()),
            Some(reply) => told(&call.asked, reply)?,
        };
        let call = call.clone();
        if let Subject::Session(session) = call.subject {
            self.known[session].learn(&call);
        }
        self.are_known(&call);
        match is_reply {
            true => self.is_in_time(service, &call),
            false => Ok(()),
        }
    }

    /// Forgets sessions that a cap ended.
    fn are_known(&mut self, call: &Call) {
        if let Told::Applied { ended, .. } = &call.told {
            for (session, known) in self.history.sessions.iter().zip(&mut self.known) {
                known.is_live &= !ended.contains(&session.id);
            }
        }
    }

    fn is_in_time<S: Service>(&self, service: &S, call: &Call) -> Result<(), String> {
        let is_late = call.end > call.begin + PATIENCE + GRACE;
        match is_late && !service.stood_still(call.node, call.begin) {
            true => Err(format!("a call was answered after its deadline: {call:?}")),
            false => Ok(()),
        }
    }

    /// Gives up on overdue calls. Their outcome is unknown.
    fn keep_deadlines<S: Service>(&mut self, service: &S) -> Result<(), String> {
        let calls = &mut self.history.calls;
        for at in self.open.values() {
            calls[*at].end = service.time();
        }
        let late = self.open.values().map(|at| &calls[*at]).find(|call| {
            service.time() > call.begin + PATIENCE + 2 * GRACE
                && !service.stood_still(call.node, call.begin)
        });
        late.map_or(Ok(()), |call| Err(format!("a call was never answered: {call:?}")))
    }
}

impl Known {
    fn learn(&mut self, call: &Call) {
        self.version = self.version.max(call.version());
        match (&call.asked, &call.told) {
            (Asked::Create { .. }, told) => {
                self.is_live &= matches!(told, Told::Applied { .. });
            }
            (Asked::Rotate(old, new), Told::Applied { .. }) => {
                (self.secret, self.replaced) = (Some(*new), Some(*old));
            }
            (_, Told::Absent) if !matches!(call.asked, Asked::Load { secret: Some(_), .. }) => {
                self.is_live = false;
            }
            (_, Told::Found(state)) => self.keys = state.keys,
            _ => {}
        }
    }
}

fn load(secret: Option<u64>, carried: Option<Version>) -> Asked {
    Asked::Load { secret, carried }
}

fn patch(asked: &Asked) -> Patch {
    let mut patch = Patch::new();
    let is_right = "the keys are right";
    match asked {
        Asked::Put(key, number) => patch.put(key.name(), (*number).into()).expect(is_right),
        Asked::Remove(key) => patch.remove(key.name()).expect(is_right),
        Asked::Clear => patch.clear(),
        Asked::Swap(key, from, to) => {
            let expected = (*from != 0).then(|| RawJson::from(*from));
            patch.expect(key.name(), expected).expect(is_right);
            patch.put(key.name(), (*to).into()).expect(is_right);
        }
        Asked::Add => patch.add(COUNTER, 1).expect("nothing else is done to the counter"),
        Asked::Touch(until) => patch.keep_until(wall(*until)),
        Asked::Rotate(from, to) => {
            let rotation = Rotation { hash: hash(*to), authentication: None };
            patch.rotate(hash(*from).into(), rotation);
        }
        _ => {}
    }
    patch
}

fn told(asked: &Asked, reply: Reply) -> Result<Told, String> {
    Ok(match reply {
        Reply::Failed(why) => Told::Nothing(why),
        Reply::Outcome(Outcome::Applied(applied)) => Told::Applied {
            version: applied.version,
            counter: applied.counters.first().map(|(_, sum)| *sum),
            ended: applied.ended,
        },
        Reply::Outcome(Outcome::Exists) => Told::Exists,
        Reply::Outcome(Outcome::Gone)
        | Reply::Lookup(Lookup::Absent(_))
        | Reply::Deleted(Deleted::Gone) => Told::Absent,
        Reply::Outcome(Outcome::Superseded)
        | Reply::Lookup(Lookup::Superseded)
        | Reply::Deleted(Deleted::Superseded) => Told::Superseded,
        Reply::Outcome(Outcome::Conflict) => Told::Conflict,
        Reply::Outcome(Outcome::Rejected(Rejection::StaleEpoch)) => Told::StaleEpoch,
        Reply::Outcome(Outcome::Rejected(Rejection::Draining)) => Told::Draining,
        Reply::Lookup(Lookup::Found(found)) => Told::Found(state(&found)),
        Reply::Deleted(Deleted::Ended) => Told::Ended,
        Reply::Listed(listed) => Told::Listed(listed.iter().map(|info| info.id).collect()),
        Reply::Count(count) => Told::Count(count),
        reply => return Err(format!("{reply:?} is no answer to {asked:?}")),
    })
}

fn state(found: &Found) -> State {
    let record = &found.record;
    let number = |key| record.values.get(key).and_then(|json| RawJson::copied(json).as_integer());
    State {
        version: record.version,
        keys: [Key::A, Key::B].map(|key| number(key.name()).unwrap_or(0)),
        counter: number(COUNTER).unwrap_or(0),
        secret: secret_of(&record.secret),
    }
}

impl Key {
    fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

const COUNTER: &str = "n";
const HOUR: Duration = Duration::from_secs(3_600);

/// Returns the time of the clients, whose clock is right.
fn wall(time: Duration) -> Timestamp {
    Clock::BEGINNING + time
}

fn principal(at: usize) -> Principal {
    let realm = Realm::new("simulation").expect("the name of the realm is right");
    Principal::new(realm, &format!("p{at}")).expect("the principal's id is right")
}

fn hash(secret: u64) -> SecretHash {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&secret.to_le_bytes());
    SecretHash::from_parts(KeyId::NONE, digest)
}

fn secret_of(hash: &SecretHash) -> u64 {
    let (secret, _) = hash.digest().split_first_chunk::<8>().expect("a digest is longer");
    u64::from_le_bytes(*secret)
}

/// A UUID of version 4.
fn session_id(mut bytes: [u8; 16]) -> RecordId {
    bytes[6] = 0x40 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    RecordId::from_bytes(bytes)
}
