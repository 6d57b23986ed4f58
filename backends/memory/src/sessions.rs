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
use crate::index::{Index, Listed, Shard};
use crate::shelf::Shelf;
use crate::slot::{Content, Locked, Slot};
use crate::sync::atomic::{AtomicBool, Ordering};

/// Everything a store shares with its clones.
///
/// Locks are taken in this order: a shard of the index, one slot, a leaf (a board of the shelf, the
/// queue of deadlines, the channel of changes). No two shards and no two slots at once.
pub(crate) struct Sessions {
    pub(crate) env: Env,
    pub(crate) limits: Limits,
    pub(crate) shelf: Shelf,
    pub(crate) changes: Changes,
    index: Index,
    expiry: Expiry,
    draining: AtomicBool,
}

impl Sessions {
    pub(crate) fn new(env: Env, limits: Limits, shelf: Shelf) -> Self {
        Self {
            env,
            limits,
            shelf,
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
            deadline: record.deadline(),
            principal: record.principal.clone(),
            admission,
            rejection: self.reject_new(&record),
            slot: Arc::new(Slot::new(record)),
        };
        // A fresh id is free, and a visitor's record asks nothing of an index: that is tried first.
        let is_plain = new.rejection.is_none() && new.principal.is_none();
        if is_plain && self.put_up(&new) {
            return Outcome::Applied(Applied::at(new.version));
        }
        // Another create of this id may come between the look and the place.
        loop {
            let occupant = self.shelf.find(id);
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
        self.bury_evicted();
        let Some(slot) = self.shelf.find(id) else {
            return Ok(Outcome::Gone);
        };
        let applied = match Login::of(patch) {
            Some(login) => self.login(id, &slot, patch, &login, now),
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
        let Some(slot) = self.shelf.find(id) else {
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
        let sessions = live_sessions(&mut self.index.lock(principal), principal, now);
        sessions.iter().map(|(listed, record)| SessionInfo::of(listed.id, record)).collect()
    }

    pub(crate) fn delete_all(
        &self,
        principal: &Principal,
        Revocation { except, epoch, reason }: Revocation,
    ) -> u64 {
        let now = self.begin();
        let (mut ended, mut expired) = (0, Vec::new());
        let mut shard = self.index.lock(principal);
        if let Some(epoch) = epoch {
            shard.raise_floor(principal, epoch, now);
        }
        shard.retain(principal, |listed| {
            if Some(listed.id) == except {
                return true;
            }
            let mut content = listed.slot.lock();
            if let Some(record) = listed.slot.owned(&content, principal) {
                let is_live = !record.is_expired(now);
                let reason = if is_live { reason } else { EndReason::Expired };
                match is_live {
                    true => ended += 1,
                    false => expired.push(listed.id),
                }
                self.retire(listed.id, &listed.slot, &mut content, reason);
            }
            false
        });
        drop(shard);
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
        self.bury_evicted();
        expired
    }

    /// A page of records, in the order of their ids.
    pub(crate) fn scan(&self, after: Option<RecordId>, limit: usize) -> Scan {
        let mut page = BTreeMap::new();
        let mut next = None;
        for (id, slot) in self.shelf.iter().filter(|(id, _)| Some(*id) > after) {
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
        let shelf = self.shelf.iter().next().is_none();
        shelf && self.expiry.len() == 0 && self.index.is_empty()
    }

    /// The time of a call, after its share of the housekeeping.
    fn begin(&self) -> Timestamp {
        let now = self.env.now();
        self.tend(now);
        now
    }

    /// A little housekeeping, which every call does before it takes a lock or after it gave it back.
    fn tend(&self, now: Timestamp) {
        self.bury_evicted();
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
            let Some(slot) = self.shelf.find(id) else {
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
    pub(crate) fn bury_evicted(&self) {
        loop {
            let evicted = self.shelf.take_evicted();
            if evicted.is_empty() {
                return;
            }
            for (id, slot) in evicted {
                self.end(id, &slot, slot.lock(), EndReason::Evicted);
            }
        }
    }

    fn look_up(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        now: Timestamp,
    ) -> Result<Lookup, StoreError> {
        let Some(slot) = self.shelf.find(id) else {
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
            return self.put_up(new).then_some(Outcome::Applied(applied));
        };
        let mut shard = self.index.lock(principal);
        if shard.is_below_floor(principal, new.admission.epoch, now) {
            return Some(Outcome::Rejected(Rejection::BelowFloor));
        }
        if !self.put_up(new) {
            return None;
        }
        shard.add(principal, new.id, &new.slot);
        applied.ended = self.enforce_cap(&mut shard, principal, new.id, new.admission.cap, now);
        Some(Outcome::Applied(applied))
    }

    /// The slot's lock is held until its deadline is queued, so that nobody ends it before.
    fn put_up(&self, new: &New) -> bool {
        let mut content = new.slot.lock();
        let added = self.shelf.add(new.id, &new.slot);
        if added {
            content.due = self.expiry.insert(new.id, new.deadline);
        }
        added
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
        let mut shard = self.index.lock(login.principal);
        let mut content = slot.lock();
        let record = slot.live(&content).ok_or(Refusal::Gone)?;
        let (before, left) = (Before::of(record), record.principal.clone());
        let was_sent_twice = record.secret == login.hash;
        let patched = record.apply(patch, now, &self.limits)?;
        // It was admitted the first time.
        if was_sent_twice {
            return Ok(Applied::at(before.version));
        }
        if shard.is_below_floor(login.principal, login.admission.epoch, now) {
            return Err(Refusal::Rejected(Rejection::BelowFloor));
        }
        if !self.shelf.promote(id, slot) {
            return Err(Refusal::Gone);
        }
        let mut applied = self.swap(id, slot, &mut content, before, patched);
        shard.add(login.principal, id, slot);
        drop(content);
        applied.ended = self.enforce_cap(&mut shard, login.principal, id, login.admission.cap, now);
        drop(shard);
        if let Some(left) = left.filter(|left| left != login.principal) {
            self.unlist(&left, slot);
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
            self.shelf.weigh(id, slot);
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
        shard: &mut Shard,
        principal: &Principal,
        newest: RecordId,
        cap: usize,
        now: Timestamp,
    ) -> Vec<RecordId> {
        if shard.sessions(principal).len() <= cap.max(1) {
            return Vec::new();
        }
        let mut others = live_sessions(shard, principal, now);
        others.retain(|(listed, _)| listed.id != newest);
        others.sort_by_key(|(_, record)| record.authenticated);
        let excess = (others.len() + 1).saturating_sub(cap.max(1));
        let ended = others
            .iter()
            .take(excess)
            .filter_map(|(listed, _)| self.expel(listed, principal))
            .collect();
        shard.retain(principal, |listed| is_owned(listed, principal));
        ended
    }

    /// Ends a session, unless it left the principal or ended by itself.
    fn expel(&self, listed: &Listed, principal: &Principal) -> Option<RecordId> {
        let mut content = listed.slot.lock();
        listed.slot.owned(&content, principal)?;
        self.retire(listed.id, &listed.slot, &mut content, EndReason::Cap);
        Some(listed.id)
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
        if let Some(principal) = &record.principal {
            self.unlist(principal, slot);
        }
        match reason {
            EndReason::Expired => Event::Expired.emit(Some(id)),
            EndReason::Evicted => Event::Capacity.emit(Some(id)),
            _ => {}
        }
        true
    }

    /// Ends a record everywhere but in the index.
    fn retire(
        &self,
        id: RecordId,
        slot: &Arc<Slot>,
        content: &mut Content,
        reason: EndReason,
    ) -> Option<Arc<Record>> {
        let record = Slot::empty(content)?;
        self.expiry.remove(id, content.due);
        self.shelf.remove(id, slot);
        self.changes.send(Change::Ended(id, reason));
        Some(record)
    }

    /// Takes a session off a principal's list, unless it is the principal's again by now.
    fn unlist(&self, principal: &Principal, slot: &Arc<Slot>) {
        self.index.lock(principal).retain(principal, |listed| {
            !Arc::ptr_eq(&listed.slot, slot) || is_owned(listed, principal)
        });
    }
}

/// A record to create.
struct New {
    id: RecordId,
    version: Version,
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

/// The live sessions of a principal. What the list has too many is dropped from it.
fn live_sessions(
    shard: &mut Shard,
    principal: &Principal,
    now: Timestamp,
) -> Vec<(Listed, Arc<Record>)> {
    let mut live = Vec::new();
    shard.retain(principal, |listed| {
        let content = listed.slot.lock();
        let owned = listed.slot.owned(&content, principal);
        if let Some(record) = owned.filter(|record| !record.is_expired(now)) {
            live.push((listed.clone(), Arc::clone(record)));
        }
        // One that expired stays listed until it is swept, which takes it off.
        owned.is_some()
    });
    live
}

fn is_owned(listed: &Listed, principal: &Principal) -> bool {
    listed.slot.owned(&listed.slot.lock(), principal).is_some()
}

/// How many due records a call looks at beside its own work: enough to keep up with one new record
/// per call, and done in microseconds.
const SWEPT_AT_ONCE: usize = 32;
