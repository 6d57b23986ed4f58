//! A store of your own: the least that the middleware needs, and everything that the conformance
//! kit checks.
//!
//! [`MapStore`] is a map under a lock, so each call is one atomic step. A store over a server makes
//! the same decisions in a transaction or a script. The decisions themselves are made by
//! [`Record::verify`], [`Record::apply`] and [`Record::delete`], which are the same for every
//! store.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use steadfast_core::{
    Absence, Applied, ClientState, Deleted, Deletion, Env, Found, Limits, LoginPolicy, Lookup,
    Operate, Outcome, Patch, Principal, Proof, Record, RecordId, Rejection, RequestHint,
    Revocation, SessionInfo, SessionStore, StoreError, Timestamp, Verdict,
};

/// Sessions in a map. They end with the process, and are never evicted.
#[derive(Debug)]
pub struct MapStore {
    env: Env,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<RecordId, Record>,
    /// The epochs below which principals cannot sign in.
    min_epochs: HashMap<Principal, u64>,
}

impl MapStore {
    /// Creates an empty store with this clock and this source of randomness.
    pub fn new(env: Env) -> Self {
        Self { env, limits: Limits::default(), state: Mutex::default() }
    }

    /// Begins a step: reads the clock, then waits for the lock.
    fn begin(&self) -> (Timestamp, MutexGuard<'_, State>) {
        (self.env.now(), self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn live_of(&self, principal: &Principal, now: Timestamp) -> Vec<SessionInfo> {
        let is_live = |record: &Record| {
            record.principal.as_ref() == Some(principal) && !record.is_expired(now)
        };
        let live = self.records.iter().filter(|(_, record)| is_live(record));
        live.map(|(id, record)| SessionInfo::of(*id, record)).collect()
    }

    /// Returns the reason to reject a sign-in, if there is one.
    fn reject(
        &self,
        id: RecordId,
        principal: &Principal,
        policy: LoginPolicy,
        now: Timestamp,
    ) -> Option<Rejection> {
        if policy.epoch < self.min_epochs.get(principal).copied() {
            return Some(Rejection::StaleEpoch);
        }
        let others = self.live_of(principal, now).iter().filter(|info| info.id != id).count();
        policy.refuses(others).then_some(Rejection::AtCap)
    }

    /// Ends the oldest sessions of a principal beyond the cap, except the one that signed in.
    fn enforce_cap(
        &mut self,
        newest: RecordId,
        principal: &Principal,
        cap: usize,
        now: Timestamp,
    ) -> Vec<RecordId> {
        let mut sessions = self.live_of(principal, now);
        sessions.sort_by_key(|info| (info.id == newest, info.authenticated, info.id));
        sessions.truncate(sessions.len().saturating_sub(cap.max(1)));
        let ended: Vec<_> = sessions.iter().map(|info| info.id).collect();
        self.records.retain(|id, _| !ended.contains(id));
        ended
    }
}

#[async_trait]
impl SessionStore for MapStore {
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
        let (now, mut state) = self.begin();
        if let Some(there) = state.records.get(&id) {
            // The same secret shows that this call was sent twice.
            let is_this = there.secret == record.secret && !there.is_expired(now);
            let applied = is_this.then(|| Outcome::Applied(Applied::at(there.version)));
            return Ok(applied.unwrap_or(Outcome::Exists));
        }
        if let Err(error) = self.limits.check_values(&record.values) {
            return Ok(Outcome::Rejected(error.into()));
        }
        let mut applied = Applied::at(record.version);
        if let Some(principal) = record.principal.clone() {
            if let Some(rejection) = state.reject(id, &principal, policy, now) {
                return Ok(Outcome::Rejected(rejection));
            }
            state.records.insert(id, record);
            applied.ended = state.enforce_cap(id, &principal, policy.cap, now);
        } else {
            state.records.insert(id, record);
        }
        Ok(Outcome::Applied(applied))
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        _: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        let (now, state) = self.begin();
        let Some(record) = state.records.get(&id) else {
            return Ok(Lookup::Absent(Absence::Unknown));
        };
        match proof.map_or(Verdict::Right, |proof| record.verify(proof, now)) {
            Verdict::Right if record.is_expired(now) => Ok(Lookup::Absent(Absence::Expired)),
            _ if record.is_expired(now) => Ok(Lookup::Absent(Absence::Unknown)),
            Verdict::Right => {
                let (record, client_state) = (Arc::new(record.clone()), ClientState::default());
                Ok(Lookup::Found(Found { id, record, client_state }))
            }
            Verdict::Superseded => Ok(Lookup::Superseded),
            Verdict::Wrong => Ok(Lookup::Absent(Absence::Unknown)),
            Verdict::UnknownKey(key) => Err(StoreError::UnknownKey(key)),
        }
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        _: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        let (now, mut state) = self.begin();
        let Some(record) = state.records.get(&id) else { return Ok(Outcome::Gone) };
        let patched = match record.apply(patch, now, &self.limits) {
            Ok(patched) => patched,
            Err(error) => return error.answer(),
        };
        let mut applied =
            Applied { counters: patched.counters, ..Applied::at(patched.record.version) };
        let rotation = patch.rotation();
        if rotation.is_some_and(|rotation| rotation.hash == record.secret) {
            // The rotation was sent twice. The first one was admitted.
            return Ok(Outcome::Applied(applied));
        }
        let authentication = rotation.and_then(|rotation| rotation.authentication.as_ref());
        if let Some(authentication) = authentication
            && let Some(principal) = &authentication.principal
            && let Some(rejection) = state.reject(id, principal, authentication.policy, now)
        {
            return Ok(Outcome::Rejected(rejection));
        }
        let principal = patched.record.principal.clone();
        state.records.insert(id, patched.record);
        if let (Some(authentication), Some(principal)) = (authentication, &principal) {
            applied.ended = state.enforce_cap(id, principal, authentication.policy.cap, now);
        }
        Ok(Outcome::Applied(applied))
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        let (now, mut state) = self.begin();
        let Some(record) = state.records.get(&id) else { return Ok(Deleted::Gone) };
        let deleted = record.delete(deletion, now)?;
        if deleted.is_ended() {
            state.records.remove(&id);
        }
        Ok(deleted)
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        let (now, state) = self.begin();
        Ok(state.live_of(principal, now))
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        Revocation { except, epoch, .. }: Revocation,
    ) -> Result<u64, StoreError> {
        let (now, mut state) = self.begin();
        if let Some(epoch) = epoch {
            let min_epoch = state.min_epochs.entry(principal.clone()).or_insert(epoch);
            *min_epoch = epoch.max(*min_epoch);
        }
        let live = state.live_of(principal, now).into_iter().map(|info| info.id);
        let ended: Vec<_> = live.filter(|id| Some(*id) != except).collect();
        state.records.retain(|id, _| !ended.contains(id));
        Ok(ended.len() as u64)
    }
}

#[async_trait]
impl Operate for MapStore {
    /// Frees the memory of expired records. The store does not call it: the application does, from
    /// time to time.
    async fn collect(&self) -> Result<u64, StoreError> {
        let (now, mut state) = self.begin();
        let before = state.records.len();
        state.records.retain(|_, record| !record.is_expired(now));
        Ok((before - state.records.len()) as u64)
    }
}
