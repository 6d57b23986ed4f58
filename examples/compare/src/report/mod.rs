//! The report, for people and for programs.

mod page;
mod verdict;
mod choice;
mod table;
mod timeline;
mod picture;
mod promises;
mod model;
mod text;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::load::arrivals::Workload;
use crate::measures::Measured;
use crate::model::check::Checked;
use crate::options::Options;
use crate::units::Units;

/// All contents of the report, as in `report.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Seconds for which a node or a server is stopped.
    #[serde(default)]
    pub hold_seconds: f64,
    /// Seconds of load after a fault.
    pub after_seconds: f64,
    /// How often each contestant ran.
    #[serde(default)]
    pub repeats: usize,
    /// One for each contestant.
    pub strategies: Vec<Measured>,
    /// Unit costs, at one size or more.
    #[serde(default)]
    pub units: Vec<Units>,
    /// Sizes at which the model is checked.
    #[serde(default)]
    pub checks: Vec<Checked>,
}

/// The machine that measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
            hold_seconds: options.pace.hold.as_secs_f64(),
            after_seconds: options.pace.after.as_secs_f64(),
            repeats: options.repeats,
            strategies: Vec::new(),
            units: Vec::new(),
            checks: Vec::new(),
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

    /// Reads a report for programs.
    ///
    /// # Errors
    ///
    /// If the text is no such report.
    pub fn parse(json: &str) -> anyhow::Result<Self> {
        serde_json::from_str(json).context("the file is not a report of a comparison")
    }

    /// The report that is kept in the repository.
    ///
    /// # Panics
    ///
    /// Never: a test reads it.
    pub fn committed() -> Self {
        Self::parse(COMMITTED).expect("the report in the repository is one")
    }

    /// The page for people, which holds the same figures.
    ///
    /// # Errors
    ///
    /// If a figure is not a number.
    pub fn html(&self) -> anyhow::Result<String> {
        Ok(page::page(self, &self.json()?))
    }

    /// A chart of what was lost, came back, or failed.
    pub fn promises(&self) -> String {
        promises::promises(self)
    }

    /// The table of all figures and the verdict, for a terminal.
    pub fn text(&self) -> String {
        text::table(self) + "\n" + &verdict::verdict(self).join("\n") + "\n"
    }

    /// The day on which the run began, in UTC.
    pub fn date(&self) -> String {
        let began = i64::try_from(self.began).ok();
        let began = began.and_then(|began| time::OffsetDateTime::from_unix_timestamp(began).ok());
        began.map(|began| began.date().to_string()).unwrap_or_default()
    }
}

const COMMITTED: &str = include_str!("../../results/report.json");

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::measures::{self, Timeline};

    #[test]
    fn the_committed_report_is_read() {
        assert!(!Report::committed().strategies.is_empty());
        let error = Report::parse("{}").unwrap_err();
        assert_eq!(error.to_string(), "the file is not a report of a comparison");
    }

    #[test]
    fn the_report_has_the_day_of_the_run() {
        let report = Report { began: 1_795_996_800, ..report(Vec::new()) };
        assert_eq!(report.date(), "2026-11-30");
    }

    /// A report of contestants.
    pub(crate) fn report(strategies: Vec<Measured>) -> Report {
        Report { strategies, ..Report::new(&Options::default()) }
    }

    /// A contestant with some figures, which met a kill.
    pub(crate) fn measured(title: &'static str, figures: &[(&'static str, f64)]) -> Measured {
        let none = measures::all().map(|measure| (measure.key.to_owned(), None));
        let given = figures.iter().map(|(key, value)| ((*key).to_owned(), Some(*value)));
        let zero = || vec![0];
        let kill = Timeline {
            fault: "kill".to_owned(),
            interval_ms: 100,
            fault_ms: 0,
            good: zero(),
            stale: zero(),
            signed_out: zero(),
            failed: zero(),
        };
        Measured {
            id: "redis".to_owned(),
            title: title.to_owned(),
            summary: String::new(),
            measures: none.chain(given).collect(),
            ranges: std::collections::BTreeMap::new(),
            node_requests: vec![1],
            node_sessions: None,
            faults: vec![kill],
            others_percent: 0.0,
        }
    }
}
