//! The command line of the comparison, checked before anything starts.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::fault::Fault;
use crate::load::arrivals::{Skew, Workload};
use crate::model::check::DRAWN;
use crate::strategy::{Program, Strategy};

/// A comparison to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The contestants, in the order in which they run.
    pub strategies: Vec<Strategy>,
    /// The number of nodes of each contestant: 2 to 5.
    pub nodes: usize,
    /// The traffic, the same for every contestant.
    pub workload: Workload,
    /// The length of each phase.
    pub pace: Pace,
    /// The faults that each contestant meets.
    pub faults: Vec<Fault>,
    /// The directory that the report is written to.
    pub out: PathBuf,
    /// The program of the nodes. Without it, cargo builds `reference`.
    pub reference: Option<PathBuf>,
    /// The server of the baseline. Without it, cargo builds `peer` of `examples/benchmark`.
    pub peer: Option<PathBuf>,
    /// Sessions that are weighed for unit costs. 0 for no unit costs.
    pub weighed: usize,
    /// How often each contestant runs.
    pub repeats: usize,
    /// True for a run that measures unit costs at more sizes, checks the model, and resumes.
    pub is_full: bool,
    /// Drawn sizes at which the model is checked.
    pub checks: usize,
}

/// The length of the phases of one contestant.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Load without a fault.
    pub calm: Duration,
    /// Load before a fault.
    pub before: Duration,
    /// Load during a fault that passes.
    pub hold: Duration,
    /// Load after a fault.
    pub after: Duration,
}

impl Pace {
    /// The length of the load with a fault.
    pub fn of(&self, fault: Fault) -> Duration {
        let hold = if fault.is_passing() { self.hold } else { Duration::ZERO };
        self.before + hold + self.after
    }
}

impl Options {
    /// Reads the arguments that follow the program's name. `None` if they ask for help.
    ///
    /// # Errors
    ///
    /// If an option is unknown, lacks its value or has a value out of bounds. The message names the
    /// option and the accepted values.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<Option<Self>> {
        let mut options = Self::default();
        let arguments: Vec<_> = arguments.into_iter().collect();
        // First, because they set what other options refine.
        if arguments.iter().any(|argument| argument == "--quick") {
            options.hurry();
        }
        if arguments.iter().any(|argument| argument == "--full") {
            options.take_time();
        }
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--help" => return Ok(None),
                "--quick" | "--full" => continue,
                "--check-model" => {
                    options.check_model();
                    continue;
                }
                _ => {}
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            ensure!(is_known(name), "unknown option {name:?}: see --help");
            let value = value.or_else(|| arguments.next());
            let value = value.with_context(|| format!("{name} needs a value"))?;
            options.set(name, &value)?;
        }
        Ok(Some(options))
    }

    /// The text of `--help`.
    pub fn usage() -> String {
        let mut usage =
            "usage: compare [--OPTION VALUE]...\n       compare predict|choose --help\n\n"
                .to_owned();
        for (name, value, meaning) in OPTIONS {
            let option = format!("{name} {value}");
            usage += &format!("  {option:<22} {meaning}\n");
        }
        let strategies: Vec<_> = Strategy::ALL.iter().map(|strategy| strategy.id()).collect();
        usage + &format!("\nstrategies: {}\n", strategies.join(", "))
    }

    /// Shortens every phase, so that all contestants pass within a minute.
    fn hurry(&mut self) {
        self.pace = QUICK;
        self.workload.sessions = 100;
        self.faults = vec![Fault::Kill];
        self.weighed = 0;
        // The baseline takes minutes to build.
        self.strategies.retain(|strategy| strategy.program() == Program::Reference);
    }

    /// Measures everything, three times.
    fn take_time(&mut self) {
        self.is_full = true;
        self.repeats = 3;
        self.weighed = WEIGHED_FULL;
        self.checks = DRAWN;
        self.faults = Fault::ALL.to_vec();
        self.out = "target/compare-full".into();
    }

    /// Measures only what the model needs.
    fn check_model(&mut self) {
        self.take_time();
        self.repeats = 0;
    }

    /// The settings that affect the figures, as text. Parts of a run with other settings are not
    /// used.
    pub fn settings(&self) -> String {
        let Self { nodes, workload, pace, faults, weighed, .. } = self;
        format!("{nodes} {workload:?} {pace:?} {faults:?} {weighed}")
    }

    fn set(&mut self, name: &str, value: &str) -> anyhow::Result<()> {
        match name {
            "--strategies" => self.strategies = list(name, value)?,
            "--nodes" => self.nodes = number(name, value, 2, 5)?,
            "--sessions" => self.workload.sessions = number(name, value, 10, 100_000)?,
            "--reads" => self.workload.reads = number(name, value, 1, 99)? as f64 / 100.0,
            "--rate" => self.workload.rate = number(name, value, 10, 20_000)? as f64,
            "--value-bytes" => self.workload.value_bytes = number(name, value, 1, 100_000)?,
            "--skew" => self.workload.skew = word(name, value)?,
            "--seed" => self.workload.seed = number(name, value, 0, usize::MAX)? as u64,
            "--calm" => self.pace.calm = seconds(number(name, value, 1, 3_600)?),
            "--hold" => self.pace.hold = seconds(number(name, value, 1, 3_600)?),
            "--after" => self.pace.after = seconds(number(name, value, 1, 3_600)?),
            "--faults" if value == "none" => self.faults = Vec::new(),
            "--faults" => self.faults = list(name, value)?,
            "--out" => self.out = value.into(),
            "--repeats" => self.repeats = number(name, value, 1, 10)?,
            "--weighed" => self.weighed = number(name, value, 0, 100_000)?,
            "--checks" => self.checks = number(name, value, 0, 1_000)?,
            "--peer" => self.peer = Some(value.into()),
            _ => self.reference = Some(value.into()),
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategies: Strategy::ALL.to_vec(),
            nodes: 3,
            workload: Workload::default(),
            pace: USUAL,
            faults: Fault::USUAL.to_vec(),
            out: "target/compare".into(),
            reference: None,
            peer: None,
            weighed: WEIGHED,
            repeats: 1,
            is_full: false,
            checks: 0,
        }
    }
}

