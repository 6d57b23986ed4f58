//! Memory that any load takes, independent of the number of sessions: connections, and buffers that
//! grow once.
//!
//! Unit costs compare a service without load with one full of sessions, so they count this memory
//! as part of the sessions. The calm load has fewer sessions, and so separates the two.

use crate::report::Report;
use crate::units::Units;

/// Returns the unit costs of a report, with that memory counted as part of an empty node or server.
pub(super) fn under_load(report: &Report) -> Vec<Units> {
    let mut all = report.units.clone();
    for units in &mut all {
        let Some(calm) = report.strategies.iter().find(|one| one.id == units.strategy) else {
            continue;
        };
        let few = report.workload.sessions as f64;
        let extra = |key, of: fn(&Units) -> (f64, f64)| {
            let small = calm.figure(key)? * 1_048_576.0;
            let same = report.units.iter().find(|one| {
                one.strategy == units.strategy
                    && one.nodes == report.nodes
                    && one.value_bytes == report.workload.value_bytes
                    && one.sessions as f64 > few
            })?;
            let ((base, session), many) = (of(same), same.sessions as f64);
            let slope = (base + session * many - small) / (many - few);
            Some((small - slope.max(0.0) * few - base).max(0.0))
        };
        let node = extra("node_mb", |one| (one.node_base, one.node_session)).unwrap_or(0.0);
        let server = extra("server_mb", |one| (one.server_base, one.server_session)).unwrap_or(0.0);
        let sessions = units.sessions as f64;
        units.node_base += node;
        units.node_session = (units.node_session - node / sessions).max(0.0);
        units.server_base += server;
        units.server_session = (units.server_session - server / sessions).max(0.0);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::measured as units;
    use crate::report::tests::{measured, report};
    use crate::strategy::Strategy;

    #[test]
    fn memory_under_load_belongs_to_no_session() {
        // 5 MB without sessions, 1 MB under any load, and 1,000 sessions of 400 bytes.
        let mut report = report(vec![measured("Redis", &[("node_mb", 6.12e6 / 1_048_576.0)])]);
        report.units = units(Strategy::Redis, |_| 0.0);
        report.units.iter_mut().for_each(|one| one.node_session = 1_400.0);
        for one in under_load(&report) {
            assert!((one.node_base - 6e6).abs() < 1.0, "{one:?}");
            assert!((one.node_session - 400.0).abs() < 0.01, "{one:?}");
            assert_eq!(one.server_base, 0.0);
        }
    }

    #[test]
    fn units_stay_without_a_calm_load() {
        let mut report = report(Vec::new());
        report.units = units(Strategy::Redis, |_| 0.0);
        assert_eq!(under_load(&report)[0].node_session, 500.0);
    }
}
