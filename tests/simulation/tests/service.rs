//! The simulation of a service that is right, and of services that are each wrong in one way.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use simulation::faults::Fault;
use simulation::primary::*;
use simulation::run::{Broken, Ran, Setup, run};

#[test]
fn a_service_that_is_right_breaks_nothing() {
    let mut sum = Ran::default();
    for seed in 0..10 {
        sum.add(&run::<Primary<RIGHT>>(&setup(), seed, false).unwrap());
    }
    assert!(sum.calls > 14_000 && sum.found > 5_000, "{sum}");
    assert!(sum.unknown * 20 < sum.calls, "{sum}");
}

#[test]
fn the_same_seed_runs_the_same_way() {
    let of = |seed| run::<Primary<RIGHT>>(&setup(), seed, false).unwrap();
    assert_eq!(of(3), of(3));
    assert_ne!(of(3).trace, of(4).trace);
}

#[test]
fn every_service_that_is_wrong_is_found() {
    assert_found(&broken::<REPEATS>(), "counter");
    assert_found(&broken::<STALE>(), "life");
    assert_found(&broken::<LOSES>(), "two writes have one version");
    assert_found(&broken::<ABSENT>(), "life");
    assert_found(&broken::<SILENT>(), "a call was never answered");
    assert_found(&broken::<ALL_SERVE>(), "C14");
    assert_found(&broken::<DISAGREES>(), "C13");
    assert_found(&broken::<LEAKS>(), "at rest");
    assert_found(&broken::<FORGETS_ONE>(), "lives on after");
    assert_found(&broken::<OLD_SECRETS>(), "secret");
    assert_found(&broken::<NO_CAP>(), "more sessions are listed than the cap allows");
    assert_found(&broken::<NO_FLOOR>(), "a login below the floor");
}

/// The first node never loses its memory.
fn setup() -> Setup {
    let mut setup = Setup::of(3);
    setup.spares = 0;
    (setup.habits.principals, setup.habits.sessions) = (2, 24);
    setup.lasts = Duration::from_secs(15);
    setup.plan.kinds =
        vec![Fault::Stall, Fault::ShortStall, Fault::CutPair, Fault::Reset, Fault::Slow];
    setup
}

fn broken<const WRONG: u8>() -> Vec<Broken> {
    (0..12).filter_map(|seed| run::<Primary<WRONG>>(&setup(), seed, false).err()).collect()
}

fn assert_found(broken: &[Broken], what: &str) {
    let all: Vec<_> = broken.iter().map(|broken| &broken.what).collect();
    assert!(all.iter().any(|found| found.contains(what)), "{what} is not among {all:#?}");
}
