//! The deadlines of all records, in order.

use std::collections::BTreeSet;

use steadfast_core::{RecordId, Timestamp};

use crate::sync::atomic::{AtomicI64, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// A deadline in the queue, in milliseconds since 1970.
pub(crate) type Due = i64;

/// One entry per record, so that a flood of short-lived records cannot grow the queue past the
/// budgets.
///
/// A touch leaves the entry in place. If the record's deadline has moved when its entry is due, the
/// record is queued again. The lock is a leaf: no other lock is taken while it is held.
#[derive(Debug)]
pub(crate) struct Expiry {
    queue: Mutex<BTreeSet<(Due, RecordId)>>,
    /// The end of the second in which the first entry is due. A sweep thus finds up to a second's
    /// worth of entries, and reads take no lock between sweeps.
    next: AtomicI64,
}

impl Expiry {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::default(), next: AtomicI64::new(Due::MAX) }
    }

    /// Queues a record. Returns the key that `remove` needs.
    pub(crate) fn insert(&self, id: RecordId, deadline: Timestamp) -> Due {
        let due = deadline.as_millis();
        let mut queue = self.lock();
        queue.insert((due, id));
        self.note_first(&queue);
        due
    }

    pub(crate) fn remove(&self, id: RecordId, due: Due) {
        self.lock().remove(&(due, id));
    }

    /// Returns true if a sweep would find an entry.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now.as_millis() >= self.next.load(Ordering::Relaxed)
    }

    /// Takes at most `limit` entries that are due.
    pub(crate) fn take_due(&self, now: Timestamp, limit: usize) -> Vec<(Due, RecordId)> {
        let now = now.as_millis();
        let mut queue = self.lock();
        let mut taken = Vec::new();
        while taken.len() < limit && queue.first().is_some_and(|(due, _)| *due <= now) {
            taken.extend(queue.pop_first());
        }
        self.note_first(&queue);
        taken
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Call it while holding the queue's lock, so that the last store is the right one.
    fn note_first(&self, queue: &BTreeSet<(Due, RecordId)>) {
        let next = queue.first().map_or(Due::MAX, |(due, _)| end_of_second(*due));
        if self.next.load(Ordering::Relaxed) != next {
            self.next.store(next, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(Due, RecordId)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end_of_second(due: Due) -> Due {
    due.div_euclid(1_000).saturating_add(1) * 1_000
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn due_entries_come_in_order_and_batches() {
        let expiry = Expiry::new();
        for second in [3, 1, 2, 9] {
            expiry.insert(id(second), at(second));
        }
        let taken = |limit| ids(&expiry.take_due(at(5), limit));
        assert_eq!(taken(2), [id(1), id(2)]);
        assert_eq!(taken(2), [id(3)]);
        assert_eq!(expiry.len(), 1);
    }

    #[test]
    fn nothing_is_due_before_the_first_second_ends() {
        let expiry = Expiry::new();
        assert!(!expiry.is_due(Timestamp::MAX));
        expiry.insert(id(1), at(5) + Duration::from_millis(1));
        assert!(!expiry.is_due(at(5)) && expiry.is_due(at(6)));
        assert_eq!(expiry.take_due(at(5), 9), []);
    }

    #[test]
    fn a_removed_entry_is_not_taken() {
        let expiry = Expiry::new();
        let due = expiry.insert(id(1), at(1));
        expiry.remove(id(1), due);
        assert_eq!(expiry.take_due(Timestamp::MAX, 9), []);
        assert!(!expiry.is_due(Timestamp::MAX));
    }

    fn ids(taken: &[(Due, RecordId)]) -> Vec<RecordId> {
        taken.iter().map(|(_, id)| *id).collect()
    }

    fn id(n: i64) -> RecordId {
        RecordId::from_bytes(i128::from(n).to_be_bytes())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }
}
