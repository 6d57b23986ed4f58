//! Many engines in one thread, with a network, clocks and faults drawn from a seed.
//!
//! The same seed gives the same run. Nothing here waits for real time, so a thousand runs of half a
//! minute each take a minute. What must hold is checked by `clients`, which remember what they were
//! told, and at the end by looking at every node; that the checks can fail is shown by leaving out
//! the rules of the engine one by one.

mod clients;
mod faults;
mod scenarios;
mod world;

use std::time::Duration;

use self::clients::Clients;
use self::faults::Faults;
use self::world::World;
use crate::engine::Rule;
use crate::engine::config::{Acks, Copies, Partition};

/// What is simulated.
#[derive(Clone, Copy, Debug)]
struct Setup {
    nodes: usize,
    copies: Copies,
    acks: Acks,
    partition: Partition,
    without: Option<Rule>,
    /// For how long faults and calls go on.
    for_seconds: u64,
}

impl Setup {
    /// One of the set-ups that are simulated, by its number.
    fn number(n: u64) -> Self {
        let (nodes, copies, acks) = [
            (3, Copies::Backups(1), Acks::One),
            (3, Copies::All, Acks::One),
            (4, Copies::Backups(1), Acks::One),
            (5, Copies::Backups(2), Acks::One),
            (5, Copies::Backups(2), Acks::All),
        ][n as usize % 5];
        let partition = Partition::Fail;
        Self { nodes, copies, acks, partition, without: None, for_seconds: 12 }
    }

    fn without(self, rule: Rule) -> Self {
        Self { without: Some(rule), ..self }
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ran {
    calls: u64,
    reads: u64,
    failed: u64,
    faults: u64,
    trace: u64,
}

impl Ran {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.reads += other.reads;
        self.failed += other.failed;
        self.faults += other.faults;
    }
}

/// Runs one seed to its end, and says what was wrong.
fn run(setup: Setup, seed: u64) -> Result<Ran, String> {
    let mut world = World::new(setup, seed);
    let mut clients = Clients::new(seed, setup);
    let mut faults = Faults::new(seed, setup);
    world.run_until_settled(Duration::from_secs(30))?;
    let end = world.time + Duration::from_secs(setup.for_seconds);
    while world.time < end {
        faults.next(&mut world);
        clients.next(&mut world);
        world.step(Duration::from_millis(2));
        clients.hear(&mut world)?;
    }
    faults.heal(&mut world);
    world.step(Duration::from_secs(10));
    clients.hear(&mut world)?;
    clients.is_answered()?;
    world.run_until_settled(Duration::from_secs(60))?;
    clients.read_everything(&mut world)?;
    world.is_at_rest()?;
    Ok(Ran { faults: faults.count(), trace: world.trace(), ..clients.ran() })
}

#[test]
fn what_was_promised_holds_under_faults() {
    for seed in 0..50 {
        let ran = run(Setup::number(seed), seed);
        assert!(ran.is_ok(), "seed {seed}: {}", ran.unwrap_err());
    }
}

/// For whoever changes a rule: `STEADFAST_SEEDS=1000 cargo test -p steadfast-replicated many_seeds`, and
/// `STEADFAST_FIRST_SEED` to begin elsewhere. It goes on after a failure, so that one run shows all.
#[test]
fn many_seeds_hold_if_they_are_asked_for() {
    let (first, count) = (asked("STEADFAST_FIRST_SEED", 1_000), asked("STEADFAST_SEEDS", 5));
    let (mut sum, mut failed) = (Ran::default(), Vec::new());
    for seed in first..first + count {
        match run(Setup::number(seed), seed) {
            Ok(ran) => sum.add(ran),
            Err(why) => failed.push(format!("seed {seed}: {why}")),
        }
    }
    println!("{count} seeds from {first}: {sum:?}");
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

fn asked(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|asked| asked.parse().ok()).unwrap_or(default)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let ran = || run(Setup::number(3), 7).unwrap();
    assert_eq!(ran(), ran());
}

#[test]
fn without_acknowledgements_a_loss_is_found() {
    assert_found(Rule::Acknowledge);
}

#[test]
fn without_rollback_and_confirmation_a_loss_is_found() {
    assert_found(Rule::RollBack);
}

#[test]
fn without_leases_a_stale_read_is_found() {
    assert_found(Rule::Lease);
}

#[test]
fn without_take_over_a_loss_is_found() {
    assert_found(Rule::TakeOver);
}

/// Asserts that some seed shows what breaks without a rule.
fn assert_found(rule: Rule) {
    let found = (0..60).any(|seed| run(Setup::number(seed).without(rule), seed).is_err());
    assert!(found, "nothing broke without {rule:?}");
}
