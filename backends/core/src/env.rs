//! The clock and the source of randomness, injected so that tests can replace both.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::timestamp::Timestamp;

/// The time and the randomness that a store and the middleware use.
///
/// The middleware uses the environment of its store, so that both agree on the time.
#[derive(Clone, Debug)]
pub struct Env {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Env {
    /// Uses the system's clock and randomness.
    pub fn system() -> Self {
        Self::new(SystemClock, SystemRandom)
    }

    /// Uses the given clock and randomness.
    pub fn new(clock: impl Clock, random: impl Random) -> Self {
        Self { clock: Arc::new(clock), random: Arc::new(random) }
    }

    /// Uses the given clock and the system's randomness.
    pub fn with_clock(clock: impl Clock) -> Self {
        Self::new(clock, SystemRandom)
    }

    /// Returns the time in whole milliseconds, which every store can keep without rounding.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Fills `bytes` with random bits.
    ///
    /// # Errors
    ///
    /// Returns an error when the source of randomness fails.
    pub fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.random.fill(bytes)
    }
}

impl Default for Env {
    fn default() -> Self {
        Self::system()
    }
}

/// A source of time. It decides when records expire, and nothing else.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp::UNIX_EPOCH + since,
            Err(early) => Timestamp::UNIX_EPOCH - early.duration(),
        }
    }
}

/// A clock for tests that only moves when a test moves it. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// Creates a clock that stands at `start`.
    pub fn new(start: impl Into<Timestamp>) -> Self {
        Self(Arc::new(AtomicI64::new(start.into().as_millis())))
    }

    /// Moves the clock forward, at most to the end of the calendar.
    pub fn advance(&self, by: Duration) {
        let later = |now| Some((Timestamp::from_millis(now) + by).as_millis());
        let moved = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
        moved.expect("every time has a later one");
    }

    /// Sets the clock, also to an earlier time.
    pub fn set(&self, to: impl Into<Timestamp>) {
        self.0.store(to.into().as_millis(), Ordering::Release);
    }
}

impl Default for ManualClock {
    /// Starts at 2026-01-01 00:00 UTC.
    fn default() -> Self {
        Self::new(Timestamp::UNIX_EPOCH + Duration::from_secs(20_454 * 86_400))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Acquire))
    }
}

/// A source of randomness. In production, it is the operating system's generator.
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes` with unpredictable bits.
    ///
    /// # Errors
    ///
    /// Returns an error when the source fails. The request then fails too; no weaker source is
    /// used.
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
#[error("the source of randomness failed")]
pub struct RandomError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stays_within_the_calendar() {
        let clock = ManualClock::default();
        clock.advance(Duration::MAX);
        assert_eq!(Env::with_clock(clock).now(), Timestamp::MAX);
    }
}
