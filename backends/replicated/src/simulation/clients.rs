//! Clients that remember what they were told, and what they may be told next.

use std::collections::HashMap;
use std::time::Duration;

use steadfast_core::{
    Admission, KeyId, Lookup, Outcome, Patch, Proof, Record, RecordId, Rotation, SecretHash,
    Version,
};

use super::world::{Random, World};
use super::{Ran, Setup};
use crate::engine::{Reply, Request};

pub(super) struct Clients {
    random: Random,
    nodes: u64,
    sessions: Vec<Session>,
    pending: HashMap<(usize, u64), Pending>,
    last_secret: u64,
    ran: Ran,
}

/// A session, as its client knows it.
struct Session {
    id: RecordId,
    state: State,
    secret: u64,
    /// Secrets that were replaced, for good.
    replaced: Vec<u64>,
    is_secret_known: bool,
    is_rotating: bool,
    seen: Option<Version>,
    keys: [Key; 2],
    added: u64,
    maybe_added: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Creating,
    Live,
    Ending,
    Ended,
    /// Its creation or its end was not confirmed.
    Unknown,
}

/// A key with one writer, who counts up.
#[derive(Clone, Copy, Default)]
struct Key {
    attempted: u64,
    /// The highest value that was acknowledged or shown.
    known: u64,
    is_writing: bool,
}

#[derive(Clone, Copy)]
struct Pending {
    session: usize,
    call: Call,
    deadline: Duration,
}

#[derive(Clone, Copy)]
enum Call {
    Create,
    Put(usize, u64),
    Add,
    Rotate(u64),
    Delete,
    /// What the client knew when it asked, if it told: values of the keys.
    Read {
        known: Option<[u64; 2]>,
        ended: bool,
    },
    /// A read with a secret that was replaced.
    Replay,
}

impl Clients {
    pub(super) fn new(seed: u64, setup: Setup) -> Self {
        Self {
            random: Random(seed ^ 0xc11e),
            nodes: setup.nodes as u64,
            sessions: Vec::new(),
            pending: HashMap::new(),
            last_secret: 0,
            ran: Ran::default(),
        }
    }

    pub(super) fn ran(&self) -> Ran {
        self.ran
    }

    /// Makes a call, now and then.
    pub(super) fn next(&mut self, world: &mut World) {
        for _ in 0..self.random.below(2) {
            let live = self.sessions.iter().filter(|s| s.state != State::Ended).count();
            if live < 12 || self.random.one_in(40) {
                self.create(world);
            } else {
                let session = self.random.below(self.sessions.len() as u64) as usize;
                self.act(world, session);
            }
        }
    }

    /// Takes the answers, and complains about those that cannot be.
    pub(super) fn hear(&mut self, world: &mut World) -> Result<(), String> {
        for (node, number, reply) in std::mem::take(&mut world.answers) {
            if let Some(pending) = self.pending.remove(&(node, number)) {
                let told = format!("{reply:?}");
                self.take(pending, reply).map_err(|why| {
                    let id = self.sessions[pending.session].id;
                    format!("at {:?}, n{node} said of {id}: {told}: {why}", world.time)
                })?;
            }
        }
        let dead: Vec<_> = self
            .pending
            .keys()
            .filter(|(node, _)| world.nodes[*node].engine.is_none())
            .copied()
            .collect();
        for key in dead {
            if let Some(pending) = self.pending.remove(&key) {
                self.unknown(pending);
            }
        }
        for ((node, number), pending) in &self.pending {
            let is_late = pending.deadline + Duration::from_millis(100) < world.time;
            if is_late && world.nodes[*node].paused_until + Duration::from_secs(4) < world.time {
                return Err(format!("call {number} of n{node} outlives its deadline"));
            }
        }
        Ok(())
    }

    pub(super) fn is_answered(&self) -> Result<(), String> {
        match self.pending.len() {
            0 => Ok(()),
            left => Err(format!("{left} calls were never answered")),
        }
    }

    /// Reads every session on every node, once all is well again.
    pub(super) fn read_everything(&mut self, world: &mut World) -> Result<(), String> {
        for session in 0..self.sessions.len() {
            for node in 0..world.nodes.len() {
                self.read(world, session, node, true);
                if let Some(secret) = self.sessions[session].replaced.last().copied() {
                    self.replay(world, session, node, secret);
                }
            }
            world.step(Duration::from_millis(40));
            self.hear(world)?;
        }
        world.step(Duration::from_secs(2));
        self.hear(world)?;
        self.is_answered()
    }

