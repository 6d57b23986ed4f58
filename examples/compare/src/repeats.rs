//! Several runs of one contestant as one: medians, and the ranges that they came from.

use crate::measures::Measured;

/// The median of each figure, with the lowest and the highest. Everything else is that of the first run.
/// `None` without runs.
pub fn merge(runs: &[Measured]) -> Option<Measured> {
    let mut merged = runs.first()?.clone();
    if runs.len() == 1 {
        return Some(merged);
    }
    for (key, value) in &mut merged.measures {
        let figures = runs.iter().filter_map(|run| run.measures.get(key).copied().flatten());
        let mut figures: Vec<_> = figures.collect();
        figures.sort_by(f64::total_cmp);
        if let (Some(lowest), Some(highest)) = (figures.first(), figures.last()) {
            *value = Some(figures[(figures.len() - 1) / 2]);
            merged.ranges.insert(key.clone(), (*lowest, *highest));
        }
    }
    merged.others_percent = runs.iter().map(|run| run.others_percent).fold(0.0, f64::max);
    Some(merged)
}

/// True if all runs were within 15 % of the one in the middle.
pub fn repeats((lowest, highest): (f64, f64), median: f64) -> bool {
    highest - median <= median * CLOSE && median - lowest <= median * CLOSE
}

const CLOSE: f64 = 0.15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::measured;

    #[test]
    fn repeats_have_a_median_and_a_range() {
        let runs = [9.0, 4.0, 5.0].map(|value| measured("Redis", &[("read_p99_ms", value)]));
        let merged = merge(&runs).unwrap();
        assert_eq!(merged.figure("read_p99_ms"), Some(5.0));
        assert_eq!(merged.ranges["read_p99_ms"], (4.0, 9.0));
        assert!(!merged.ranges.contains_key("stale_reads"), "no run has it");
        assert!(merge(&runs[..1]).unwrap().ranges.is_empty());
        assert!(merge(&[]).is_none());
    }

    #[test]
    fn figures_repeat_within_fifteen_percent() {
        assert!(repeats((9.0, 11.0), 10.0));
        assert!(!repeats((9.0, 12.0), 10.0));
        assert!(repeats((0.0, 0.0), 0.0));
    }
}
