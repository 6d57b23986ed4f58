//! What the store does: every operation, from its first lock to its last.

use std::collections::BTreeMap;
use std::sync::Arc;

use steadfast_core::{
    Absence, Admission, Applied, Carry, Change, Deleted, Deletion, EndReason, Env, Event, Found,
    Limits, Lookup, Outcome, Patch, Patched, Principal, Proof, Record, RecordId, Refusal,
    Rejection, Revocation, Scan, Scanned, SecretHash, SessionInfo, StoreError, Timestamp, Verdict,
    Version,
};

use crate::changes::Changes;
use crate::expiry::Expiry;
use crate::index::{Index, Lists};
use crate::list::Rank;
use crate::lru_cache::ShardedLru;
use crate::slot::{Content, Locked, Slot};
use crate::sync::atomic::{AtomicBool, Ordering};

/// Everything a store shares with its clones.
///
/// Locks are taken in this order: a shard of the index, one slot, a leaf (a board of the cache, the
/// queue of deadlines, what is to leave the index, the channel of changes). No two shards and no two
/// slots at once.
pub(crate) struct Sessions {
    pub(crate) env: Env,
    pub(crate) limits: Limits,
    pub(crate) cache: ShardedLru,
    pub(crate) changes: Changes,
    index: Index,
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
            index: Index::new(),
            expiry: Expiry::new(),
            draining: AtomicBool::new(false),
        }
    }

    pub(crate) fn create(&self, id: RecordId, record: Record, admission: Admission) -> Outcome {
        let now = self.begin();
        let hash = record.secret;
        let new = New {
            id,
            version: record.version,
            rank: Rank::of(id, &record),
            deadline: record.deadline(),
            principal: record.principal.clone(),
            admission,
            rejection: self.reject_new(&record),
            slot: Arc::new(Slot::new(record)),
        };
        // A fresh id is free, and a visitor's record asks nothing of an index: that is tried first.
        let is_plain = new.rejection.is_none() && new.principal.is_none();
        if is_plain && self.insert(&new).is_some() {
            return Outcome::Applied(Applied::at(new.version));
        }
        // Another create of this id may come between the look and the place.
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

    /// Sweeps last, so that the holder of a record that expired is told so.
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
        // One that expired stays for the load that asks why.
        if applied.is_ok() {
            self.tend(now);
        }
        applied.map_or_else(Refusal::answer, |applied| Ok(Outcome::Applied(applied)))
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
                let is_live = !record.is_expired(now);
                let reason = if is_live { reason } else { EndReason::Expired };
                match is_live {
                    true => ended += 1,
                    false => expired.push(id),
                }
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

    /// Ends every record that is due, and has all memory given back.
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

    /// A page of records, in the order of their ids.
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

    /// Whether it takes no new sessions.
    pub(crate) fn is_closed(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Takes no new sessions from now on.
    pub(crate) fn close(&self) {
        self.draining.store(true, Ordering::Release);
    }

    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.expiry.len()
    }

    /// Whether nothing is left of any record or floor.
    #[cfg(test)]
    pub(crate) fn is_spotless(&self) -> bool {
        let cache = self.cache.iter().next().is_none();
        cache && self.expiry.len() == 0 && self.index.is_empty()
    }

    /// The time of a call, after its share of the housekeeping.
    fn begin(&self) -> Timestamp {
        let now = self.env.now();
        self.tend(now);
        now
    }

    /// A little housekeeping, which every call does before it takes a lock or after it gave it back.
    fn tend(&self, now: Timestamp) {
        self.finish_evictions();
        if self.expiry.is_due(now) {
            self.sweep(now, SWEPT_AT_ONCE);
        }
    }

    /// Looks at no more than `limit` records that are queued as due; says at how many, and how many of
    /// them it ended.
    fn sweep(&self, now: Timestamp, limit: usize) -> (usize, u64) {
        let mut ended = 0;
        let due = self.expiry.take_due(now, limit);
        for &(due, id) in &due {
            // What is not there was evicted, and is buried by whoever finds it in that queue.
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

    /// Finishes what the budgets ended.
    pub(crate) fn finish_evictions(&self) {
        let evicted = self.retire_evicted();
        self.tidy(&evicted);
    }

    /// Ends what the budgets ended, all but in the index: the caller may have a part of it locked.
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

    /// Takes what was evicted off its lists, and tells of it. Call it without a lock.
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
                let (record, carry) = (Arc::clone(record), Carry::default());
                Ok(Lookup::Found(Found { id, record, carry }))
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

    /// The record that holds an id, if it is live; one that is not makes room.
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

    /// Puts a new record up; `None` if its id is taken after all.
    fn place(&self, new: &New, now: Timestamp) -> Option<Outcome> {
        if let Some(rejection) = &new.rejection {
            return Some(Outcome::Rejected(rejection.clone()));
        }
        let mut applied = Applied::at(new.version);
        let Some(principal) = &new.principal else {
            return self.insert(new).map(|_| Outcome::Applied(applied));
        };
        let mut lists = self.index.lock(principal);
        if lists.is_below_floor(principal, new.admission.epoch, now) {
            return Some(Outcome::Rejected(Rejection::BelowFloor));
        }
        if is_full(&mut lists, principal, new.id, new.admission, now) {
            return Some(Outcome::Rejected(Rejection::AtCap));
        }
        let content = self.insert(new)?;
        lists.add(principal, new.rank, &new.slot, new.deadline);
        drop(content);
        applied.ended = self.enforce_cap(lists, principal, new.rank, new.admission.cap, now);
        Some(Outcome::Applied(applied))
    }

    /// Puts a slot up, unless its id is taken. Its lock is held until its deadline is queued, and it is
    /// listed, so that nothing ends it before.
    fn insert<'n>(&self, new: &'n New) -> Option<Locked<'n>> {
        let mut content = new.slot.lock();
        if !self.cache.add(new.id, &new.slot) {
            return None;
        }
        content.due = self.expiry.insert(new.id, new.deadline);
        Some(content)
    }

    /// A patch that changes nobody's list.
    fn patch(
        &self,
        id: RecordId,
        slot: &Arc<Slot>,
        patch: &Patch,
        now: Timestamp,
    ) -> Result<Applied, Refusal> {
        let mut content = slot.lock();
        let record = slot.live(&content).ok_or(Refusal::Gone)?;
        let before = Before::of(record);
        let patched = record.apply(patch, now, &self.limits)?;
        Ok(self.swap(id, slot, &mut content, before, patched))
    }

    /// A patch that gives the record to a principal: under the lock of the principal's list from the
    /// look at the floor to the last session that the cap ends.
    fn login(
        &self,
        id: RecordId,
        slot: &Arc<Slot>,
        patch: &Patch,
        login: &Login<'_>,
        now: Timestamp,
    ) -> Result<Applied, Refusal> {
        let mut lists = self.index.lock(login.principal);
        let is_full = is_full(&mut lists, login.principal, id, login.admission, now);
        let mut content = slot.lock();
        let record = slot.live(&content).ok_or(Refusal::Gone)?;
        let (before, left) = (Before::of(record), record.principal.clone());
        let (was_sent_twice, left_rank) = (record.secret == login.hash, Rank::of(id, record));
        let patched = record.apply(patch, now, &self.limits)?;
        // It was admitted the first time.
        if was_sent_twice {
            return Ok(Applied::at(before.version));
        }
        if lists.is_below_floor(login.principal, login.admission.epoch, now) {
            return Err(Refusal::Rejected(Rejection::BelowFloor));
        }
        if is_full {
            return Err(Refusal::Rejected(Rejection::AtCap));
        }
        if !self.cache.promote(id, slot) {
            return Err(Refusal::Gone);
        }
        let (rank, deadline) = (Rank::of(id, &patched.record), patched.record.deadline());
        if let Some(left) = &left {
            self.index.leave(left, left_rank, slot);
        }
        let mut applied = self.swap(id, slot, &mut content, before, patched);
        lists.add(login.principal, rank, slot, deadline);
        drop(content);
        applied.ended = self.enforce_cap(lists, login.principal, rank, login.admission.cap, now);
        self.unlist(left.as_ref().filter(|left| *left != login.principal));
        Ok(applied)
    }

    /// A patch that authenticates the principal whom the record has, if any: it moves up in their list.
    fn authenticate(
        &self,
        id: RecordId,
        slot: &Arc<Slot>,
        patch: &Patch,
        now: Timestamp,
    ) -> Result<Applied, Refusal> {
        let record = slot.live(&slot.lock()).cloned().ok_or(Refusal::Gone)?;
        let Some(principal) = &record.principal else {
            return self.patch(id, slot, patch, now);
        };
        let mut lists = self.index.lock(principal);
        let mut content = slot.lock();
        let record = slot.live(&content).ok_or(Refusal::Gone)?;
        let (before, left) = (Before::of(record), Rank::of(id, record));
        let patched = record.apply(patch, now, &self.limits)?;
        let (rank, deadline) = (Rank::of(id, &patched.record), patched.record.deadline());
        let applied = self.swap(id, slot, &mut content, before, patched);
        // Another login would have replaced the secret that the patch proves.
        if slot.owned(&content, principal).is_some() {
            self.index.leave(principal, left, slot);
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

    /// Ends the oldest sessions of a principal until there are no more than `cap`, the newest among
    /// them whatever its age.
    fn enforce_cap(
        &self,
        mut lists: Lists<'_>,
        principal: &Principal,
        newest: Rank,
        cap: usize,
        now: Timestamp,
    ) -> Vec<RecordId> {
        let cap = cap.max(1);
        if lists.count(principal) <= cap {
            return Vec::new();
        }
        // What a budget ended, perhaps for this login, and what expired counts no more.
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

    /// Ends a session, unless it left the principal or ended by itself.
    fn expel(&self, id: RecordId, slot: &Arc<Slot>, principal: &Principal) -> bool {
        let mut content = slot.lock();
        let is_owned = slot.owned(&content, principal).is_some();
        is_owned && self.retire(id, slot, &mut content, EndReason::Cap).is_some()
    }

    /// Ends a record, and says whether this call did. Call it without a lock of the index.
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
        // The index is locked before a slot, never after it.
        drop(content);
        self.unlist(record.principal.as_ref());
        match reason {
            EndReason::Expired => Event::Expired.emit(Some(id)),
            EndReason::Evicted => Event::Capacity.emit(Some(id)),
            _ => {}
        }
        true
    }

    /// Ends a record, which is to leave the index then.
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
        Some(record)
    }

    /// Takes what has left off a principal's list. Call it without a lock.
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
    admission: Admission,
    rejection: Option<Rejection>,
    slot: Arc<Slot>,
}

/// Who logs in, and on which terms.
struct Login<'p> {
    hash: SecretHash,
    principal: &'p Principal,
    admission: Admission,
}

impl<'p> Login<'p> {
    fn of(patch: &'p Patch) -> Option<Self> {
        let rotation = patch.rotation()?;
        let authentication = rotation.authentication.as_ref()?;
        Some(Self {
            hash: rotation.hash,
            principal: authentication.principal.as_ref()?,
            admission: authentication.admission,
        })
    }
}

/// What a patch may have changed of a record.
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

/// Whether a login is refused, because other sessions of the principal are as many as may be. Call it
/// without the lock of a slot.
fn is_full(
    lists: &mut Lists<'_>,
    principal: &Principal,
    id: RecordId,
    admission: Admission,
    now: Timestamp,
) -> bool {
    if !admission.refuses(lists.count(principal)) {
        return false;
    }
    lists.drop_expired(principal, now);
    let mut others = 0;
    lists.for_each(principal, |rank, _| others += usize::from(rank.id != id));
    admission.refuses(others)
}

/// Whether a patch authenticates anybody.
fn is_authentication(patch: &Patch) -> bool {
    patch.rotation().is_some_and(|rotation| rotation.authentication.is_some())
}

/// How many due records a call looks at beside its own work: enough to keep up with one new record
/// per call, and done in microseconds.
const SWEPT_AT_ONCE: usize = 32;
