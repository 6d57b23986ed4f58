//! Questions to the backup that several requests wait for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use steadfast_core::RecordId;
use tokio::sync::watch;

/// Copies whose check is under way. Requests that come meanwhile wait for its answer, so that a session
/// in use costs one check in its time, however many requests it has.
#[derive(Debug, Default)]
pub(crate) struct Checks(Mutex<HashMap<RecordId, watch::Receiver<()>>>);

/// A check that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Check<'c> {
    checks: &'c Checks,
    id: RecordId,
    _ends: watch::Sender<()>,
}

impl Checks {
    /// Begins a check; where another one is under way, waits for its end instead.
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

/// Nothing is ever sent: the end of the check closes the channel.
async fn wait_for_end(mut under_way: watch::Receiver<()>) {
    while under_way.changed().await.is_ok() {}
}
