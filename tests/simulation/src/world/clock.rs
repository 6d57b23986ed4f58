//! The clocks of a machine.

use std::time::Duration;

use steadfast_core::Timestamp;

use crate::process::Now;

/// The clocks of one machine.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The drift of the monotonic clock from true time, in millionths. Negative if it is slow.
    drift: i64,
    /// The lead of the wall clock over true time.
    ahead: Duration,
    behind: Duration,
}

impl Clock {
    /// The start of true time.
    pub const BEGINNING: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// Creates a clock that is right except for its rate.
    pub fn new(drift: i64) -> Self {
        Self { drift, ahead: Duration::ZERO, behind: Duration::ZERO }
    }

    /// Returns the clocks at a time. Only the monotonic clock drifts, because the wall clock is
    /// corrected.
    pub fn at(&self, time: Duration) -> Now {
        let micros = time.as_micros() as i64;
        let mono = Duration::from_micros((micros + micros / 1_000 * self.drift / 1_000) as u64);
        Now { mono, wall: Self::BEGINNING + time + self.ahead - self.behind }
    }

    /// Sets the lead and the lag of the wall clock relative to true time.
    pub fn set_wall(&mut self, ahead: Duration, behind: Duration) {
        (self.ahead, self.behind) = (ahead, behind);
    }

    /// Returns true if the wall clock shows roughly true time.
    pub fn is_right(&self) -> bool {
        self.ahead.max(self.behind) < Duration::from_secs(1)
    }
}
