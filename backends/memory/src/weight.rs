//! The weights of records against a budget.

use steadfast_core::Budget;

/// Weighs records so that one sum enforces both bounds of a budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// The least weight of a record. It bounds the number of records.
    least: u64,
    /// The highest sum of weights: as many records of the least weight as the budget allows, and
    /// never more than its bytes.
    pub(crate) capacity: u64,
}

impl Scale {
    pub(crate) fn of(budget: Budget) -> Self {
        let records = budget.records.max(1);
        let least = (budget.bytes / records).max(1);
        let capacity = least.saturating_mul(records).min(budget.bytes).max(1);
        Self { least, capacity }
    }

    /// Returns the weight of a record of `bytes`, at most the capacity: a heavier record could
    /// never stay.
    pub(crate) fn weight(self, bytes: u64) -> u32 {
        let weight = bytes.max(self.least).min(self.capacity);
        u32::try_from(weight).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_follow_from_the_weights() {
        let (budget, scale) = (Budget::ANONYMOUS, Scale::of(Budget::ANONYMOUS));
        assert_eq!(scale.capacity / u64::from(scale.weight(1)), budget.records);
        assert!(scale.capacity <= budget.bytes);
        assert_eq!(scale.weight(1 << 16), 1 << 16);
    }

    #[test]
    fn a_record_always_fits_alone() {
        for (records, bytes) in [(0, 0), (1, 10), (10, 1), (3, 100)] {
            let scale = Scale::of(Budget { records, bytes });
            assert!(u64::from(scale.weight(1 << 20)) <= scale.capacity, "{scale:?}");
        }
    }
}
