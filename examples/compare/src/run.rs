//! A run: every contestant, unit costs and the check of the model, and the files of the report.

use std::fs;
use std::time::Duration;

use anyhow::Context;

use crate::contest::{self, Setting};
use crate::measures::{self, Measured};
use crate::model::check::{self, Checked};
use crate::options::Options;
use crate::parts::Parts;
use crate::progress::Progress;
use crate::records::{self, CSV_HEAD};
use crate::repeats;
use crate::report::Report;
use crate::service::{Programs, leash::Workplace, reference};
use crate::strategy::{Program, Strategy};
use crate::units::{self, Size, Units};

/// Runs every contestant and writes `report.html`, `report.json`, `promises.svg` and `requests.csv` to the directory of
/// the options.
/// Returns what it measured.
///
/// # Errors
///
/// If a program is missing, a process does not start, or a file cannot be written.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot create {}", options.out.display()))?;
    let parts = options.is_full.then(|| options.out.join("parts"));
    let parts = Parts::new(parts, options.settings())?;
    let workplace = Workplace::new()?;
    let programs = programs(options).await?;
    let setting = Setting { options, workplace: &workplace, programs: &programs };
    let mut run = Run { setting, parts, progress: Progress::new(length(options)) };
    let mut report = Report::new(options);
    let mut csv = CSV_HEAD.to_owned();
    run.contests(&mut report, &mut csv).await?;
    if options.is_full {
        run.units(&mut report).await?;
    }
    run.checks(&mut report).await?;
    write(options, "requests.csv", &csv)?;
    write(options, "report.json", &report.json()?)?;
    write(options, "report.html", &report.html()?)?;
    write(options, "promises.svg", &report.promises())?;
    Ok(report)
}

struct Run<'a> {
    setting: Setting<'a>,
    parts: Parts,
    progress: Progress,
}

impl Run<'_> {
    /// Runs the contestants, as often as the options say.
    async fn contests(&mut self, report: &mut Report, csv: &mut String) -> anyhow::Result<()> {
        let options = self.setting.options;
        let mut all = Vec::new();
        for repeat in 1..=options.repeats {
            for strategy in options.strategies.iter().copied() {
                let (measured, units, lines) = self.contest(strategy, repeat).await?;
                csv.push_str(&lines);
                report.units.extend(units);
                all.push(measured);
            }
        }
        for strategy in &options.strategies {
            let of: Vec<_> = all.iter().filter(|one| one.id == strategy.id()).cloned().collect();
            report.strategies.extend(repeats::merge(&of));
        }
        Ok(())
    }

    async fn contest(
        &mut self,
        strategy: Strategy,
        repeat: usize,
    ) -> anyhow::Result<(Measured, Option<Units>, String)> {
        let (options, planned) =
            (self.setting.options, contest_length(self.setting.options, strategy));
        let name = format!("contest-{}-{repeat}", strategy.id());
        if let Some(found) = self.parts.find(&name) {
            self.progress.skip(planned);
            return Ok(found);
        }
        let contest = contest::run(&self.setting, strategy, &self.progress).await;
        let contest = contest.with_context(|| format!("{} failed", strategy.title()))?;
        let measured = measures::measure(&contest, options.nodes);
        let lines = records::csv(strategy.id(), &contest.records);
        let part = (measured, contest.units, lines);
        self.parts.keep(&name, &part)?;
        self.progress.pass(planned);
        Ok(part)
    }

    /// Measures unit costs at the sizes that the formulas are fitted to.
    async fn units(&mut self, report: &mut Report) -> anyhow::Result<()> {
        for (strategy, size) in sizes(self.setting.options) {
            let name = format!("units-{}-{}-{}", strategy.id(), size.nodes, size.value_bytes);
            if let Some(found) = self.parts.find(&name) {
                self.progress.skip(UNITS);
                report.units.push(found);
                continue;
            }
            self.progress.show(strategy.title(), &format!("unit costs on {} nodes", size.nodes));
            let units = units::measure(&self.setting, strategy, size).await;
            let units = units.with_context(|| format!("{name} failed"))?;
            self.parts.keep(&name, &units)?;
            self.progress.pass(UNITS);
            report.units.push(units);
        }
        Ok(())
    }

    /// Measures at sizes that were drawn, to compare with what the model predicts.
    async fn checks(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let options = self.setting.options;
        for (n, drawn) in check::draw(options.workload.seed, options.checks).iter().enumerate() {
            let name = format!("check-{}", n + 1);
            let found: Option<Checked> = self.parts.find(&name);
            if let Some(found) = found.filter(|found| found.drawn == *drawn) {
                self.progress.skip(CHECK);
                report.checks.push(found);
                continue;
            }
            self.progress.show(&drawn.strategy, &format!("check {} of the model", n + 1));
            let checked = check::measure(&self.setting, drawn).await;
            let checked = checked.with_context(|| format!("{name} failed"))?;
            self.parts.keep(&name, &checked)?;
            self.progress.pass(CHECK);
            report.checks.push(checked);
        }
        Ok(())
    }
}

