//! The simulation of services that split, and of their state after a loss.

#![allow(missing_docs, clippy::unwrap_used)]

use simulation::faults::Fault;
use simulation::node::Node;
use simulation::run::run;
use simulation::scenarios::Scenario;
use steadfast_replication::rules::Rule;

#[test]
fn sides_of_a_split_are_merged() {
    for (scenario, seed) in [("split of two", 0), ("split of two", 1), ("split of three", 0)] {
        let setup = Scenario::named(scenario).unwrap().setup(None);
        let ran = run::<Node>(&setup, seed, false).unwrap();
        assert!(ran.faults[&Fault::Isolate] > 0, "{ran}");
    }
}

#[test]
fn what_a_side_wrote_is_lost_without_merges() {
    let mut setup = Scenario::named("split of two").unwrap().setup(None);
    setup.without = Some(Rule::D1);
    assert!((0..2).any(|seed| run::<Node>(&setup, seed, false).is_err()));
}

#[test]
fn lists_have_what_is_left_after_a_loss() {
    let setup = Scenario::named("lost lists").unwrap().setup(None);
    let ran = run::<Node>(&setup, 0, false).unwrap();
    assert!(ran.faults[&Fault::QuickRestart] > 3, "{ran}");
}
