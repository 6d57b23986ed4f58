//! The sessions of each principal.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{Principal, Timestamp};

use crate::hash::IdHash;
use crate::list::{List, Rank};
use crate::slot::Slot;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The sessions of every principal, and the minimum epoch of their logins.
///
/// A lock of the index is taken before that of a slot, never after it. Logins and revocations of
/// one principal take the same lock, so one happens entirely before the other. A session can
/// therefore not be unlisted under the slot's lock. It is queued there as leaving, and the next
/// caller that locks the index removes it from the list. In between, the list has too many
/// sessions, but a caller that holds the lock never sees them.
pub(crate) struct Index {
    /// Spreads principals over the shards. Inside a shard, the standard library's stronger hash is
    /// used. An attacker who finds names that share a shard gains nothing but contention on its
    /// lock.
    hasher: IdHash,
    shards: Box<[Shard]>,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { hasher: IdHash::new(), shards: (0..64).map(|_| Shard::default()).collect() }
    }

    /// Locks the list of a principal. Sessions that have left are removed from it first.
    pub(crate) fn lock(&self, principal: &Principal) -> Lists<'_> {
        self.shard(principal).lock()
    }

    /// Queues a session to be removed from its principal's list. Call it under the slot's lock; a
    /// call of
    /// [`lock`](Self::lock) without that one then takes it off the list.
    pub(crate) fn leave(&self, principal: &Principal, rank: Rank, slot: &Arc<Slot>) {
        let (principal, slot) = (principal.clone(), Arc::clone(slot));
        let mut leaving = self.shard(&principal).leaving();
        leaving.push(Leaving { principal, rank, slot });
    }

    /// Drops all minimum epochs that are old enough.
    pub(crate) fn drop_old_floors(&self, now: Timestamp) {
        for shard in &self.shards {
            shard.lock().state.drop_old_floors(now, usize::MAX);
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().map(Shard::lock).all(|Lists { state, .. }| {
            state.sessions.is_empty() && state.floors.is_empty() && state.ageing.is_empty()
        })
    }

    fn shard(&self, principal: &Principal) -> &Shard {
        let hash = self.hasher.hash_one(principal) as usize;
        &self.shards[hash % self.shards.len()]
    }
}

/// A shard under its lock, and the queue of sessions to remove from its lists.
#[derive(Debug, Default)]
struct Shard {
    state: Mutex<ShardState>,
    leaving: Mutex<Vec<Leaving>>,
}

#[derive(Debug)]
struct Leaving {
    principal: Principal,
    rank: Rank,
    slot: Arc<Slot>,
}

impl Shard {
    fn lock(&self) -> Lists<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lists = Lists { state, shard: self };
        lists.settle();
        lists
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Leaving>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A locked shard.
pub(crate) struct Lists<'i> {
    state: MutexGuard<'i, ShardState>,
    shard: &'i Shard,
}

