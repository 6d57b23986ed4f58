//! Session lifetimes: an idle and an absolute bound.

use std::fmt;
use std::time::Duration;

use crate::timestamp::Timestamp;

/// The idle and the absolute lifetime of a session. Both are mandatory.
///
/// A session ends when it has been unused for the *idle* lifetime; each request extends it. It also
/// ends after the *absolute* lifetime, however much it is used; only a sign-in restarts that. A
/// session ends between 95 and 100 % of the idle lifetime after its last request, because the idle
/// deadline is extended at most once per 1/20 of the idle lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    idle: Duration,
    absolute: Duration,
}

impl Lifetime {
    /// OWASP Session Management Cheat Sheet, low-risk application: idle 30 min, absolute 8 h. The default.
    pub const OWASP_LOW_RISK: Self = Self::seconds(30 * MINUTE, 8 * HOUR);
    /// OWASP Session Management Cheat Sheet, high-value application: idle 5 min, absolute 4 h.
    pub const OWASP_HIGH_VALUE: Self = Self::seconds(5 * MINUTE, 4 * HOUR);
    /// NIST SP 800-63B-4 (July 2025), 2.1.3, assurance level 1: absolute 30 d. It asks for no idle limit.
    pub const NIST_AAL1: Self = Self::seconds(30 * DAY, 30 * DAY);
    /// NIST SP 800-63B-4 (July 2025), 2.2.3, assurance level 2: idle 1 h, absolute 24 h.
    pub const NIST_AAL2: Self = Self::seconds(HOUR, DAY);
    /// NIST SP 800-63B-4 (July 2025), 2.3.3, assurance level 3: idle 15 min, absolute 12 h.
    pub const NIST_AAL3: Self = Self::seconds(15 * MINUTE, 12 * HOUR);

    /// The longest absolute lifetime, 400 days: browsers keep no cookie longer (RFC 6265bis, 5.5).
    pub const MAX: Duration = Duration::from_secs(400 * DAY);

    /// Creates a lifetime with a resolution of one millisecond.
    ///
    /// # Errors
    ///
    /// Returns an error when either is under a second, `absolute` exceeds [`Lifetime::MAX`], or
    /// `idle` exceeds `absolute`.
    pub const fn new(idle: Duration, absolute: Duration) -> Result<Self, LifetimeError> {
        let (least, most) = (Duration::from_secs(1), Self::MAX);
        let fits =
            is_at_most(least, idle) && is_at_most(idle, absolute) && is_at_most(absolute, most);
        if fits {
            Ok(Self { idle: whole_millis(idle), absolute: whole_millis(absolute) })
        } else {
            Err(LifetimeError { idle, absolute })
        }
    }

    /// Creates a lifetime in a constant, so that an invalid one fails to compile.
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_core::Lifetime;
    ///
    /// const SHORT: Lifetime = Lifetime::of(Duration::from_secs(300), Duration::from_secs(3_600));
    /// ```
    ///
    /// ```compile_fail
    /// use std::time::Duration;
    /// use steadfast_core::Lifetime;
    ///
    /// const TOO_LONG: Lifetime = Lifetime::of(Duration::from_secs(300), Duration::MAX);
    /// ```
    ///
    /// # Panics
    ///
    /// Panics where [`new`](Self::new) returns an error.
    pub const fn of(idle: Duration, absolute: Duration) -> Self {
        match Self::new(idle, absolute) {
            Ok(lifetime) => lifetime,
            Err(_) => panic!("a lifetime is 1 s to 400 days, and the idle one is not the longer"),
        }
    }

    /// Returns the time that an unused session lives.
    pub const fn idle(&self) -> Duration {
        self.idle
    }

    /// Returns the time that a session lives at most, counted from its sign-in.
    pub const fn absolute(&self) -> Duration {
        self.absolute
    }

    /// Returns the idle deadline of a session that is used at `now`.
    pub fn idle_deadline(&self, now: Timestamp) -> Timestamp {
        now + self.idle
    }

    /// Returns the absolute deadline of a session that begins at `now`.
    pub fn absolute_deadline(&self, now: Timestamp) -> Timestamp {
        now + self.absolute
    }

