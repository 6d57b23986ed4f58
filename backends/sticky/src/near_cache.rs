//! The near cache: local copies of the backup's records. An ended session never returns to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::policy::EvictionPolicy;
use moka::sync::{Cache, CacheBuilder};
use steadfast_core::{
    Limits, Owner, Patch, Principal, Record, RecordId, RouteLabel, Timestamp, Version,
};
use tokio::time::Instant;

use crate::principals::Principals;

/// Copies of records by id. When the cache is full, the least recently used ones are evicted.
///
/// A change to the copy of an id holds the *stripe* of that id. A stripe counts the events of its
/// records. If an event occurs during a read of the backup, the read is answered but not cached:
/// its result may be older than the event.
#[derive(Debug)]
pub(crate) struct NearCache {
    cache: Cache<RecordId, Arc<LocalCopy>>,
    stripes: Box<[Mutex<Stripe>]>,
    principals: Arc<Principals>,
    /// The number of times that all sessions of any principal were ended.
    ends: AtomicU64,
}

/// The events of the records in a stripe.
#[derive(Debug, Default)]
struct Stripe {
    events: u64,
    /// The last event, if it reported a new version.
    last: Option<(RecordId, Version)>,
}

/// A copy of a record. It is replaced as a whole, under its stripe.
#[derive(Debug)]
pub(crate) struct LocalCopy {
    pub(crate) record: Arc<Record>,
    /// The start of the read or write that confirmed the copy. The answer is at least as new as its
    /// start, not its end.
    pub(crate) checked: Instant,
    /// The latest version that the feed reported.
    known: AtomicU64,
}

/// The state of the cache at the start of a read or write of the backup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadEpoch {
    at: Instant,
    events: u64,
    ends: u64,
}

