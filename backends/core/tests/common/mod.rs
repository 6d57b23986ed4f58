//! A simple store: a map under a lock, where every call is one step. The other stores of these
//! tests build on it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_core::Stream;
use steadfast_core::{
    Absence, Applied, Change, ChangeStream, ClientState, Deleted, Deletion, EndReason, Env, Found,
    Limits, LoginPolicy, Lookup, Operate, Outcome, Patch, Principal, Proof, Record, RecordId,
    Rejection, RequestHint, Revocation, Scan, Scanned, SessionInfo, SessionStore, Stats,
    StoreError, Timestamp, Verdict,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

#[derive(Debug)]
pub(crate) struct SimpleStore {
    env: Env,
    limits: Limits,
    has_index: bool,
    shelf: Mutex<Shelf>,
}

impl SimpleStore {
    pub(crate) fn new(env: Env) -> Self {
        Self { env, limits: Limits::default(), has_index: true, shelf: Mutex::default() }
    }

    /// A store without an index of principals.
    #[allow(dead_code, reason = "not every test file has a use for it")]
    pub(crate) fn without_index(env: Env) -> Self {
        Self { has_index: false, ..Self::new(env) }
    }

    pub(crate) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().expect("no call panics while it holds the lock")
    }

    pub(crate) fn try_create(&self, id: RecordId, record: &Record, policy: LoginPolicy) -> Outcome {
        let now = self.env.now();
        let mut shelf = self.shelf();
        match shelf.records.get(&id) {
            Some(_) if shelf.newer.contains_key(&id) => return Outcome::Exists,
            Some(Some(kept)) if kept.secret == record.secret => return applied(kept, Vec::new()),
            Some(_) => return Outcome::Exists,
            None => {}
        }
        if let Err(error) = self.limits.check_values(&record.values) {
            return Outcome::Rejected(error.into());
        }
        let principal = record.principal.as_ref();
        if principal.is_some_and(|principal| shelf.is_below_floor(principal, policy)) {
            return Outcome::Rejected(Rejection::StaleEpoch);
        }
        let is_full = |principal| shelf.is_full(id, principal, policy, now);
        if self.has_index && principal.is_some_and(is_full) {
            return Outcome::Rejected(Rejection::AtCap);
        }
        shelf.keep(id, record.clone());
        let cap = if self.has_index { policy.cap } else { usize::MAX };
        applied(record, shelf.end_over_cap(id, cap, now))
    }

    pub(crate) fn try_update(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let now = self.env.now();
        let mut shelf = self.shelf();
        let Some(record) = shelf.read(id)? else {
            return Ok(Outcome::Gone);
        };
        let patched = match record.apply(patch, now, &self.limits) {
            Ok(patched) => patched,
            Err(refusal) => return refusal.answer(),
        };
        let sent_twice = patched.record == record && !patch.is_touch();
        let login = patch.rotation().and_then(|rotation| rotation.authentication.as_ref());
        let login = login.filter(|_| !sent_twice && self.has_index);
        let who = login.and_then(|login| login.principal.as_ref());
        if let (Some(login), Some(who)) = (login, who)
            && shelf.is_below_floor(who, login.policy)
        {
            return Ok(Outcome::Rejected(Rejection::StaleEpoch));
        }
        if let (Some(login), Some(who), false) = (login, who, sent_twice)
            && shelf.is_full(id, who, login.policy, now)
        {
            return Ok(Outcome::Rejected(Rejection::AtCap));
        }
        if !sent_twice {
            shelf.keep(id, patched.record.clone());
        }
        let ended = login.map(|login| shelf.end_over_cap(id, login.policy.cap, now));
        let mut outcome = applied(&patched.record, ended.unwrap_or_default());
        if let Outcome::Applied(applied) = &mut outcome {
            applied.counters = patched.counters;
        }
        Ok(outcome)
    }

    pub(crate) fn look_up(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
    ) -> Result<Lookup, StoreError> {
        self.shelf().look_up(id, proof, self.env.now())
    }

    pub(crate) fn end(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        let mut shelf = self.shelf();
        let is_free = deletion.proof.is_none() && deletion.sign_in.is_none();
        let deleted = match shelf.records.get(&id) {
            None => Deleted::Gone,
            Some(_) if is_free && shelf.newer.contains_key(&id) => Deleted::Ended,
            Some(Some(record)) => record.delete(deletion, self.env.now())?,
            Some(None) if is_free => Deleted::Ended,
            Some(None) => return Err(StoreError::corrupt("junk")),
        };
        if deleted == Deleted::Ended {
            shelf.remove(id, deletion.reason);
        }
        Ok(deleted)
    }

    pub(crate) fn end_all(
        &self,
        principal: &Principal,
        Revocation { except, epoch, reason }: Revocation,
    ) -> Vec<RecordId> {
        let mut shelf = self.shelf();
        if let Some(epoch) = epoch {
            let floor = shelf.floors.entry(principal.clone()).or_insert(epoch);
            *floor = epoch.max(*floor);
        }
        let live = shelf.live_of(principal, self.env.now()).into_iter();
        let ended: Vec<_> = live.map(|info| info.id).filter(|id| Some(*id) != except).collect();
        for id in &ended {
            shelf.remove(*id, reason);
        }
        ended
    }
}

