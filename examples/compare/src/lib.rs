#![doc = include_str!("../README.md")]

pub mod options;
pub mod strategy;
pub mod fault;

pub mod contest;
pub mod service;
pub mod load;
pub mod procfs;
pub mod progress;
pub mod random;

pub mod records;
pub mod measures;
pub mod statistics;
pub mod report;

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use contest::Setting;
use options::Options;
use progress::Progress;
use report::Report;
use service::leash::Workplace;

/// Runs every contestant and writes `report.html`, `report.json` and `requests.csv` to the directory of the options.
/// Returns what it measured.
///
/// # Errors
///
/// If a program is missing, a process does not start, or a file cannot be written.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot create {}", options.out.display()))?;
    let (workplace, mut progress) = (Workplace::new()?, Progress::new(options));
    let program = match &options.reference {
        Some(program) => program.clone(),
        None => built(&mut progress, options).await?,
    };
    let mut report = Report::new(options);
    let mut csv = records::CSV_HEAD.to_owned();
    let setting = Setting { options, workplace: &workplace, program: &program };
    for strategy in options.strategies.iter().copied() {
        let contest = contest::run(&setting, strategy, &progress).await;
        let contest = contest.with_context(|| format!("{} failed", strategy.title()))?;
        csv += &records::csv(strategy.id(), &contest.records);
        report.strategies.push(measures::measure(&contest, options.nodes));
        progress.next();
    }
    write(options, "requests.csv", &csv)?;
    write(options, "report.json", &report.json()?)?;
    write(options, "report.html", &report.html()?)?;
    Ok(report)
}

/// Builds the program of the nodes, and begins to count the time after that.
async fn built(progress: &mut Progress, options: &Options) -> anyhow::Result<PathBuf> {
    progress.note("building the reference server");
    let program = service::reference::build().await?;
    *progress = Progress::new(options);
    Ok(program)
}

fn write(options: &Options, name: &str, text: &str) -> anyhow::Result<()> {
    let path = options.out.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