impl NearCache {
    /// Creates a cache for this many bytes of records.
    pub(crate) fn new(bytes: u64) -> Self {
        let principals = Arc::new(Principals::new());
        let gone = Arc::clone(&principals);
        let cache = CacheBuilder::new(bytes)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_, copy: &Arc<LocalCopy>| copy.weight())
            .eviction_listener(move |id, copy, _| gone.remove(*id, &copy))
            .build();
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { cache, stripes, principals, ends: AtomicU64::new(0) }
    }

    pub(crate) fn find(&self, id: RecordId) -> Option<Arc<LocalCopy>> {
        self.cache.get(&id)
    }

    /// Must be called before a read or write of the backup whose result is to be cached.
    pub(crate) fn read_epoch(&self, id: RecordId, at: Instant) -> ReadEpoch {
        ReadEpoch { at, events: self.stripe(id).events, ends: self.ends.load(Ordering::Acquire) }
    }

    /// Caches the result of a read, unless an event since its start may be missing from it.
    pub(crate) fn fill(&self, id: RecordId, epoch: ReadEpoch, record: &Arc<Record>) {
        let stripe = self.stripe(id);
        let shows = |(told, version)| told == id && version <= record.version;
        let is_current = match stripe.events - epoch.events {
            0 => true,
            1 => stripe.last.is_some_and(shows),
            _ => false,
        };
        if is_current && self.is_latest(epoch) {
            self.put(id, record, epoch.at, Version(0));
        }
    }

    /// Applies a patch to the copy after the backup applied it with this resulting version. A copy
    /// that does not arrive at the same version is dropped, and so is one whose session may have
    /// ended since.
    pub(crate) fn advance(
        &self,
        id: RecordId,
        epoch: ReadEpoch,
        patch: &Patch,
        version: Version,
        (now, limits): (Timestamp, &Limits),
    ) {
        let mut stripe = self.stripe(id);
        stripe.happens();
        let Some(copy) = self.cache.get(&id) else { return };
        match copy.record.apply(patch, now, limits) {
            Ok(patched) if patched.record.version == version && self.is_latest(epoch) => {
                self.put(id, &Arc::new(patched.record), epoch.at, copy.known());
            }
            _ => self.cache.invalidate(&id),
        }
    }

    /// Replaces a copy with a version that the backup does not have yet. In one step, it checks
    /// that `from` is still the current copy and that `may` agrees.
    pub(crate) fn advance_locally<T>(
        &self,
        id: RecordId,
        from: &Arc<LocalCopy>,
        record: Record,
        may: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let mut stripe = self.stripe(id);
        self.cache.get(&id).filter(|there| Arc::ptr_eq(there, from))?;
        let answer = may()?;
        stripe.happens();
        self.put(id, &Arc::new(record), from.checked, from.known());
        Some(answer)
    }

    /// Records that the backup has this version. An older copy stops answering.
    pub(crate) fn heard(&self, id: RecordId, version: Version) {
        let mut stripe = self.stripe(id);
        stripe.happens();
        stripe.last = Some((id, version));
        if let Some(copy) = self.cache.get(&id) {
            copy.known.fetch_max(version.0, Ordering::AcqRel);
        }
    }

    /// Drops a copy, and prevents reads in progress from caching theirs.
    pub(crate) fn forget(&self, id: RecordId) {
        let mut stripe = self.stripe(id);
        stripe.happens();
        self.cache.invalidate(&id);
    }

    /// Drops the copies of a principal's sessions. It also stops all operations in progress from
    /// caching: one of them may be a login that the backup ended along with the others.
    pub(crate) fn forget_all(&self, principal: &Principal) {
        self.ends.fetch_add(1, Ordering::AcqRel);
        // Operations that compared the count before the increment hold their stripe until their
        // copy is cached and listed. Taking each stripe once waits for them.
        for stripe in &self.stripes {
            drop(stripe.lock());
        }
        for id in self.principals.sessions_of(principal) {
            self.forget(id);
        }
    }

    /// Returns the number of copies.
    pub(crate) fn count(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }

    /// Returns the records that a node with this label owns, according to the copies.
    pub(crate) fn owned_by(&self, label: &RouteLabel) -> Vec<RecordId> {
        let is_owner = |owner: &Owner| owner.label == *label;
        let is_owned = |copy: &LocalCopy| {
            copy.is_latest() && copy.record.owner.as_deref().is_some_and(is_owner)
        };
        let owned = self.cache.iter().filter(|(_, copy)| is_owned(copy));
        owned.map(|(id, _)| *id).collect()
    }

    /// Returns true if no principal's sessions were ended since.
    fn is_latest(&self, epoch: ReadEpoch) -> bool {
        self.ends.load(Ordering::Acquire) == epoch.ends
    }

    fn put(&self, id: RecordId, record: &Arc<Record>, checked: Instant, known: Version) {
        let copy =
            LocalCopy { record: Arc::clone(record), checked, known: AtomicU64::new(known.0) };
        let copy = Arc::new(copy);
        // List the copy before caching it: the cache may evict it immediately, and the eviction
        // must find the entry.
        self.principals.insert(id, &copy);
        self.cache.insert(id, copy);
    }

    fn stripe(&self, id: RecordId) -> MutexGuard<'_, Stripe> {
        let [.., high, low] = *id.as_bytes();
        let stripe = usize::from(u16::from_be_bytes([high, low])) % self.stripes.len();
        self.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stripe {
    fn happens(&mut self) {
        self.events += 1;
        self.last = None;
    }
}

impl LocalCopy {
    /// Returns true if the feed reported no later version.
    pub(crate) fn is_latest(&self) -> bool {
        self.record.version >= self.known()
    }

    fn known(&self) -> Version {
        Version(self.known.load(Ordering::Acquire))
    }