impl FromStr for Skew {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match name {
            "even" => Ok(Self::Even),
            "zipf" => Ok(Self::Zipf),
            "nat" => Ok(Self::Nat),
            _ => bail!("expected even, zipf or nat"),
        }
    }
}

fn is_known(name: &str) -> bool {
    OPTIONS.iter().any(|(known, ..)| *known == name)
}

fn word<T: FromStr<Err = anyhow::Error>>(name: &str, value: &str) -> anyhow::Result<T> {
    value.parse().with_context(|| format!("invalid value {value:?} for {name}"))
}

/// Words separated by commas, each of them once.
fn list<T>(name: &str, value: &str) -> anyhow::Result<Vec<T>>
where
    T: FromStr<Err = anyhow::Error> + PartialEq,
{
    let mut items = Vec::new();
    for item in value.split(',') {
        let item = word(name, item)?;
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Ok(items)
}

fn number(name: &str, value: &str, least: usize, most: usize) -> anyhow::Result<usize> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.with_context(|| {
        format!("invalid value {value:?} for {name}: expected a number from {least} to {most}")
    })
}

fn seconds(seconds: usize) -> Duration {
    Duration::from_secs(seconds as u64)
}

const USUAL: Pace = Pace {
    calm: Duration::from_secs(8),
    before: Duration::from_secs(2),
    hold: Duration::from_secs(5),
    after: Duration::from_secs(5),
};

/// Sessions that are weighed in a run of ten minutes, and in a full one.
const WEIGHED: usize = 1_500;
const WEIGHED_FULL: usize = 4_000;

const QUICK: Pace = Pace {
    calm: Duration::from_millis(1_500),
    before: Duration::from_millis(500),
    hold: Duration::from_secs(2),
    after: Duration::from_millis(2_000),
};

