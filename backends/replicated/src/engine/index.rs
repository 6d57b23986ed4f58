//! Whose sessions are whose: a record for each principal, placed by the principal's hash.
//!
//! It lists a session before the session becomes the principal's, so it is never behind; what it
//! lists in vain is dropped when it is read. Its owner works on one call at a time, which puts every
//! login wholly before or after a revocation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use steadfast_core::{
    Deleted, EndReason, KeyId, RawJson, Record, RecordId, SecretHash, SessionInfo, Timestamp,
    Values, Version,
};

use super::Engine;
use super::commit::{Change, Then};
use super::entry::Stage;
use super::message::{Failure, Kept, Login, Reply, Request};
use crate::record::{Copy, Delta, Head, millis};

/// A call that a list of sessions is worked on for.
#[derive(Debug)]
pub(super) struct Procedure {
    pub(super) call: u64,
    request: Request,
    step: Step,
    /// Calls for sessions of the list that have no answer yet.
    pending: BTreeMap<u64, RecordId>,
    live: Vec<SessionInfo>,
    gone: BTreeSet<RecordId>,
    ended: Vec<RecordId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    RaiseFloor,
    Peek,
    End,
    Finish,
}

impl Engine {
    pub(super) fn begin_procedure(&mut self, call: u64, request: &Request) {
        let id = request.key();
        let procedure = Procedure {
            call,
            request: request.clone(),
            step: Step::Peek,
            pending: BTreeMap::new(),
            live: Vec::new(),
            gone: BTreeSet::new(),
            ended: Vec::new(),
        };
        match request {
            Request::Admit(login) => self.admit(id, procedure, login),
            Request::DeleteAll { epoch: Some(epoch), .. } => {
                self.raise_floor(id, procedure, *epoch);
            }
            Request::DeleteAll { .. } => self.end_all(id, procedure),
            _ => {
                let sessions = self.list_of(id).sessions.into_keys().collect();
                self.peek(id, procedure, sessions);
            }
        }
    }

    fn admit(&mut self, id: RecordId, procedure: Procedure, login: &Login) {
        let list = self.list_of(id);
        let is_below = |(floor, until): (u64, Timestamp)| {
            until > self.now.wall && login.admission.epoch.is_none_or(|epoch| epoch < floor)
        };
        if list.floor.is_some_and(is_below) {
            return self.answer(procedure.call, Reply::BelowFloor);
        }
        let others: Vec<_> = list.sessions.into_keys().filter(|other| *other != login.id).collect();
        if others.len() < login.admission.cap.max(1) {
            self.finish_procedure(id, procedure);
        } else {
            self.peek(id, procedure, others);
        }
    }

    fn raise_floor(&mut self, id: RecordId, mut procedure: Procedure, epoch: u64) {
        procedure.step = Step::RaiseFloor;
        let mut list = self.list_of(id);
        let until = self.now.wall + FLOOR_KEPT;
        list.floor = Some(match list.floor {
            Some((floor, _)) if floor > epoch => (floor, until),
            _ => (epoch, until),
        });
        self.change_list(id, &list, procedure);
    }

    fn end_all(&mut self, id: RecordId, procedure: Procedure) {
        let Request::DeleteAll { except, .. } = procedure.request else {
            return;
        };
        let sessions = self.list_of(id).sessions.into_keys();
        let doomed = sessions.filter(|session| Some(*session) != except).collect();
        self.end_sessions(id, procedure, doomed);
    }

    fn peek(&mut self, id: RecordId, mut procedure: Procedure, sessions: Vec<RecordId>) {
        procedure.step = Step::Peek;
        self.ask_sessions(id, procedure, sessions);
    }

    fn end_sessions(&mut self, id: RecordId, mut procedure: Procedure, sessions: Vec<RecordId>) {
        procedure.step = Step::End;
        self.ask_sessions(id, procedure, sessions);
    }

