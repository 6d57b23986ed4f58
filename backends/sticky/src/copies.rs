//! The local copies: a near cache of the backup, which nothing that ended comes back into.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::policy::EvictionPolicy;
use moka::sync::{Cache, CacheBuilder};
use steadfast_core::{
    Limits, Owner, Patch, Principal, Record, RecordId, RouteLabel, Timestamp, Version,
};
use tokio::time::Instant;

use crate::principals::Principals;

/// Copies of records, by id, the longest unused of which give way when there is no more room.
///
/// Whatever changes the copy of an id holds the *stripe* of that id. A stripe counts what happened to
/// its records: a read of the backup that began before something happened is answered, and not kept.
#[derive(Debug)]
pub(crate) struct Copies {
    cache: Cache<RecordId, Arc<LocalCopy>>,
    stripes: Box<[Mutex<Stripe>]>,
    principals: Arc<Principals>,
    /// How often all sessions of somebody ended, whichever those are.
    ends: AtomicU64,
}

/// What happened to the records of a stripe.
#[derive(Debug, Default)]
struct Stripe {
    events: u64,
    /// The last event, if it was the news of a version.
    last: Option<(RecordId, Version)>,
}

/// What this node knows of a record. It is replaced as a whole, under its stripe.
#[derive(Debug)]
pub(crate) struct LocalCopy {
    pub(crate) record: Arc<Record>,
    /// When the read or write began whose answer shows it to be what the backup has.
    pub(crate) checked: Instant,
    /// The latest version that the backup told of.
    known: AtomicU64,
}

/// The start of a read or a write of the backup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    at: Instant,
    events: u64,
    ends: u64,
}

impl Copies {
    /// Room for so many bytes of records.
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

    /// To be taken before a read or a write of the backup that a copy is to follow.
    pub(crate) fn ticket(&self, id: RecordId, at: Instant) -> Ticket {
        Ticket { at, events: self.stripe(id).events, ends: self.ends.load(Ordering::Acquire) }
    }

    /// Keeps what a read found, unless something happened since that it does not show.
    pub(crate) fn fill(&self, id: RecordId, ticket: Ticket, record: &Arc<Record>) {
        let stripe = self.stripe(id);
        let shows = |(told, version)| told == id && version <= record.version;
        let is_current = match stripe.events - ticket.events {
            0 => true,
            1 => stripe.last.is_some_and(shows),
            _ => false,
        };
        if is_current && self.is_latest(ticket) {
            self.put(id, record, ticket.at, Version(0));
        }
    }

    /// Follows a patch that the backup applied to become this version. A copy that does not lead there
    /// is given up, and so is one of a session that may have ended since.
    pub(crate) fn advance(
        &self,
        id: RecordId,
        ticket: Ticket,
        patch: &Patch,
        version: Version,
        (now, limits): (Timestamp, &Limits),
    ) {
        let mut stripe = self.stripe(id);
        stripe.happens();
        let Some(copy) = self.cache.get(&id) else { return };
        match copy.record.apply(patch, now, limits) {
            Ok(patched) if patched.record.version == version && self.is_latest(ticket) => {
                self.put(id, &Arc::new(patched.record), ticket.at, copy.known());
            }
            _ => self.cache.invalidate(&id),
        }
    }