/// The state of the store.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// The records; `None` stands for bytes that are not a record.
    pub(crate) records: HashMap<RecordId, Option<Record>>,
    /// The records in a format newer than this release knows.
    pub(crate) newer: HashMap<RecordId, u16>,
    floors: HashMap<Principal, u64>,
    watchers: Vec<UnboundedSender<Change>>,
}

impl Shelf {
    #[allow(dead_code, reason = "not every test file has a use for it")]
    pub(crate) fn set_format(&mut self, id: RecordId, format: u16) -> bool {
        self.newer.remove(&id);
        if format > Record::FORMAT {
            self.newer.insert(id, format);
        }
        self.records.contains_key(&id)
    }

    pub(crate) fn read(&self, id: RecordId) -> Result<Option<Record>, StoreError> {
        self.check_format(id)?;
        match self.records.get(&id) {
            Some(None) => Err(StoreError::corrupt("junk")),
            Some(Some(record)) => Ok(Some(record.clone())),
            None => Ok(None),
        }
    }

    fn look_up(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        now: Timestamp,
    ) -> Result<Lookup, StoreError> {
        self.check_format(id)?;
        let Some(Some(record)) = self.records.get(&id) else {
            return Ok(Lookup::Absent(Absence::Unknown));
        };
        if record.is_expired(now) {
            return Ok(Lookup::Absent(Absence::Expired));
        }
        match proof.map_or(Verdict::Right, |proof| record.verify(proof, now)) {
            Verdict::Right => Ok(Lookup::Found(found(id, Arc::new(record.clone())))),
            Verdict::Superseded => Ok(Lookup::Superseded),
            Verdict::Wrong => Ok(Lookup::Absent(Absence::Unknown)),
            Verdict::UnknownKey(key) => Err(StoreError::UnknownKey(key)),
        }
    }

    fn check_format(&self, id: RecordId) -> Result<(), StoreError> {
        match self.newer.get(&id) {
            Some(&found) => Err(StoreError::NewerFormat { found, known: Record::FORMAT }),
            None => Ok(()),
        }
    }

    pub(crate) fn keep(&mut self, id: RecordId, record: Record) {
        let before = self.records.get(&id).and_then(Option::as_ref);
        let is_new_sign_in = before.is_some_and(|before| before.sign_in != record.sign_in);
        self.tell(match is_new_sign_in {
            true => Change::SignedIn(id, record.version),
            false => Change::Patched(id, record.version),
        });
        self.records.insert(id, Some(record));
    }

    pub(crate) fn remove(&mut self, id: RecordId, reason: EndReason) {
        self.records.remove(&id);
        self.newer.remove(&id);
        self.tell(Change::Ended(id, reason));
    }

    pub(crate) fn is_below_floor(&self, principal: &Principal, policy: LoginPolicy) -> bool {
        let floor = self.floors.get(principal);
        floor.is_some_and(|floor| policy.epoch.is_none_or(|epoch| epoch < *floor))
    }

