//! Explores the models within the given bounds.

use std::time::Instant;

use simulation::cluster::{Bounds, ClusterModel};
use simulation::explore::{Explored, explore, walk};
use steadfast_replication::rules::{Rule, Rules};

const USAGE: &str = "\
simulation cluster [--nodes N] [--epochs N] [--attempts N] [--leases N] [--restarts N] [--ticks N]
    [--served 1]
    [--without RULE] [--states N] [--walks N]

Explores the cluster component, or takes so many walks through it. RULE is a rule of PROTOCOL.md, such as
A1.";

fn main() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
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
