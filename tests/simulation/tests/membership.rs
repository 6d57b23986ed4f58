//! Several memberships under faults and operators' changes.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use simulation::membership::{Configuration, World, storm};
use steadfast_replication::epoch::{Acknowledgements, Settings};
use steadfast_replication::member::{Role, Versions};
use steadfast_replication::membership::{Drain, End, Membership, Refusal};
use steadfast_replication::rules::Rules;

#[test]
fn nodes_agree_again_after_any_faults() {
    for nodes in [2, 3, 5] {
        for seed in 0..50 {
            let result = storm(seed, nodes, Rules::default());
            assert!(result.is_ok(), "seed {seed}, {nodes} nodes: {result:?}");
        }
    }
}

#[test]
fn founding_gives_one_lineage() {
    for seed in 0..20 {
        let world = founded(seed, 3);
        let lineages = world.history().epochs.keys().map(|id| id.lineage);
        assert_eq!(lineages.collect::<std::collections::BTreeSet<_>>().len(), 1);
    }
}

#[test]
fn a_killed_node_is_aside_within_700_ms() {
    for seed in 0..20 {
        for has_power in [true, false] {
            let mut world = founded(seed, 3);
            // Nothing that it sent is in transit any more.
            world.run(ms(100));
            let boot = world.membership(1).unwrap().me();
            if has_power {
                world.kill(1);
            } else {
                world.cut_the_power(1);
            }
            world.on_node(0, |membership, now| {
                membership.on_awaited(boot, now);
                Vec::new()
            });
            world.run(ms(700));
            let role = role_of(&world, 0, 1);
            assert_eq!(role, Some(Role::Aside), "seed {seed}, refused: {has_power}");
        }
    }
}

#[test]
fn nodes_restart_in_turn() {
    for seed in 0..10 {
        let mut world = founded(seed, 3);
        for node in 0..3 {
            world.on_node(node, |membership, now| membership.ask_to_drain(Drain::Restart, now));
            world.run(ms(500));
            assert_eq!(role_of(&world, (node + 1) % 3, node), Some(Role::Draining));
            world.kill(node);
            world.run(ms(300));
            world.start_all([node]);
            all_full(&mut world, 3);
        }
    }
}

#[test]
fn a_service_grows_and_shrinks() {
    for seed in 0..10 {
        let mut world = World::new(seed, 5);
        world.name([0]);
        world.start_all([0]);
        all_full(&mut world, 1);
        for nodes in [3, 5] {
            world.name(0..nodes);
            world.start_all(0..nodes);
            all_full(&mut world, nodes);
        }
        for node in (1..5).rev() {
            world.on_node(node, |membership, now| membership.ask_to_drain(Drain::Leave, now));
            world.run(ms(500));
            world.on_node(node, Membership::set_empty);
            world.run(ms(1_000));
            assert_eq!(world.history().ended.last(), Some(&(node, End::Left)), "seed {seed}");
            all_full(&mut world, node);
        }
    }
}

#[test]
fn a_lost_majority_recovers_with_all_names() {
    for seed in 0..10 {
        let mut world = founded(seed, 3);
        let lost = world.membership(0).unwrap().epoch().unwrap().id();
        world.kill(1);
        world.kill(2);
        world.run(ms(3_000));
        world.start_all([1]);
        world.run(ms(3_000));
        let lineage = world.membership(0).unwrap().epoch().unwrap().id().lineage;
        assert_eq!(lineage, lost.lineage, "one name is missing");
        assert!(world.membership(1).unwrap().epoch().is_none());
        world.start_all([2]);
        all_full(&mut world, 3);
        let epoch = world.membership(1).unwrap().epoch().unwrap();
        assert!(epoch.id().lineage != lost.lineage && epoch.descends_from(lost));
    }
}

#[test]
fn an_operator_founds_without_a_lost_name() {
    let mut world = founded(1, 3);
    world.kill(1);
    world.kill(2);
    world.start_all([1]);
    world.run(ms(3_000));
    let lost = world.membership(0).unwrap().epoch().unwrap().id();
    world.on_node(0, |membership, now| membership.found_from(lost, now));
    all_full(&mut world, 2);
}

#[test]
fn different_settings_are_refused_on_both_sides() {
    let mut world = founded(1, 2);
    world.kill(1);
    let settings = Configuration::default().settings;
    let settings = Settings { acknowledgements: Acknowledgements::All, ..settings };
    world.start(1, Configuration { settings, ..Configuration::default() });
    world.run(ms(3_000));
    let sides = [0, 1].map(|node| {
        let refused = world.history().refused.iter().find(|(side, _)| *side == node);
        matches!(refused, Some((_, Refusal::Settings { .. })))
    });
    assert_eq!(sides, [true, true]);
}

#[test]
fn the_protocol_is_raised_after_the_last_restart() {
    let mut world = founded(1, 3);
    let newer = Versions { lowest: 1, highest: 2 };
    for node in 0..3 {
        assert_eq!(world.membership(node).unwrap().epoch().unwrap().protocol(), 1);
        world.kill(node);
        world.run(ms(500));
        world.start(node, Configuration { protocol: newer, ..Configuration::default() });
        all_full(&mut world, 3);
    }
    world.run(ms(500));
    assert_eq!(world.membership(0).unwrap().epoch().unwrap().protocol(), 2);
}

/// A service of this number of full nodes.
fn founded(seed: u64, nodes: usize) -> World {
    let mut world = World::new(seed, nodes);
    world.start_all(0..nodes);
    all_full(&mut world, nodes);
    world
}

/// Waits until this number of nodes are full and agree.
fn all_full(world: &mut World, nodes: usize) {
    for _ in 0..100 {
        world.run(ms(100));
        assert_eq!(world.history().broken, None);
        let full = |epoch: &steadfast_replication::epoch::Epoch| {
            let full = epoch.members().iter().filter(|member| member.role == Role::Full);
            full.count() == nodes
        };
        let epoch = world.membership(0).and_then(|membership| membership.epoch());
        if epoch.is_some_and(|epoch| full(epoch)) && world.disagreement().is_none() {
            return;
        }
    }
    let epoch = world.membership(0).and_then(|membership| membership.epoch());
    panic!("{:?}; {:#?}", world.disagreement(), epoch.map(|epoch| epoch.members()));
}

/// Returns the role of a node, as another node knows it.
fn role_of(world: &World, by: usize, of: usize) -> Option<Role> {
    let epoch = world.membership(by)?.epoch()?;
    let name = format!("n{of}").parse().unwrap();
    epoch.named(&name).map(|member| member.role)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