/// Names, values and meanings, as `--help` lists them.
const OPTIONS: [(&str, &str, &str); 21] = [
    ("--quick", "", "short phases, 100 sessions, a kill: every contestant within a minute"),
    (
        "--full",
        "",
        "every fault, three times, unit costs on 2 to 5 nodes, a check of the model; resumes",
    ),
    ("--check-model", "", "of --full, what the model needs and its check alone"),
    ("--strategies", "A,B,…", "the contestants (all)"),
    ("--nodes", "N", "nodes of each contestant, 2 to 5 (3)"),
    ("--sessions", "S", "sessions, 10 to 100000 (300)"),
    ("--reads", "PERCENT", "share of reads among reads and writes, 1 to 99 (90)"),
    ("--rate", "R", "requests per second, 10 to 20000 (150)"),
    ("--value-bytes", "B", "size of the value that is written, 1 to 100000 (100)"),
    (
        "--skew",
        "even|zipf|nat",
        "which sessions are busy; nat: half of all share an address (zipf)",
    ),
    ("--seed", "SEED", "decides the arrivals (1)"),
    ("--calm", "SECONDS", "load without a fault (8)"),
    ("--hold", "SECONDS", "how long a node or a server stands still (5)"),
    ("--after", "SECONDS", "load after a fault (5)"),
    (
        "--faults",
        "A,B,…|none",
        "kill, stop, drain, outage (these; with --quick: kill), join, failover",
    ),
    (
        "--out",
        "DIR",
        "where report.html, report.json, promises.svg and requests.csv go (target/compare)",
    ),
    ("--repeats", "N", "how often each contestant runs, 1 to 10 (1; with --full: 3)"),
    ("--weighed", "S", "sessions that are weighed, 0 for no unit costs (1500; with --full: 4000)"),
    ("--checks", "N", "sizes at which the model is checked (0; with --full: 20)"),
    ("--reference", "PATH", "the program of the nodes (built with cargo)"),
    ("--peer", "PATH", "the server of the baseline (built with cargo)"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_refine_the_defaults() {
        let options = parsed("--nodes 5 --reads=50 --strategies redis,memory --faults none");
        assert_eq!((options.nodes, options.workload.reads), (5, 0.5));
        assert_eq!(options.strategies, [Strategy::Redis, Strategy::Memory]);
        assert!(options.faults.is_empty());
        assert_eq!(options.workload.sessions, Workload::default().sessions);
    }

    #[test]
    fn quick_yields_to_options_on_either_side() {
        let options = parsed("--sessions 40 --quick --calm 2");
        assert_eq!((options.workload.sessions, options.pace.calm.as_secs()), (40, 2));
        assert_eq!(options.pace.after, QUICK.after);
    }

    #[test]
    fn a_full_run_yields_to_options() {
        let options = parsed("--repeats 2 --full --faults kill");
        assert_eq!((options.repeats, options.weighed), (2, WEIGHED_FULL));
        assert_eq!(options.faults, [Fault::Kill]);
        assert_eq!(parsed("--check-model").repeats, 0);
    }

    #[test]
    fn errors_name_the_option_and_its_bounds() {
        let cases = [
            ("--nodes 6", "invalid value \"6\" for --nodes: expected a number from 2 to 5"),
            ("--nodes", "--nodes needs a value"),
            ("--node 3", "unknown option \"--node\": see --help"),
            ("--skew odd", "invalid value \"odd\" for --skew: expected even, zipf or nat"),
            (
                "--faults fire",
                "invalid value \"fire\" for --faults: expected none, or some of kill, stop, drain, outage, join, failover",
            ),
        ];
        for (line, expected) in cases {
            let error = Options::parse(words(line)).unwrap_err();
            assert_eq!(format!("{error:#}"), expected);
        }
        let error = Options::parse(words("--strategies redis,mongo")).unwrap_err();
        assert!(
            format!("{error:#}").contains("\"mongo\" for --strategies: expected one of memory")
        );
    }

    #[test]
    fn help_names_every_option_and_strategy() {
        assert!(Options::parse(words("--help")).unwrap().is_none());
        let usage = Options::usage();
        assert!(OPTIONS.iter().all(|(name, ..)| usage.contains(name)));
        assert!(Strategy::ALL.iter().all(|strategy| usage.contains(strategy.id())));
    }

    fn parsed(line: &str) -> Options {
        Options::parse(words(line)).unwrap().unwrap()
    }

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }
}
