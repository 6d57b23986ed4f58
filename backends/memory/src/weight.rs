//! What records weigh against a budget.

use steadfast_core::Budget;

/// The weights of one budget: one sum of them stands for both of its bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// What a record weighs at least, so that the weights bound the number of records, too.
    least: u64,
    /// The sum of weights to hold: exactly as many records of the least weight as the budget has,
    /// never over its bytes.
    pub(crate) capacity: u64,
}

impl Scale {
    pub(crate) fn of(budget: Budget) -> Self {
        let records = budget.records.max(1);
        let least = (budget.bytes / records).max(1);
        let capacity = least.saturating_mul(records).min(budget.bytes).max(1);
        Self { least, capacity }
    }

    /// What a record of so many bytes weighs. Never more than there is room for: it would not stay.
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