impl Lists<'_> {
    /// Adds a session that is not on the list, and returns how many are on it then. Some may have
    /// expired. Call it under the slot's lock, or before other threads can reach the slot.
    pub(crate) fn add(
        &mut self,
        principal: &Principal,
        rank: Rank,
        slot: &Arc<Slot>,
        deadline: Timestamp,
    ) -> usize {
        // The session may be queued as leaving under the same rank, if it left and came back within
        // one millisecond. Settle now, or the next lock would remove the new entry.
        self.settle();
        let list = self.state.sessions.entry(principal.clone()).or_default();
        list.insert(rank, slot, deadline);
        list.len()
    }

    /// Removes a session with this rank.
    pub(crate) fn remove(&mut self, principal: &Principal, rank: Rank, slot: &Arc<Slot>) {
        self.state.change(principal, |list| list.remove(rank, slot));
    }

    /// Removes the sessions that have left since the shard was locked.
    pub(crate) fn settle(&mut self) {
        let mut leaving = self.shard.leaving();
        for Leaving { principal, rank, slot } in leaving.drain(..) {
            self.state.change(&principal, |list| list.remove(rank, &slot));
        }
        leaving.shrink_to(LEAVING_AT_ONCE);
    }

    /// Removes expired sessions.
    pub(crate) fn drop_expired(&mut self, principal: &Principal, now: Timestamp) {
        self.state.change(principal, |list| {
            list.drop_expired(now, |slot| {
                slot.owned(&slot.lock(), principal).map(|record| record.deadline())
            });
        });
    }

    /// Returns the number of sessions on the list. Some may have expired.
    pub(crate) fn count(&self, principal: &Principal) -> usize {
        self.state.sessions.get(principal).map_or(0, List::len)
    }

    /// Returns the session with the oldest authentication, `rank` excluded.
    pub(crate) fn oldest_but(
        &self,
        principal: &Principal,
        rank: Rank,
    ) -> Option<(Rank, Arc<Slot>)> {
        self.state.sessions.get(principal)?.first_but(rank)
    }

    pub(crate) fn for_each(&self, principal: &Principal, visit: impl FnMut(Rank, &Arc<Slot>)) {
        if let Some(list) = self.state.sessions.get(principal) {
            list.for_each(visit);
        }
    }

    /// Returns true if the login was decided before the principal was last revoked: its epoch is
    /// below the minimum, or missing.
    pub(crate) fn is_below_floor(
        &mut self,
        principal: &Principal,
        epoch: Option<u64>,
        now: Timestamp,
    ) -> bool {
        self.state.drop_old_floors(now, DROPPED_AT_ONCE);
        let floor = self.state.floors.get(principal);
        floor.is_some_and(|floor| epoch.is_none_or(|epoch| epoch < floor.epoch))
    }

    /// Raises the minimum epoch, if it is lower, and keeps it for another day.
    pub(crate) fn raise_floor(&mut self, principal: &Principal, epoch: u64, now: Timestamp) {
        self.state.drop_old_floors(now, DROPPED_AT_ONCE);
        self.state.raise_floor(principal, epoch, now + FLOOR_KEPT);
    }
}

#[derive(Debug, Default)]
struct ShardState {
    sessions: HashMap<Principal, List>,
    floors: HashMap<Principal, Floor>,
    /// Each minimum epoch once, ordered by the earliest time at which it may be dropped.
    ageing: BTreeSet<(Timestamp, Principal)>,
}

#[derive(Debug)]
struct Floor {
    epoch: u64,
    until: Timestamp,
}

impl ShardState {
    /// Changes the list of a principal, if there is one.
    fn change(&mut self, principal: &Principal, change: impl FnOnce(&mut List)) {
        let Some(list) = self.sessions.get_mut(principal) else {
            return;
        };
        change(list);
        if list.len() == 0 {
            self.sessions.remove(principal);
            give_back(&mut self.sessions);
        }
    }

    fn raise_floor(&mut self, principal: &Principal, epoch: u64, until: Timestamp) {
        match self.floors.entry(principal.clone()) {
            Entry::Occupied(mut floor) => {
                let floor = floor.get_mut();
                floor.epoch = floor.epoch.max(epoch);
                floor.until = floor.until.max(until);
            }
            Entry::Vacant(floor) => {
                floor.insert(Floor { epoch, until });
                self.ageing.insert((until, principal.clone()));
            }
        }
    }

    /// Checks at most `limit` minimum epochs.
    fn drop_old_floors(&mut self, now: Timestamp, limit: usize) {
        for _ in 0..limit {
            if self.ageing.first().is_none_or(|(until, _)| *until > now) {
                return;
            }
            let Some((_, principal)) = self.ageing.pop_first() else {
                return;
            };
            match self.floors.get(&principal) {
                Some(floor) if floor.until > now => {
                    self.ageing.insert((floor.until, principal));
                }
                _ => {
                    self.floors.remove(&principal);
                    give_back(&mut self.floors);
                }
            }
        }
    }
}

/// Shrinks a map that is mostly empty. It shrinks below a quarter, to a half, so that a steady load
/// does not make it shrink and grow repeatedly.
fn give_back<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

/// The capacity kept for sessions that are leaving a shard.
const LEAVING_AT_ONCE: usize = 4;

/// The time a minimum epoch is kept after it was last raised or confirmed.
const FLOOR_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The number of old minimum epochs that a login or revocation drops. Each call adds at most one,
/// so two is enough.
const DROPPED_AT_ONCE: usize = 2;
