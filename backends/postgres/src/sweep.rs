//! The background removal of expired records.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use steadfast_core::{StoreError, Timestamp};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::sessions::Sessions;

/// Sweeps at intervals, on the runtime that uses the store.
pub(crate) struct Sweeper {
    every: Duration,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Sweeper {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, task: Mutex::default() }
    }

    /// Starts the task, if none is running or its runtime has ended.
    pub(crate) fn keep_going(&self, sessions: &Arc<Sessions>) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(keep_sweeping(Arc::downgrade(sessions), self.every)));
        }
    }
}

/// Removes expired records in batches. Returns their number.
pub(crate) async fn sweep(sessions: &Sessions, due: Timestamp) -> Result<u64, StoreError> {
    let mut ended = 0;
    loop {
        let (batch, is_more) = sessions.collect(due, BATCH).await?;
        ended += batch;
        // An empty batch with more to come means that its records are locked. The next batch may
        // be, too.
        if !is_more || batch == 0 {
            return Ok(ended);
        }
    }
}

/// Sweeps until the store is dropped. Nodes sweep at different times, because intervals are
/// jittered, and skip records that another node has locked. A record is only removed some time
/// after its deadline, so that a node with a fast clock does not end sessions early.
async fn keep_sweeping(sessions: Weak<Sessions>, every: Duration) {
    loop {
        sleep(jittered(&sessions, every)).await;
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        let due = sessions.env.now() - GRACE;
        if let Err(error) = sweep(&sessions, due).await {
            tracing::warn!(target: "steadfast", %error, "expired sessions stay in the database");
        }
    }
}

/// Returns a random duration between 50 % and 150 % of `every`.
fn jittered(sessions: &Weak<Sessions>, every: Duration) -> Duration {
    let mut random = [128];
    if let Some(sessions) = sessions.upgrade() {
        // Without randomness, all nodes sweep at the same pace, which is acceptable.
        let _ = sessions.env.fill(&mut random);
    }
    every / 2 + every * u32::from(random[0]) / 256
}

/// The number of rows per statement, which takes some milliseconds.
const BATCH: i64 = 1_000;

const GRACE: Duration = Duration::from_secs(5 * 60);
