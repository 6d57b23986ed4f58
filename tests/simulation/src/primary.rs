//! A service whose first node stores everything, and whose other nodes forward calls to it. It is
//! either right, or wrong in one way, which shows what the simulation notices.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::{
    Absence, Applied, ClientState, Deleted, Deletion, Found, Limits, LoginPolicy, Lookup, Outcome,
    Patch, Principal, Proof, Record, RecordId, Rejection, SessionInfo, Timestamp, Verdict,
};
use steadfast_replication::epoch::Settings;
use steadfast_replication::member::{Boot, Name};

use crate::process::{
    Discovery, Effect, Holding, KnownEpoch, Measure, Now, Process, Reply, Request, Start,
};

/// The service is right.
pub const RIGHT: u8 = 0;
/// A repeated call is executed again.
pub const REPEATS: u8 = 1;
/// Nodes answer reads from an old cache.
pub const STALE: u8 = 2;
/// Some changes are acknowledged but not made.
pub const LOSES: u8 = 3;
/// A node that cannot reach the first one says that sessions are absent.
pub const ABSENT: u8 = 4;
/// A node that cannot reach the first one does not answer.
pub const SILENT: u8 = 5;
/// All nodes claim to serve.
pub const ALL_SERVE: u8 = 6;
/// Nodes disagree on the epoch.
pub const DISAGREES: u8 = 7;
/// Answered calls stay open.
pub const LEAKS: u8 = 8;
/// A revocation misses one session.
pub const FORGETS_ONE: u8 = 9;
/// A replaced secret still opens the session.
pub const OLD_SECRETS: u8 = 10;
/// A principal may have any number of sessions.
pub const NO_CAP: u8 = 11;
/// A revocation sets no minimum epoch.
pub const NO_FLOOR: u8 = 12;

/// One node of the service.
#[derive(Debug)]
pub struct Primary<const WRONG: u8> {
    start: Start,
    book: Book<WRONG>,
    /// The first node, while a link to it is open.
    first: Option<Boot>,
    calls: BTreeMap<u64, Open>,
    last: u64,
    /// The answers to calls of other nodes, so that a repeated call is not executed again.
    answered: BTreeMap<(Boot, u64), Reply>,
    cache: BTreeMap<RecordId, Lookup>,
    effects: Vec<Effect<Packet>>,
}

#[derive(Debug)]
struct Open {
    request: Request,
    until: Duration,
    asked_at: Duration,
}

/// A message between nodes.
#[derive(Clone, Debug)]
pub enum Packet {
    /// A call for the first node.
    Ask(u64, Box<Request>),
    /// The first node's answer.
    Answer(u64, Reply),
}

const AGAIN: Duration = Duration::from_millis(100);

impl<const WRONG: u8> Process for Primary<WRONG> {
    type Packet = Packet;
    type Hello = (Boot, Name);

