//! The place of one record: what is patched in place, and who decides that it is over.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use steadfast_core::{Owner, Principal, Record, Replaced};

use crate::expiry::Due;

/// The place of one record, from its creation to its end. A slot whose record ended stays empty.
///
/// What must be read or set without the lock stands beside it: moka weighs a slot while its lock is
/// held, and evicts one on whatever thread does its maintenance, which may hold that lock.
#[derive(Debug)]
pub(crate) struct Slot {
    content: Mutex<Content>,
    fate: AtomicU8,
    size_class: AtomicU8,
}

/// What the lock of a slot guards.
#[derive(Debug)]
pub(crate) struct Content {
    /// `None` once the record ended: nothing puts one back.
    record: Option<Arc<Record>>,
    /// Under what the record is queued.
    pub(crate) due: Due,
}

/// A slot under its lock.
pub(crate) type Locked<'s> = MutexGuard<'s, Content>;

impl Slot {
    pub(crate) fn new(record: Record) -> Self {
        let fate = if record.principal.is_some() { AUTHENTICATED } else { 0 };
        Self {
            size_class: AtomicU8::new(size_class(&record)),
            fate: AtomicU8::new(fate),
            content: Mutex::new(Content { record: Some(Arc::new(record)), due: Due::MAX }),
        }
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record, unless it ended or was evicted.
    pub(crate) fn live<'c>(&self, content: &'c Content) -> Option<&'c Arc<Record>> {
        content.record.as_ref().filter(|_| !self.is_evicted())
    }

    /// The record if it is live and this principal's. The index may still list others.
    pub(crate) fn owned<'c>(
        &self,
        content: &'c Content,
        principal: &Principal,
    ) -> Option<&'c Arc<Record>> {
        self.live(content).filter(|record| record.principal.as_ref() == Some(principal))
    }

    /// Replaces the record, and says whether that moves it to another size class.
    pub(crate) fn replace(&self, content: &mut Content, record: Record) -> bool {
        let class = size_class(&record);
        content.record = Some(Arc::new(record));
        self.size_class.swap(class, Ordering::Relaxed) != class
    }

    /// Ends the record for good. Only the first call gets it.
    pub(crate) fn empty(content: &mut Content) -> Option<Arc<Record>> {
        content.record.take()
    }

    /// The bytes the record counts for.
    pub(crate) fn bytes(&self) -> u64 {
        1 << self.size_class.load(Ordering::Relaxed)
    }

    pub(crate) fn is_authenticated(&self) -> bool {
        self.fate.load(Ordering::Acquire) & AUTHENTICATED != 0
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.fate.load(Ordering::Acquire) & EVICTED != 0
    }

    /// A budget removed the slot from one of the two caches. Says whether that ends the record.
    ///
    /// Takes no lock. While a login moves a slot, it is in both caches, and one atomic step decides
    /// between the two: removed from the cache that it leaves, it lives on in the other; removed
    /// from the one that it has not arrived in, the login fails.
    pub(crate) fn evict(&self, from_authenticated: bool) -> bool {
        let counts = |fate| (fate & AUTHENTICATED != 0) == from_authenticated;
        let before = self.change_fate(|fate| match (counts(fate), from_authenticated) {
            (true, _) => fate | EVICTED,
            (false, true) => fate | BOUNCED,
            (false, false) => fate,
        });
        counts(before) && before & EVICTED == 0
    }

    /// Makes the authenticated cache the one that counts, unless a budget was faster.
    pub(crate) fn promote(&self) -> bool {
        let before = self.change_fate(|fate| match fate & (EVICTED | BOUNCED) {
            0 => fate | AUTHENTICATED,
            _ => fate | EVICTED,
        });
        before & (EVICTED | BOUNCED) == 0
    }

    fn change_fate(&self, change: impl Fn(u8) -> u8) -> u8 {
        let mut before = self.fate.load(Ordering::Acquire);
        while let Err(newer) = self.fate.compare_exchange_weak(
            before,
            change(before),
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            before = newer;
        }
        before
    }
}

/// A budget ended the record. Never taken back.
const EVICTED: u8 = 1;
/// The authenticated cache is the one that counts.
const AUTHENTICATED: u8 = 2;
/// The authenticated cache removed the slot while the other one still counted.
const BOUNCED: u8 = 4;

/// The power of two, as its exponent, that a record's memory fits in.
fn size_class(record: &Record) -> u8 {
    let exponent = memory(record).next_power_of_two().ilog2();
    u8::try_from(exponent).expect("an exponent of a usize is below 64")
}

/// The bytes that a record takes, with everything that is kept because of it.
fn memory(record: &Record) -> usize {
    let replaced = record.replaced.as_ref().map_or(0, |_| size_of::<Replaced>());
    let owner = record.owner.as_ref().map_or(0, |_| size_of::<Owner>());
    let principal =
        record.principal.as_ref().map_or(0, |principal| INDEX_ENTRY + principal.id().len());
    BOOKKEEPING
        + size_of::<Slot>()
        + size_of::<Record>()
        + record.values.packed_len()
        + replaced
        + owner
        + principal
}

/// What moka and the queue of deadlines keep of a record, with the allocator's share; measured.
const BOOKKEEPING: usize = 410;

/// What the index keeps of a record of a principal, beside the name; measured likewise.
const INDEX_ENTRY: usize = 180;

#[cfg(test)]
mod tests {
    use steadfast_core::{KeyId, Realm, SecretHash};
    use time::UtcDateTime;

    use super::*;

    #[test]
    fn an_evicted_record_is_not_live_and_ends_once() {
        for slot in [slot(None), slot(Some("alice"))] {
            assert!(slot.live(&slot.lock()).is_some());
            assert!(slot.evict(slot.is_authenticated()));
            assert!(!slot.evict(slot.is_authenticated()));
            assert!(slot.live(&slot.lock()).is_none());
        }
    }

    #[test]
    fn a_promoted_record_survives_eviction_from_the_cache_it_left() {
        let slot = slot(None);
        assert!(slot.promote());
        assert!(!slot.evict(false) && !slot.is_evicted());
        assert!(slot.evict(true) && slot.is_evicted());
    }

    #[test]
    fn a_record_that_was_evicted_on_the_way_is_not_promoted() {
        for from_authenticated in [false, true] {
            let slot = slot(None);
            slot.evict(from_authenticated);
            assert!(!slot.promote() && slot.is_evicted() && !slot.is_authenticated());
        }
    }

    #[test]
    fn a_size_class_is_a_power_of_two_and_changes_rarely() {
        let slot = slot(None);
        let mut record = Record::clone(slot.live(&slot.lock()).unwrap());
        record.values = [("a", [b'1'; 64].as_slice())].into_iter().collect();
        assert!(!slot.replace(&mut slot.lock(), record.clone()));
        record.values = [("a", [b'1'; 5_000].as_slice())].into_iter().collect();
        assert!(slot.replace(&mut slot.lock(), record));
        assert_eq!(slot.bytes(), 8_192);
    }

    fn slot(principal: Option<&str>) -> Slot {
        let hash = SecretHash::from_parts(KeyId::NONE, [0; 32]);
        let (start, end) = (UtcDateTime::UNIX_EPOCH, UtcDateTime::MAX);
        let mut record = Record::new(hash, start, end, end);
        record.principal = principal.map(|id| Principal::new(Realm::default(), id).unwrap());
        Slot::new(record)
    }
}