    fn ask_sessions(&mut self, id: RecordId, mut procedure: Procedure, sessions: Vec<RecordId>) {
        let (principal, reason) = match &procedure.request {
            Request::Admit(login) => (&login.principal, EndReason::Cap),
            Request::List { principal } => (principal, EndReason::Logout),
            Request::DeleteAll { principal, reason, .. } => (principal, *reason),
            _ => return,
        };
        let principal = principal.clone();
        if sessions.is_empty() {
            return self.sessions_answered(id, procedure);
        }
        let step = procedure.step;
        let asked: Vec<_> = sessions.into_iter().map(|of| (self.number(), of)).collect();
        procedure.pending = asked.iter().copied().collect();
        self.busy(id).stage = Some(Stage::Index(Box::new(procedure)));
        for (number, of) in asked {
            let principal = principal.clone();
            let request = match step {
                Step::End => Request::End { id: of, principal, reason },
                _ => Request::Peek { id: of, principal },
            };
            self.call_step(id, number, request);
        }
    }

    /// A session of the list answered.
    pub(super) fn procedure_step(&mut self, id: RecordId, number: u64, reply: Reply) {
        let Some(Stage::Index(procedure)) = &mut self.busy(id).stage else {
            return;
        };
        let Some(session) = procedure.pending.remove(&number) else {
            return;
        };
        match reply {
            Reply::Peeked(Some(info)) => procedure.live.push(info),
            Reply::Ended(Deleted::Ended) => {
                procedure.gone.insert(session);
                procedure.ended.push(session);
            }
            Reply::Peeked(None) | Reply::Ended(_) => drop(procedure.gone.insert(session)),
            Reply::Failed(failure) => return self.procedure_failed(id, failure),
            _ => return self.procedure_failed(id, Failure::Moving),
        }
        if procedure.pending.is_empty()
            && let Some(Stage::Index(procedure)) = self.busy(id).stage.take()
        {
            self.sessions_answered(id, *procedure);
            self.advance(id);
        }
    }

    fn procedure_failed(&mut self, id: RecordId, failure: Failure) {
        if let Some(Stage::Index(procedure)) = self.busy(id).stage.take() {
            self.answer(procedure.call, Reply::Failed(failure));
        }
        self.advance(id);
    }

    fn sessions_answered(&mut self, id: RecordId, mut procedure: Procedure) {
        match (&procedure.request, procedure.step) {
            (Request::Admit(login), Step::Peek) => {
                let excess = (procedure.live.len() + 1).saturating_sub(login.admission.cap.max(1));
                procedure.live.sort_by_key(|info| (info.authenticated, info.created, info.id));
                let oldest = procedure.live.iter().take(excess).map(|info| info.id).collect();
                self.end_sessions(id, procedure, oldest);
            }
            _ => self.finish_procedure(id, procedure),
        }
    }

    /// Writes what came of the list, and answers.
    fn finish_procedure(&mut self, id: RecordId, mut procedure: Procedure) {
        procedure.step = Step::Finish;
        let before = self.list_of(id);
        let mut list = before.clone();
        list.sessions.retain(|session, _| !procedure.gone.contains(session));
        if let Request::Admit(login) = &procedure.request {
            let until = list.sessions.entry(login.id).or_insert(login.until);
            *until = (*until).max(login.until);
        }
        if list == before {
            self.answer_procedure(procedure);
        } else {
            self.change_list(id, &list, procedure);
        }
    }

    pub(super) fn list_changed(&mut self, id: RecordId, procedure: Box<Procedure>) {
        match procedure.step {
            Step::RaiseFloor => self.end_all(id, *procedure),
            _ => self.answer_procedure(*procedure),
        }
        self.advance(id);
    }

    fn answer_procedure(&mut self, procedure: Procedure) {
        let reply = match procedure.request {
            Request::Admit(_) => Reply::Admitted(procedure.ended),
            Request::DeleteAll { .. } => Reply::Count(procedure.ended.len() as u64),
            _ => Reply::Listed(procedure.live),
        };
        self.answer(procedure.call, reply);
    }

