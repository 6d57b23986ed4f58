//! How much the store may hold.

/// How many records and how many bytes a store holds of one kind of session; both bounds hold.
///
/// At the bound, the session that was not used for the longest time ends. Eviction follows the
/// writes by about a hundred records, and by a thousand while many threads write at once. A record
/// that is larger than the whole budget ends every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Records, at least 1.
    pub records: u64,
    /// Bytes of memory, those of the bookkeeping included. Each record counts for the next power of
    /// two of what it takes, 512 for a small one.
    pub bytes: u64,
}

impl Budget {
    /// 100,000 records in 256 MiB: the default for sessions that nobody signed in to.
    pub const ANONYMOUS: Self = Self { records: 100_000, bytes: 256 << 20 };

    /// 1,000,000 records in 1 GiB: the default for sessions that somebody signed in to.
    pub const AUTHENTICATED: Self = Self { records: 1_000_000, bytes: 1 << 30 };

    /// What a record weighs at least, so that the weights bound the number of records, too.
    pub(crate) fn least_weight(self) -> u64 {
        (self.bytes / self.records.max(1)).max(1)
    }

    /// The sum of weights to hold: exactly `records` of the least weight, never over `bytes`.
    pub(crate) fn capacity(self) -> u64 {
        let capacity = self.least_weight().saturating_mul(self.records.max(1));
        capacity.min(self.bytes).max(1)
    }

    /// What a record of so many bytes weighs. Never more than there is room for: it would not stay.
    pub(crate) fn weight(self, bytes: u64) -> u32 {
        let weight = bytes.max(self.least_weight()).min(self.capacity());
        u32::try_from(weight).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_follow_from_the_weights() {
        let budget = Budget::ANONYMOUS;
        assert_eq!(budget.capacity() / u64::from(budget.weight(1)), budget.records);
        assert!(budget.capacity() <= budget.bytes);
        assert_eq!(budget.weight(1 << 16), 1 << 16);
    }

    #[test]
    fn a_record_always_fits_alone() {
        for (records, bytes) in [(0, 0), (1, 10), (10, 1), (3, 100)] {
            let budget = Budget { records, bytes };
            assert!(u64::from(budget.weight(1 << 20)) <= budget.capacity(), "{budget:?}");
        }
    }
}