    fn create(&mut self, world: &mut World) {
        let id = RecordId::from_bytes(
            (u128::from(self.random.next()) << 64 | u128::from(self.random.next())).to_be_bytes(),
        );
        let mut bytes = *id.as_bytes();
        bytes[6] = 0x40 | (bytes[6] & 0x0f);
        let id = RecordId::from_bytes(bytes);
        let secret = self.secret();
        self.sessions.push(Session {
            id,
            state: State::Creating,
            secret,
            replaced: Vec::new(),
            is_secret_known: true,
            is_rotating: false,
            seen: None,
            keys: [Key::default(); 2],
            added: 0,
            maybe_added: 0,
        });
        let now = world.now(usize::MAX).wall;
        let (idle, absolute) = (now + HOUR, now + 8 * HOUR);
        let record = Record::new(hash(secret), now, idle, absolute);
        let admission = Admission::default();
        let request = Request::Create { id, record: Box::new(record), admission };
        let session = self.sessions.len() - 1;
        self.put_call(world, session, Call::Create, request, Duration::from_secs(3));
    }

    fn act(&mut self, world: &mut World, at: usize) {
        let node = self.random.below(self.nodes) as usize;
        let session = &self.sessions[at];
        if session.state == State::Ended {
            return self.read(world, at, node, true);
        }
        if session.state != State::Live {
            return;
        }
        match self.random.below(40) {
            0..=13 => {
                let tells = !self.random.one_in(4);
                self.read(world, at, node, tells);
            }
            14..=25 => self.put(world, at),
            26..=30 => self.add(world, at),
            31..=33 if session.is_secret_known && !session.is_rotating => self.rotate(world, at),
            34..=36 => {
                if let Some(secret) = session.replaced.last().copied() {
                    self.replay(world, at, node, secret);
                }
            }
            37 => {
                self.sessions[at].state = State::Ending;
                let request = Request::Delete { id: self.sessions[at].id, proof: None };
                self.put_call(world, at, Call::Delete, request, Duration::from_secs(3));
            }
            _ => {}
        }
    }

    fn put(&mut self, world: &mut World, at: usize) {
        let which = self.random.below(2) as usize;
        let session = &mut self.sessions[at];
        let key = &mut session.keys[which];
        if std::mem::replace(&mut key.is_writing, true) {
            return;
        }
        key.attempted += 1;
        let value = key.attempted;
        let mut patch = Patch::new();
        patch.put(KEYS[which], (value as i64).into()).unwrap();
        let request = Request::Update { id: session.id, patch: Box::new(patch) };
        self.put_call(world, at, Call::Put(which, value), request, Duration::from_secs(1));
    }

    fn add(&mut self, world: &mut World, at: usize) {
        let session = &mut self.sessions[at];
        session.maybe_added += 1;
        let mut patch = Patch::new();
        patch.add("n", 1).unwrap();
        let request = Request::Update { id: session.id, patch: Box::new(patch) };
        self.put_call(world, at, Call::Add, request, Duration::from_secs(1));
    }

    fn rotate(&mut self, world: &mut World, at: usize) {
        let secret = self.secret();
        let session = &mut self.sessions[at];
        session.is_rotating = true;
        let mut patch = Patch::new();
        let rotation = Rotation { hash: hash(secret), authentication: None };
        patch.rotate(hash(session.secret).into(), rotation);
        let request = Request::Update { id: session.id, patch: Box::new(patch) };
        self.put_call(world, at, Call::Rotate(secret), request, Duration::from_secs(3));
    }

    fn read(&mut self, world: &mut World, at: usize, node: usize, tells: bool) {
        let session = &self.sessions[at];
        let known =
            (tells && session.state == State::Live).then(|| session.keys.map(|key| key.known));
        let seen = session.seen.filter(|_| tells && session.state == State::Live);
        let ended = session.state == State::Ended;
        let request = Request::Load { id: session.id, proof: None, seen };
        self.put_on(world, node, at, Call::Read { known, ended }, request, Duration::from_secs(1));
    }

    fn replay(&mut self, world: &mut World, at: usize, node: usize, secret: u64) {
        let proof = Some(Proof::from(hash(secret)));
        let request = Request::Load { id: self.sessions[at].id, proof, seen: None };
        self.put_on(world, node, at, Call::Replay, request, Duration::from_secs(1));
    }

    fn put_call(
        &mut self,
        world: &mut World,
        at: usize,
        call: Call,
        request: Request,
        within: Duration,
    ) {
        let node = self.random.below(self.nodes) as usize;
        self.put_on(world, node, at, call, request, within);
    }

    fn put_on(
        &mut self,
        world: &mut World,
        node: usize,
        session: usize,
        call: Call,
        request: Request,
        within: Duration,
    ) {
        let pending = Pending { session, call, deadline: world.time + within };
        self.ran.calls += 1;
        match world.call(node, request, within) {
            Some(number) => drop(self.pending.insert((node, number), pending)),
            None => self.never(pending),
        }
    }

