//! The operations of the store, each from its first lock to its last.

use std::collections::BTreeMap;
use std::sync::Arc;

use steadfast_core::{
    Absence, Applied, ApplyError, Change, ClientState, Deleted, Deletion, EndReason, Ending, Env,
    Event, Found, Limits, LoginPolicy, Lookup, Outcome, Patch, Patched, Principal, Proof, Record,
    RecordId, Rejection, Revocation, Scan, Scanned, SecretHash, SessionInfo, StoreError, Timestamp,
    Verdict, Version,
};

use crate::changes::Changes;
use crate::endings::EndingQueue;
use crate::expiry::Expiry;
use crate::index::{Index, Lists};
use crate::list::Rank;
use crate::lru_cache::ShardedLru;
use crate::slot::{Content, Locked, Slot};
use crate::sync::atomic::{AtomicBool, Ordering};

/// The state that a store shares with its clones.
///
/// Locks are taken in this order: a shard of the index, one slot, a leaf. Leaves are the shards of
/// the cache, the change feed, and the queues: deadlines, leaving sessions, endings. A thread never
/// holds two shards or two slots.
pub(crate) struct Sessions {
    pub(crate) env: Env,
    pub(crate) limits: Limits,
    pub(crate) cache: ShardedLru,
    pub(crate) changes: Changes,
    pub(crate) endings: EndingQueue,
    pub(crate) index: Index,
    expiry: Expiry,
    draining: AtomicBool,
}

impl Sessions {
    pub(crate) fn new(env: Env, limits: Limits, cache: ShardedLru) -> Self {
        Self {
            env,
            limits,
            cache,
            changes: Changes::default(),
            endings: EndingQueue::default(),
            index: Index::new(),
            expiry: Expiry::new(),
            draining: AtomicBool::new(false),
        }
    }

    pub(crate) fn create(&self, id: RecordId, record: Record, policy: LoginPolicy) -> Outcome {
        let now = self.begin();
        let hash = record.secret;
        let new = New {
            id,
            version: record.version,
            rank: Rank::of(id, &record),
            deadline: record.deadline(),
            principal: record.principal.clone(),
            policy,
            rejection: self.reject_new(&record),
            slot: Arc::new(Slot::new(record)),
        };
        // The fast path: a fresh id is free, and a visitor's record needs no index.
        let is_plain = new.rejection.is_none() && new.principal.is_none();
        if is_plain && self.insert(&new).is_some() {
            return Outcome::Applied(Applied::at(new.version));
        }
        // Another create with this id may run between the lookup and the insert, hence the loop.
        loop {
            let occupant = self.cache.find(id);
            match occupant.and_then(|slot| self.occupied(id, &slot, now)) {
                Some(there) if there.secret == hash => {
                    return Outcome::Applied(Applied::at(there.version));
                }
                Some(_) => return Outcome::Exists,
                None => {}
            }
            if let Some(outcome) = self.place(&new, now) {
                return outcome;
            }
        }
    }

    /// Loads a record, then sweeps. A sweep before the lookup would remove an expired record, and
    /// the client would not learn that its session expired.
    pub(crate) fn load(&self, id: RecordId, proof: Option<&Proof>) -> Result<Lookup, StoreError> {
        let now = self.env.now();
        let lookup = self.look_up(id, proof, now);
        self.tend(now);
        lookup
    }

    pub(crate) fn update(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let now = self.env.now();
        self.finish_evictions();
        let Some(slot) = self.cache.find(id) else {
            return Ok(Outcome::Gone);
        };
        let applied = match Login::of(patch) {
            Some(login) => self.login(id, &slot, patch, &login, now),
            None if is_authentication(patch) => self.authenticate(id, &slot, patch, now),
            None => self.patch(id, &slot, patch, now),
        };
        // Do not sweep after a refusal: an expired record stays, so that a later load can report
        // the expiry.
        if applied.is_ok() {
            self.tend(now);
        }
        applied.map_or_else(ApplyError::answer, |applied| Ok(Outcome::Applied(applied)))
    }

    pub(crate) fn delete(
        &self,
        id: RecordId,
        deletion: &Deletion<'_>,
    ) -> Result<Deleted, StoreError> {
        let now = self.begin();
        let Some(slot) = self.cache.find(id) else {
            return Ok(Deleted::Gone);
        };
        let content = slot.lock();
        let Some(record) = slot.live(&content) else {
            return Ok(Deleted::Gone);
        };
        let deleted = record.delete(deletion, now)?;
        if record.is_expired(now) {
            self.end(id, &slot, content, EndReason::Expired);
        } else if deleted == Deleted::Ended {
            self.end(id, &slot, content, deletion.reason);
        }
        Ok(deleted)
    }

