//! The clock and the randomness of an application, injected so that both can be simulated.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::UtcDateTime;

use crate::timestamp::Timestamp;

/// What a store and the middleware in front of it take from the outside: time and randomness.
///
/// The middleware uses the environment of its store, so that the two never disagree on the time.
#[derive(Clone, Debug)]
pub struct Env {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Env {
    /// The system's clock and the system's randomness.
    pub fn system() -> Self {
        Self::new(SystemClock, SystemRandom)
    }

    /// An environment of one's own.
    pub fn new(clock: impl Clock, random: impl Random) -> Self {
        Self { clock: Arc::new(clock), random: Arc::new(random) }
    }

    /// The system's randomness beside another clock.
    pub fn with_clock(clock: impl Clock) -> Self {
        Self::new(clock, SystemRandom)
    }

    /// The time, in whole milliseconds: what every store can keep without rounding.
    pub fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    /// Fills `bytes` with randomness.
    ///
    /// # Errors
    ///
    /// When there is none to be had.
    pub fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.random.fill(bytes)
    }
}

impl Default for Env {
    fn default() -> Self {
        Self::system()
    }
}

/// Where the time comes from. It decides expiry and nothing else.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> UtcDateTime;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UtcDateTime {
        UtcDateTime::now()
    }
}

/// A clock that moves when it is told to, for tests. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<UtcDateTime>>);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: UtcDateTime) -> Self {
        Self(Arc::new(Mutex::new(start)))
    }

    /// Moves the clock forward, at most to the end of the calendar.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = UtcDateTime::from(Timestamp::from(*now) + by);
    }

    /// Puts the clock at a time, also an earlier one.
    pub fn set(&self, to: impl Into<UtcDateTime>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to.into();
    }
}

impl Default for ManualClock {
    /// Stands at 2026-01-01 00:00 UTC.
    fn default() -> Self {
        Self::new(UtcDateTime::UNIX_EPOCH + time::Duration::days(20_454))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UtcDateTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where randomness comes from; in production, the operating system's generator.
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes` with unpredictable bits.
    ///
    /// # Errors
    ///
    /// When there are none to be had; the request then fails, and nothing weaker is used.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        getrandom::fill(bytes).map_err(|source| RandomError(Box::new(source)))
    }
}

/// The source of randomness failed.
#[derive(Debug, thiserror::Error)]
#[error("no randomness to be had")]
pub struct RandomError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stops_at_the_end_of_the_calendar() {
        let clock = ManualClock::default();
        clock.advance(Duration::MAX);
        assert_eq!(Env::with_clock(clock).now(), Timestamp::MAX);
    }
}
