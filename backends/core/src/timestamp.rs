//! Points in time in whole milliseconds, which every store can keep without rounding.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::ser::{Error, Serialize, Serializer};
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time: whole milliseconds since 1970-01-01 00:00 UTC.
///
/// Records, patches and [`Env::now`](crate::Env::now) use it; applications see
/// [`UtcDateTime`], and [`From`] converts either way. All arithmetic saturates at the ends of the
/// calendar (the years −9999 and 9999), so a conversion never fails.
///
/// ```
/// use std::time::Duration;
/// use steadfast_core::Timestamp;
///
/// let start = Timestamp::from_millis(1_000);
/// let later = start + Duration::from_secs(2);
/// assert_eq!(later.as_millis(), 3_000);
/// assert_eq!(later.since(start), Duration::from_secs(2));
/// assert_eq!(start.since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01 00:00 UTC.
    pub const UNIX_EPOCH: Self = Self(0);
    /// The first millisecond of the calendar.
    pub const MIN: Self = Self(-377_705_116_800_000);
    /// The last millisecond of the calendar.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// Returns the time this many milliseconds after the Unix epoch, clamped to the calendar.
    pub const fn from_millis(millis: i64) -> Self {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the time since `earlier`, or zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        let millis = self.0 - earlier.0;
        Duration::from_millis(if millis > 0 { millis as u64 } else { 0 })
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(whole_millis(span)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(whole_millis(span)))
    }
}

impl From<UtcDateTime> for Timestamp {
    /// Truncates to milliseconds.
    fn from(at: UtcDateTime) -> Self {
        Self(at.unix_timestamp() * 1_000 + i64::from(at.millisecond()))
    }
}

impl From<Timestamp> for UtcDateTime {
    fn from(at: Timestamp) -> Self {
        Self::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000)
            .expect("a timestamp is within the calendar")
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        UtcDateTime::from(*self).fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn whole_millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Formats a time as RFC 3339, for answers of applications.
pub(crate) fn rfc3339<S: Serializer>(at: &UtcDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    at.format(&Rfc3339).map_err(S::Error::custom)?.serialize(serializer)
}

/// Formats an optional time as RFC 3339 or `null`.
pub(crate) fn rfc3339_or_null<S: Serializer>(
    at: &Option<UtcDateTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => rfc3339(at, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_those_of_the_calendar() {
        assert_eq!(Timestamp::from(UtcDateTime::MIN), Timestamp::MIN);
        assert_eq!(Timestamp::from(UtcDateTime::MAX), Timestamp::MAX);
        assert_eq!(UtcDateTime::from(Timestamp::MIN), UtcDateTime::MIN);
        assert!(UtcDateTime::from(Timestamp::MAX) <= UtcDateTime::MAX);
    }

    #[test]
    fn arithmetic_saturates_at_the_bounds() {
        assert_eq!(Timestamp::UNIX_EPOCH + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::UNIX_EPOCH - Duration::MAX, Timestamp::MIN);
        assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(i64::MIN), Timestamp::MIN);
    }

    #[test]
    fn a_time_before_the_epoch_keeps_its_millisecond() {
        let at = Timestamp::from_millis(-1_500);
        assert_eq!(Timestamp::from(UtcDateTime::from(at)), at);
    }
}
