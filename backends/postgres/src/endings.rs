//! The queue of sessions that ended without a request: what a node needs for it.

use std::sync::atomic::{AtomicBool, Ordering};

use steadfast_core::{EndReason, Ending, StoreError};
use tokio::sync::OnceCell;

use crate::connection::{Malformed, Row};
use crate::rows;

/// Makes the database keep endings, once this node asks for them.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    is_wanted: AtomicBool,
    has_asked: OnceCell<()>,
}

impl Keeper {
    pub(crate) fn want(&self) {
        self.is_wanted.store(true, Ordering::Release);
    }

    /// Returns once the database keeps endings, if this node wants them. `ask` asks for that, once.
    pub(crate) async fn ready<F>(&self, ask: impl FnOnce() -> F) -> Result<(), StoreError>
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        if self.is_wanted.load(Ordering::Acquire) && !self.has_asked.initialized() {
            self.has_asked.get_or_try_init(ask).await?;
        }
        Ok(())
    }
}

/// Parses an ending in a row of `CLAIM`.
pub(crate) fn ending(row: &Row) -> Result<Ending, Malformed> {
    let reason: &str = row.get(3)?;
    Ok(Ending {
        id: rows::id(row)?,
        principal: rows::principal(row.get(1)?, row.get(2)?)?,
        reason: EndReason::from_name(reason).ok_or_else(|| format!("unknown reason {reason:?}"))?,
        at: rows::time(row, 4)?,
    })
}
