//! Records that expired are taken out of the table in the background.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use steadfast_core::{StoreError, Timestamp};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::sessions::Sessions;

/// Sweeps once in a while, on the runtime where the store is used.
pub(crate) struct Sweeper {
    every: Duration,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Sweeper {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, task: Mutex::default() }
    }

    /// Begins, and begins again where the runtime that did it has ended.
    pub(crate) fn keep_going(&self, sessions: &Arc<Sessions>) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(keep_sweeping(Arc::downgrade(sessions), self.every)));
        }
    }
}

/// Takes out what is due, a batch at a time, and says how many records it was.
pub(crate) async fn sweep(sessions: &Sessions, due: Timestamp) -> Result<u64, StoreError> {
    let mut ended = 0;
    loop {
        let (batch, is_more) = sessions.collect(due, BATCH).await?;
        ended += batch;
        // Where a batch is all locked, so may the next one be.
        if !is_more || batch == 0 {
            return Ok(ended);
        }
    }
}

/// Each node sweeps until its store is dropped, at times that drift apart, and skips what another one has in hand. It leaves a record
/// alone for a while after its deadline, so that a node whose clock is ahead ends nobody's session.
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

/// Between one half and three halves of a duration.
fn jittered(sessions: &Weak<Sessions>, every: Duration) -> Duration {
    let mut random = [128];
    if let Some(sessions) = sessions.upgrade() {
        // Without randomness, every node sweeps at the same pace.
        let _ = sessions.env.fill(&mut random);
    }
    every / 2 + every * u32::from(random[0]) / 256
}

/// Rows of one statement: some milliseconds of work.
const BATCH: i64 = 1_000;

const GRACE: Duration = Duration::from_secs(5 * 60);
