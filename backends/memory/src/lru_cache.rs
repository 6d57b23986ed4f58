//! A sharded LRU cache of slots that keeps within its budgets.

use std::sync::Arc;

use steadfast_core::{Budget, RecordId, SessionKind, Stats};

use crate::hash::IdHash;
use crate::lru::LruMap;
use crate::slot::Slot;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::weight::Scale;

/// All slots, by id. Signed-in sessions have their own budget, so that a flood of visitors cannot
/// evict them. When a budget is exceeded, the least recently used slot is evicted.
///
/// Slots are sharded by id, so that requests for different sessions rarely contend. The lock of a
/// shard is taken after that of a slot. An evicted slot is marked under the shard's lock. A login
/// moves its slot to the other budget under the same lock, so it happens either entirely before the
/// eviction or entirely after it.
pub(crate) struct ShardedLru {
    shards: [Shard; 64],
    anonymous: Usage,
    authenticated: Usage,
    /// A logical clock that advances with each use.
    ticks: AtomicU64,
    evicted: Evicted,
}

impl ShardedLru {
    pub(crate) fn new(anonymous: Budget, authenticated: Budget) -> Self {
        let hash = IdHash::new();
        Self {
            shards: std::array::from_fn(|_| Shard::new(hash.clone())),
            anonymous: Usage::new(SessionKind::Visitor, anonymous),
            authenticated: Usage::new(SessionKind::Member, authenticated),
            ticks: AtomicU64::new(0),
            evicted: Evicted::default(),
        }
    }

    /// Returns the slot of a record. The slot may be empty.
    pub(crate) fn find(&self, id: RecordId) -> Option<Arc<Slot>> {
        self.shard(id).change(|map| map.find(id, || self.tick()).cloned())
    }

    /// Inserts a new slot unless the id is taken. Returns whether it did.
    pub(crate) fn add(&self, id: RecordId, slot: &Arc<Slot>) -> bool {
        let usage = self.usage(slot.kind());
        let weight = usage.scale.weight(slot.bytes());
        let is_added = self.shard(id).change(|map| {
            let is_added = map.add(id, slot, (slot.kind(), weight), self.tick());
            if is_added {
                usage.take(weight);
                usage.kind.count(1);
            }
            is_added
        });
        self.make_room(slot.kind());
        is_added
    }

    /// Updates the weight of a slot. Call it under the slot's lock.
    pub(crate) fn weigh(&self, id: RecordId, slot: &Arc<Slot>) {
        self.count_for(id, slot, slot.kind());
    }

    /// Moves a slot to the budget of signed-in sessions. Returns false if it was evicted. Call it
    /// under the slot's lock.
    pub(crate) fn promote(&self, id: RecordId, slot: &Arc<Slot>) -> bool {
        self.count_for(id, slot, SessionKind::Member);
        !slot.is_evicted()
    }

    /// Removes a slot. Call it under the slot's lock.
    pub(crate) fn remove(&self, id: RecordId, slot: &Arc<Slot>) {
        self.shard(id).change(|map| {
            if map.holds(id, slot)
                && let Some((kind, weight)) = map.remove(id)
            {
                self.usage(kind).give(weight);
                self.usage(kind).kind.count(-1);
            }
        });
    }

    /// Takes a batch of evicted slots; empty once none are left. Call it without holding a lock.
    pub(crate) fn take_evicted(&self) -> Vec<(RecordId, Arc<Slot>)> {
        self.evicted.take()
    }

    pub(crate) fn stats(&self) -> Stats {
        let (anonymous, authenticated) = (self.anonymous.held(), self.authenticated.held());
        Stats {
            records: anonymous.0 + authenticated.0,
            authenticated: authenticated.0,
            bytes: anonymous.1 + authenticated.1,
        }
    }

