//! Records that expired are taken out of the table in the background.

use std::sync::Weak;
use std::time::Duration;

use steadfast_core::{StoreError, Timestamp};
use tokio::time::sleep;

use crate::sessions::Sessions;

/// Takes out what is due, a batch at a time, and says how many records it was.
pub(crate) async fn sweep(sessions: &Sessions, due: Timestamp) -> Result<u64, StoreError> {
    let mut ended = 0;
    loop {
        let batch = sessions.collect(due, BATCH).await?;
        ended += batch;
        if batch < BATCH as u64 {
            break;
        }
    }
    while sessions.collect_principals(due, BATCH).await? == BATCH as u64 {}
    Ok(ended)
}

/// Sweeps once in a while, until the store is dropped.
///
/// Each node does, at times that drift apart, and skips what another one has in hand. It leaves a record
/// alone for a while after its deadline, so that a node whose clock is ahead ends nobody's session.
pub(crate) async fn keep_sweeping(sessions: Weak<Sessions>, every: Duration) {
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