    fn list_of(&self, id: RecordId) -> List {
        match self.live(id).filter(|copy| !copy.record.is_expired(self.now.wall)) {
            Some(copy) => List::read(&copy.record.values),
            None => List::default(),
        }
    }

    fn change_list(&mut self, id: RecordId, list: &List, procedure: Procedure) {
        let now = self.now.wall;
        let stamp = self.stamps.stamp(now);
        let record = list.record(now);
        let change = match self.live(id).filter(|copy| !copy.record.is_expired(now)).cloned() {
            Some(copy) => {
                let entry = self.table.get(&id);
                let next = copy.record.version.next();
                let version = entry.map_or(next, |entry| entry.next_version(next));
                let delta = list.delta(&copy.record, &record, version, stamp);
                Change::Part(copy.changed(&delta), delta)
            }
            None => Change::Whole(Copy::new(record, stamp)),
        };
        // A list that was forgotten may begin anew.
        if matches!(self.kept(id), Kept::Dead { .. }) {
            self.drop_entry(id);
        }
        self.commit(id, change, false, Then::Index(Box::new(procedure)));
    }
}

/// A list of sessions, as the values of its record say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct List {
    /// Each session, and until when it lives at most.
    sessions: BTreeMap<RecordId, Timestamp>,
    floor: Option<(u64, Timestamp)>,
}

impl List {
    fn read(values: &Values) -> Self {
        let mut list = Self::default();
        for (key, json) in values.iter() {
            let json = RawJson::copied(json);
            match key.parse() {
                Ok(id) => drop(list.sessions.insert(id, at(json.as_integer().unwrap_or(0)))),
                Err(_) => {
                    let floor: Option<(u64, i64)> = json.decode().ok();
                    list.floor = floor.map(|(epoch, until)| (epoch, at(until)));
                }
            }
        }
        list
    }

    fn values(&self) -> Values {
        let session = |(id, until): (&RecordId, &Timestamp)| {
            (id.to_string(), millis(*until).to_string().into_bytes())
        };
        let floor = self.floor.map(|(epoch, until)| {
            (FLOOR.to_owned(), format!("[{epoch},{}]", millis(until)).into_bytes())
        });
        let entries: Vec<_> = self.sessions.iter().map(session).chain(floor).collect();
        entries.iter().map(|(key, json)| (key, json.as_slice())).collect()
    }

    /// The record of the list. It lives as long as anything in it counts.
    fn record(&self, now: Timestamp) -> Record {
        let ends = self.sessions.values().copied().chain(self.floor.map(|(_, until)| until));
        let until = ends.chain([now + EMPTY_KEPT]).max().unwrap_or(now);
        let hash = SecretHash::from_parts(KeyId::NONE, [0; 32]);
        Record { values: self.values(), ..Record::new(hash, now, until, until) }
    }

    fn delta(
        &self,
        before: &Record,
        after: &Record,
        version: Version,
        stamp: crate::record::Stamp,
    ) -> Delta {
        let kept = |key: &str| after.values.get(key);
        let removed = before.values.iter().filter(|(key, _)| kept(key).is_none());
        let written =
            after.values.iter().filter(|(key, json)| before.values.get(key) != Some(json));
        let removed = removed.map(|(key, _)| (key.into(), None));
        let ops = removed.chain(written.map(|(key, json)| (key.into(), Some(json.into()))));
        Delta {
            stamp,
            version,
            clear: false,
            ops: ops.collect(),
            head: Some(Box::new(Head { created: before.created, ..Head::of(after) })),
            idle_deadline: after.absolute_deadline,
        }
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

const FLOOR: &str = "floor";

/// How long a floor is kept after it was last raised or confirmed.
const FLOOR_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a list is kept in which nothing is left.
const EMPTY_KEPT: Duration = Duration::from_secs(60);
