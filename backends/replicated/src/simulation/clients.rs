//! Clients that remember what they were told, and what they may be told next.

use std::time::Duration;

use steadfast_core::{
    Admission, Deletion, KeyId, Lookup, Outcome, Patch, Proof, Record, RecordId, Rejection,
    Rotation, SecretHash, Version,
};

use super::accounts::Accounts;
use super::calls::Calls;
use super::world::{Answer, Random, World};
use super::{Ran, Setup};
use crate::engine::config::Partition;
use crate::engine::{Reply, Request};

pub(super) struct Clients {
    random: Random,
    setup: Setup,
    nodes: u64,
    sessions: Vec<Session>,
    calls: Calls<Pending>,
    accounts: Accounts,
    last_secret: u64,
    /// Whether the faults are over and everything is repaired.
    is_well: bool,
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
    life: Life,
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
    /// The highest value that was acknowledged.
    acked: u64,
    /// The highest value that was shown, to whom ever.
    shown: u64,
    is_writing: bool,
}

/// Until when a session lives if nobody touches it, by the clients' clock.
#[derive(Clone, Copy)]
struct Life {
    idle: Duration,
    /// The latest deadline that was acknowledged, and that was asked for.
    acked: Duration,
    attempted: Duration,
    touched_at: Duration,
    away_until: Duration,
}

#[derive(Clone, Copy)]
struct Pending {
    session: usize,
    call: Call,
    began: Duration,
    /// The deadline that had been acknowledged by then.
    lives_until: Duration,
}

#[derive(Clone, Copy)]
enum Call {
    Create,
    Put(usize, u64),
    Add,
    Rotate(u64),
    Touch(Duration),
    Delete,
    /// What the client knew when it asked, if it told: its keys.
    Read {
        known: Option<[Key; 2]>,
        ended: bool,
    },
    /// A read with a secret that was replaced.
    Replay,
}

impl Clients {
    pub(super) fn new(seed: u64, setup: Setup) -> Self {
        Self {
            random: Random(seed ^ 0xc11e),
            setup,
            nodes: (setup.nodes + setup.spares) as u64,
            sessions: Vec::new(),
            calls: Calls::default(),
            accounts: Accounts::new(seed, setup),
            last_secret: 0,
            is_well: false,
            ran: Ran::default(),
        }
    }

    pub(super) fn ran(&self) -> Ran {
        let mut ran = Ran { calls: self.calls.made, ..self.ran };
        ran.add(self.accounts.ran());
        ran
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
        if self.setup.partition == Partition::Fail {
            self.accounts.next(world);
        }
    }

    /// Takes the answers, and complains about those that cannot be.
    pub(super) fn hear(&mut self, world: &mut World) -> Result<(), String> {
        for answer in std::mem::take(&mut world.answers) {
            match self.calls.answered(answer.id) {
                Some(pending) => self.take(world, pending, answer)?,
                None => self.accounts.hear(world, &answer)?,
            }
        }
        for pending in self.calls.lost(world) {
            self.unknown(pending);
        }
        self.accounts.check(world)?;
        self.calls.keep_deadlines(world)
    }

    pub(super) fn is_answered(&self) -> Result<(), String> {
        match self.calls.is_empty() && self.accounts.is_answered() {
            true => Ok(()),
            false => Err("invariant 8: a call was never answered".to_owned()),
        }
    }

    /// Some node holds every session that lives.
    pub(super) fn are_held(&self, world: &World) -> Result<(), String> {
        let lives = |session: &&Session| {
            session.state == State::Live && session.life.acked > world.wall() + self.setup.skew
        };
        match self.sessions.iter().filter(lives).find(|session| !world.is_live(session.id)) {
            Some(lost) => Err(format!("invariant 7: no node holds {} any more", lost.id)),
            None => Ok(()),
        }
    }

    /// Reads every session on every node, once all is well again.
    pub(super) fn read_everything(&mut self, world: &mut World) -> Result<(), String> {
        self.is_well = true;
        for session in 0..self.sessions.len() {
            for node in (0..world.nodes.len()).filter(|n| world.is_up(*n)).collect::<Vec<_>>() {
                self.read(world, session, node, true);
                if let Some(secret) = self.sessions[session].replaced.last().copied() {
                    self.replay(world, session, node, secret);
                }
            }
            world.step(Duration::from_millis(40));
            self.hear(world)?;
        }
        self.accounts.look_at_everything(world);
        world.step(Duration::from_secs(4));
        self.hear(world)?;
        self.accounts.keep_caps(world)?;
        self.is_answered()
    }

