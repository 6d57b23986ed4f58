//! Runs every fault at every byte of every call, or failovers under load, and writes the tables.
//!
//! An interrupted run of faults continues: a kind of call with results in the file is not repeated.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use network::book::{Book, Script};
use network::case::Situation;
use network::deployment::{Deployment, Target};
use network::draw::Draw;
use network::history::clients::Part;
use network::history::failover::{Failover, Losses, PrimaryFailure, Service};
use network::ledger::{Chapter, Ledger};
use network::report::{Report, Tally};
use network::scene::Operation;

#[tokio::main]
async fn main() -> io::Result<()> {
    let options = Options::parse(std::env::args().skip(1));
    let (section, tables) = match options.what.as_str() {
        "faults" => ("faults", faults(&options).await?),
        "failovers" => ("failovers", failovers(&options).await),
        other => panic!("unknown command {other:?}\n{USAGE}"),
    };
    match &options.report {
        Some(path) => write(path, section, &tables),
        None => Ok(()),
    }
}

struct Options {
    what: String,
    results: PathBuf,
    report: Option<PathBuf>,
    only: String,
    runs: usize,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Self {
        let what = words.next().unwrap_or_default();
        let (results, report, only) = (PathBuf::from(RESULTS), None, String::new());
        let mut options = Self { what, results, report, only, runs: 5 };
        while let Some(option) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{option} needs a value\n{USAGE}"));
            match option.as_str() {
                "--results" => options.results = value.into(),
                "--report" => options.report = Some(value.into()),
                "--only" => options.only = value,
                "--runs" => options.runs = value.parse().expect("a number of runs"),
                _ => panic!("unknown option {option}\n{USAGE}"),
            }
        }
        options
    }
}

async fn faults(options: &Options) -> io::Result<String> {
    let mut ledger = Ledger::open(&options.results)?;
    for target in Target::ALL {
        let is_missing = |chapter: &Chapter| {
            !ledger.has(*chapter) && chapter.to_string().contains(&options.only)
        };
        let missing: Vec<_> = chapters(target).into_iter().filter(is_missing).collect();
        if !missing.is_empty() {
            run(target, missing, &mut ledger).await?;
        }
    }
    Ok(ledger.tables())
}

fn chapters(target: Target) -> Vec<Chapter> {
    let of = |situation, operations: &[Operation]| {
        let chapter = |operation: &Operation| Chapter { target, situation, operation: *operation };
        operations.iter().map(chapter).collect::<Vec<_>>()
    };
    let chapters = [
        of(Situation::Idle, &Operation::CALLS),
        of(Situation::Warm, &Operation::CALLS),
        of(Situation::Warm, &[Operation::Feed]),
        of(Situation::Cold, &FIRST),
        of(Situation::Cold, &[Operation::Feed]),
    ];
    chapters.concat()
}

async fn run(target: Target, chapters: Vec<Chapter>, ledger: &mut Ledger) -> io::Result<()> {
    let jobs = match target {
        Target::Redis | Target::RedisOverTls => 128,
        // Each of them has a server process, and temporarily more while it is cut off.
        Target::Postgres | Target::PostgresOverTls => 48,
    };
    let book = Book::open(Deployment::start(target).await, jobs).await;
    for chapter in chapters {
        let start = Instant::now();
        let reports = cases(&book, chapter).await;
        for report in &reports {
            if let Err(why) = &report.verdict {
                println!("WRONG {}: {why}", report.case);
            }
        }
        let tally = Tally::of(&reports);
        println!(
            "{chapter}: {} cases, {} wrong, {:.0?}",
            tally.cases,
            tally.wrong,
            start.elapsed()
        );
        ledger.add(chapter, &reports)?;
        book.deployment.free_deleted();
    }
    Ok(())
}

async fn cases(book: &Book, chapter: Chapter) -> Vec<Report> {
    let Chapter { situation, operation, .. } = chapter;
    if situation == Situation::Idle {
        return book.run(Script::idle(book, operation)).await;
    }
    let cases = book.script(situation, operation).await.every_byte(book);
    match operation {
        Operation::Feed => book.run_feed(cases).await,
        _ => book.run(cases).await,
    }
}

async fn failovers(options: &Options) -> String {
    let mut draw = Draw::seeded();
    let mut table = format!("{HEAD}\n");
    for failover in all_failovers() {
        if !failover.to_string().contains(&options.only) {
            continue;
        }
        for (part, losses) in sum(failover, options.runs, &mut draw).await {
            let row = row(&failover, part, &losses);
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
            let of = |failure| Failover { service, is_confirmed, failure, answers: 1_500 };
            failovers.extend(failures(service).into_iter().map(of));
        }
    }
    failovers
}

/// An administrator has to prevent a PostgreSQL primary from returning as one, so none of these
/// failures hangs it.
fn failures(service: Service) -> Vec<PrimaryFailure> {
    let killed = [PrimaryFailure::Killed, PrimaryFailure::KilledAfter(Duration::from_millis(400))];
    let hung = (service == Service::Redis).then_some(PrimaryFailure::Hung);
    killed.into_iter().chain(hung).collect()
}

async fn sum(failover: Failover, runs: usize, draw: &mut Draw) -> Vec<(Part, Losses)> {
    let mut sum = Part::ALL.map(|part| (part, Losses::default()));
    for _ in 0..runs {
        let losses = failover.run(draw.below(usize::MAX) as u64).await;
        for ((_, sum), (_, losses)) in sum.iter_mut().zip(losses) {
            *sum = sum.plus(losses);
        }
    }
    sum.to_vec()
}

fn row(failover: &Failover, part: Part, losses: &Losses) -> String {
    let Losses { keys, calls, unanswered, losers, undone, oldest, broken, misread } = losses;
    let oldest = oldest.as_millis();
    format!(
        "| {failover} | {part} | {keys} | {calls} | {unanswered} | {losers} | {undone} | \
         {oldest} ms | {broken} | {misread} |\n"
    )
}

/// Replaces the tables in a file.
fn write(path: &Path, section: &str, tables: &str) -> io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let (start, end) = (format!("<!-- {section} -->\n"), format!("<!-- end of {section} -->"));
    let parts = text.split_once(&start).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) =
        parts.ok_or_else(|| io::Error::other(format!("the marker {start} is missing")))?;
    std::fs::write(path, format!("{before}{start}\n{tables}\n{end}{after}"))
}

/// All calls open a connection in the same way. These three stand for the kinds of calls: read
/// only, sent once, repeatable.
const FIRST: [Operation; 3] = [Operation::Load, Operation::BlindPatch, Operation::Login];

const HEAD: &str = "| service | primary | part | keys | calls | unanswered | keys that lost changes | \
    changes lost | the oldest | lost otherwise | misread |\n\
    | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

const RESULTS: &str = "target/network/faults.tsv";

const USAGE: &str = "network faults [--only WORDS] [--results FILE] [--report FILE]
network failovers [--runs NUMBER] [--only WORDS] [--report FILE]";
