//! Tells long-lived connections that their session is over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use steadfast_core::{Change, Hint, Lookup, RecordId, SessionStore};
use tokio::sync::Notify;

use crate::calls::Calls;

/// How long the end of a session may go unnoticed by [`Session::ended`](crate::Session::ended) where
/// the store does not report it: 10 s.
pub const RECHECK: Duration = Duration::from_secs(10);

/// Who waits for which record. One task reads the store's changes for all of them.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    bells: HashMap<RecordId, Weak<Notify>>,
    is_reading: bool,
}

impl Watch {
    /// Returns once the record is not live any more.
    pub(crate) async fn ended(self: &Arc<Self>, calls: &Calls, id: RecordId) {
        let bell = self.bell(&calls.store, id);
        loop {
            // Registered before the question, so that no change between the two is missed.
            let rung = bell.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if matches!(calls.load(id, None, &Hint::default()).await, Ok(Lookup::Absent(_))) {
                break;
            }
            let _ = tokio::time::timeout(RECHECK, rung).await;
        }
        drop(bell);
        self.forget(id);
    }

    fn bell(self: &Arc<Self>, store: &Arc<dyn SessionStore>, id: RecordId) -> Arc<Notify> {
        let mut waiting = self.lock();
        if !waiting.is_reading {
            waiting.is_reading = self.read_changes(store);
        }
        waiting.bells.retain(|_, bell| bell.strong_count() > 0);
        if let Some(bell) = waiting.bells.get(&id).and_then(Weak::upgrade) {
            return bell;
        }
        let bell = Arc::new(Notify::new());
        waiting.bells.insert(id, Arc::downgrade(&bell));
        bell
    }

    fn forget(&self, id: RecordId) {
        let mut waiting = self.lock();
        if waiting.bells.get(&id).is_some_and(|bell| bell.strong_count() == 0) {
            waiting.bells.remove(&id);
        }
    }

    /// Starts the task that rings; it ends with the store's stream, or when nobody can wait any more.
    fn read_changes(self: &Arc<Self>, store: &Arc<dyn SessionStore>) -> bool {
        let Some(mut changes) = store.changes() else {
            return false;
        };
        let watch = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                let Some(watch) = watch.upgrade() else { return };
                watch.ring(change);
            }
            if let Some(watch) = watch.upgrade() {
                watch.lock().is_reading = false;
            }
        });
        true
    }

    fn ring(&self, change: Change) {
        let waiting = self.lock();
        let ring = |bell: &Weak<Notify>| {
            if let Some(bell) = bell.upgrade() {
                bell.notify_waiters();
            }
        };
        match change {
            Change::Ended(id, _) => waiting.bells.get(&id).into_iter().for_each(ring),
            Change::Missed | Change::Down => waiting.bells.values().for_each(ring),
            Change::Patched(..) | Change::SignedIn(..) => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
