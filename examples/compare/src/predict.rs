//! `predict`: the costs and risks of every strategy at a size, from a report, without a run.

use std::fs;

use anyhow::{Context, ensure};

use crate::model::{Case, Model, text};
use crate::report::Report;

/// Reads the arguments that follow `predict`, and returns the table.
///
/// # Errors
///
/// If an option is unknown, lacks its value or has a value out of bounds, or the report has no unit costs.
pub fn predict(arguments: &[String]) -> anyhow::Result<String> {
    let mut case = DEFAULT;
    let mut report = None;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--help" {
            return Ok(usage());
        }
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), arguments.next().map(String::as_str)),
        };
        let known = OPTIONS.iter().find(|(known, ..)| *known == name);
        let (_, range, _, set) =
            known.with_context(|| format!("unknown option {name:?}: see predict --help"))?;
        let value = value.with_context(|| format!("{name} needs a value"))?;
        match set {
            Some(set) => set(&mut case, number(name, value, *range)?),
            None => report = Some(value),
        }
    }
    let report = match report {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {path:?}"))?;
            Report::parse(&text).with_context(|| format!("cannot use {path:?}"))?
        }
        None => Report::committed(),
    };
    ensure!(!report.units.is_empty(), "the report has no unit costs: run with --full");
    let (least, most) = nodes(&report);
    let mut table = text::table(&Model::of_report(&report), case);
    table += &format!(
        "fitted to {least} to {most} nodes of a run on {}; formulas and their check are in its report.html\n",
        report.date()
    );
    Ok(table)
}

/// The text of `predict --help`.
pub fn usage() -> String {
    let mut usage = "usage: compare predict [--OPTION VALUE]...\n\n".to_owned();
    for (name, _, meaning, _) in OPTIONS {
        usage += &format!("  {name:<14} {meaning}\n");
    }
    usage
}

/// The fewest and the most nodes that formulas are fitted to.
pub fn nodes(report: &Report) -> (usize, usize) {
    let nodes = || report.units.iter().map(|units| units.nodes);
    (nodes().min().unwrap_or(0), nodes().max().unwrap_or(0))
}

fn number(name: &str, value: &str, (least, most): (f64, f64)) -> anyhow::Result<f64> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.with_context(|| {
        format!("invalid value {value:?} for {name}: expected a number from {least} to {most}")
    })
}

/// The size that is predicted without options.
pub const DEFAULT: Case = Case {
    nodes: 10.0,
    sessions: 1e5,
    reads: 1_000.0,
    writes: 100.0,
    turnovers: 10.0,
    value_bytes: 100.0,
};

type Set = fn(&mut Case, f64);

/// The name of an option, the bounds of its value, its meaning, and what it sets.
type PredictOption = (&'static str, (f64, f64), &'static str, Option<Set>);

const OPTIONS: [PredictOption; 7] = [
    ("--nodes", (2.0, 1_000.0), "nodes, 2 to 1000 (10)", Some(|case, nodes| case.nodes = nodes)),
    (
        "--sessions",
        (0.0, 1e12),
        "sessions of the service, such as 5e6 (1e5)",
        Some(|case, sessions| case.sessions = sessions),
    ),
    (
        "--reads",
        (0.0, 1e9),
        "reads per second, of all nodes (1000)",
        Some(|case, reads| case.reads = reads),
    ),
    (
        "--writes",
        (0.0, 1e9),
        "writes per second, of all nodes (100)",
        Some(|case, writes| case.writes = writes),
    ),
    (
        "--sign-ins",
        (0.0, 1e9),
        "sign-ins per second, each with a sign-out (10)",
        Some(|case, turnovers| case.turnovers = turnovers),
    ),
    (
        "--value-bytes",
        (0.0, 1e9),
        "size of the value in a session, in bytes (100)",
        Some(|case, value| case.value_bytes = value),
    ),
    ("--report", (0.0, 0.0), "a report.json with unit costs (the one in the repository)", None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_option_and_its_bounds() {
        let cases = [
            ("--nodes=1", "invalid value \"1\" for --nodes: expected a number from 2 to 1000"),
            ("--nodes", "--nodes needs a value"),
            ("--node=3", "unknown option \"--node\": see predict --help"),
        ];
        for (argument, expected) in cases {
            let error = predict(&[argument.to_owned()]).unwrap_err();
            assert_eq!(format!("{error:#}"), expected);
        }
        let error = predict(&["--report=nowhere".to_owned()]).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot read \"nowhere\""));
    }

    #[test]
    fn the_committed_report_predicts_every_strategy() {
        let arguments = ["--nodes=50", "--sessions", "5e6", "--reads=2e4"].map(str::to_owned);
        let table = predict(&arguments).unwrap();
        assert!(table.starts_with("50 nodes, 5,000,000 sessions, 20,000 reads/s"), "{table}");
        for strategy in crate::strategy::Strategy::choices() {
            assert!(table.contains(&format!("\n{} ", strategy.id())), "{table}");
        }
    }

    #[test]
    fn help_names_every_option() {
        let help = predict(&["--help".to_owned()]).unwrap();
        assert!(OPTIONS.iter().all(|(name, ..)| help.contains(name)));
    }
}