    /// Replaces a copy by one that is ahead of the backup, if it is the one there and `may` says so, in
    /// one step.
    pub(crate) fn lead<T>(
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

    /// Takes note that the backup has a version: an earlier copy counts no more.
    pub(crate) fn heard(&self, id: RecordId, version: Version) {
        let mut stripe = self.stripe(id);
        stripe.happens();
        stripe.last = Some((id, version));
        if let Some(copy) = self.cache.get(&id) {
            copy.known.fetch_max(version.0, Ordering::AcqRel);
        }
    }

    /// Gives a copy up, and whatever reads of the backup are under way.
    pub(crate) fn forget(&self, id: RecordId) {
        let mut stripe = self.stripe(id);
        stripe.happens();
        self.cache.invalidate(&id);
    }

    /// Gives up the copies of a principal's sessions, and whatever is under way: it may make a session
    /// the principal's that the backup ended along with the others.
    pub(crate) fn forget_all(&self, principal: &Principal) {
        self.ends.fetch_add(1, Ordering::AcqRel);
        // Who saw the count before has put a copy there once its stripe is free.
        for stripe in &self.stripes {
            drop(stripe.lock());
        }
        for id in self.principals.sessions_of(principal) {
            self.forget(id);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }

    /// The records that a node with this label owns, as far as the copies know.
    pub(crate) fn owned_by(&self, label: &RouteLabel) -> Vec<RecordId> {
        let is_owner = |owner: &Owner| owner.label == *label;
        let is_owned = |copy: &LocalCopy| {
            copy.is_latest() && copy.record.owner.as_deref().is_some_and(is_owner)
        };
        let owned = self.cache.iter().filter(|(_, copy)| is_owned(copy));
        owned.map(|(id, _)| *id).collect()
    }

    /// Whether nobody's sessions ended since.
    fn is_latest(&self, ticket: Ticket) -> bool {
        self.ends.load(Ordering::Acquire) == ticket.ends
    }

    fn put(&self, id: RecordId, record: &Arc<Record>, checked: Instant, known: Version) {
        let copy =
            LocalCopy { record: Arc::clone(record), checked, known: AtomicU64::new(known.0) };
        let copy = Arc::new(copy);
        // Listed first: the cache may evict the copy as soon as it has it.
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
    /// Whether the backup told of no later version.
    pub(crate) fn is_latest(&self) -> bool {
        self.record.version >= self.known()
    }

    fn known(&self) -> Version {
        Version(self.known.load(Ordering::Acquire))
    }

    /// The bytes of memory it takes, with its share of the bookkeeping.
    fn weight(&self) -> u32 {
        let own = self.record.values.packed_len() + self.record.facts.as_bytes().len();
        let bytes = BOOKKEEPING + size_of::<Record>() + own;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// What moka keeps of a copy, with the allocator's share.
const BOOKKEEPING: usize = 300;

/// Enough that a busy feed rarely meets a read of another record.
const STRIPES: usize = 1_024;

#[cfg(test)]
mod tests {
    use steadfast_core::{KeyId, SecretHash};

    use super::*;

    #[test]
    fn rc_11_a_read_from_before_an_end_is_not_kept() {
        let copies = Copies::new(1 << 20);
        let ticket = copies.ticket(ID, Instant::now());
        copies.forget(ID);
        copies.fill(ID, ticket, &record(1));
        assert!(copies.find(ID).is_none());
    }

    #[test]
    fn a_read_from_before_a_change_is_not_kept() {
        let copies = Copies::new(1 << 20);
        let ticket = copies.ticket(ID, Instant::now());
        copies.heard(ID, Version(2));
        copies.fill(ID, ticket, &record(1));
        assert!(copies.find(ID).is_none());
    }

    #[test]
    fn a_copy_below_what_the_backup_told_of_counts_no_more() {
        let copies = filled(1);
        copies.heard(ID, Version(1));
        assert!(copies.find(ID).unwrap().is_latest());
        copies.heard(ID, Version(2));
        assert!(!copies.find(ID).unwrap().is_latest());
    }

    #[test]
    fn a_copy_follows_a_patch_that_leads_to_the_version_and_no_other() {
        let mut patch = Patch::new();
        patch.put("n", 1.into()).unwrap();
        for (version, follows) in [(2, true), (3, false)] {
            let (copies, at) = (filled(1), (Timestamp::UNIX_EPOCH, &Limits::default()));
            let ticket = copies.ticket(ID, Instant::now());
            copies.heard(ID, Version(version));
            copies.advance(ID, ticket, &patch, Version(version), at);
            let copy = copies.find(ID);
            assert_eq!(copy.is_some_and(|copy| copy.is_latest()), follows, "{version}");
        }
    }

    #[test]
    fn ending_the_sessions_of_one_principal_touches_no_other() {
        let [alice, bob] = ["alice", "bob"].map(principal);
        let copies = Copies::new(1 << 20);
        for (n, whose) in [(1, &alice), (2, &bob), (3, &alice)] {
            let id = RecordId::from_bytes([n; 16]);
            copies.fill(id, copies.ticket(id, Instant::now()), &record_of(whose));
        }
        copies.forget_all(&alice);
        let is_there = |n| copies.find(RecordId::from_bytes([n; 16])).is_some();
        assert_eq!([1, 2, 3].map(is_there), [false, true, false]);
        assert_eq!([&alice, &bob].map(|whose| copies.principals.sessions_of(whose).len()), [0, 1]);
    }

    #[test]
    fn a_session_that_changed_hands_is_listed_once() {
        let [alice, bob] = ["alice", "bob"].map(principal);
        let copies = Copies::new(1 << 20);
        for whose in [&alice, &alice, &bob] {
            copies.fill(ID, copies.ticket(ID, Instant::now()), &record_of(whose));
        }
        assert_eq!([&alice, &bob].map(|whose| copies.principals.sessions_of(whose).len()), [0, 1]);
    }

    #[test]
    fn copies_that_gave_way_are_listed_no_more() {
        let alice = principal("alice");
        let copies = Copies::new(10_000);
        for n in 0..200 {
            let id = RecordId::from_bytes([n; 16]);
            copies.fill(id, copies.ticket(id, Instant::now()), &record_of(&alice));
        }
        let count = copies.count();
        let listed = copies.principals.sessions_of(&alice).len() as u64;
        assert_eq!(listed, count);
        assert!((1..40).contains(&listed), "{listed}");
    }

    #[test]
    fn what_was_under_way_when_somebodys_sessions_ended_is_not_kept() {
        let alice = principal("alice");
        let (copies, at) = (filled(1), (Timestamp::UNIX_EPOCH, &Limits::default()));
        let ticket = copies.ticket(ID, Instant::now());
        copies.forget_all(&alice);
        copies.advance(ID, ticket, &Patch::new(), Version(1), at);
        assert!(copies.find(ID).is_none());
        copies.fill(ID, ticket, &record(1));
        assert!(copies.find(ID).is_none());
    }

    fn filled(version: u64) -> Copies {
        let copies = Copies::new(1 << 20);
        copies.fill(ID, copies.ticket(ID, Instant::now()), &record(version));
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