    pub(crate) fn live_of(&self, principal: &Principal, now: Timestamp) -> Vec<SessionInfo> {
        let records = self.records.iter();
        let live = records.filter_map(|(id, record)| {
            let record = record.as_ref().filter(|record| !record.is_expired(now))?;
            (record.principal.as_ref() == Some(principal)).then(|| SessionInfo::of(*id, record))
        });
        live.collect()
    }

    /// Returns true if a login is refused because the principal's other sessions reach the cap.
    pub(crate) fn is_full(
        &self,
        id: RecordId,
        principal: &Principal,
        policy: LoginPolicy,
        now: Timestamp,
    ) -> bool {
        let others = self.live_of(principal, now).iter().filter(|info| info.id != id).count();
        policy.refuses(others)
    }

    /// Ends the oldest sessions of the principal of `id` that exceed the cap.
    pub(crate) fn end_over_cap(
        &mut self,
        id: RecordId,
        cap: usize,
        now: Timestamp,
    ) -> Vec<RecordId> {
        let record = self.records.get(&id).and_then(Option::as_ref);
        let Some(principal) = record.and_then(|record| record.principal.clone()) else {
            return Vec::new();
        };
        let mut sessions = self.live_of(&principal, now);
        sessions.sort_by_key(|info| (info.id == id, info.authenticated, info.id));
        sessions.truncate(sessions.len().saturating_sub(cap));
        for info in &sessions {
            self.remove(info.id, EndReason::Cap);
        }
        sessions.iter().map(|info| info.id).collect()
    }

    fn tell(&mut self, change: Change) {
        self.watchers.retain(|watcher| watcher.send(change).is_ok());
    }
}

#[async_trait]
impl SessionStore for SimpleStore {
    fn env(&self) -> &Env {
        &self.env
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn create(
        &self,
        id: RecordId,
        record: Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        Ok(self.try_create(id, &record, policy))
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        _: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        self.look_up(id, proof)
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        _: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        self.try_update(id, patch)
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        self.end(id, deletion)
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        if !self.has_index {
            return Err(StoreError::Unsupported("listing sessions"));
        }
        Ok(self.shelf().live_of(principal, self.env.now()))
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        if !self.has_index {
            return Err(StoreError::Unsupported("ending all sessions of a principal"));
        }
        Ok(self.end_all(principal, revocation).len() as u64)
    }

    fn changes(&self) -> Option<ChangeStream> {
        let (watcher, changes) = unbounded_channel();
        self.shelf().watchers.push(watcher);
        Some(ChangeStream::new(Changes(changes)))
    }
}

#[async_trait]
impl Operate for SimpleStore {
    async fn collect(&self) -> Result<u64, StoreError> {
        let now = self.env.now();
        let records = &mut self.shelf().records;
        let before = records.len();
        records.retain(|_, record| record.as_ref().is_none_or(|record| !record.is_expired(now)));
        Ok((before - records.len()) as u64)
    }

    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        let shelf = self.shelf();
        let mut ids: Vec<_> = shelf.records.keys().copied().collect();
        ids.retain(|id| after.is_none_or(|after| *id > after));
        ids.sort();
        let next = ids.get(limit).and_then(|_| ids.get(limit.checked_sub(1)?)).copied();
        ids.truncate(limit);
        let scanned = ids
            .into_iter()
            .map(|id| Scanned { id, record: shelf.records[&id].clone().map(Arc::new) });
        Ok(Scan { records: scanned.collect(), next })
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let shelf = self.shelf();
        let records = || shelf.records.values().flatten();
        Ok(Stats {
            records: records().count() as u64,
            authenticated: records().filter(|record| record.principal.is_some()).count() as u64,
            bytes: records().map(|record| record.values.size() as u64).sum(),
        })
    }
}

pub(crate) fn found(id: RecordId, record: Arc<Record>) -> Found {
    let client_state = ClientState { version: Some(record.version), ..ClientState::default() };
    Found { id, record, client_state }
}

pub(crate) fn applied(record: &Record, ended: Vec<RecordId>) -> Outcome {
    let client_state = ClientState { version: Some(record.version), ..ClientState::default() };
    Outcome::Applied(Applied { ended, client_state, ..Applied::at(record.version) })
}

struct Changes(UnboundedReceiver<Change>);

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change>> {
        self.0.poll_recv(context)
    }
}