    fn start(start: &Start, _: Now) -> Self {
        Self {
            start: start.clone(),
            book: Book::default(),
            first: None,
            calls: BTreeMap::new(),
            last: 0,
            answered: BTreeMap::new(),
            cache: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    fn hello(&self) -> (Boot, Name) {
        (self.start.boot, self.start.name.clone())
    }

    fn connected(&mut self, now: Now, (boot, name): (Boot, Name)) {
        if name.as_str() == "n0" {
            self.first = Some(boot);
            self.ask_again(now.mono, Duration::ZERO);
        }
    }

    fn disconnected(&mut self, _: Now, boot: Boot, _: bool) {
        self.first = self.first.filter(|first| *first != boot);
    }

    fn discovered(&mut self, _: Now, _: &Discovery) {}

    fn call(&mut self, now: Now, request: Request, within: Duration) -> u64 {
        self.last += 1;
        let number = self.last;
        if self.is_first() {
            let reply = self.book.answer(request, now.wall);
            self.effects.push(Effect::Answer(number, reply));
        } else if let Some(reply) = self.answer_alone(&request) {
            self.effects.push(Effect::Answer(number, reply));
        } else {
            let open = Open { request, until: now.mono + within, asked_at: Duration::ZERO };
            self.calls.insert(number, open);
            self.ask_again(now.mono, AGAIN);
        }
        number
    }

    fn receive(&mut self, now: Now, link: Boot, packet: Packet) {
        match packet {
            Packet::Ask(number, request) => {
                let known = self.answered.get(&(link, number)).filter(|_| WRONG != REPEATS);
                let reply = match known.cloned() {
                    Some(reply) => reply,
                    None => self.book.answer(*request, now.wall),
                };
                self.answered.insert((link, number), reply.clone());
                self.effects.push(Effect::Send(link, Packet::Answer(number, reply)));
            }
            Packet::Answer(number, reply) => self.answered(number, reply),
        }
    }

    fn tick(&mut self, now: Now) {
        self.ask_again(now.mono, AGAIN);
        let late = self.calls.iter().filter(|(_, open)| open.until <= now.mono);
        let late: Vec<_> = late.map(|(number, _)| *number).collect();
        for number in late {
            self.calls.remove(&number);
            if WRONG != SILENT {
                let reply = Reply::Failed("no answer came in time".to_owned());
                self.effects.push(Effect::Answer(number, reply));
            }
        }
    }

    fn drain(&mut self, _: Now, _: bool) {
        self.effects.push(Effect::Drained);
    }

    fn reconfigure(&mut self, _: Now, _: Settings) {}

    fn settings(&self) -> Option<Settings> {
        None
    }

    fn measure(&self, _: Boot, _: &Packet) -> Measure {
        Measure::default()
    }

    fn word_in(&self, _: &Packet) -> Option<([u8; 16], u64)> {
        None
    }

    fn suspect(&mut self, _: Now, _: Boot) {}

    fn take_effects(&mut self) -> Vec<Effect<Packet>> {
        std::mem::take(&mut self.effects)
    }

    fn epoch(&self) -> Option<KnownEpoch> {
        let digest = if WRONG == DISAGREES { self.start.address.len() as u64 } else { 0 };
        let digest = digest + u64::from(WRONG == DISAGREES && self.is_first());
        Some(KnownEpoch { lineage: [0; 16], number: 1, digest })
    }

    fn serves(&self, _: Now, _: RecordId) -> bool {
        self.is_first() || WRONG == ALL_SERVE
    }

    fn is_ready(&self, _: Now) -> bool {
        self.is_first() || self.first.is_some()
    }

    fn is_settled(&self, _: Now) -> bool {
        true
    }

    fn is_holder(&self, _: RecordId) -> bool {
        self.is_first()
    }

    fn holdings(&self) -> BTreeMap<RecordId, Holding> {
        let live = |(id, record): (&RecordId, &Record)| (*id, Holding::Live(record.version.0));
        self.book.records.iter().map(live).collect()
    }

    fn open(&self) -> Vec<(&'static str, usize)> {
        let kept = if WRONG == LEAKS { self.answered.len() } else { 0 };
        vec![("open calls", self.calls.len()), ("answers", kept)]
    }

    fn endings(&self) -> Vec<RecordId> {
        Vec::new()
    }

    fn outcomes(&self) -> usize {
        0
    }

    fn describe(&self, now: Now) -> String {
        format!("ready: {}", self.is_ready(now))
    }
}

impl<const WRONG: u8> Primary<WRONG> {
    fn is_first(&self) -> bool {
        self.start.name.as_str() == "n0"
    }

    fn answer_alone(&self, request: &Request) -> Option<Reply> {
        let Request::Load { id, proof: None, .. } = request else {
            return None;
        };
        match WRONG {
            STALE => self.cache.get(id).cloned().map(Reply::Lookup),
            ABSENT if self.first.is_none() => Some(Reply::Lookup(Lookup::Absent(Absence::Unknown))),
            _ => None,
        }
    }

    fn ask_again(&mut self, mono: Duration, after: Duration) {
        let Some(first) = self.first else {
            return;
        };
        for (number, open) in &mut self.calls {
            if open.asked_at + after <= mono {
                open.asked_at = mono;
                let ask = Packet::Ask(*number, open.request.clone().into());
                self.effects.push(Effect::Send(first, ask));
            }
        }
    }

    fn answered(&mut self, number: u64, reply: Reply) {
        let Some(open) = self.calls.remove(&number) else {
            return;
        };
        if let (Request::Load { id, .. }, Reply::Lookup(lookup)) = (&open.request, &reply) {
            self.cache.insert(*id, lookup.clone());
        }
        self.effects.push(Effect::Answer(number, reply));
    }
}

/// All sessions.
#[derive(Debug, Default)]
struct Book<const WRONG: u8> {
    records: BTreeMap<RecordId, Record>,
    floors: BTreeMap<Box<str>, u64>,
    changes: u64,
}

impl<const WRONG: u8> Book<WRONG> {
    fn answer(&mut self, request: Request, now: Timestamp) -> Reply {
        match request {
            Request::Create { id, record, policy } => {
                Reply::Outcome(self.create(id, *record, policy))
            }
            Request::Load { id, proof, .. } => Reply::Lookup(self.load(id, proof.as_ref(), now)),
            Request::Update { id, patch } => Reply::Outcome(self.update(id, &patch, now)),
            Request::Delete { id, proof, reason } => {
                self.delete(id, &Deletion { proof: proof.as_ref(), sign_in: None, reason }, now)
            }
            Request::List { principal } => Reply::Listed(self.list(&principal, now)),
            Request::DeleteAll { principal, epoch, .. } => {
                Reply::Count(self.delete_all(&principal, epoch, now))
            }
        }
    }

    fn create(&mut self, id: RecordId, record: Record, policy: LoginPolicy) -> Outcome {
        if self.records.contains_key(&id) {
            return Outcome::Exists;
        }
        let mut applied = Applied::at(record.version);
        if let Some(principal) = &record.principal {
            let floor = self.floors.get(principal.id()).copied().unwrap_or(0);
            if policy.epoch.unwrap_or(0) < floor && WRONG != NO_FLOOR {
                return Outcome::Rejected(Rejection::StaleEpoch);
            }
            let live = self.list(principal, record.created);
            if live.len() >= policy.cap && WRONG != NO_CAP {
                let oldest = live.iter().min_by_key(|info| info.authenticated);
                applied.ended.extend(oldest.map(|info| info.id));
            }
            for ended in &applied.ended {
                self.records.remove(ended);
            }
        }
        self.records.insert(id, record);
        Outcome::Applied(applied)
    }

    fn live(&self, id: RecordId, now: Timestamp) -> Option<&Record> {
        self.records.get(&id).filter(|record| !record.is_expired(now))
    }

    fn load(&self, id: RecordId, proof: Option<&Proof>, now: Timestamp) -> Lookup {
        let Some(record) = self.live(id, now) else {
            return Lookup::Absent(Absence::Unknown);
        };
        match proof.map(|proof| record.verify(proof, now)) {
            Some(Verdict::Superseded) if WRONG != OLD_SECRETS => Lookup::Superseded,
            Some(Verdict::Wrong | Verdict::UnknownKey(_)) => Lookup::Absent(Absence::Unknown),
            _ => {
                let record = record.clone().into();
                Lookup::Found(Found { id, record, client_state: ClientState::default() })
            }
        }
    }

    fn update(&mut self, id: RecordId, patch: &Patch, now: Timestamp) -> Outcome {
        self.changes += 1;
        let Some(record) = self.live(id, now) else {
            return Outcome::Gone;
        };
        match record.apply(patch, now, &Limits::default()) {
            Ok(patched) => {
                let mut applied = Applied::at(patched.record.version);
                applied.counters = patched.counters;
                if WRONG != LOSES || !self.changes.is_multiple_of(40) {
                    self.records.insert(id, patched.record);
                }
                Outcome::Applied(applied)
            }
            Err(refusal) => refusal.answer().unwrap_or(Outcome::Gone),
        }
    }

    fn delete(&mut self, id: RecordId, deletion: &Deletion<'_>, now: Timestamp) -> Reply {
        let deleted = match self.live(id, now).map(|record| record.delete(deletion, now)) {
            Some(Ok(deleted)) => deleted,
            None | Some(Err(_)) => Deleted::Gone,
        };
        if deleted.is_ended() {
            self.records.remove(&id);
        }
        Reply::Deleted(deleted)
    }

    fn list(&self, principal: &Principal, now: Timestamp) -> Vec<SessionInfo> {
        let is_listed = |(_, record): &(&RecordId, &Record)| {
            record.principal.as_ref() == Some(principal) && !record.is_expired(now)
        };
        let records = self.records.iter().filter(is_listed);
        records.map(|(id, record)| SessionInfo::of(*id, record)).collect()
    }

    fn delete_all(&mut self, principal: &Principal, epoch: Option<u64>, now: Timestamp) -> u64 {
        let floor = self.floors.entry(principal.id().into()).or_default();
        *floor = (*floor).max(epoch.unwrap_or(0));
        let live = self.list(principal, now);
        let skipped = usize::from(WRONG == FORGETS_ONE);
        for info in live.iter().skip(skipped) {
            self.records.remove(&info.id);
        }
        live.len() as u64
    }
}
