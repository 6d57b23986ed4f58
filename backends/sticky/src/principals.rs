//! The copies of each principal's sessions.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use steadfast_core::{Principal, RecordId};

use crate::near_cache::LocalCopy;

/// The copies of each principal's sessions, so that ending them does not scan all copies.
#[derive(Debug)]
pub(crate) struct Principals {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

type Shard = HashMap<Principal, HashMap<RecordId, Weak<LocalCopy>>>;

impl Principals {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new() }
    }

    pub(crate) fn insert(&self, id: RecordId, copy: &Arc<LocalCopy>) {
        if let Some(principal) = &copy.record.principal {
            let mut shard = self.shard(principal);
            shard.entry(principal.clone()).or_default().insert(id, Arc::downgrade(copy));
        }
    }

    /// Removes a copy, unless another copy of the session has replaced it.
    pub(crate) fn remove(&self, id: RecordId, copy: &Arc<LocalCopy>) {
        let Some(principal) = &copy.record.principal else {
            return;
        };
        let mut shard = self.shard(principal);
        let Some(copies) = shard.get_mut(principal) else {
            return;
        };
        if copies.get(&id).is_some_and(|listed| listed.as_ptr() == Arc::as_ptr(copy)) {
            copies.remove(&id);
        }
        if copies.is_empty() {
            shard.remove(principal);
        }
    }

    pub(crate) fn sessions_of(&self, principal: &Principal) -> Vec<RecordId> {
        let shard = self.shard(principal);
        shard.get(principal).into_iter().flat_map(HashMap::keys).copied().collect()
    }

    fn shard(&self, principal: &Principal) -> MutexGuard<'_, Shard> {
        let shard = self.hasher.hash_one(principal) as usize % self.shards.len();
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SHARDS: usize = 64;
