//! Runs drills, and writes their report.
//!
//! Completed runs are not repeated: after an interruption, the same command continues where it
//! stopped. The program ends only processes and namespaces that it started, also at Ctrl-C.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use drills::drill::{Drill, Settings};
use drills::history::History;
use drills::plot;
use drills::report::{self, Chapter};
use drills::statistics::Figures;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    if options.drills.is_empty() {
        return write_report(&options.out, &options.report);
    }
    let (mut interrupted, mut terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Dropping the future ends the processes that it started.
    let done = tokio::select! {
        done = run(&options) => Some(done),
        _ = interrupted.recv() => None,
        _ = terminated.recv() => None,
    };
    done.context("interrupted: run the same command again to continue")?
}

async fn run(options: &Options) -> anyhow::Result<()> {
    let program = options.reference.clone().map_or_else(build, Ok)?;
    let mut settings = Settings::new(program, options.out.clone());
    (settings.users, settings.rate) = (options.users, options.rate);
    let started = Instant::now();
    for drill in &options.drills {
        for number in drill.missing(&options.out, options.runs)? {
            if started.elapsed() > options.time {
                return Ok(());
            }
            run_once(*drill, number, &settings).await;
        }
    }
    Ok(())
}

/// A failed run is reported, and repeated by the next command.
async fn run_once(drill: Drill, number: u64, settings: &Settings) {
    let done = drill.run(number, settings).await;
    let read = done.and_then(|()| Ok(History::read(&drill.path(&settings.out, number))?));
    match read {
        Ok(history) => {
            let figures = Figures::of(&history.expect("it was completed"));
            println!("{drill} {number}: {}", report::line(&figures));
            figures.verdict.notes.iter().for_each(|note| println!("    {note}"));
        }
        Err(error) => println!("{drill} {number} is not complete: {error:#}"),
    }
}

/// Builds the reference application in the profile of this program, and returns its path.
fn build() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").context("run this with cargo, or set --reference")?;
    let mut command = Command::new(cargo);
    command.args(["build", "-p", "reference", "--message-format", "json"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "failed to build the reference application");
    let messages = String::from_utf8(output.stdout)?;
    let values = messages.lines().filter_map(|line| serde_json::from_str(line).ok());
    let executable = |value: serde_json::Value| value["executable"].as_str().map(PathBuf::from);
    values.filter_map(executable).next_back().context("cargo reported no executable")
}

fn write_report(out: &Path, report: &Path) -> anyhow::Result<()> {
    let chapters = Chapter::all(out)?;
    let page = report.join("REPORT.md");
    let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    std::fs::write(&page, report::insert(&text, &report::tables(&chapters))?)?;
    Ok(std::fs::write(report.join("slowest.svg"), plot::svg(&chapters))?)
}

struct Options {
    drills: Vec<Drill>,
    runs: u64,
    time: Duration,
    users: usize,
    rate: u64,
    reference: Option<PathBuf>,
    out: PathBuf,
    report: PathBuf,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let what = words.next().context(USAGE)?;
        let drills = match what.as_str() {
            "report" => Vec::new(),
            "all" => Drill::ALL.to_vec(),
            names => names.split(',').map(str::parse).collect::<Result<_, _>>().context(USAGE)?,
        };
        let (out, report) = ("target/drills".into(), "tests/drills".into());
        let time = Duration::MAX;
        let mut options =
            Self { drills, runs: 1, time, users: 400, rate: 200, reference: None, out, report };
        while let Some(option) = words.next() {
            let value = words.next().with_context(|| format!("{option} needs a value"))?;
            options.set(&option, &value).with_context(|| format!("{option} {value}"))?;
        }
        Ok(options)
    }

    fn set(&mut self, option: &str, value: &str) -> anyhow::Result<()> {
        match option {
            "--runs" => self.runs = value.parse()?,
            "--minutes" => self.time = Duration::from_secs(60 * value.parse::<u64>()?),
            "--users" => self.users = value.parse()?,
            "--rate" => self.rate = value.parse()?,
            "--reference" => self.reference = Some(value.into()),
            "--out" => self.out = value.into(),
            "--report" => self.report = value.into(),
            _ => bail!("unknown option\n{USAGE}"),
        }
        Ok(())
    }
}

const USAGE: &str =
    "drills DRILL,…|all [--runs NUMBER] [--minutes NUMBER] [--users NUMBER] [--rate NUMBER]
    [--reference PROGRAM] [--out DIRECTORY]
drills report [--out DIRECTORY] [--report DIRECTORY]
drills: kill, stop, cut and one-way (as root), restarts, resize, clock";
