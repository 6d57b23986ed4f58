//! The cluster component under every order of messages, within bounds. Without some rules, one of
//! these orders violates a property.

#![allow(missing_docs, clippy::unwrap_used)]

use simulation::cluster::{Bounds, ClusterModel};
use simulation::explore::{Violation, explore, walk};
use steadfast_replication::rules::{Rule, Rules};

const NOTHING: Bounds =
    Bounds { nodes: 3, epochs: 1, attempts: 0, leases: 0, restarts: 0, ticks: 0, is_served: false };

#[test]
fn two_attempts_agree_in_every_order() {
    let bounds = Bounds { attempts: 2, ..NOTHING };
    let explored = explore(&mut ClusterModel::new(bounds), usize::MAX);
    assert!(explored.violation.is_none(), "{:#?}", explored.violation);
    assert!(explored.is_exhausted && explored.states > 500_000, "{explored:?}");
}

#[test]
fn one_node_serves_a_slot_in_every_order() {
    let bounds = Bounds { attempts: 1, leases: 2, ticks: 2, is_served: true, ..NOTHING };
    let explored = explore(&mut ClusterModel::new(bounds), 2_000_000);
    assert!(explored.violation.is_none(), "{:#?}", explored.violation);
    assert!(explored.states >= 2_000_000, "{explored:?}");
}

#[test]
fn walks_through_several_epochs_and_restarts_break_nothing() {
    for nodes in [3, 5] {
        for is_served in [false, true] {
            let bounds = Bounds {
                nodes,
                epochs: 3,
                attempts: 4,
                leases: 6,
                restarts: 2,
                ticks: 6,
                is_served,
            };
            let mut model = ClusterModel::new(bounds);
            let violation = (0..2_000).find_map(|seed| walk(&mut model, seed, 400));
            assert!(violation.is_none(), "{violation:#?}");
        }
    }
}

#[test]
fn every_rule_that_is_left_out_is_missed() {
    let once = Bounds { attempts: 1, leases: 2, ticks: 2, ..NOTHING };
    let cases = [
        (Rule::A1, once, "an epoch does not know that a slot is served"),
        (Rule::A4, Bounds { attempts: 2, ..NOTHING }, "C13: two epochs have one number"),
        (Rule::A5, Bounds { attempts: 3, ..NOTHING }, "C13: two epochs have one number"),
        (Rule::L1, once, "C14: two nodes serve a slot"),
        (Rule::L2, once, "C14: two nodes serve a slot"),
    ];
    for (rule, bounds, broken) in cases {
        let mut model = ClusterModel::with(bounds, Rules::without(rule), false);
        let found = first_of_walks(&mut model);
        assert_eq!(found.map(|violation| violation.what).as_deref(), Some(broken), "{rule:?}");
    }
}

#[test]
fn a_voter_that_accepted_and_grants_is_missed() {
    let bounds = Bounds { attempts: 1, leases: 2, ticks: 3, is_served: true, ..NOTHING };
    let mut model = ClusterModel::with(bounds, Rules::without(Rule::A2), false);
    let found = explore(&mut model, 10_000_000).violation.unwrap();
    assert_eq!(found.what, "C14: two nodes serve a slot");
}

#[test]
fn a_boot_that_forgot_its_promises_is_missed() {
    let bounds = Bounds { attempts: 2, leases: 1, restarts: 1, ticks: 1, ..NOTHING };
    let mut model = ClusterModel::with(bounds, Rules::default(), true);
    assert!(first_of_walks(&mut model).is_some());
}

fn first_of_walks(model: &mut ClusterModel) -> Option<Violation> {
    (0..20_000).find_map(|seed| walk(model, seed, 400))
}
