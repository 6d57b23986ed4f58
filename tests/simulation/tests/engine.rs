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
fn the_same_seed_runs_the_engine_the_same_way() {
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

#[test]
fn copies_of_idle_owners_answer_reads() {
    let mut setup = scenario("idle owners");
    setup.lasts /= 5;
    run::<Node>(&setup, 1, false).unwrap();
    setup.without = Some(Rule::R3);
    assert_breaks(&setup, 1, "R3");
}

#[test]
fn a_zone_may_lose_its_power() {
    let mut setup = scenario("zones");
    run::<Node>(&setup, 1, false).unwrap();
    setup.machines.hides_zones = true;
    assert_breaks(&setup, 1, "life");
}

#[test]
fn nodes_restart_while_an_operator_changes_settings() {
    let ran = run::<Node>(&scenario("configuration"), 1, false).unwrap();
    assert!(ran.faults.len() == 3, "{ran}");
}

#[test]
fn ends_that_are_forgotten_stay_ends() {
    let ran = run::<Node>(&scenario("forgotten ends"), 1, false).unwrap();
    assert!(ran.calls > 1_500, "{ran}");
}

fn scenario(name: &str) -> Setup {
    Scenario::named(name).unwrap().setup(None)
}

fn assert_breaks(setup: &Setup, seed: u64, what: &str) {
    let broken = run::<Node>(setup, seed, false).unwrap_err();
    assert!(broken.what.contains(what), "{}", broken.what);
}