    /// Returns the shortest time between two extensions of the idle deadline: 1/20 of the idle
    /// lifetime.
    pub const fn touch_interval(&self) -> Duration {
        Duration::from_millis(self.idle.as_millis() as u64 / 20)
    }

    /// Returns this lifetime, shortened to the given bounds.
    pub(crate) fn shorter(&self, idle: Option<Duration>, absolute: Option<Duration>) -> Self {
        let absolute = absolute.map_or(self.absolute, |own| own.min(self.absolute));
        let idle = idle.map_or(self.idle, |own| own.min(self.idle)).min(absolute);
        Self { idle, absolute }
    }

    const fn seconds(idle: u64, absolute: u64) -> Self {
        Self { idle: Duration::from_secs(idle), absolute: Duration::from_secs(absolute) }
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self::OWASP_LOW_RISK
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "idle {}, absolute {}", spoken(self.idle), spoken(self.absolute))
    }
}

/// An invalid lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a lifetime of idle {idle:?}, absolute {absolute:?} cannot be: \
     use 1 s to 400 days, and an idle one that is not the longer"
)]
#[non_exhaustive]
pub struct LifetimeError {
    /// The given idle lifetime.
    pub idle: Duration,
    /// The given absolute lifetime.
    pub absolute: Duration,
}

const fn is_at_most(this: Duration, that: Duration) -> bool {
    this.as_nanos() <= that.as_nanos()
}

/// Rounds down to milliseconds. Every valid lifetime fits in a `u64` by far.
const fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis() as u64)
}

/// Formats a duration in the largest unit that divides it.
fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    for (unit, name) in [(DAY, "d"), (HOUR, "h"), (MINUTE, "min")] {
        if duration.subsec_millis() == 0 && seconds.is_multiple_of(unit) {
            return format!("{} {name}", seconds / unit);
        }
    }
    format!("{} s", duration.as_secs_f64())
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows TO-10.
    #[test]
    fn the_presets_are_the_published_ones() {
        let said = |lifetime: Lifetime| lifetime.to_string();
        assert_eq!(said(Lifetime::default()), "idle 30 min, absolute 8 h");
        assert_eq!(said(Lifetime::OWASP_HIGH_VALUE), "idle 5 min, absolute 4 h");
        assert_eq!(said(Lifetime::NIST_AAL1), "idle 30 d, absolute 30 d");
        assert_eq!(said(Lifetime::NIST_AAL2), "idle 1 h, absolute 1 d");
        assert_eq!(said(Lifetime::NIST_AAL3), "idle 15 min, absolute 12 h");
    }

    /// Shows TO-11.
    #[test]
    fn a_lifetime_that_cannot_be_is_refused() {
        let s = Duration::from_secs;
        assert!(Lifetime::new(s(1), s(1)).is_ok());
        assert!(Lifetime::new(s(1), Lifetime::MAX).is_ok());
        for (idle, absolute) in [
            (s(0), s(1)),
            (s(2), s(1)),
            (s(1), Lifetime::MAX + s(1)),
            (Duration::MAX, Duration::MAX),
        ] {
            assert!(Lifetime::new(idle, absolute).is_err(), "{idle:?} {absolute:?}");
        }
    }

    #[test]
    fn a_constant_is_the_lifetime_it_says() {
        const LIFETIME: Lifetime = Lifetime::of(Duration::from_secs(60), Lifetime::MAX);
        assert_eq!(Ok(LIFETIME), Lifetime::new(Duration::from_secs(60), Lifetime::MAX));
    }

    #[test]
    #[should_panic(expected = "the idle one is not the longer")]
    fn a_lifetime_that_cannot_be_panics() {
        let _ = Lifetime::of(Duration::from_secs(2), Duration::from_secs(1));
    }

    #[test]
    fn a_deadline_stays_within_the_calendar() {
        let lifetime = Lifetime::default();
        assert_eq!(lifetime.absolute_deadline(Timestamp::MAX), Timestamp::MAX);
    }
}
