//! The clocks of a machine.

use std::time::Duration;

use steadfast_core::Timestamp;

use crate::process::Now;

/// The clocks of one machine.
#[derive(Clone, Debug)]
pub struct Clock {
    /// How much faster the monotonic clock is than true time, in millionths; negative if slower.
    drift: i64,
    /// How far the wall clock is ahead.
    ahead: Duration,
    behind: Duration,
}

impl Clock {
    /// Where true time begins.
    pub const BEGINNING: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// A clock that is right but for its rate.
    pub fn new(drift: i64) -> Self {
        Self { drift, ahead: Duration::ZERO, behind: Duration::ZERO }
    }

    /// What it shows at a time. Only the monotonic clock drifts: the other one is corrected.
    pub fn at(&self, time: Duration) -> Now {
        let micros = time.as_micros() as i64;
        let mono = Duration::from_micros((micros + micros / 1_000 * self.drift / 1_000) as u64);
        Now { mono, wall: Self::BEGINNING + time + self.ahead - self.behind }
    }

    /// Sets the wall clock ahead of true time, and behind it.
    pub fn set_wall(&mut self, ahead: Duration, behind: Duration) {
        (self.ahead, self.behind) = (ahead, behind);
    }

    /// Whether the wall clock shows roughly true time.
    pub fn is_right(&self) -> bool {
        self.ahead.max(self.behind) < Duration::from_secs(1)
    }
}
