//! Whose sessions are whose.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{Principal, RecordId, Timestamp};

use crate::hash::IdHash;
use crate::slot::Slot;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The sessions of every principal, and the floors under their logins.
///
/// A lock of the index is taken before that of a slot, never after it. Logins and revocations of one
/// principal take the same one, so either comes wholly before the other.
pub(crate) struct Index {
    /// Spreads principals over the shards. What a shard has is hashed with more care: whoever found
    /// names that meet in one shard would gain a lock that is waited for, and no more.
    hasher: IdHash,
    shards: Box<[Mutex<Shard>]>,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { hasher: IdHash::new(), shards: (0..64).map(|_| Mutex::default()).collect() }
    }

    pub(crate) fn lock(&self, principal: &Principal) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(principal) as usize;
        lock(&self.shards[hash % self.shards.len()])
    }

    /// Drops the floors that were kept long enough.
    pub(crate) fn drop_old_floors(&self, now: Timestamp) {
        for shard in &self.shards {
            lock(shard).drop_old_floors(now, usize::MAX);
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().map(lock).all(|shard| {
            shard.sessions.is_empty() && shard.floors.is_empty() && shard.ageing.is_empty()
        })
    }
}

/// A part of the index, under its lock.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    sessions: HashMap<Principal, Vec<Listed>>,
    floors: HashMap<Principal, Floor>,
    /// Every floor once, under a time at which it may be old enough.
    ageing: BTreeSet<(Timestamp, Principal)>,
}

/// A session in a principal's list. It may have ended, or be somebody else's by now.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) id: RecordId,
    pub(crate) slot: Arc<Slot>,
}

#[derive(Debug)]
struct Floor {
    epoch: u64,
    until: Timestamp,
}

impl Shard {
    /// Lists a session, in the order of the logins.
    pub(crate) fn add(&mut self, principal: &Principal, id: RecordId, slot: &Arc<Slot>) {
        let sessions = self.sessions.entry(principal.clone()).or_default();
        if sessions.iter().all(|listed| !Arc::ptr_eq(&listed.slot, slot)) {
            // Most principals have one session: no room for more before there are.
            if sessions.is_empty() {
                sessions.reserve_exact(1);
            }
            let slot = Arc::clone(slot);
            sessions.push(Listed { id, slot });
        }
    }

    pub(crate) fn sessions(&self, principal: &Principal) -> &[Listed] {
        self.sessions.get(principal).map_or(&[], Vec::as_slice)
    }

    /// Keeps the sessions of a principal for which `keep` says so.
    pub(crate) fn retain(&mut self, principal: &Principal, keep: impl FnMut(&Listed) -> bool) {
        let Some(sessions) = self.sessions.get_mut(principal) else {
            return;
        };
        sessions.retain(keep);
        if sessions.is_empty() {
            self.sessions.remove(principal);
            give_back(&mut self.sessions);
        }
    }

    /// Whether a login on these terms was decided before the principal was last revoked.
    pub(crate) fn is_below_floor(
        &mut self,
        principal: &Principal,
        epoch: Option<u64>,
        now: Timestamp,
    ) -> bool {
        self.drop_old_floors(now, DROPPED_AT_ONCE);
        self.floors
            .get(principal)
            .is_some_and(|floor| epoch.is_none_or(|epoch| epoch < floor.epoch))
    }

    /// Raises the floor, if it is lower, and keeps it for another day.
    pub(crate) fn raise_floor(&mut self, principal: &Principal, epoch: u64, now: Timestamp) {
        self.drop_old_floors(now, DROPPED_AT_ONCE);
        let until = now + FLOOR_KEPT;
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

    /// Looks at no more than `limit` floors.
    pub(crate) fn drop_old_floors(&mut self, now: Timestamp, limit: usize) {
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

/// Shrinks a map that is mostly empty; a quarter and a half, so that it does not swing.
fn give_back<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a floor is kept after it was last raised or confirmed.
const FLOOR_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Old floors that a login or a revocation looks at: more than the one it may set.
const DROPPED_AT_ONCE: usize = 2;
