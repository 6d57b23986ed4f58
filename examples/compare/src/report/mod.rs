//! The report: what was measured, for people and for programs.

mod text;

use serde::Serialize;

use crate::load::arrivals::Workload;
use crate::measures::Measured;
use crate::options::Options;

/// Everything that is shown, as it is in `report.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// When the run began, in seconds since 1970.
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

    /// The table of all figures, for a terminal.
    pub fn text(&self) -> String {
        text::table(self)
    }
}
