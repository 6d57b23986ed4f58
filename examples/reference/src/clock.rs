//! A clock that tests can move.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use steadfast::store::{Clock, SystemClock, Timestamp};
use time::Duration;

/// The system's clock, and how far tests have moved it. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub(crate) struct OffsetClock {
    offset_ms: Arc<AtomicI64>,
}

impl OffsetClock {
    /// Moves the clock, back if `by` is negative.
    pub(crate) fn advance(&self, by: Duration) {
        let by = i64::try_from(by.whole_milliseconds()).unwrap_or(i64::MAX);
        let add = |offset: i64| Some(offset.saturating_add(by));
        let _ = self.offset_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl Clock for OffsetClock {
    fn now(&self) -> Timestamp {
        let offset = self.offset_ms.load(Ordering::Relaxed);
        Timestamp::from_millis(SystemClock.now().as_millis().saturating_add(offset))
    }
}
