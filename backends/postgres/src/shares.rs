//! A share of the connections for each record: one that is stuck takes no more of them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use steadfast_core::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who holds how many connections, of the calls that may have to wait for a lock at the server.
///
/// The server takes such calls about one record one by one in any case, so a second one that is on its
/// way is all that helps.
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

    /// A part of the share of what calls lock, as soon as there is one.
    ///
    /// Fails as soon as another call finds that something else holds it: those that came after it would
    /// wait as long again.
    pub(crate) async fn of(self: &Arc<Self>, locked: impl Hash) -> Result<Share, StoreError> {
        let key = self.hasher.hash_one(locked);
        let semaphore = {
            let mut held = self.held();
            Arc::clone(held.entry(key).or_insert_with(|| Arc::new(Semaphore::new(self.size))))
        };
        // Before it waits, so that the entry goes with the last caller, also with one that gives up.
        let mut share = Share { shares: Arc::clone(self), key, semaphore, permit: None };
        let permit = Arc::clone(&share.semaphore).acquire_owned().await;
        share.permit = Some(permit.map_err(|_| StoreError::busy("another call waits in vain"))?);
        Ok(share)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u64, Arc<Semaphore>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a share. It is given back when this is dropped.
pub(crate) struct Share {
    shares: Arc<Shares>,
    key: u64,
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Fails those that wait for a part of the same share.
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
        // Held by the map and by this.
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
    async fn those_that_wait_for_a_stuck_record_fail_with_it() {
        let shares = Shares::new(1);
        let held = shares.of(1).await.unwrap();
        let mut waiting = Box::pin(shares.of(1));
        assert!(poll!(&mut waiting).is_pending());
        held.is_stuck();
        assert!(matches!(waiting.await, Err(StoreError::Busy(_))));
        shares.of(1).await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_kept_for_a_record_that_is_done() {
        let shares = Shares::new(1);
        let held = shares.of(1).await.unwrap();
        let mut given_up = Box::pin(shares.of(1));
        assert!(poll!(&mut given_up).is_pending());
        drop(held);
        drop(given_up);
        assert!(shares.held().is_empty());
    }
}
