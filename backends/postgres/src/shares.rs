//! A limit on the connections that calls for one record may take.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use steadfast_core::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections held by calls that may wait for a lock at the server.
///
/// The server runs such calls for one record one at a time. A second call in transit keeps it busy;
/// more would only occupy connections.
pub(crate) struct Shares {
    size: usize,
    hasher: RandomState,
    held: Mutex<HashMap<u64, Arc<Semaphore>>>,
}

impl Shares {
    pub(crate) fn new(connections: usize) -> Arc<Self> {
        let size = if connections < 4 { 1 } else { 2 };
        Arc::new(Self { size, hasher: RandomState::new(), held: Mutex::default() })
    }

    /// Waits for a permit for a call that locks `locked`.
    ///
    /// It fails as soon as another call finds the record locked, because callers that wait would
    /// find the same after another timeout.
    pub(crate) async fn of(self: &Arc<Self>, locked: impl Hash) -> Result<Share, StoreError> {
        let key = self.hasher.hash_one(locked);
        let semaphore = {
            let mut held = self.held();
            Arc::clone(held.entry(key).or_insert_with(|| Arc::new(Semaphore::new(self.size))))
        };
        // Created before waiting, so that the last caller removes the entry even if it gives up.
        let mut share = Share { shares: Arc::clone(self), key, semaphore, permit: None };
        let permit = Arc::clone(&share.semaphore).acquire_owned().await;
        share.permit = Some(permit.map_err(|_| StoreError::busy("another call waits in vain"))?);
        Ok(share)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u64, Arc<Semaphore>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit. It is returned when this is dropped.
pub(crate) struct Share {
    shares: Arc<Shares>,
    key: u64,
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Fails the callers that wait for a permit of the same record.
    pub(crate) fn is_stuck(&self) {
        self.semaphore.close();
        self.remove(|_| true);
    }

    fn remove(&self, if_so: impl Fn(&Arc<Semaphore>) -> bool) {
        let mut held = self.shares.held();
        let entry = held.get(&self.key);
        if entry.is_some_and(|entry| Arc::ptr_eq(entry, &self.semaphore) && if_so(entry)) {
            held.remove(&self.key);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        drop(self.permit.take());
        // One reference belongs to the map and one to this share.
        self.remove(|entry| Arc::strong_count(entry) == 2);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_record_takes_no_more_than_its_share() {
        let shares = Shares::new(10);
        let held = [shares.of(1).await, shares.of(1).await];
        let mut third = Box::pin(shares.of(1));
        assert!(poll!(&mut third).is_pending());
        shares.of(2).await.unwrap();
        drop(held);
        third.await.unwrap();
    }

    #[tokio::test]
    async fn waiters_for_a_locked_record_fail_with_it() {
        let shares = Shares::new(1);
        let held = shares.of(1).await.unwrap();
        let mut waiting = Box::pin(shares.of(1));
        assert!(poll!(&mut waiting).is_pending());
        held.is_stuck();
        assert!(matches!(waiting.await, Err(StoreError::Busy(_))));
        shares.of(1).await.unwrap();
    }

    #[tokio::test]
    async fn a_finished_record_leaves_no_entry() {
        let shares = Shares::new(1);
        let held = shares.of(1).await.unwrap();
        let mut given_up = Box::pin(shares.of(1));
        assert!(poll!(&mut given_up).is_pending());
        drop(held);
        drop(given_up);
        assert!(shares.held().is_empty());
    }
}
