//! The place of one record: what is patched in place, and who decides that it is over.

use std::sync::Arc;

use steadfast_core::{Owner, Principal, Record, Replaced, SessionKind};

use crate::expiry::Due;
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The place of one record, from its creation to its end. A slot whose record ended stays empty.
///
/// What must be read or set without the lock stands beside it: a budget ends a record on whatever
/// thread needs the room, which may hold the lock of another slot.
#[derive(Debug)]
pub(crate) struct Slot {
    content: Mutex<Content>,
    is_authenticated: AtomicBool,
    is_evicted: AtomicBool,
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

    /// For which budget it counts.
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

    /// A budget ended the record, whatever is done to it now. Takes no lock.
    pub(crate) fn evict(&self) {
        self.is_evicted.store(true, Ordering::Release);
    }
}

/// The power of two, as its exponent, that a record's memory fits in.
fn size_class(record: &Record) -> u8 {
    let exponent = memory(record).next_power_of_two().ilog2();
    u8::try_from(exponent).expect("an exponent of a usize is below 64")
}

/// The bytes that a record takes, with everything that is kept because of it.
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
    /// How often this thread looked into a slot.
    pub(crate) static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// What the cache and the queue of deadlines keep of a record, with the allocator's share; measured.
const BOOKKEEPING: usize = 180;

/// What the index keeps of a record of a principal, beside the name; measured likewise.
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
    fn a_record_counts_for_the_budget_of_users_once_somebody_signed_in() {
        let visitor = slot(None);
        assert_eq!(visitor.kind(), SessionKind::Visitor);
        visitor.set_kind(SessionKind::Member);
        assert_eq!(visitor.kind(), slot(Some("alice")).kind());
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
        let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let mut record = Record::new(hash, start, end, end);
        record.principal = principal.map(|id| Principal::new(Realm::default(), id).unwrap());
        Slot::new(record)
    }
}