/// The sizes that the formulas are fitted to: small values on 2 to 5 nodes, and larger ones on 3.
fn sizes(options: &Options) -> impl Iterator<Item = (Strategy, Size)> + '_ {
    let sessions = options.weighed.max(1);
    let small = (2..=5).map(|nodes| (nodes, 100));
    let sizes: Vec<_> = small.chain([(3, 2_000)]).collect();
    let is_asked = |one: &Strategy| options.strategies.contains(one);
    Strategy::choices().filter(is_asked).flat_map(move |strategy| {
        let size = move |(nodes, value_bytes)| (strategy, Size { nodes, value_bytes, sessions });
        sizes.clone().into_iter().map(size)
    })
}

/// The programs of the nodes, built if the options do not name them.
async fn programs(options: &Options) -> anyhow::Result<Programs> {
    let notes = Progress::new(Duration::ZERO);
    let reference = match &options.reference {
        Some(program) => program.clone(),
        None => {
            notes.note("building the reference server");
            reference::build().await?
        }
    };
    let needs_peer = options.strategies.iter().any(|one| one.program() == Program::Peer);
    let peer = match &options.peer {
        None if needs_peer => {
            notes.note("building the server of the baseline");
            Some(reference::build_peer().await?)
        }
        given => given.clone(),
    };
    Ok(Programs { reference, peer })
}

/// The planned time of everything.
fn length(options: &Options) -> Duration {
    let contests = options.strategies.iter().map(|strategy| contest_length(options, *strategy));
    let contests = contests.sum::<Duration>() * options.repeats as u32;
    let units = if options.is_full { sizes(options).count() as u32 } else { 0 };
    contests + UNITS * units + CHECK * options.checks as u32
}

fn contest_length(options: &Options, strategy: Strategy) -> Duration {
    let met = options.faults.iter().filter(|fault| fault.concerns(strategy));
    let faults: Duration = met.map(|fault| options.pace.of(*fault) + OVERHEAD).sum();
    let units = if options.weighed > 0 { UNITS } else { Duration::ZERO };
    options.pace.calm + OVERHEAD + faults + units
}

fn write(options: &Options, name: &str, text: &str) -> anyhow::Result<()> {
    let path = options.out.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Starting and ending processes, signing in and auditing.
const OVERHEAD: Duration = Duration::from_secs(2);

/// The planned time of unit costs, and of a check.
const UNITS: Duration = Duration::from_secs(22);
const CHECK: Duration = Duration::from_secs(25);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_run_takes_ten_minutes_by_plan() {
        let minutes = length(&Options::default()).as_secs_f64() / 60.0;
        assert!((8.0..12.0).contains(&minutes), "{minutes}");
    }

    #[test]
    fn the_quick_run_takes_a_minute_by_plan() {
        let options = Options::parse(["--quick".to_owned()]).unwrap().unwrap();
        assert!(length(&options).as_secs() < 75, "{:?}", length(&options));
    }

    #[test]
    fn formulas_are_fitted_to_four_counts_of_nodes() {
        let options = Options::default();
        let of_redis: Vec<_> =
            sizes(&options).filter(|(strategy, _)| *strategy == Strategy::Redis).collect();
        let nodes: Vec<_> = of_redis.iter().map(|(_, size)| size.nodes).collect();
        assert_eq!(nodes, [2, 3, 4, 5, 3]);
        assert!(sizes(&options).all(|(strategy, _)| strategy != Strategy::Memory));
    }
}