    pub(crate) fn list(&self, principal: &Principal) -> Vec<SessionInfo> {
        let now = self.begin();
        let mut live = Vec::new();
        self.index.lock(principal).for_each(principal, |rank, slot| {
            let content = slot.lock();
            let owned = slot.owned(&content, principal);
            if let Some(record) = owned.filter(|record| !record.is_expired(now)) {
                live.push(SessionInfo::of(rank.id, record));
            }
        });
        live
    }

    pub(crate) fn delete_all(
        &self,
        principal: &Principal,
        Revocation { except, epoch, reason }: Revocation,
    ) -> u64 {
        let now = self.begin();
        let (mut ended, mut expired) = (0, Vec::new());
        let mut lists = self.index.lock(principal);
        if let Some(epoch) = epoch {
            lists.raise_floor(principal, epoch, now);
        }
        lists.for_each(principal, |Rank { id, .. }, slot| {
            if Some(id) == except {
                return;
            }
            let mut content = slot.lock();
            if let Some(record) = slot.owned(&content, principal) {
                let reason = if record.is_expired(now) {
                    expired.push(id);
                    EndReason::Expired
                } else {
                    ended += 1;
                    reason
                };
                self.retire(id, slot, &mut content, reason);
            }
        });
        lists.settle();
        drop(lists);
        // Emitted after unlocking: event subscribers may run arbitrary code.
        for id in expired {
            Event::Expired.emit(Some(id));
        }
        ended
    }

    /// Ends all records that are due and frees their memory. Returns the number of records ended.
    pub(crate) fn collect(&self) -> u64 {
        let now = self.env.now();
        let mut expired = 0;
        loop {
            let (taken, ended) = self.sweep(now, 1_024);
            expired += ended;
            if taken == 0 {
                break;
            }
        }
        self.index.drop_old_floors(now);
        self.finish_evictions();
        expired
    }

    /// Returns a page of records in the order of their ids.
    pub(crate) fn scan(&self, after: Option<RecordId>, limit: usize) -> Scan {
        let mut page = BTreeMap::new();
        let mut next = None;
        for (id, slot) in self.cache.iter().filter(|(id, _)| Some(*id) > after) {
            page.insert(id, slot);
            if page.len() > limit {
                page.pop_last();
                next = page.last_key_value().map(|(id, _)| *id).or(after);
            }
        }
        let records = page.into_iter().filter_map(|(id, slot)| {
            let record = slot.live(&slot.lock()).cloned();
            record.map(|record| Scanned { id, record: Some(record) })
        });
        Scan { records: records.collect(), next }
    }

    /// Returns true if the store accepts no new sessions.
    pub(crate) fn is_closed(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Stops accepting new sessions.
    pub(crate) fn close(&self) {
        self.draining.store(true, Ordering::Release);
    }

    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.expiry.len()
    }

    /// Returns true if no trace of a record or minimum epoch is left.
    #[cfg(test)]
    pub(crate) fn is_spotless(&self) -> bool {
        let cache = self.cache.iter().next().is_none();
        cache && self.expiry.len() == 0 && self.index.is_empty()
    }

    /// Does this call's share of housekeeping and returns the current time.
    pub(crate) fn begin(&self) -> Timestamp {
        let now = self.env.now();
        self.tend(now);
        now
    }

    /// Does a little housekeeping. Call it without holding a lock.
    fn tend(&self, now: Timestamp) {
        self.finish_evictions();
        if self.expiry.is_due(now) {
            self.sweep(now, SWEPT_AT_ONCE);
        }
    }

    /// Checks at most `limit` records that are queued as due. Returns the number checked and the
    /// number ended.
    fn sweep(&self, now: Timestamp, limit: usize) -> (usize, u64) {
        let mut ended = 0;
        let due = self.expiry.take_due(now, limit);
        for &(due, id) in &due {
            // A missing slot was evicted. The thread that takes it from the eviction queue finishes
            // it.
            let Some(slot) = self.cache.find(id) else {
                continue;
            };
            let mut content = slot.lock();
            match slot.live(&content) {
                Some(record) if content.due == due && record.is_expired(now) => {
                    ended += u64::from(self.end(id, &slot, content, EndReason::Expired));
                }
                Some(record) if content.due == due => {
                    content.due = self.expiry.insert(id, record.deadline());
                }
                _ => {}
            }
        }
        (due.len(), ended)
    }

    /// Finishes the evictions that the cache has started.
    pub(crate) fn finish_evictions(&self) {
        let evicted = self.retire_evicted();
        self.tidy(&evicted);
    }

