//! Memberships through one mishap each, which a rule of the protocol keeps harmless.

use std::time::Duration;

use steadfast_replication::epoch::{Epoch, PartitionPolicy};
use steadfast_replication::member::Role;
use steadfast_replication::membership::{Drain, Membership};
use steadfast_replication::rules::Rules;

use crate::membership::World;

/// A kind of mishap.
#[derive(Clone, Copy, Debug)]
pub struct Mishap {
    /// Its name on the command line.
    pub name: &'static str,
    /// A description.
    pub what: &'static str,
    happens: fn(&mut World) -> Result<(), String>,
}

impl Mishap {
    /// Every mishap.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "lone judge",
            what: "one node of three takes another one for dead",
            happens: lone_judge,
        },
        Self { name: "shrinking", what: "three nodes become one", happens: shrinking },
        Self {
            name: "joiners",
            what: "three nodes crash while they join, and then one of the others",
            happens: joiners,
        },
        Self {
            name: "apart from the start",
            what: "nodes start that do not reach all that discovery names",
            happens: apart_from_the_start,
        },
        Self {
            name: "missing name",
            what: "two nodes of three crash, and one of them comes back",
            happens: missing_name,
        },
    ];

    /// The mishap of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|mishap| mishap.name == name)
    }

    /// Runs a seed.
    ///
    /// # Errors
    ///
    /// Returns the first violation.
    pub fn run(&self, seed: u64, rules: Rules) -> Result<(), String> {
        let mut world = World::with(seed, 6, rules);
        (self.happens)(&mut world)?;
        world.history().broken.clone().map_or(Ok(()), Err)
    }
}

fn lone_judge(world: &mut World) -> Result<(), String> {
    founded(world, 3)?;
    let suspect = world.membership(1).expect("it runs").me();
    world.on_node(0, |membership, now| membership.disconnected(suspect, true, now));
    for _ in 0..40 {
        world.run(ms(10));
        is_in(world, 2, 1)?;
    }
    Ok(())
}

fn shrinking(world: &mut World) -> Result<(), String> {
    founded(world, 3)?;
    for node in [2, 1] {
        world.on_node(node, |membership, now| membership.ask_to_drain(Drain::Leave, now));
        world.run(ms(500));
        world.on_node(node, Membership::set_empty);
        world.run(ms(1_000));
    }
    match epoch(world, 0)?.policy() {
        PartitionPolicy::Fail => Ok(()),
        policy => Err(format!("P1: the policy relaxed to {policy:?}")),
    }
}

fn joiners(world: &mut World) -> Result<(), String> {
    founded(world, 3)?;
    world.name(0..6);
    for node in 3..6 {
        world.start_all([node]);
        for _ in 0..400 {
            world.run(ms(5));
            match role(world, 0, node)? {
                None => continue,
                // A full member votes, and counts.
                Some(Role::Joining) => world.kill(node),
                Some(_) => {}
            }
            break;
        }
    }
    world.kill(2);
    world.run_until_agreed(ms(5_000)).map(|_| ())
}

fn apart_from_the_start(world: &mut World) -> Result<(), String> {
    world.name(0..3);
    let apart = world.draw(3) as usize;
    world.isolate(apart);
    world.start_all(0..3);
    world.run(ms(2_000));
    world.heal();
    world.run(ms(2_000));
    let lineages = world.history().epochs.keys().map(|id| id.lineage);
    match lineages.collect::<std::collections::BTreeSet<_>>().len() {
        1 => Ok(()),
        lineages => Err(format!("F1: {lineages} services were founded")),
    }
}

fn missing_name(world: &mut World) -> Result<(), String> {
    founded(world, 3)?;
    let lost = epoch(world, 0)?.id().lineage;
    world.kill(1);
    world.kill(2);
    world.run(ms(500));
    world.start_all([1]);
    world.run(ms(3_000));
    match epoch(world, 0)?.id().lineage == lost {
        true => Ok(()),
        false => Err("M1: a name is missing, and others founded without it".to_owned()),
    }
}

/// Starts this number of nodes, and waits until all of them are full.
fn founded(world: &mut World, nodes: usize) -> Result<(), String> {
    world.name(0..nodes);
    world.start_all(0..nodes);
    for _ in 0..200 {
        world.run(ms(50));
        let is_full = |epoch: &Epoch| {
            let full = epoch.members().iter().filter(|member| member.role == Role::Full);
            full.count() == nodes
        };
        let epoch = world.membership(0).and_then(Membership::epoch);
        if epoch.is_some_and(|epoch| is_full(epoch)) && world.disagreement().is_none() {
            return Ok(());
        }
    }
    Err(format!("{nodes} nodes do not become full: {:?}", world.disagreement()))
}

/// A node that is well is not put aside.
fn is_in(world: &World, by: usize, of: usize) -> Result<(), String> {
    match role(world, by, of)? {
        Some(Role::Aside) => Err(format!("n{of} is well, and put aside")),
        _ => Ok(()),
    }
}

fn role(world: &World, by: usize, of: usize) -> Result<Option<Role>, String> {
    let name = format!("n{of}").parse().expect("a short name");
    Ok(epoch(world, by)?.named(&name).map(|member| member.role))
}

fn epoch(world: &World, of: usize) -> Result<&Epoch, String> {
    let epoch = world.membership(of).and_then(Membership::epoch);
    epoch.map(|epoch| &**epoch).ok_or_else(|| format!("n{of} knows no epoch"))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