    /// Returns the bytes of memory of the copy, including bookkeeping.
    fn weight(&self) -> u32 {
        let own = self.record.values.packed_len() + self.record.facts.as_bytes().len();
        let bytes = BOOKKEEPING + size_of::<Record>() + own;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// The bytes that moka needs per copy, including the allocator's share.
const BOOKKEEPING: usize = 300;

/// Enough stripes that an event of a busy feed rarely affects a read of another record.
const STRIPES: usize = 1_024;

#[cfg(test)]
mod tests {
    use steadfast_core::{KeyId, SecretHash};

    use super::*;

    /// Shows RC-11.
    #[test]
    fn a_read_older_than_an_end_is_dropped() {
        let copies = NearCache::new(1 << 20);
        let epoch = copies.read_epoch(ID, Instant::now());
        copies.forget(ID);
        copies.fill(ID, epoch, &record(1));
        assert!(copies.find(ID).is_none());
    }

    #[test]
    fn a_read_that_predates_a_change_is_discarded() {
        let copies = NearCache::new(1 << 20);
        let epoch = copies.read_epoch(ID, Instant::now());
        copies.heard(ID, Version(2));
        copies.fill(ID, epoch, &record(1));
        assert!(copies.find(ID).is_none());
    }

    #[test]
    fn a_copy_below_the_reported_version_is_stale() {
        let copies = filled(1);
        copies.heard(ID, Version(1));
        assert!(copies.find(ID).unwrap().is_latest());
        copies.heard(ID, Version(2));
        assert!(!copies.find(ID).unwrap().is_latest());
    }

    #[test]
    fn a_copy_only_follows_patches_to_its_version() {
        let mut patch = Patch::new();
        patch.put("n", 1.into()).unwrap();
        for (version, follows) in [(2, true), (3, false)] {
            let (copies, at) = (filled(1), (Timestamp::UNIX_EPOCH, &Limits::default()));
            let epoch = copies.read_epoch(ID, Instant::now());
            copies.heard(ID, Version(version));
            copies.advance(ID, epoch, &patch, Version(version), at);
            let copy = copies.find(ID);
            assert_eq!(copy.is_some_and(|copy| copy.is_latest()), follows, "{version}");
        }
    }

    #[test]
    fn ending_a_principals_sessions_keeps_all_others() {
        let [alice, bob] = ["alice", "bob"].map(principal);
        let copies = NearCache::new(1 << 20);
        for (n, whose) in [(1, &alice), (2, &bob), (3, &alice)] {
            let id = RecordId::from_bytes([n; 16]);
            copies.fill(id, copies.read_epoch(id, Instant::now()), &record_of(whose));
        }
        copies.forget_all(&alice);
        let is_there = |n| copies.find(RecordId::from_bytes([n; 16])).is_some();
        assert_eq!([1, 2, 3].map(is_there), [false, true, false]);
        assert_eq!([&alice, &bob].map(|whose| copies.principals.sessions_of(whose).len()), [0, 1]);
    }

    #[test]
    fn a_session_that_changed_hands_is_listed_once() {
        let [alice, bob] = ["alice", "bob"].map(principal);
        let copies = NearCache::new(1 << 20);
        for whose in [&alice, &alice, &bob] {
            copies.fill(ID, copies.read_epoch(ID, Instant::now()), &record_of(whose));
        }
        assert_eq!([&alice, &bob].map(|whose| copies.principals.sessions_of(whose).len()), [0, 1]);
    }

    #[test]
    fn copies_that_gave_way_are_listed_no_more() {
        let alice = principal("alice");
        let copies = NearCache::new(10_000);
        for n in 0..200 {
            let id = RecordId::from_bytes([n; 16]);
            copies.fill(id, copies.read_epoch(id, Instant::now()), &record_of(&alice));
        }
        let count = copies.count();
        let listed = copies.principals.sessions_of(&alice).len() as u64;
        assert_eq!(listed, count);
        assert!((1..40).contains(&listed), "{listed}");
    }

    #[test]
    fn a_read_during_a_revocation_is_not_cached() {
        let alice = principal("alice");
        let (copies, at) = (filled(1), (Timestamp::UNIX_EPOCH, &Limits::default()));
        let epoch = copies.read_epoch(ID, Instant::now());
        copies.forget_all(&alice);
        copies.advance(ID, epoch, &Patch::new(), Version(1), at);
        assert!(copies.find(ID).is_none());
        copies.fill(ID, epoch, &record(1));
        assert!(copies.find(ID).is_none());
    }

    fn filled(version: u64) -> NearCache {
        let copies = NearCache::new(1 << 20);
        copies.fill(ID, copies.read_epoch(ID, Instant::now()), &record(version));
        copies
    }

    fn record(version: u64) -> Arc<Record> {
        let hash = SecretHash::from_parts(KeyId::NONE, [0; 32]);
        let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        Arc::new(Record { version: Version(version), ..Record::new(hash, start, end, end) })
    }

    fn record_of(principal: &Principal) -> Arc<Record> {
        let record = Record { principal: Some(principal.clone()), ..record(1).as_ref().clone() };
        Arc::new(record)
    }

    fn principal(id: &str) -> Principal {
        Principal::new(steadfast_core::Realm::default(), id).unwrap()
    }

    const ID: RecordId = RecordId::from_bytes([7; 16]);
}
