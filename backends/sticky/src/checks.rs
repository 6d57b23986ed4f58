//! Shared checks: concurrent requests for a session wait for a single check of the backup.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use steadfast_core::RecordId;
use tokio::sync::watch;

/// The copies that are being checked. Requests that arrive during a check wait for its answer, so
/// that a busy session costs one check per `recheck`, regardless of its number of requests.
#[derive(Debug, Default)]
pub(crate) struct Checks(Mutex<HashMap<RecordId, watch::Receiver<()>>>);

/// A check in progress. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Check<'c> {
    checks: &'c Checks,
    id: RecordId,
    _ends: watch::Sender<()>,
}

impl Checks {
    /// Begins a check. If one is in progress, waits for its end instead and returns `None`.
    pub(crate) async fn begin(&self, id: RecordId) -> Option<Check<'_>> {
        let under_way = {
            let mut checks = self.lock();
            match checks.get(&id) {
                Some(under_way) => under_way.clone(),
                None => {
                    let (ends, under_way) = watch::channel(());
                    checks.insert(id, under_way);
                    return Some(Check { checks: self, id, _ends: ends });
                }
            }
        };
        wait_for_end(under_way).await;
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RecordId, watch::Receiver<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Check<'_> {
    fn drop(&mut self) {
        self.checks.lock().remove(&self.id);
    }
}

/// Waits until the channel closes. No value is ever sent.
async fn wait_for_end(mut under_way: watch::Receiver<()>) {
    while under_way.changed().await.is_ok() {}
}
