//! Nodes in a simulated network: the driver, the links and the failure detector as they are in production,
//! over turmoil's sockets and time.
//!
//! Beside each node run clients of it. An oracle remembers the answers, and complains of impossible
//! ones: a write that was acknowledged and is lost, a session that lives on after its end, a read
//! that is older than the state its client carries. One thing is in trouble at a time, and the next
//! one when the nodes are at rest again.
//!
//! Links have no TLS here: it would draw randomness from the system, and its cost does not matter
//! here.

mod faults;
mod host;
mod oracle;
mod scenarios;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use turmoil::{Builder, Sim};

use self::faults::Faults;
use self::oracle::Oracle;
use crate::{Acknowledgements, PartitionPolicy, ReplicatedStore, Replication};

/// The parameters of a simulation.
#[derive(Clone, Copy, Debug)]
struct Setup {
    nodes: usize,
    replication: Replication,
    acknowledgements: Acknowledgements,
    partition: PartitionPolicy,
    /// True if hosts crash as well.
    crashes: bool,
}

impl Setup {
    fn number(n: u64) -> Self {
        let (nodes, replication, acknowledgements) = [
            (3, Replication::Backups(1), Acknowledgements::One),
            (3, Replication::Full, Acknowledgements::One),
            (4, Replication::Backups(1), Acknowledgements::One),
            (5, Replication::Backups(2), Acknowledgements::All),
        ][n as usize % 4];
        let partition = PartitionPolicy::Fail;
        Self { nodes, replication, acknowledgements, partition, crashes: true }
    }
}

/// The state that hosts share with the simulation that runs them.
struct World {
    setup: Setup,
    seed: u64,
    oracle: Oracle,
    nodes: Vec<Option<ReplicatedStore>>,
    starts: u64,
    /// The number of times that a node lost a link.
    links_lost: u64,
    phase: Phase,
    /// The number of hosts that have read everything.
    done: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Busy,
    Quiet,
    /// Every host reads every session.
    Reading,
}

impl World {
    /// Returns true if every node is alive and nothing is left to repair.
    fn is_at_rest(&self) -> bool {
        let count = self.setup.nodes;
        self.nodes.iter().all(|node| {
            node.as_ref().map(ReplicatedStore::status).is_some_and(|status| {
                status.has_joined()
                    && status.agreement.is_settled
                    && status.under_replicated == 0
                    && (status.members.full, status.members.voters) == (count, count)
            })
        })
    }

    fn statuses(&self) -> String {
        let status =
            |node: &Option<_>| format!("\n{:?}", node.as_ref().map(ReplicatedStore::status));
        self.nodes.iter().map(status).collect()
    }
}

/// The result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ran {
    calls: u64,
    failed: u64,
    faults: u64,
    trace: u64,
}

/// Hosts, and what they share.
struct Simulation {
    sim: Sim<'static>,
    world: Rc<RefCell<World>>,
}

impl Simulation {
    /// Begins with every node there and at rest.
    fn begin(setup: Setup, seed: u64) -> Result<Self, String> {
        let world = Rc::new(RefCell::new(World {
            setup,
            seed,
            oracle: Oracle::new(seed),
            nodes: vec![None; setup.nodes],
            starts: 0,
            links_lost: 0,
            phase: Phase::Quiet,
            done: 0,
        }));
        let mut sim = Builder::new()
            .rng_seed(seed)
            .epoch(UNIX_EPOCH + Duration::from_secs(1_700_000_000))
            .tick_duration(Duration::from_millis(2))
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(Duration::from_micros(200))
            .max_message_latency(Duration::from_millis(6))
            .tcp_capacity(4_096)
            .build();
        for n in 0..setup.nodes {
            let world = Rc::clone(&world);
            sim.host(host::name(n).as_str(), move || host::run(n, Rc::clone(&world)));
        }
        let mut simulation = Self { sim, world };
        simulation.until(Duration::from_secs(20), World::is_at_rest)?;
        Ok(simulation)
    }

    fn begin_phase(&self, phase: Phase) {
        self.world.borrow_mut().phase = phase;
    }

    fn step(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|cause| cause.to_string())?;
        self.world.borrow().oracle.is_right()
    }

    fn until(&mut self, within: Duration, is_so: impl Fn(&World) -> bool) -> Result<(), String> {
        let end = self.sim.elapsed() + within;
        while !is_so(&self.world.borrow()) {
            if self.sim.elapsed() >= end {
                return Err(format!("it never comes to that: {}", self.world.borrow().statuses()));
            }
            self.step()?;
        }
        Ok(())
    }

    /// Lets time pass, while something holds.
    fn while_it_holds(
        &mut self,
        by: Duration,
        holds: impl Fn(&World) -> bool,
    ) -> Result<(), String> {
        let end = self.sim.elapsed() + by;
        while self.sim.elapsed() < end {
            if !holds(&self.world.borrow()) {
                return Err(format!("it does not stay so: {}", self.world.borrow().statuses()));
            }
            self.step()?;
        }
        Ok(())
    }
}

/// Runs one seed to its end, and says what was wrong.
fn run(seed: u64) -> Result<Ran, String> {
    run_as(Setup::number(seed), seed)
}

fn run_as(setup: Setup, seed: u64) -> Result<Ran, String> {
    let mut simulation = Simulation::begin(setup, seed)?;
    simulation.begin_phase(Phase::Busy);
    let mut faults = Faults::new(seed, setup);
    let end = simulation.sim.elapsed() + FAULTY_FOR;
    while simulation.sim.elapsed() < end {
        let is_at_rest = simulation.world.borrow().is_at_rest();
        faults.next(&mut simulation.sim, is_at_rest);
        simulation.step()?;
    }
    faults.heal(&mut simulation.sim);
    simulation.begin_phase(Phase::Quiet);
    simulation.until(Duration::from_secs(60), World::is_at_rest)?;
    simulation.begin_phase(Phase::Reading);
    simulation.until(Duration::from_secs(60), |world| world.done == setup.nodes)?;
    let ran = simulation.world.borrow().oracle.ran();
    Ok(Ran { faults: faults.count(), ..ran })
}

#[test]
fn promises_hold_over_a_faulty_network() {
    for seed in 0..4 {
        let ran = run(seed);
        assert!(ran.is_ok(), "seed {seed}: {}", ran.unwrap_err());
    }
}

/// `STEADFAST_SEEDS=1000 cargo test -p steadfast-replicated many_seeds`, for code that changes a
/// link.
#[test]
fn many_seeds_hold_over_a_network() {
    let seeds = std::env::var("STEADFAST_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 1_000..1_000 + seeds.unwrap_or(1) {
        match run(seed) {
            Ok(ran) => println!("seed {seed}: {ran:?}"),
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
}

/// But for crashes: what the tasks of a host held is dropped in an order that tokio chooses.
#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| run_as(Setup { crashes: false, ..Setup::number(seed) }, seed).unwrap();
    for seed in [5, 7] {
        assert_eq!(run(seed), run(seed));
    }
}

/// The duration of faults, in simulated time.
const FAULTY_FOR: Duration = Duration::from_secs(15);
