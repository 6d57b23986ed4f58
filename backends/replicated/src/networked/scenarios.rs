//! Single faults, and how soon they are noticed.

use std::time::Duration;

use super::{Phase, Setup, Simulation, World};
use crate::{PartitionPolicy, ReplicatedStore};

#[test]
fn links_stay_up_while_nothing_fails() {
    let mut simulation = begin(PartitionPolicy::Fail);
    let settled = Duration::from_secs(1);
    simulation.while_it_holds(settled, |_| true).unwrap();
    let lost = simulation.world.borrow().links_lost;
    let is_quiet = |world: &World| world.links_lost == lost;
    simulation.while_it_holds(Duration::from_secs(40), is_quiet).unwrap();
}

#[test]
fn a_node_that_crashes_is_missed_soon() {
    let mut simulation = begin(PartitionPolicy::Degrade);
    simulation.sim.crash("n2");
    simulation.while_it_holds(Duration::from_secs(1), |world| members(world) == [3, 3]).unwrap();
    simulation.until(Duration::from_millis(600), |world| members(world) == [2, 2]).unwrap();
    simulation.sim.bounce("n2");
    simulation.until(Duration::from_secs(5), |world| members(world) == [3, 3, 3]).unwrap();
}

#[test]
fn a_node_that_hangs_is_missed_as_well() {
    let mut simulation = begin(PartitionPolicy::Degrade);
    simulation.sim.hold("n2", "n0");
    simulation.sim.hold("n2", "n1");
    let is_missed = |world: &World| members(world)[..2] == [2, 2];
    simulation.until(Duration::from_secs(4), is_missed).unwrap();
}

#[test]
fn a_node_reached_through_a_relay_stays() {
    let mut simulation = begin(PartitionPolicy::Degrade);
    simulation.sim.partition("n0", "n1");
    let nobody_is_missed = |world: &World| members(world) == [3, 3, 3];
    simulation.while_it_holds(Duration::from_secs(30), nobody_is_missed).unwrap();
    simulation.sim.repair("n0", "n1");
    simulation.until(Duration::from_secs(3), World::is_at_rest).unwrap();
}

#[test]
fn a_node_that_was_cut_off_returns_soon() {
    let mut simulation = begin(PartitionPolicy::Fail);
    simulation.begin_phase(Phase::Busy);
    simulation.sim.partition("n2", "n0");
    simulation.sim.partition("n2", "n1");
    let is_missed = |world: &World| members(world)[..2] == [2, 2];
    simulation.until(Duration::from_secs(4), is_missed).unwrap();
    simulation.sim.repair("n2", "n0");
    simulation.sim.repair("n2", "n1");
    simulation.until(Duration::from_secs(15), World::is_at_rest).unwrap();
}

fn begin(partition: PartitionPolicy) -> Simulation {
    Simulation::begin(Setup { partition, ..Setup::number(0) }, 1).unwrap()
}

/// The number of members that each running node sees.
fn members(world: &World) -> Vec<usize> {
    let running = world.nodes.iter().flatten();
    running.map(ReplicatedStore::status).map(|status| status.members.full).collect()
}
