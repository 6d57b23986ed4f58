//! Where the slots stand: two caches that bound and evict, and nothing more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::CacheBuilder;
use steadfast_core::{RecordId, Stats};

use crate::budget::Budget;
use crate::hash::IdHash;
use crate::slot::Slot;

type Cache = moka::sync::Cache<RecordId, Arc<Slot>, IdHash>;

/// Every slot, by id. Sessions that somebody signed in to have a cache and a budget of their own, so
/// that a flood of others ends none of them.
///
/// A thread that changes what a cache has under an id holds the *stripe* of that id, taken after the
/// slot's lock. So a slot that is put back with another weight never replaces another slot, and one
/// that is taken down never takes another with it.
pub(crate) struct Shelf {
    anonymous: Cache,
    authenticated: Cache,
    evicted: Arc<Evicted>,
    stripes: [Mutex<()>; 64],
}

impl Shelf {
    pub(crate) fn new(anonymous: Budget, authenticated: Budget) -> Self {
        let evicted = Arc::new(Evicted::default());
        Self {
            anonymous: cache(anonymous, false, &evicted),
            authenticated: cache(authenticated, true, &evicted),
            evicted,
            stripes: [const { Mutex::new(()) }; 64],
        }
    }

    /// The slot of a record. It may be empty.
    ///
    /// The third look is for a record that was promoted between the first and the second.
    pub(crate) fn find(&self, id: RecordId) -> Option<Arc<Slot>> {
        self.authenticated
            .get(&id)
            .or_else(|| self.anonymous.get(&id))
            .or_else(|| self.authenticated.get(&id))
    }

    /// Puts a new slot up, unless there is one of that id.
    pub(crate) fn add(&self, id: RecordId, slot: &Arc<Slot>) -> bool {
        let _stripe = self.stripe(id);
        let is_free = self.find(id).is_none();
        if is_free {
            self.home(slot).insert(id, Arc::clone(slot));
        }
        is_free
    }

    /// Weighs a slot anew. Call it under the slot's lock.
    ///
    /// A slot that was evicted at the same moment may come back here. It is marked as dead by then,
    /// and whoever buries it waits for the slot's lock and removes it again.
    pub(crate) fn weigh(&self, id: RecordId, slot: &Arc<Slot>) {
        let _stripe = self.stripe(id);
        let home = self.home(slot);
        if holds(home, id, slot) {
            home.insert(id, Arc::clone(slot));
        }
    }

    /// Moves a slot to the authenticated cache, unless it was evicted. Call it under the slot's lock.
    ///
    /// It is in both caches for a moment, so that no look-up misses it.
    pub(crate) fn promote(&self, id: RecordId, slot: &Arc<Slot>) -> bool {
        if slot.is_authenticated() {
            return !slot.is_evicted();
        }
        let _stripe = self.stripe(id);
        if holds(&self.anonymous, id, slot) {
            self.authenticated.insert(id, Arc::clone(slot));
            if holds(&self.authenticated, id, slot) {
                if slot.promote() {
                    self.anonymous.invalidate(&id);
                    return true;
                }
                self.authenticated.invalidate(&id);
            }
        }
        // A budget was faster, in one cache or the other; what is left of the record is buried.
        slot.evict(false);
        self.evicted.push(id, Arc::clone(slot));
        false
    }

    /// Takes a slot down. Call it under the slot's lock.
    pub(crate) fn remove(&self, id: RecordId, slot: &Arc<Slot>) {
        let _stripe = self.stripe(id);
        let home = self.home(slot);
        if holds(home, id, slot) {
            home.invalidate(&id);
        }
    }

    /// Some of the slots that the budgets ended; none once all were taken. Call it without a lock.
    pub(crate) fn take_evicted(&self) -> Vec<(RecordId, Arc<Slot>)> {
        self.evicted.take()
    }

    /// Lets moka do its pending work now.
    pub(crate) fn settle(&self) {
        self.anonymous.run_pending_tasks();
        self.authenticated.run_pending_tasks();
    }

    pub(crate) fn stats(&self) -> Stats {
        let (anonymous, authenticated) = (&self.anonymous, &self.authenticated);
        Stats {
            records: anonymous.entry_count() + authenticated.entry_count(),
            authenticated: authenticated.entry_count(),
            bytes: anonymous.weighted_size() + authenticated.weighted_size(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RecordId, Arc<Slot>)> {
        self.anonymous.iter().chain(self.authenticated.iter()).map(|(id, slot)| (*id, slot))
    }

    fn home(&self, slot: &Slot) -> &Cache {
        if slot.is_authenticated() { &self.authenticated } else { &self.anonymous }
    }

    fn stripe(&self, id: RecordId) -> MutexGuard<'_, ()> {
        let stripe = usize::from(id.as_bytes()[15]) % self.stripes.len();
        self.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What moka evicted, until somebody who holds no lock buries it.
///
/// moka calls its listener in the middle of an insert, on a thread that may hold any lock of ours.
/// The lock in here is the only one that the listener takes, and nothing is locked under it.
#[derive(Default)]
struct Evicted {
    any: AtomicBool,
    slots: Mutex<Vec<(RecordId, Arc<Slot>)>>,
}

impl Evicted {
    fn push(&self, id: RecordId, slot: Arc<Slot>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.push((id, slot));
        self.any.store(true, Ordering::Release);
    }

    fn take(&self) -> Vec<(RecordId, Arc<Slot>)> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = slots.len().saturating_sub(TAKEN_AT_ONCE);
        self.any.store(rest > 0, Ordering::Release);
        if rest == 0 {
            return std::mem::take(&mut slots);
        }
        slots.split_off(rest)
    }
}

/// LRU, because moka's default policy refuses new keys when it is full, that is, fresh logins.
fn cache(budget: Budget, authenticated: bool, evicted: &Arc<Evicted>) -> Cache {
    let evicted = Arc::clone(evicted);
    CacheBuilder::new(budget.capacity())
        .eviction_policy(EvictionPolicy::lru())
        .weigher(move |_, slot: &Arc<Slot>| budget.weight(slot.bytes()))
        .eviction_listener(move |id, slot: Arc<Slot>, cause| {
            if cause == RemovalCause::Size && slot.evict(authenticated) {
                evicted.push(*id, slot);
            }
        })
        .build_with_hasher(IdHash::new())
}

fn holds(cache: &Cache, id: RecordId, slot: &Arc<Slot>) -> bool {
    cache.get(&id).is_some_and(|held| Arc::ptr_eq(&held, slot))
}

/// Few, so that a thread that is interrupted while it buries them keeps little from the others.
const TAKEN_AT_ONCE: usize = 64;
