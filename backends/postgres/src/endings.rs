//! The queue of sessions that ended without a request.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use steadfast_core::{CLAIMED_FOR, EndReason, Ending, Endings, RecordId, StoreError};
use tokio::sync::OnceCell;

use crate::connection::{Argument, Malformed, Row};
use crate::pool::Resend;
use crate::rows;
use crate::sessions::Sessions;
use crate::store::PostgresStore;

/// Asks the database to keep endings, once this node wants them.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    is_wanted: AtomicBool,
    has_asked: OnceCell<()>,
}

impl Keeper {
    pub(crate) fn want(&self) {
        self.is_wanted.store(true, Ordering::Release);
    }

    /// Returns once the database keeps endings, if this node wants them. Every call that can end a
    /// session without a request waits for this first. A claim asks, too.
    pub(crate) async fn ready(&self, sessions: &Sessions) -> Result<(), StoreError> {
        if self.is_wanted.load(Ordering::Acquire) && !self.has_asked.initialized() {
            let asked = || async { sessions.claim_endings(0).await.map(drop) };
            self.has_asked.get_or_try_init(asked).await?;
        }
        Ok(())
    }
}

impl Sessions {
    async fn claim_endings(&self, limit: usize) -> Result<Vec<Ending>, StoreError> {
        let now = self.env.now();
        let arguments: [Argument<'_>; 3] = [
            ("now", &now.as_millis()),
            ("until", &(now + CLAIMED_FOR).as_millis()),
            ("limit", &(limit as i64)),
        ];
        // A claim whose answer was lost lapses.
        let rows = self.pool.rows(Resend::Freely, &self.statements.claim, &arguments).await?;
        rows.iter().map(|row| ending(row).map_err(StoreError::refused)).collect()
    }
}

#[async_trait]
impl Endings for PostgresStore {
    async fn claim(&self, limit: usize) -> Result<Vec<Ending>, StoreError> {
        self.sessions().claim_endings(limit).await
    }

    async fn acknowledge(&self, ids: &[RecordId]) -> Result<(), StoreError> {
        let ids: Vec<_> = ids.iter().map(RecordId::as_uuid).collect();
        let sessions = self.sessions();
        let statement = &sessions.statements.acknowledge;
        sessions.pool.rows(Resend::Freely, statement, &[("ids", &ids)]).await.map(drop)
    }
}

fn ending(row: &Row) -> Result<Ending, Malformed> {
    let reason: &str = row.get(3)?;
    Ok(Ending {
        id: rows::id(row)?,
        principal: rows::principal(row.get(1)?, row.get(2)?)?,
        reason: EndReason::from_name(reason).ok_or_else(|| format!("unknown reason {reason:?}"))?,
        at: rows::time(row, 4)?,
    })
}
