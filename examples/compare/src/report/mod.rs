//! The report: what was measured, for people and for programs.

mod page;
mod verdict;
mod table;
mod timeline;
mod picture;
mod text;

use serde::Serialize;

use crate::load::arrivals::Workload;
use crate::measures::Measured;
use crate::options::Options;

/// Everything that is shown, as it is in `report.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The beginning of the run, in seconds since 1970.
    pub began: u64,
    /// The machine.
    pub machine: Machine,
    /// The number of nodes.
    pub nodes: usize,
    /// The traffic.
    pub workload: Workload,
    /// Seconds of the calm load.
    pub calm_seconds: f64,
    /// Seconds of load after a fault.
    pub after_seconds: f64,
    /// One for each contestant.
    pub strategies: Vec<Measured>,
}

/// The machine that measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processors.
    pub cores: usize,
    /// True if the programs were built without optimization.
    pub is_debug_build: bool,
}

impl Report {
    /// A report without contestants.
    pub fn new(options: &Options) -> Self {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            began: since.as_secs(),
            machine: Machine { cores, is_debug_build: cfg!(debug_assertions) },
            nodes: options.nodes,
            workload: options.workload,
            calm_seconds: options.pace.calm.as_secs_f64(),
            after_seconds: options.pace.after.as_secs_f64(),
            strategies: Vec::new(),
        }
    }

    /// The report for programs.
    ///
    /// # Errors
    ///
    /// If a figure is not a number.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The page for people, which holds the same figures.
    ///
    /// # Errors
    ///
    /// If a figure is not a number.
    pub fn html(&self) -> anyhow::Result<String> {
        Ok(page::page(self, &self.json()?))
    }

    /// The table of all figures and the verdict, for a terminal.
    pub fn text(&self) -> String {
        text::table(self) + "\n" + &verdict::verdict(self).join("\n") + "\n"
    }

    /// The day on which the run began, in UTC.
    fn date(&self) -> String {
        let began = i64::try_from(self.began).ok();
        let began = began.and_then(|began| time::OffsetDateTime::from_unix_timestamp(began).ok());
        began.map(|began| began.date().to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measures::{self, Timeline};

    #[test]
    fn the_report_has_the_day_of_the_run() {
        let report = Report { began: 1_795_996_800, ..report(Vec::new()) };
        assert_eq!(report.date(), "2026-11-30");
    }

    /// A report of contestants.
    pub(super) fn report(strategies: Vec<Measured>) -> Report {
        Report { strategies, ..Report::new(&Options::default()) }
    }

    /// A contestant with some figures, which met a kill.
    pub(super) fn measured(title: &'static str, figures: &[(&'static str, f64)]) -> Measured {
        let none = measures::all().map(|measure| (measure.key, None));
        let given = figures.iter().map(|(key, value)| (*key, Some(*value)));
        let zero = || vec![0];
        let kill = Timeline {
            fault: "kill",
            interval_ms: 100,
            fault_ms: 0,
            good: zero(),
            stale: zero(),
            signed_out: zero(),
            failed: zero(),
        };
        Measured {
            id: "redis",
            title,
            summary: "",
            measures: none.chain(given).collect(),
            node_requests: vec![1],
            node_sessions: None,
            faults: vec![kill],
            others_percent: 0.0,
        }
    }
}
