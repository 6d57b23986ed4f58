//! Has primaries fail over under load, and writes a table of what that cost.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use network::draw::Draw;
use network::history::clients::Part;
use network::history::failover::{Failover, Fall, Service, Toll};

#[tokio::main]
async fn main() -> io::Result<()> {
    let options = Options::parse(std::env::args().skip(1));
    let (section, tables) = match options.what.as_str() {
        "failovers" => ("failovers", failovers(&options).await),
        other => panic!("there is no {other:?}\n{USAGE}"),
    };
    match &options.report {
        Some(path) => write(path, section, &tables),
        None => Ok(()),
    }
}

struct Options {
    what: String,
    report: Option<PathBuf>,
    only: String,
    runs: usize,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Self {
        let what = words.next().unwrap_or_default();
        let mut options = Self { what, report: None, only: String::new(), runs: 5 };
        while let Some(option) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{option} needs a value\n{USAGE}"));
            match option.as_str() {
                "--report" => options.report = Some(value.into()),
                "--only" => options.only = value,
                "--runs" => options.runs = value.parse().expect("a number of runs"),
                _ => panic!("{option} is unknown\n{USAGE}"),
            }
        }
        options
    }
}

async fn failovers(options: &Options) -> String {
    let mut draw = Draw::seeded();
    let mut table = format!("{HEAD}\n");
    for failover in all_failovers() {
        if !failover.to_string().contains(&options.only) {
            continue;
        }
        for (part, toll) in sum(failover, options.runs, &mut draw).await {
            let row = row(&failover, part, &toll);
            print!("{row}");
            table += &row;
        }
    }
    table
}

fn all_failovers() -> Vec<Failover> {
    let mut failovers = Vec::new();
    for service in [Service::Redis, Service::Postgres] {
        for is_confirmed in [false, true] {
            let of = |fall| Failover { service, is_confirmed, fall, answers: 1_500 };
            failovers.extend(falls(service).into_iter().map(of));
        }
    }
    failovers
}

/// A primary of PostgreSQL that comes back as one is for an administrator to prevent.
fn falls(service: Service) -> Vec<Fall> {
    let killed = [Fall::Killed, Fall::KilledAfter(Duration::from_millis(400))];
    let hung = (service == Service::Redis).then_some(Fall::Hung);
    killed.into_iter().chain(hung).collect()
}

async fn sum(failover: Failover, runs: usize, draw: &mut Draw) -> Vec<(Part, Toll)> {
    let mut sum = Part::ALL.map(|part| (part, Toll::default()));
    for _ in 0..runs {
        let tolls = failover.run(draw.below(usize::MAX) as u64).await;
        for ((_, sum), (_, toll)) in sum.iter_mut().zip(tolls) {
            *sum = sum.plus(toll);
        }
    }
    sum.to_vec()
}

fn row(failover: &Failover, part: Part, toll: &Toll) -> String {
    let Toll { keys, calls, unanswered, losers, undone, oldest, broken, misread } = toll;
    let oldest = oldest.as_millis();
    format!(
        "| {failover} | {part} | {keys} | {calls} | {unanswered} | {losers} | {undone} | \
         {oldest} ms | {broken} | {misread} |\n"
    )
}

/// Puts tables into a file, in the place of those that stand there.
fn write(path: &Path, section: &str, tables: &str) -> io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let (start, end) = (format!("<!-- {section} -->\n"), format!("<!-- end of {section} -->"));
    let parts = text.split_once(&start).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or_else(|| io::Error::other(format!("{start} is missing")))?;
    std::fs::write(path, format!("{before}{start}\n{tables}\n{end}{after}"))
}

const HEAD: &str = "| service | primary | part | keys | calls | unanswered | keys that lost changes | \
    changes lost | the oldest | lost otherwise | misread |\n\
    | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

const USAGE: &str = "network failovers [--runs NUMBER] [--only WORDS] [--report FILE]";