    /// Ends the evicted records without locking the index, because the caller may hold one of its
    /// locks.
    fn retire_evicted(&self) -> Vec<(RecordId, Arc<Record>)> {
        let mut retired = Vec::new();
        loop {
            let evicted = self.cache.take_evicted();
            if evicted.is_empty() {
                return retired;
            }
            retired.extend(evicted.into_iter().filter_map(|(id, slot)| {
                let record = self.retire(id, &slot, &mut slot.lock(), EndReason::Evicted)?;
                Some((id, record))
            }));
        }
    }

    /// Removes evicted records from the index and emits their events. Call it without holding a
    /// lock.
    fn tidy(&self, evicted: &[(RecordId, Arc<Record>)]) {
        for (id, record) in evicted {
            self.unlist(record.principal.as_ref());
            Event::Capacity.emit(Some(*id));
        }
    }

    fn look_up(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        now: Timestamp,
    ) -> Result<Lookup, StoreError> {
        let Some(slot) = self.cache.find(id) else {
            return Ok(Lookup::Absent(Absence::Unknown));
        };
        let content = slot.lock();
        let Some(record) = slot.live(&content) else {
            return Ok(Lookup::Absent(Absence::Unknown));
        };
        let verdict = proof.map_or(Verdict::Right, |proof| record.verify(proof, now));
        if record.is_expired(now) {
            self.end(id, &slot, content, EndReason::Expired);
            return Ok(Lookup::Absent(match verdict {
                Verdict::Right => Absence::Expired,
                Verdict::Superseded | Verdict::Wrong | Verdict::UnknownKey(_) => Absence::Unknown,
            }));
        }
        match verdict {
            Verdict::Right => {
                let (record, client_state) = (Arc::clone(record), ClientState::default());
                Ok(Lookup::Found(Found { id, record, client_state }))
            }
            Verdict::Superseded => Ok(Lookup::Superseded),
            Verdict::Wrong => Ok(Lookup::Absent(Absence::Unknown)),
            Verdict::UnknownKey(key) => Err(StoreError::UnknownKey(key)),
        }
    }

    fn reject_new(&self, record: &Record) -> Option<Rejection> {
        if self.draining.load(Ordering::Acquire) {
            return Some(Rejection::Draining);
        }
        self.limits.check_values(&record.values).err().map(Into::into)
    }

    /// Returns the live record with this id. A dead one is removed, so that the id is free.
    fn occupied(&self, id: RecordId, slot: &Arc<Slot>, now: Timestamp) -> Option<Arc<Record>> {
        let content = slot.lock();
        let there = slot.live(&content).cloned();
        let cause = match &there {
            Some(record) if !record.is_expired(now) => return there,
            Some(_) => EndReason::Expired,
            None => EndReason::Evicted,
        };
        self.end(id, slot, content, cause);
        None
    }

    /// Inserts a new record. Returns `None` if another create took the id.
    fn place(&self, new: &New, now: Timestamp) -> Option<Outcome> {
        if let Some(rejection) = &new.rejection {
            return Some(Outcome::Rejected(rejection.clone()));
        }
        let mut applied = Applied::at(new.version);
        let Some(principal) = &new.principal else {
            return self.insert(new).map(|_| Outcome::Applied(applied));
        };
        let mut lists = self.index.lock(principal);
        if lists.is_below_floor(principal, new.policy.epoch, now) {
            return Some(Outcome::Rejected(Rejection::StaleEpoch));
        }
        if is_full(&mut lists, principal, new.id, new.policy, now) {
            return Some(Outcome::Rejected(Rejection::AtCap));
        }
        let content = self.insert(new)?;
        let listed = lists.add(principal, new.rank, &new.slot, new.deadline);
        drop(content);
        if listed > new.policy.cap {
            applied.ended = self.enforce_cap(lists, principal, new.rank, new.policy.cap, now);
        }
        Some(Outcome::Applied(applied))
    }

