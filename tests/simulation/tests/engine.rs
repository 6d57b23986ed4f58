//! The simulation of the real engine.

#![allow(missing_docs, clippy::unwrap_used)]

use simulation::node::Node;
use simulation::run::{Ran, Setup, run};

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
fn the_same_seed_runs_the_engine_the_same_way() {
    let mut setup = Setup::of(3);
    setup.lasts /= 5;
    let of = |seed| run::<Node>(&setup, seed, false).unwrap();
    assert_eq!(of(1), of(1));
}
