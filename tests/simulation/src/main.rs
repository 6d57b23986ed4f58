//! Explores the models within the given bounds.

use std::ops::Range;
use std::time::{Duration, Instant};

use simulation::cluster::{Bounds, ClusterModel};
use simulation::explore::{Explored, explore, walk};
use simulation::membership::storm;
use steadfast_replication::rules::{Rule, Rules};

const USAGE: &str = "\
simulation membership NODES FROM TO

Runs memberships through random faults, once for each seed.

simulation cluster [--nodes N] [--epochs N] [--attempts N] [--leases N] [--restarts N] [--ticks N]
    [--served 1]
    [--without RULE] [--states N] [--walks N]

Explores the cluster component, or takes so many walks through it. RULE is a rule of PROTOCOL.md, such as
A1.";

fn main() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    if std::env::args().nth(1).as_deref() == Some("membership") {
        let numbers: Vec<u64> = arguments.skip(1).filter_map(|word| word.parse().ok()).collect();
        let [nodes, from, to] = numbers[..] else {
            return Err(USAGE.to_owned());
        };
        return storms(nodes as usize, from..to);
    }
    if arguments.next().as_deref() != Some("cluster") {
        return Err(USAGE.to_owned());
    }
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
                let is_it = |rule: &&Rule| format!("{rule:?}") == value;
                let rule = Rule::ALL.iter().find(is_it);
                rules = Rules::without(*rule.ok_or_else(|| format!("there is no rule {value}"))?);
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

/// Runs memberships through faults, and names the seeds that broke something.
fn storms(nodes: usize, seeds: Range<u64>) -> Result<(), String> {
    let (mut broken, mut longest) = (0, Duration::ZERO);
    for seed in seeds {
        match storm(seed, nodes) {
            Ok(took) => longest = longest.max(took),
            Err(what) => {
                println!("seed {seed}: {what}");
                broken += 1;
            }
        }
    }
    println!("agreed within {longest:?} at the latest");
    if broken == 0 { Ok(()) } else { Err(format!("{broken} seeds broke something")) }
}