    fn create(&mut self, world: &mut World) {
        let bytes = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
        let id = super::session_id(bytes.to_be_bytes());
        let secret = self.secret();
        let is_short = self.random.one_in(2);
        let idle = self.setup.idle.filter(|_| is_short).unwrap_or(50 * HOUR);
        let (wall, now) = (world.wall(), world.now(usize::MAX).wall);
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
            life: Life {
                idle,
                acked: wall + idle,
                attempted: wall + idle,
                touched_at: wall,
                away_until: wall,
            },
        });
        let record = Record::new(hash(secret), now, now + idle, now + 100 * HOUR);
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
        if session.life.is_due(world.wall()) {
            return self.touch(world, at);
        }
        let rotates = session.is_secret_known
            && !session.is_rotating
            && self.setup.partition == Partition::Fail;
        match self.random.below(40) {
            0..=13 => {
                let tells = !self.random.one_in(4);
                self.read(world, at, node, tells);
            }
            14..=25 => self.put(world, at),
            26..=30 => self.add(world, at),
            31..=33 if rotates => self.rotate(world, at),
            34..=36 => {
                if let Some(secret) = session.replaced.last().copied() {
                    self.replay(world, at, node, secret);
                }
            }
            37 => {
                self.sessions[at].state = State::Ending;
                let request = Request::delete(self.sessions[at].id, &Deletion::LOGOUT);
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

    /// Touches a session, and sometimes stays away until shortly before it ends.
    fn touch(&mut self, world: &mut World, at: usize) {
        let is_away = self.random.one_in(4);
        let away = self.random.micros(0, 1_000_000);
        let wall = world.wall();
        let session = &mut self.sessions[at];
        let life = &mut session.life;
        let until = wall + life.idle;
        life.touched_at = wall;
        life.attempted = until;
        if is_away {
            life.away_until = wall + life.idle.mul_f64(away.as_secs_f64());
        }
        let deadline = world.now(usize::MAX).wall + life.idle;
        let request = Request::Update { id: session.id, patch: Box::new(Patch::touch(deadline)) };
        self.put_call(world, at, Call::Touch(until), request, Duration::from_secs(1));
    }

    fn read(&mut self, world: &mut World, at: usize, node: usize, tells: bool) {
        let session = &self.sessions[at];
        let tells = tells && session.state == State::Live;
        let known = tells.then_some(session.keys);
        let seen = session.seen.filter(|_| tells);
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
        let lives_until = self.sessions[session].life.acked;
        let pending = Pending { session, call, began: world.wall(), lives_until };
        if let Some(pending) = self.calls.put(world, node, pending, request, within) {
            self.never(pending);
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
            Call::Add | Call::Touch(_) | Call::Read { .. } | Call::Replay => {}
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
            Call::Add | Call::Touch(_) | Call::Read { .. } | Call::Replay => {}
        }
    }

    fn take(&mut self, world: &World, pending: Pending, answer: Answer) -> Result<(), String> {
        if let Reply::Failed(_) | Reply::Refused = answer.reply {
            self.unknown(pending);
            return Ok(());
        }
        let told = format!("{:?}", answer.reply);
        let id = self.sessions[pending.session].id;
        let heard = self.heard(world, pending, answer.reply);
        heard.map_err(|why| format!("{why}: at {:?}, {:?} of {id}: {told}", world.time, answer.id))
    }

    fn heard(&mut self, world: &World, pending: Pending, reply: Reply) -> Result<(), String> {
        let is_found = matches!(&reply, Reply::Lookup(Lookup::Found(_)));
        let is_gone =
            matches!(&reply, Reply::Lookup(Lookup::Absent(_)) | Reply::Outcome(Outcome::Gone));
        let session = &mut self.sessions[pending.session];
        if is_found && pending.began > session.life.attempted + self.setup.skew {
            return Err("a session lives on after its deadline".to_owned());
        }
        // Both halves of a split go on with what they have.
        let is_split = self.setup.partition == Partition::Degrade && !self.is_well;
        if is_gone && session.state == State::Live && pending.call.wants_it_live() {
            if !is_split {
                session.is_over(world, &pending, self.setup.skew)?;
            }
            session.forget_write(pending.call);
            return Ok(());
        }
        match (pending.call, reply) {
            (Call::Read { known, ended }, Reply::Lookup(Lookup::Found(found))) => {
                self.ran.reads += 1;
                session.read(world, known.filter(|_| !is_split), ended && !is_split, &found.record)
            }
            (Call::Read { .. }, Reply::Lookup(_)) => {
                self.ran.reads += 1;
                Ok(())
            }
            (Call::Replay, Reply::Lookup(Lookup::Found(_))) => {
                Err("invariant 5: a replaced secret opens the record".to_owned())
            }
            (Call::Replay, _) => Ok(()),
            // The half of a split that does not know the session cannot end it.
            (Call::Delete, Reply::Ended(deleted)) => {
                let is_over = deleted.is_ended() || !is_split;
                session.state = if is_over { State::Ended } else { State::Unknown };
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

impl Call {
    fn wants_it_live(self) -> bool {
        !matches!(self, Self::Replay | Self::Create | Self::Delete)
    }
}

impl Life {
    /// Whether it is time for a touch: at most every twentieth of the idle time.
    fn is_due(&self, wall: Duration) -> bool {
        self.idle < HOUR && wall >= (self.touched_at + self.idle / 20).max(self.away_until)
    }
}

impl Session {
    fn applied(&mut self, call: Call) -> Result<(), String> {
        match call {
            Call::Create => self.state = State::Live,
            Call::Put(key, value) => {
                self.keys[key].is_writing = false;
                self.keys[key].acked = self.keys[key].acked.max(value);
            }
            Call::Add => self.added += 1,
            Call::Touch(until) => self.life.acked = self.life.acked.max(until),
            Call::Rotate(secret) => {
                self.is_rotating = false;
                let before = std::mem::replace(&mut self.secret, secret);
                self.replaced.push(before);
            }
            _ => return Err("that is no answer to the call".to_owned()),
        }
        Ok(())
    }

    fn forget_write(&mut self, call: Call) {
        if let Call::Put(key, _) = call {
            self.keys[key].is_writing = false;
        }
        if let Call::Rotate(_) = call {
            self.is_rotating = false;
        }
    }

    fn refused(&mut self, call: Call, outcome: &Outcome) -> Result<(), String> {
        self.forget_write(call);
        match outcome {
            Outcome::Gone => Ok(()),
            Outcome::Rejected(Rejection::Draining) => {
                self.state = State::Unknown;
                Ok(())
            }
            _ => Err(format!("no call was of this kind: {outcome:?}")),
        }
    }

    /// A session is not there: its idle time may be over.
    fn is_over(&self, world: &World, pending: &Pending, skew: Duration) -> Result<(), String> {
        if world.wall() + skew >= pending.lives_until {
            return Ok(());
        }
        match world.is_live(self.id) {
            _ if self.life.idle < HOUR => Err("a session ends before its deadline".to_owned()),
            true => Err("invariant 1: a live session is not found".to_owned()),
            false => Err("invariant 2: a live session is lost".to_owned()),
        }
    }

    fn read(
        &mut self,
        world: &World,
        known: Option<[Key; 2]>,
        ended: bool,
        record: &Record,
    ) -> Result<(), String> {
        if ended {
            return Err("invariant 5: a session lives on after its end".to_owned());
        }
        for (at, name) in KEYS.iter().enumerate() {
            let (value, key) = (number(record, name), &mut self.keys[at]);
            if value > key.attempted {
                return Err(format!("{name} has a value that nobody wrote"));
            }
            if let Some(known) = known.map(|keys| keys[at]) {
                is_not_behind(world, self.id, name, value, known)?;
            }
            let has_it = |record: &Record| number(record, name) >= value;
            let is_alone = || world.is_all_there() && world.holders(self.id, has_it) < 2;
            // A session that ends is over at some of its holders before it is at others.
            let stays = self.state == State::Live && self.life.idle >= HOUR;
            if value > key.acked && stays && is_alone() {
                return Err(format!("invariant 4: {name} is {value}, as one node alone has it"));
            }
            key.shown = key.shown.max(value);
        }
        if known.is_some() && number(record, "n") > self.maybe_added {
            return Err("invariant 11: a counter counted twice".to_owned());
        }
        self.seen = self.seen.max(Some(record.version));
        Ok(())
    }
}

/// A value that is older than the client knows: what is newer is lost, or it is there and not shown.
fn is_not_behind(
    world: &World,
    id: RecordId,
    name: &str,
    value: u64,
    known: Key,
) -> Result<(), String> {
    let is_held = |least: u64| world.holders(id, |record| number(record, name) >= least) > 0;
    if value < known.acked && is_held(known.acked) {
        return Err(format!("invariant 1: {name} is {value}, and was {} before", known.acked));
    }
    if value < known.acked {
        return Err(format!(
            "invariant 2: {name} is {value}, and {} was acknowledged",
            known.acked
        ));
    }
    if value < known.shown && !is_held(known.shown) {
        return Err(format!("invariant 4: {name} is {value}, and {} was shown", known.shown));
    }
    if value < known.shown {
        return Err(format!("invariant 1: {name} is {value}, and was {} before", known.shown));
    }
    Ok(())
}

fn number(record: &Record, key: &str) -> u64 {
    let value = record.values.get(key).map(|json| std::str::from_utf8(json).unwrap());
    value.map_or(0, |value| value.parse().unwrap())
}

fn hash(secret: u64) -> SecretHash {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&secret.to_le_bytes());
    SecretHash::from_parts(KeyId::NONE, digest)
}

const KEYS: [&str; 2] = ["a", "b"];
const HOUR: Duration = Duration::from_secs(3_600);