    /// The call was never made.
    fn never(&mut self, pending: Pending) {
        let session = &mut self.sessions[pending.session];
        match pending.call {
            Call::Create => session.state = State::Unknown,
            Call::Put(key, _) => session.keys[key].is_writing = false,
            Call::Rotate(_) => session.is_rotating = false,
            Call::Delete => session.state = State::Live,
            Call::Add | Call::Read { .. } | Call::Replay => {}
        }
    }

    /// Nobody knows whether the call did anything.
    fn unknown(&mut self, pending: Pending) {
        self.ran.failed += 1;
        let session = &mut self.sessions[pending.session];
        match pending.call {
            Call::Create | Call::Delete => session.state = State::Unknown,
            Call::Put(key, _) => session.keys[key].is_writing = false,
            Call::Rotate(_) => {
                session.is_rotating = false;
                session.is_secret_known = false;
            }
            Call::Add | Call::Read { .. } | Call::Replay => {}
        }
    }

    fn take(&mut self, pending: Pending, reply: Reply) -> Result<(), String> {
        if let Reply::Failed(_) | Reply::Refused = reply {
            self.unknown(pending);
            return Ok(());
        }
        let session = &mut self.sessions[pending.session];
        match (pending.call, reply) {
            (Call::Read { known, ended }, Reply::Lookup(lookup)) => {
                self.ran.reads += 1;
                session.read(known, ended, &lookup)
            }
            (Call::Replay, Reply::Lookup(Lookup::Found(_))) => {
                Err("a replaced secret opens the record".to_owned())
            }
            (Call::Replay, _) => Ok(()),
            (Call::Delete, Reply::Ended(_)) => {
                session.state = State::Ended;
                Ok(())
            }
            (call, Reply::Outcome(Outcome::Applied(applied))) => {
                session.seen = session.seen.max(Some(applied.version));
                session.applied(call)
            }
            (call, Reply::Outcome(outcome)) => session.refused(call, &outcome),
            (_, other) => Err(format!("that is no answer to the call: {other:?}")),
        }
    }

    fn secret(&mut self) -> u64 {
        self.last_secret += 1;
        self.last_secret
    }
}

impl Session {
    fn applied(&mut self, call: Call) -> Result<(), String> {
        match call {
            Call::Create => self.state = State::Live,
            Call::Put(key, value) => {
                self.keys[key].is_writing = false;
                self.keys[key].known = self.keys[key].known.max(value);
            }
            Call::Add => self.added += 1,
            Call::Rotate(secret) => {
                self.is_rotating = false;
                let before = std::mem::replace(&mut self.secret, secret);
                self.replaced.push(before);
            }
            _ => return Err("that is no answer to the call".to_owned()),
        }
        Ok(())
    }

    fn refused(&mut self, call: Call, outcome: &Outcome) -> Result<(), String> {
        if let Call::Put(key, _) = call {
            self.keys[key].is_writing = false;
        }
        if let Call::Rotate(_) = call {
            self.is_rotating = false;
        }
        match (outcome, self.state) {
            (Outcome::Gone, State::Live) => Err("a live session is lost to a write".to_owned()),
            (Outcome::Gone, _) => Ok(()),
            _ => Err(format!("no call was of this kind: {outcome:?}")),
        }
    }

    fn read(
        &mut self,
        known: Option<[u64; 2]>,
        ended: bool,
        lookup: &Lookup,
    ) -> Result<(), String> {
        let Lookup::Found(found) = lookup else {
            return match self.state {
                State::Live => Err("a live session is lost".to_owned()),
                _ => Ok(()),
            };
        };
        if ended {
            return Err("a session lives on after its end".to_owned());
        }
        let number = |key| {
            let value = found.record.values.get(key).map(|json| std::str::from_utf8(json).unwrap());
            value.map_or(0, |value| value.parse().unwrap())
        };
        for (at, key) in KEYS.iter().enumerate() {
            let value: u64 = number(key);
            if value > self.keys[at].attempted {
                return Err(format!("{key} has a value that nobody wrote"));
            }
            if let Some(known) = known.filter(|known| value < known[at]) {
                return Err(format!("{key} is {value}, and was {} before", known[at]));
            }
            self.keys[at].known = self.keys[at].known.max(value);
        }
        if known.is_some() && number("n") > self.maybe_added {
            return Err("a counter counted twice".to_owned());
        }
        self.seen = self.seen.max(Some(found.record.version));
        Ok(())
    }
}

fn hash(secret: u64) -> SecretHash {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&secret.to_le_bytes());
    SecretHash::from_parts(KeyId::NONE, digest)
}

const KEYS: [&str; 2] = ["a", "b"];
const HOUR: Duration = Duration::from_secs(3_600);
