//! Stamps of writes, for the merge of diverged copies.

use steadfast_core::Timestamp;

use crate::member::Boot;

/// The time of a write, and its boot.
///
/// Stamps order writes to one key in copies that went apart; they decide nothing else. A stamp is
/// above those that it follows, even if the wall clock jumps (Kulkarni et al., "Logical Physical
/// Clocks", 2014).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
    pub time: u64,
    /// The first 32 bits of the boot.
    pub writer: u32,
}

impl Stamp {
    /// The stamp before every write.
    pub const ZERO: Self = Self { time: 0, writer: 0 };

    /// The stamp of a write that follows another one.
    #[must_use]
    pub fn followed_by(self, writer: Boot, wall: Timestamp) -> Self {
        let millis = u64::try_from(wall.as_millis()).unwrap_or(0);
        let time = self.time.saturating_add(1).max(millis.saturating_mul(1 << 16));
        Self { time, writer: writer.prefix() }
    }

    /// The time by the wall clock, or a little later.
    pub fn wall(self) -> Timestamp {
        Timestamp::from_millis((self.time >> 16) as i64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::epoch::tests::boot;

    #[test]
    fn stamps_grow_whatever_the_clock_does() {
        let noon = Timestamp::UNIX_EPOCH + Duration::from_secs(43_200);
        let first = Stamp::ZERO.followed_by(boot(1), noon);
        assert_eq!(first.time, 43_200_000 << 16);
        let second = first.followed_by(boot(2), Timestamp::UNIX_EPOCH);
        assert!(second > first);
        let last = Stamp { time: u64::MAX, writer: 1 };
        assert_eq!(last.followed_by(boot(1), noon).time, u64::MAX, "it saturates");
    }
}
