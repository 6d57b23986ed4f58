//! The few statistics that the report needs.

/// The value that a share of all values does not exceed, by the nearest rank. `None` without values.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// The largest count over the mean count: 1 is perfectly even. `None` if all counts are 0.
pub fn skew(counts: &[u64]) -> Option<f64> {
    let sum: u64 = counts.iter().sum();
    let largest = *counts.iter().max()?;
    (sum > 0).then(|| largest as f64 * counts.len() as f64 / sum as f64)
}

/// `part / whole` in percent. `None` if the whole is 0.
pub fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 * 100.0 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<_> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), Some(50.0));
        assert_eq!(quantile(&values, 0.99), Some(99.0));
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&[3.0], 0.99), Some(3.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn skew_compares_the_busiest_with_the_mean() {
        assert_eq!(skew(&[5, 5, 5]), Some(1.0));
        assert_eq!(skew(&[9, 0, 0]), Some(3.0));
        assert_eq!(skew(&[0, 0]), None);
    }

    #[test]
    fn a_share_of_nothing_is_undefined() {
        assert_eq!(percent(1, 4), Some(25.0));
        assert_eq!(percent(0, 0), None);
    }
}
