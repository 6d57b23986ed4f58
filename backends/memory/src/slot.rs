//! The slot of one record.

use std::sync::Arc;

use steadfast_core::{Owner, Principal, Record, Replaced, SessionKind};

use crate::expiry::Due;
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Holds one record from its creation to its end. After the end, the slot stays empty.
///
/// The flags are outside the lock because an eviction must not wait for it: the evicting thread may
/// hold the lock of another slot.
#[derive(Debug)]
pub(crate) struct Slot {
    content: Mutex<Content>,
    is_authenticated: AtomicBool,
    is_evicted: AtomicBool,
    size_class: AtomicU8,
}

/// The state that the lock of a slot guards.
#[derive(Debug)]
pub(crate) struct Content {
    /// `None` once the record has ended; it is never set again.
    record: Option<Arc<Record>>,
    /// The key of the record in the queue of deadlines.
    pub(crate) due: Due,
}

/// A locked slot.
pub(crate) type Locked<'s> = MutexGuard<'s, Content>;

impl Slot {
    pub(crate) fn new(record: Record) -> Self {
        Self {
            size_class: AtomicU8::new(size_class(&record)),
            is_authenticated: AtomicBool::new(record.principal.is_some()),
            is_evicted: AtomicBool::new(false),
            content: Mutex::new(Content { record: Some(Arc::new(record)), due: Due::MAX }),
        }
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        #[cfg(test)]
        LOOKS.set(LOOKS.get() + 1);
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the record, unless it ended or was evicted.
    pub(crate) fn live<'c>(&self, content: &'c Content) -> Option<&'c Arc<Record>> {
        content.record.as_ref().filter(|_| !self.is_evicted())
    }

    /// Returns the record if it is live and belongs to `principal`. The index may still list a
    /// session that does not.
    pub(crate) fn owned<'c>(
        &self,
        content: &'c Content,
        principal: &Principal,
    ) -> Option<&'c Arc<Record>> {
        self.live(content).filter(|record| record.principal.as_ref() == Some(principal))
    }

    /// Replaces the record. Returns whether its size class changed.
    pub(crate) fn replace(&self, content: &mut Content, record: Record) -> bool {
        let class = size_class(&record);
        content.record = Some(Arc::new(record));
        self.size_class.swap(class, Ordering::Relaxed) != class
    }

    /// Ends the record for good. Only the first call returns it.
    pub(crate) fn empty(content: &mut Content) -> Option<Arc<Record>> {
        content.record.take()
    }

    /// Returns the bytes that the record is charged for: its size class.
    pub(crate) fn bytes(&self) -> u64 {
        1 << self.size_class.load(Ordering::Relaxed)
    }

    /// Returns the budget that the record is charged to.
    pub(crate) fn kind(&self) -> SessionKind {
        if self.is_authenticated.load(Ordering::Acquire) {
            SessionKind::Member
        } else {
            SessionKind::Visitor
        }
    }

    pub(crate) fn set_kind(&self, kind: SessionKind) {
        self.is_authenticated.store(kind == SessionKind::Member, Ordering::Release);
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Acquire)
    }

    /// Marks the record as evicted. Takes no lock.
    pub(crate) fn evict(&self) {
        self.is_evicted.store(true, Ordering::Release);
    }
}

/// Returns the size class of a record: the exponent of the next power of two of its memory.
fn size_class(record: &Record) -> u8 {
    let exponent = memory(record).next_power_of_two().ilog2();
    u8::try_from(exponent).expect("an exponent of a usize is below 64")
}

/// Returns the bytes that a record occupies, bookkeeping included.
fn memory(record: &Record) -> usize {
    let replaced = record.replaced.as_ref().map_or(0, |_| size_of::<Replaced>());
    let owner = record.owner.as_ref().map_or(0, |_| size_of::<Owner>());
    let facts = record.facts.as_bytes().len();
    let principal =
        record.principal.as_ref().map_or(0, |principal| INDEX_ENTRY + principal.id().len());
    BOOKKEEPING
        + size_of::<Slot>()
        + size_of::<Record>()
        + record.values.packed_len()
        + replaced
        + owner
        + facts
        + principal
}

#[cfg(test)]
thread_local! {
    /// The number of slots that this thread has locked.
    pub(crate) static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The share of the cache, the queue of deadlines and the allocator for each record, in bytes;
/// measured.
const BOOKKEEPING: usize = 180;

/// The share of the index for each record with a principal, in bytes, without the name; measured.
const INDEX_ENTRY: usize = 196;

#[cfg(test)]
mod tests {
    use steadfast_core::{KeyId, Realm, SecretHash, Timestamp};

    use super::*;

    #[test]
    fn an_evicted_record_is_not_live() {
        for slot in [slot(None), slot(Some("alice"))] {
            assert!(slot.live(&slot.lock()).is_some());
            slot.evict();
            assert!(slot.live(&slot.lock()).is_none());
        }
    }

    #[test]
    fn a_login_moves_a_record_between_budgets() {
        let visitor = slot(None);
        assert_eq!(visitor.kind(), SessionKind::Visitor);
        visitor.set_kind(SessionKind::Member);
        assert_eq!(visitor.kind(), slot(Some("alice")).kind());
    }

    #[test]
    fn a_size_class_is_a_power_of_two() {
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
        let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let mut record = Record::new(hash, start, end, end);
        record.principal = principal.map(|id| Principal::new(Realm::default(), id).unwrap());
        Slot::new(record)
    }
}
