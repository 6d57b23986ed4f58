//! Runs the simulation, or explores the models within given bounds.

use std::ops::Range;
use std::time::{Duration, Instant};

use simulation::cluster::{Bounds, ClusterModel};
use simulation::explore::{Explored, explore, walk};
use simulation::faults::{Fault, Level};
use simulation::membership;
use simulation::mishaps::Mishap;
use simulation::node::Node;
use simulation::run::{Broken, Ran, Setup, run};
use simulation::scenarios::Scenario;
use simulation::tenants::plots::Plot;
use simulation::tenants::storm;
use steadfast_replication::rules::{Rule, Rules};

const USAGE: &str = "\
simulation [--seed N | --seeds A..B] [--nodes N] [--scenario NAME] [--faults KIND,...] [--beyond]
    [--without RULE] [--trace]

Runs a service under faults, once for each seed, and checks what its clients were told. Without a scenario,
the seed draws nodes, settings and faults. The seeds that broke something are listed; --trace shows what
happened until then.

simulation scenarios

Lists the scenarios, the mishaps and the plots.

simulation membership [--seeds A..B] [--nodes N] [--mishap NAME] [--without RULE]

Runs memberships through random faults, once for each seed; or through one mishap.

simulation tenants [--seed N | --seeds A..B] [--plot NAME] [--without RULE]

Runs the records of several members through take-overs, late messages and crashes, once for each seed; with
a plot, through one kind of accident.

simulation cluster [--nodes N] [--epochs N] [--attempts N] [--leases N] [--restarts N] [--ticks N]
    [--served 1]
    [--without RULE] [--states N] [--walks N]

Explores the cluster component, or takes so many walks through it. RULE is a rule of PROTOCOL.md, such as
A1.";

fn main() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1).peekable();
    match arguments.peek().map(String::as_str) {
        Some("cluster") => cluster(arguments.skip(1)),
        Some("membership") => memberships(arguments.skip(1)),
        Some("tenants") => tenants(arguments.skip(1)),
        Some("scenarios") => {
            for scenario in Scenario::ALL {
                println!("{}: {}", scenario.name, scenario.what);
            }
            for mishap in Mishap::ALL {
                println!("mishap {}: {}", mishap.name, mishap.what);
            }
            for plot in Plot::ALL {
                println!("plot {}: {}", plot.name, plot.what);
            }
            Ok(())
        }
        _ => service(&Options::parse(&mut arguments)?),
    }
}

/// The command line.
#[derive(Default)]
struct Options {
    seeds: Range<u64>,
    nodes: Option<usize>,
    scenario: Option<&'static Scenario>,
    faults: Option<Vec<Fault>>,
    is_beyond: bool,
    without: Option<Rule>,
    /// True if rule I1 is left out.
    keeps_boots: bool,
    hides_zones: bool,
    is_traced: bool,
}

impl Options {
    fn parse(arguments: &mut impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { seeds: 1194..1195, ..Self::default() };
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--beyond" => options.is_beyond = true,
                "--trace" => options.is_traced = true,
                _ => {
                    let value = arguments.next();
                    let value = value.ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
                    options.set(&name, &value)?;
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--seed" => self.seeds = number(value)?..number(value)? + 1,
            "--seeds" => self.seeds = range(value)?,
            "--nodes" => self.nodes = Some(number(value)? as usize),
            "--scenario" => {
                let scenario = Scenario::named(value);
                self.scenario = Some(scenario.ok_or_else(|| format!("no scenario is {value:?}"))?);
            }
            "--faults" => {
                let kinds = value.split(',').map(fault).collect::<Result<_, _>>()?;
                self.faults = Some(kinds);
            }
            "--without" if value == "I1" => self.keeps_boots = true,
            "--without" if value == "zones" => self.hides_zones = true,
            "--without" => self.without = Some(rule(value)?),
            _ => return Err(format!("unknown option {name}\n{USAGE}")),
        }
        Ok(())
    }

    fn setup(&self, seed: u64) -> Setup {
        let mut setup = match self.scenario {
            Some(scenario) => scenario.setup(self.nodes),
            None => Setup::drawn(seed, self.nodes),
        };
        setup.without = self.without;
        setup.machines.habits.keeps_boots = self.keeps_boots;
        setup.machines.hides_zones = self.hides_zones;
        setup.plan.kinds = self.faults.clone().unwrap_or(setup.plan.kinds);
        if self.is_beyond {
            setup.plan.level = Level::Beyond;
        }
        setup
    }
}

/// Runs each seed, and prints a summary.
fn service(options: &Options) -> Result<(), String> {
    let start = Instant::now();
    let (mut sum, mut broken) = (Ran::default(), Vec::new());
    for seed in options.seeds.clone() {
        match run::<Node>(&options.setup(seed), seed, options.is_traced) {
            Ok(ran) => sum.add(&ran),
            Err(Broken { seed, what, trace }) => {
                trace.iter().for_each(|line| println!("{line}"));
                println!("seed {seed}: {what}");
                broken.push(seed);
            }
        }
    }
    println!("seeds {:?}: {sum}", options.seeds);
    println!("{:.1} s", start.elapsed().as_secs_f32());
    match broken.is_empty() {
        true => Ok(()),
        false => Err(format!("{} seeds broke something: {broken:?}", broken.len())),
    }
}

