//! Where the slots shard, within their budgets.

use std::sync::Arc;

use steadfast_core::{Budget, RecordId, SessionKind, Stats};

use crate::hash::IdHash;
use crate::lru::LruMap;
use crate::slot::Slot;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::weight::Scale;

/// Every slot, by id. Sessions that somebody signed in to have a budget of their own, so that a flood
/// of others ends none of them. Over a budget, the slot goes that was not used for the longest time.
///
/// The slots shard on boards, by their id, so that requests of different sessions rarely meet. The
/// lock of a map is taken after that of a slot. What is taken down to make usage is marked under
/// it: a login that moves the slot under the same lock comes wholly before or after that.
pub(crate) struct ShardedLru {
    shards: [Shard; 64],
    anonymous: Usage,
    authenticated: Usage,
    /// Counts uses.
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

    /// The slot of a record. It may be empty.
    pub(crate) fn find(&self, id: RecordId) -> Option<Arc<Slot>> {
        self.shard(id).change(|map| map.find(id, || self.tick()).cloned())
    }

    /// Puts a new slot up, unless there is one of that id.
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

    /// Weighs a slot anew. Call it under the slot's lock.
    pub(crate) fn weigh(&self, id: RecordId, slot: &Arc<Slot>) {
        self.count_for(id, slot, slot.kind());
    }

    /// Moves a slot to the authenticated budget, unless it was evicted. Call it under the slot's lock.
    pub(crate) fn promote(&self, id: RecordId, slot: &Arc<Slot>) -> bool {
        self.count_for(id, slot, SessionKind::Member);
        !slot.is_evicted()
    }

    /// Takes a slot down. Call it under the slot's lock.
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

    /// Some of the slots that the budgets ended; none once all were taken. Call it without a lock.
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

    /// The slots of one map after the other, as each is when it is looked at.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RecordId, Arc<Slot>)> {
        self.shards.iter().flat_map(|shard| shard.lock().iter().collect::<Vec<_>>())
    }

    /// Counts a slot for a budget with what it weighs now, unless it was evicted.
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

    /// Takes down what is over a budget.
    fn make_room(&self, kind: SessionKind) {
        let usage = self.usage(kind);
        while usage.is_overfull() {
            // One thread at a time, so that two of them never make more usage than is missing.
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

    /// Where the slot shards that was not used for the longest time.
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

/// A map under its lock, and beside it what others look at without that.
struct Shard {
    map: Mutex<LruMap>,
    /// When the oldest slot of either list was used.
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

/// What a budget has usage for, and what is held.
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

/// Other stores of the process may still show theirs.
impl Drop for Usage {
    fn drop(&mut self) {
        self.kind.count(-(self.held().0 as i64));
    }
}

/// What was evicted, until somebody who holds no lock buries it.
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

/// A map that has no slot on a list.
const NEVER: u64 = u64::MAX;

/// Few, so that a thread that is interrupted while it buries them keeps little from the others.
const TAKEN_AT_ONCE: usize = 64;
