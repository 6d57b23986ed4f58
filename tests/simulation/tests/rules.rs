//! Rules of the protocol, each left out alone: a seed finds that, and passes with the rule.

#![allow(missing_docs, clippy::unwrap_used)]

use simulation::mishaps::Mishap;
use simulation::node::Node;
use simulation::run::{Setup, run};
use simulation::scenarios::Scenario;
use simulation::tenants::plots::Plot;
use simulation::tenants::storm::storm;
use steadfast_replication::rules::{Rule, Rules};

/// The first seed of a plot that finds a rule missing.
const PLOTS: &[(Rule, &str, u64)] = &[
    (Rule::G1, "untold backup", 0),
    (Rule::G2, "old copies", 2),
    (Rule::P2, "wrong suspicion", 0),
    (Rule::T2, "missed write", 4),
    (Rule::T3, "untold backup", 0),
    (Rule::T5, "old copies", 2),
    (Rule::T8, "quick crash", 0),
    (Rule::T10, "unheard write", 5),
    (Rule::W1, "filling backup", 0),
    (Rule::W3, "late acknowledgement", 2),
    (Rule::X1, "late reader", 3),
    (Rule::X2, "forgotten end", 3),
    (Rule::Y1, "old copies", 4),
];

#[test]
fn plots_find_the_rules_that_are_missing() {
    let mut wrong = Vec::new();
    for (rule, plot, seed) in PLOTS {
        let run = |without| Plot::named(plot).unwrap().run(*seed, without);
        if let Err(what) = run(None) {
            wrong.push(format!("{plot}, seed {seed}: {what}"));
        }
        if run(Some(*rule)).is_ok() {
            wrong.push(format!("{plot}, seed {seed}: {rule:?} is not missed"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn storms_find_the_rules_that_are_missing() {
    for (rule, seed) in [(Rule::C1, 2), (Rule::R2, 2), (Rule::V1, 5)] {
        storm(seed, None).unwrap();
        assert!(storm(seed, Some(rule)).is_err(), "{rule:?} is not missed");
    }
}

#[test]
fn mishaps_find_the_rules_that_are_missing() {
    let cases = [
        (Rule::E2, "joiners", 0),
        (Rule::F1, "apart from the start", 0),
        (Rule::M1, "missing name", 0),
        (Rule::P1, "shrinking", 0),
        (Rule::S1, "lone judge", 1),
    ];
    for (rule, mishap, seed) in cases {
        let run = |rules| Mishap::named(mishap).unwrap().run(seed, rules);
        run(Rules::default()).unwrap();
        assert!(run(Rules::without(rule)).is_err(), "{rule:?} is not missed");
    }
}

#[test]
fn clocks_and_paths_find_their_rules() {
    let clocks = Scenario::named("clocks").unwrap().setup(None);
    for (rule, setup, seed) in [(Rule::K1, clocks, 0), (Rule::N1, Setup::drawn(1, Some(3)), 1)] {
        run::<Node>(&setup, seed, false).unwrap();
        let setup = Setup { without: Some(rule), ..setup };
        assert!(run::<Node>(&setup, seed, false).is_err(), "{rule:?} is not missed");
    }
}

#[test]
fn members_survive_the_other_plots() {
    for plot in ["reader left behind", "long read"] {
        Plot::named(plot).unwrap().run(0, None).unwrap();
    }
}
