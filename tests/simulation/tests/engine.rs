//! The simulation of the real engine.

#![allow(missing_docs, clippy::unwrap_used)]

use simulation::node::Node;
use simulation::run::{Ran, Setup, run};
use simulation::scenarios::Scenario;
use steadfast_replication::rules::Rule;

#[test]
fn faults_that_overlap_break_no_promise() {
    let mut sum = Ran::default();
    for seed in 0..5 {
        let setup = Setup::drawn(seed, Some(3));
        sum.add(&run::<Node>(&setup, seed, false).unwrap());
    }
    assert!(sum.calls > 8_000, "{sum}");
    assert!(sum.faults.len() > 8, "{sum}");
}

#[test]
fn budgets_end_sessions_of_visitors_only() {
    let broken = |seed, without| {
        let mut setup = Setup::drawn(seed, Some(3));
        (setup.visitors, setup.without) = (Some(4), without);
        setup.lasts /= 5;
        run::<Node>(&setup, seed, false).err()
    };
    for seed in 0..2 {
        assert!(broken(seed, None).is_none_or(|broken| panic!("{broken:?}")));
    }
    for rule in [Rule::B1, Rule::B2] {
        assert!((0..5).any(|seed| broken(seed, Some(rule)).is_some()), "{rule:?}");
    }
}

#[test]
fn ends_are_told_over_crashes() {
    let broken = |seed, without| {
        let mut setup = Scenario::named("reports").unwrap().setup(Some(3));
        setup.without = without;
        run::<Node>(&setup, seed, false).err()
    };
    for seed in 0..2 {
        assert!(broken(seed, None).is_none_or(|broken| panic!("{broken:?}")));
    }
    let found = (0..3).find_map(|seed| broken(seed, Some(Rule::X3)));
    assert!(found.is_some_and(|broken| broken.what.contains("no application was told")));
}

#[test]
fn the_same_seed_repeats_a_run() {
    let mut setup = Setup::of(3);
    setup.lasts /= 5;
    let of = |seed| run::<Node>(&setup, seed, false).unwrap();
    assert_eq!(of(1), of(1));
}

#[test]
fn a_boot_that_is_used_again_is_noticed() {
    let mut setup = Setup::drawn(0, Some(3));
    setup.machines.habits.keeps_boots = true;
    assert_breaks(&setup, 0, "C16");
}

fn assert_breaks(setup: &Setup, seed: u64, what: &str) {
    let broken = run::<Node>(setup, seed, false).unwrap_err();
    assert!(broken.what.contains(what), "{}", broken.what);
}