fn range(value: &str) -> Result<Range<u64>, String> {
    let (from, to) = value.split_once("..").ok_or("seeds are given as A..B")?;
    Ok(number(from)?..number(to)?)
}

fn number(value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{value} is no number"))
}

fn fault(name: &str) -> Result<Fault, String> {
    Fault::named(name).ok_or_else(|| format!("no fault is {name:?}; there are {:?}", Fault::ALL))
}

fn rule(name: &str) -> Result<Rule, String> {
    let rule = Rule::ALL.iter().find(|rule| format!("{rule:?}") == name);
    rule.copied().ok_or_else(|| format!("there is no rule {name}"))
}

/// Explores the cluster component, or takes random walks through it.
fn cluster(mut arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let mut bounds = Bounds {
        nodes: 3,
        epochs: 2,
        attempts: 2,
        leases: 2,
        restarts: 0,
        ticks: 3,
        is_served: false,
    };
    let (mut rules, mut keeps_boots) = (Rules::default(), false);
    let (mut most, mut walks) = (50_000_000, 0);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
        let number =
            || value.parse::<u32>().map_err(|_| format!("{name} is a number, not {value}"));
        match name.as_str() {
            "--nodes" => bounds.nodes = number()? as usize,
            "--epochs" => bounds.epochs = number()?.into(),
            "--attempts" => bounds.attempts = number()? as u8,
            "--leases" => bounds.leases = number()? as u8,
            "--restarts" => bounds.restarts = number()? as u8,
            "--ticks" => bounds.ticks = number()? as u8,
            "--served" => bounds.is_served = number()? > 0,
            "--states" => most = number()? as usize,
            "--walks" => walks = number()?.into(),
            "--without" if value == "I1" => keeps_boots = true,
            "--without" => {
                rules = Rules::without(rule(&value)?);
            }
            _ => return Err(format!("unknown option {name}\n{USAGE}")),
        }
    }
    let start = Instant::now();
    let mut model = ClusterModel::with(bounds, rules, keeps_boots);
    println!("{bounds:?}");
    let violation = if walks > 0 {
        let found = (0..walks).find_map(|seed| Some((seed, walk(&mut model, seed, 400)?)));
        found.map(|(seed, violation)| {
            println!("walk {seed}");
            violation
        })
    } else {
        let explored = explore(&mut model, most);
        let Explored { states, transitions, depth, .. } = explored;
        let end = if explored.is_exhausted { "exhausted" } else { "bounded" };
        println!("{states} states, {transitions} transitions, depth {depth}, {end}");
        explored.violation
    };
    println!("{:.1} s", start.elapsed().as_secs_f32());
    let Some(violation) = violation else {
        return Ok(());
    };
    for (n, step) in violation.trace.iter().enumerate() {
        println!("{:3}. {step}", n + 1);
    }
    Err(violation.what)
}

/// Runs members through storms.
fn tenants(mut arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut seeds, mut without, mut plot) = (0..50, None, None);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
        match name.as_str() {
            "--seed" => seeds = number(&value)?..number(&value)? + 1,
            "--seeds" => seeds = range(&value)?,
            "--without" => without = Some(rule(&value)?),
            "--plot" => {
                plot = Some(Plot::named(&value).ok_or_else(|| format!("no plot is {value:?}"))?);
            }
            _ => return Err(format!("unknown option {name}\n{USAGE}")),
        }
    }
    let (start, mut broken, mut sum) = (Instant::now(), Vec::new(), (0, 0));
    for seed in seeds {
        let ran = plot.map_or_else(|| storm::storm(seed, without), |plot| plot.run(seed, without));
        match ran {
            Ok((epochs, calls)) => sum = (sum.0 + epochs, sum.1 + calls),
            Err(what) => {
                println!("seed {seed}: {what}");
                broken.push(seed);
            }
        }
    }
    println!("{} epochs, {} calls; {:.1} s", sum.0, sum.1, start.elapsed().as_secs_f32());
    match broken.is_empty() {
        true => Ok(()),
        false => Err(format!("{} seeds broke something: {broken:?}", broken.len())),
    }
}

/// Runs memberships through faults, or one mishap, and names the seeds that broke something.
fn memberships(mut arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut seeds, mut nodes, mut rules, mut mishap) = (0..50, 3, Rules::default(), None);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
        match name.as_str() {
            "--seeds" => seeds = range(&value)?,
            "--nodes" => nodes = number(&value)? as usize,
            "--without" => rules = Rules::without(rule(&value)?),
            "--mishap" => {
                let named = Mishap::named(&value);
                mishap = Some(named.ok_or_else(|| format!("no mishap is {value:?}"))?);
            }
            _ => return Err(format!("unknown option {name}\n{USAGE}")),
        }
    }
    let (mut broken, mut longest) = (Vec::new(), Duration::ZERO);
    for seed in seeds {
        let ran = match mishap {
            Some(mishap) => mishap.run(seed, rules).map(|()| Duration::ZERO),
            None => membership::storm(seed, nodes, rules),
        };
        match ran {
            Ok(took) => longest = longest.max(took),
            Err(what) => {
                println!("seed {seed}: {what}");
                broken.push(seed);
            }
        }
    }
    println!("agreed within {longest:?} at the latest");
    match broken.is_empty() {
        true => Ok(()),
        false => Err(format!("{} seeds broke something: {broken:?}", broken.len())),
    }
}