    /// Inserts a slot unless its id is taken. The lock stays held until the deadline is queued and
    /// the session is listed, so that no other thread ends the record before.
    fn insert<'n>(&self, new: &'n New) -> Option<Locked<'n>> {
        let mut content = new.slot.lock();
        if !self.cache.add(new.id, &new.slot) {
            return None;
        }
        content.due = self.expiry.insert(new.id, new.deadline);
        Some(content)
    }

    /// Applies a patch that leaves the index unchanged.
    fn patch(
        &self,
        id: RecordId,
        slot: &Arc<Slot>,
        patch: &Patch,
        now: Timestamp,
    ) -> Result<Applied, ApplyError> {
        let mut content = slot.lock();
        let record = slot.live(&content).ok_or(ApplyError::Gone)?;
        let before = Before::of(record);
        let patched = record.apply(patch, now, &self.limits)?;
        Ok(self.swap(id, slot, &mut content, before, patched))
    }

    /// Applies a patch that assigns the record to a principal. The principal's lock is held from
    /// the check of the minimum epoch until the cap is enforced: otherwise a concurrent revocation
    /// could miss this session, or two logins could exceed the cap.
    fn login(
        &self,
        id: RecordId,
        slot: &Arc<Slot>,
        patch: &Patch,
        login: &Login<'_>,
        now: Timestamp,
    ) -> Result<Applied, ApplyError> {
        let mut lists = self.index.lock(login.principal);
        let is_full = is_full(&mut lists, login.principal, id, login.policy, now);
        let mut content = slot.lock();
        let record = slot.live(&content).ok_or(ApplyError::Gone)?;
        let (before, left) = (Before::of(record), record.principal.clone());
        let (was_sent_twice, left_rank) = (record.secret == login.hash, Rank::of(id, record));
        let patched = record.apply(patch, now, &self.limits)?;
        // The login was sent again. It was admitted the first time and must not be checked twice.
        if was_sent_twice {
            return Ok(Applied::at(before.version));
        }
        if lists.is_below_floor(login.principal, login.policy.epoch, now) {
            return Err(ApplyError::Rejected(Rejection::StaleEpoch));
        }
        if is_full {
            return Err(ApplyError::Rejected(Rejection::AtCap));
        }
        if !self.cache.promote(id, slot) {
            return Err(ApplyError::Gone);
        }
        let (rank, deadline) = (Rank::of(id, &patched.record), patched.record.deadline());
        if let Some(left) = &left {
            self.index.leave(left, left_rank, slot);
        }
        let mut applied = self.swap(id, slot, &mut content, before, patched);
        let listed = lists.add(login.principal, rank, slot, deadline);
        drop(content);
        let cap = login.policy.cap;
        if listed > cap {
            applied.ended = self.enforce_cap(lists, login.principal, rank, cap, now);
        } else {
            // `unlist` takes the same lock.
            drop(lists);
        }
        self.unlist(left.as_ref().filter(|left| *left != login.principal));
        Ok(applied)
    }

    /// Applies a patch that authenticates the record's principal, if it has one. The session moves
    /// to the end of the list.
    fn authenticate(
        &self,
        id: RecordId,
        slot: &Arc<Slot>,
        patch: &Patch,
        now: Timestamp,
    ) -> Result<Applied, ApplyError> {
        let record = slot.live(&slot.lock()).cloned().ok_or(ApplyError::Gone)?;
        let Some(principal) = &record.principal else {
            return self.patch(id, slot, patch, now);
        };
        let mut lists = self.index.lock(principal);
        let mut content = slot.lock();
        let record = slot.live(&content).ok_or(ApplyError::Gone)?;
        let (before, left) = (Before::of(record), Rank::of(id, record));
        let patched = record.apply(patch, now, &self.limits)?;
        let (rank, deadline) = (Rank::of(id, &patched.record), patched.record.deadline());
        let applied = self.swap(id, slot, &mut content, before, patched);
        // If another login had changed the principal since the lookup, it would have replaced the
        // secret that the patch proves, and `apply` would have failed. An eviction is still
        // possible: it does not wait for the slot's lock. It removes the new rank later, so the old
        // one goes now in any case.
        self.index.leave(principal, left, slot);
        if slot.owned(&content, principal).is_some() {
            lists.add(principal, rank, slot, deadline);
        }
        Ok(applied)
    }

    fn swap(
        &self,
        id: RecordId,
        slot: &Arc<Slot>,
        content: &mut Content,
        before: Before,
        patched: Patched,
    ) -> Applied {
        let (version, sign_in) = (patched.record.version, patched.record.sign_in);
        if slot.replace(content, patched.record) {
            self.cache.weigh(id, slot);
        }
        if sign_in != before.sign_in {
            self.changes.send(Change::SignedIn(id, version));
        } else if version != before.version {
            self.changes.send(Change::Patched(id, version));
        }
        Applied { counters: patched.counters, ..Applied::at(version) }
    }

    /// Ends the oldest sessions of a principal until at most `cap` are left. The session `newest`
    /// is kept whatever its age.
    fn enforce_cap(
        &self,
        mut lists: Lists<'_>,
        principal: &Principal,
        newest: Rank,
        cap: usize,
        now: Timestamp,
    ) -> Vec<RecordId> {
        let cap = cap.max(1);
        // Sessions that were evicted, perhaps to make room for this login, or that expired do not
        // count.
        let evicted = self.retire_evicted();
        lists.settle();
        lists.drop_expired(principal, now);
        let mut ended = Vec::new();
        while lists.count(principal) > cap
            && let Some((oldest, slot)) = lists.oldest_but(principal, newest)
        {
            if self.expel(oldest.id, &slot, principal) {
                ended.push(oldest.id);
                lists.settle();
            } else {
                lists.remove(principal, oldest, &slot);
            }
        }
        drop(lists);
        self.tidy(&evicted);
        ended
    }

    /// Ends a session, unless it left the principal or ended already.
    fn expel(&self, id: RecordId, slot: &Arc<Slot>, principal: &Principal) -> bool {
        let mut content = slot.lock();
        let is_owned = slot.owned(&content, principal).is_some();
        is_owned && self.retire(id, slot, &mut content, EndReason::Cap).is_some()
    }

    /// Ends a record. Returns whether this call did. Call it without holding a lock of the index.
    fn end(
        &self,
        id: RecordId,
        slot: &Arc<Slot>,
        mut content: Locked<'_>,
        reason: EndReason,
    ) -> bool {
        let Some(record) = self.retire(id, slot, &mut content, reason) else {
            return false;
        };
        // The index is locked before a slot, so the slot must be released first.
        drop(content);
        self.unlist(record.principal.as_ref());
        match reason {
            EndReason::Expired => Event::Expired.emit(Some(id)),
            EndReason::Evicted => Event::Capacity.emit(Some(id)),
            _ => {}
        }
        true
    }

    /// Ends a record and queues it to be removed from the index.
    fn retire(
        &self,
        id: RecordId,
        slot: &Arc<Slot>,
        content: &mut Content,
        reason: EndReason,
    ) -> Option<Arc<Record>> {
        let record = Slot::empty(content)?;
        if let Some(principal) = &record.principal {
            self.index.leave(principal, Rank::of(id, &record), slot);
        }
        self.expiry.remove(id, content.due);
        self.cache.remove(id, slot);
        self.changes.send(Change::Ended(id, reason));
        if Ending::is_kept(reason) {
            self.endings.keep(|| self.ending(id, &record, reason));
        }
        Some(record)
    }

    fn ending(&self, id: RecordId, record: &Record, reason: EndReason) -> Ending {
        let at = match reason {
            EndReason::Expired => record.deadline(),
            _ => self.env.now(),
        };
        Ending { id, principal: record.principal.clone(), reason, at }
    }

    /// Removes the sessions that have left from a principal's list. Call it without holding a lock.
    fn unlist(&self, principal: Option<&Principal>) {
        if let Some(principal) = principal {
            drop(self.index.lock(principal));
        }
    }
}

