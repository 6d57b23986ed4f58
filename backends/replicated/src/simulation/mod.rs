//! Many engines in one thread, with a network, clocks and faults drawn from a seed.
//!
//! The same seed gives the same run. Nothing here waits for real time, so a thousand runs of half a
//! minute each take a minute. What must hold is checked by `clients`, which remember what they were
//! told, and at the end by looking at every node; that the checks can fail is shown by leaving out
//! the rules of the engine one by one. What a check says begins with the invariant that it found
//! broken; scenarios that are about one are named after it.
//!
//! | invariant | where it is checked |
//! | --- | --- |
//! | 1 | `clients`: what a read shows, beside what its client carries |
//! | 2 | `clients`, `accounts`: what was acknowledged is never lost |
//! | 3 | `world`: at rest all holders have the same, and are those that are computed |
//! | 4 | `clients`: who shows a write that was not answered is not alone with it |
//! | 5 | `clients`, `accounts`, `replays`: what ended, and a secret that was replaced |
//! | 6 | `scenarios` |
//! | 7 | `clients`, every 100 ms; `scenarios` |
//! | 8 | `calls`: deadlines; `world`: frames that wait; `scenarios` |
//! | 9, 10, 11 | `scenarios` |
//! | 12 | `world`, after every eighth run; `scenarios` |
//!
//! That memory is bounded, by sums that are those of what is held, is in `budgets`, and in `world` after
//! every run.

mod accounts;
mod budgets;
mod calls;
mod clients;
mod deployments;
mod faults;
mod replays;
mod scenarios;
mod sign_ins;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use steadfast_core::RecordId;

use self::clients::Clients;
use self::faults::Faults;
use self::world::World;
use crate::engine::Rule;
use crate::engine::config::{Acks, Budgets, Copies, Partition};
use crate::record::MAX_SKEW;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
struct Setup {
    nodes: usize,
    /// Nodes that may join, and leave again; with one, nodes are drained and restarted, too.
    spares: usize,
    copies: Copies,
    acks: Acks,
    partition: Partition,
    /// How far two wall clocks are apart at most, and how fast they run.
    skew: Duration,
    wall_speed: u32,
    /// The idle time of half of the sessions, which are touched.
    idle: Option<Duration>,
    without: Option<Rule>,
    budgets: Budgets,
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
        let plain = Self { nodes, copies, acks, ..Self::plain() };
        match n % 20 {
            5 | 6 => Self { spares: 1, ..plain },
            7 | 9 => Self { spares: 1, ..plain.with_touches() },
            8 => plain.with_touches(),
            10 | 11 => plain.with_skewed_clocks(),
            12 => Self { nodes: 2, partition: Partition::Degrade, ..Self::plain().in_sync() },
            13 => Self { partition: Partition::Degrade, ..Self::plain().in_sync() },
            14 => Self { nodes: 4, partition: Partition::Degrade, ..Self::plain().in_sync() },
            _ => plain,
        }
    }

    /// Three nodes, each session on two of them.
    fn plain() -> Self {
        Self {
            nodes: 3,
            spares: 0,
            copies: Copies::Backups(1),
            acks: Acks::One,
            partition: Partition::Fail,
            skew: Duration::from_secs(30),
            wall_speed: 1,
            idle: None,
            without: None,
            budgets: Budgets::default(),
            for_seconds: 12,
        }
    }

    /// Sessions that end a few seconds after they were touched, by clocks that are nearly right.
    fn with_touches(self) -> Self {
        let (skew, idle) = (Duration::from_millis(300), Some(Duration::from_secs(4)));
        Self { skew, idle, ..self }
    }

    /// Wall clocks as far apart as they may be; they run fast, so that sessions end meanwhile.
    fn with_skewed_clocks(self) -> Self {
        let idle = Some(Duration::from_secs(600));
        Self { skew: MAX_SKEW, wall_speed: 100, idle, ..self }
    }

    /// Wall clocks that agree: after a split, the later write to a key is the later one.
    fn in_sync(self) -> Self {
        Self { skew: Duration::ZERO, ..self }
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
    for step in 0.. {
        if world.time >= end {
            break;
        }
        faults.next(&mut world);
        clients.next(&mut world);
        world.step(Duration::from_millis(2));
        clients.hear(&mut world)?;
        if step % 50 == 0 {
            clients.are_held(&world)?;
            world.bounds_queues()?;
        }
    }
    faults.heal(&mut world)?;
    world.step(Duration::from_secs(10));
    clients.hear(&mut world)?;
    clients.is_answered()?;
    world.run_until_settled(Duration::from_secs(60))?;
    clients.read_everything(&mut world)?;
    world.is_at_rest()?;
    world.counts_right()?;
    if seed.is_multiple_of(8) {
        world.forgets_everything()?;
    }
    Ok(Ran { faults: faults.count(), trace: world.trace(), ..clients.ran() })
}

/// The id of a session, of random bytes.
fn session_id(mut bytes: [u8; 16]) -> RecordId {
    bytes[6] = 0x40 | (bytes[6] & 0x0f);
    RecordId::from_bytes(bytes)
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

/// After a split, an owner that was not sure whether there was a record asked everybody for it but the
/// node that offered it, for ever.
#[test]
fn a_record_that_one_node_alone_kept_is_taken_over() {
    for seed in [1_194, 1_714] {
        run(Setup::number(seed), seed).unwrap();
    }
}

/// Owners that were cut off ended what their successors kept alive, once what expired is remembered.
#[test]
fn an_owner_without_a_majority_ends_nothing() {
    for seed in [1_007, 1_070, 1_248] {
        run(Setup::number(seed), seed).unwrap();
    }
}

/// A node with a slow clock brought back an older copy of a session that had expired elsewhere.
#[test]
fn what_expired_by_one_clock_stays_over_by_all() {
    for seed in [1_091, 1_150] {
        run(Setup::number(seed), seed).unwrap();
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let ran = || run(Setup::number(3), 7).unwrap();
    assert_eq!(ran(), ran());
}

#[test]
fn without_acknowledgements_a_read_of_less_than_was_answered_is_found() {
    assert_found(Rule::Acknowledge, "invariant 1");
}

#[test]
fn without_rollback_and_confirmation_an_unacknowledged_write_is_found() {
    assert_found(Rule::RollBack, "invariant 4");
}

#[test]
fn without_leases_a_read_after_the_end_is_found() {
    assert_found(Rule::Lease, "invariant 5");
}

#[test]
fn without_take_over_a_read_of_less_than_was_seen_is_found() {
    assert_found(Rule::TakeOver, "invariant 1");
}

/// Asserts that some seed shows that this is what breaks without a rule.
fn assert_found(rule: Rule, broken: &str) {
    let seeds = (0..2_000).filter(|seed| seed % 20 < 5);
    let mut others = BTreeSet::new();
    for seed in seeds {
        match run(Setup::number(seed).without(rule), seed) {
            Err(why) if why.starts_with(broken) => return,
            Err(why) => drop(others.insert(why.chars().take(40).collect::<String>())),
            Ok(_) => {}
        }
    }
    panic!("{broken} held without {rule:?}; broken were {others:#?}");
}