    /// Iterates over all slots, one shard at a time. Each shard is a snapshot of its own moment.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RecordId, Arc<Slot>)> {
        self.shards.iter().flat_map(|shard| shard.lock().iter().collect::<Vec<_>>())
    }

    /// Charges a slot to a budget at its current weight, unless it was evicted.
    fn count_for(&self, id: RecordId, slot: &Arc<Slot>, kind: SessionKind) {
        let usage = self.usage(kind);
        let weight = usage.scale.weight(slot.bytes());
        self.shard(id).change(|map| {
            if map.holds(id, slot)
                && let Some((before, weighed)) = map.change(id, kind, weight)
            {
                slot.set_kind(kind);
                usage.take(weight);
                self.usage(before).give(weighed);
                if before != kind {
                    usage.kind.count(1);
                    self.usage(before).kind.count(-1);
                }
            }
        });
        self.make_room(kind);
    }

    /// Evicts slots until a budget is met.
    fn make_room(&self, kind: SessionKind) {
        let usage = self.usage(kind);
        while usage.is_overfull() {
            // One thread evicts at a time: two that saw the same excess would together evict twice
            // as much.
            let _alone = usage.making.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(shard) = usage.is_overfull().then(|| self.oldest(kind)).flatten() else {
                return;
            };
            shard.change(|map| {
                if let Some((id, slot, weight)) = map.remove_oldest(kind) {
                    slot.evict();
                    usage.give(weight);
                    usage.kind.count(-1);
                    self.evicted.push(id, slot);
                }
            });
        }
    }

    /// Returns the shard with the least recently used slot of a kind.
    fn oldest(&self, kind: SessionKind) -> Option<&Shard> {
        let used = |shard: &&Shard| shard.oldest[kind as usize].load(Ordering::Relaxed);
        self.shards.iter().min_by_key(used).filter(|shard| used(shard) != NEVER)
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    fn usage(&self, kind: SessionKind) -> &Usage {
        match kind {
            SessionKind::Visitor => &self.anonymous,
            SessionKind::Member => &self.authenticated,
        }
    }

    fn shard(&self, id: RecordId) -> &Shard {
        &self.shards[usize::from(id.as_bytes()[15]) % self.shards.len()]
    }
}

/// The map of a shard under its lock. The ages beside it can be read without the lock.
struct Shard {
    map: Mutex<LruMap>,
    /// The last use of the least recently used slot, for each kind. Written under the lock; a
    /// reader without it may see a value that is out of date, and then evicts a slot that is nearly
    /// the oldest.
    oldest: [AtomicU64; 2],
}

impl Shard {
    fn new(hash: IdHash) -> Self {
        let map = Mutex::new(LruMap::new(hash));
        Self { map, oldest: [const { AtomicU64::new(NEVER) }; 2] }
    }

    fn change<T>(&self, change: impl FnOnce(&mut LruMap) -> T) -> T {
        let mut map = self.lock();
        let changed = change(&mut map);
        for kind in [SessionKind::Visitor, SessionKind::Member] {
            let oldest = map.oldest(kind).unwrap_or(NEVER);
            self.oldest[kind as usize].store(oldest, Ordering::Relaxed);
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, LruMap> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limit of a budget and its current use.
struct Usage {
    kind: SessionKind,
    scale: Scale,
    records: AtomicU64,
    weight: AtomicU64,
    making: Mutex<()>,
}

impl Usage {
    fn new(kind: SessionKind, budget: Budget) -> Self {
        let (records, weight) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { kind, scale: Scale::of(budget), records, weight, making: Mutex::new(()) }
    }

    fn take(&self, weight: u32) {
        self.records.fetch_add(1, Ordering::Relaxed);
        self.weight.fetch_add(weight.into(), Ordering::Relaxed);
    }

    fn give(&self, weight: u32) {
        self.records.fetch_sub(1, Ordering::Relaxed);
        self.weight.fetch_sub(weight.into(), Ordering::Relaxed);
    }

    fn is_overfull(&self) -> bool {
        self.held().1 > self.scale.capacity
    }

    fn held(&self) -> (u64, u64) {
        (self.records.load(Ordering::Relaxed), self.weight.load(Ordering::Relaxed))
    }
}

/// Takes back only the share of this store: the process may have other stores, and the gauge is
/// their sum.
impl Drop for Usage {
    fn drop(&mut self) {
        self.kind.count(-(self.held().0 as i64));
    }
}

/// Evicted slots, waiting for a caller that holds no lock to finish their eviction.
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

/// The age of an empty list.
const NEVER: u64 = u64::MAX;

/// A batch is small, so that a thread that is preempted while finishing it delays few evictions.
const TAKEN_AT_ONCE: usize = 64;