/// A record to create.
struct New {
    id: RecordId,
    version: Version,
    rank: Rank,
    deadline: Timestamp,
    principal: Option<Principal>,
    policy: LoginPolicy,
    rejection: Option<Rejection>,
    slot: Arc<Slot>,
}

/// The terms of a login.
struct Login<'p> {
    hash: SecretHash,
    principal: &'p Principal,
    policy: LoginPolicy,
}

impl<'p> Login<'p> {
    fn of(patch: &'p Patch) -> Option<Self> {
        let rotation = patch.rotation()?;
        let authentication = rotation.authentication.as_ref()?;
        Some(Self {
            hash: rotation.hash,
            principal: authentication.principal.as_ref()?,
            policy: authentication.policy,
        })
    }
}

/// The state of a record that a patch may have changed.
#[derive(Clone, Copy)]
struct Before {
    version: Version,
    sign_in: u64,
}

impl Before {
    fn of(record: &Record) -> Self {
        Self { version: record.version, sign_in: record.sign_in }
    }
}

/// Returns true if a login is refused because the principal's other sessions reach the cap. Call it
/// without holding the lock of a slot.
fn is_full(
    lists: &mut Lists<'_>,
    principal: &Principal,
    id: RecordId,
    policy: LoginPolicy,
    now: Timestamp,
) -> bool {
    if !policy.refuses(lists.count(principal)) {
        return false;
    }
    lists.drop_expired(principal, now);
    let mut others = 0;
    lists.for_each(principal, |rank, _| others += usize::from(rank.id != id));
    policy.refuses(others)
}

/// Returns true if the patch authenticates a user.
fn is_authentication(patch: &Patch) -> bool {
    patch.rotation().is_some_and(|rotation| rotation.authentication.is_some())
}

/// The number of due records that a call checks besides its own work. It exceeds the one record
/// that a call can add, and takes microseconds.
const SWEPT_AT_ONCE: usize = 32;
