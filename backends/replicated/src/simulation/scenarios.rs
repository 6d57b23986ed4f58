//! Single things that must hold, where chance would rarely bring them about.

use std::time::Duration;

use steadfast_core::{
    Admission, KeyId, Lookup, Outcome, Patch, Record, RecordId, SecretHash, Version,
};

use super::Setup;
use super::world::World;
use crate::engine::config::{Acks, Copies, Partition};
use crate::engine::{Failure, Reply, Request, Rule};
use crate::placement::Placement;

#[test]
fn thirty_increments_from_three_nodes_are_thirty() {
    let (mut world, id) = world_with_a_record(three());
    let mut calls = Vec::new();
    for n in 0..30 {
        let mut patch = Patch::new();
        patch.add("n", 1).unwrap();
        let request = Request::Update { id, patch: patch.into() };
        calls.extend(world.call(n % 3, request, SECOND));
    }
    world.step(SECOND);
    assert_eq!(calls.len(), 30);
    assert!(world.answers.drain(..).all(|(_, _, reply)| is_applied(&reply)));
    assert_eq!(value(&mut world, 1, id, "n"), Some(30));
}

#[test]
fn memory_returns_to_zero_after_everything_ended() {
    let (mut world, id) = world_with_a_record(three());
    ask(&mut world, 0, Request::Delete { id, proof: None });
    create(&mut world, 1, record_id(9));
    for n in 0..3 {
        world.turn_clock(n, Duration::from_secs(3_600 * 9));
    }
    world.step(30 * SECOND);
    assert_eq!((0..3).map(|n| world.held(n)).sum::<usize>(), 0);
}

#[test]
fn a_client_pushes_neither_a_clock_nor_a_version() {
    let (mut world, id) = world_with_a_record(three());
    let seen = Some(Version(u64::MAX));
    let reply = ask(&mut world, 0, Request::Load { id, proof: None, seen });
    assert!(matches!(reply, Reply::Lookup(Lookup::Found(_))), "the owner's answer counts");
    put(&mut world, 0, id, 1);
    let reply = ask(&mut world, 1, Request::Load { id, proof: None, seen: None });
    let Reply::Lookup(Lookup::Found(found)) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(found.record.version, Version(2));
}

#[test]
fn a_backup_that_goes_on_reading_asks_its_owner_no_more() {
    let (mut world, _) = world_with_a_record(three());
    let id = owned_by("n0", "n1");
    create(&mut world, 0, id);
    let read = |world: &mut World| {
        let reply = ask(world, 1, Request::Load { id, proof: None, seen: None });
        assert!(matches!(reply, Reply::Lookup(Lookup::Found(_))));
        world.step(Duration::from_millis(10));
    };
    (0..30).for_each(|_| read(&mut world));
    let before = world.counts(1);
    (0..300).for_each(|_| read(&mut world));
    assert_eq!(world.counts(1).lease_misses, before.lease_misses);
    assert_eq!(world.counts(1).forwarded, before.forwarded);
}

#[test]
fn the_minority_of_a_split_refuses() {
    let (mut world, id) = world_with_a_record(three());
    for (a, b) in [(0, 1), (0, 2), (1, 0), (2, 0)] {
        world.cut.insert((a, b));
    }
    world.step(5 * SECOND);
    let load = Request::Load { id, proof: None, seen: None };
    let reply = ask(&mut world, 0, load.clone());
    assert!(matches!(reply, Reply::Failed(Failure::NoMajority)), "{reply:?}");
    assert!(matches!(ask(&mut world, 1, load), Reply::Lookup(Lookup::Found(_))));
}

#[test]
fn both_halves_of_a_split_go_on_where_that_is_wanted_and_are_merged() {
    let setup = Setup { nodes: 2, partition: Partition::Degrade, ..three() };
    let (mut world, id) = world_with_a_record(setup);
    world.cut.extend([(0, 1), (1, 0)]);
    world.step(4 * SECOND);
    for n in 0..2 {
        let mut patch = Patch::new();
        patch.put(["a", "b"][n], 7.into()).unwrap();
        let reply = ask(&mut world, n, Request::Update { id, patch: patch.into() });
        let Reply::Outcome(Outcome::Applied(applied)) = reply else {
            panic!("{reply:?}");
        };
        assert!(applied.degraded, "the answer says that one copy is all there is");
    }
    world.cut.clear();
    world.run_until_settled(30 * SECOND).unwrap();
    for n in 0..2 {
        assert_eq!(value(&mut world, n, id, "a"), Some(7));
        assert_eq!(value(&mut world, n, id, "b"), Some(7));
    }
}

#[test]
fn a_copy_that_a_wrong_view_made_outlives_the_crash_of_its_owner() {
    assert!(is_kept_by_a_node_that_should_not_hold_it(None));
}

#[test]
fn without_the_grace_before_a_drop_that_copy_is_lost() {
    assert!(!is_kept_by_a_node_that_should_not_hold_it(Some(Rule::Grace)));
}

/// The owner of a record takes its backup for dead, so a third node holds the copy, which takes
/// nobody for dead: in its view, it should not hold the record. Then the owner crashes.
fn is_kept_by_a_node_that_should_not_hold_it(without: Option<Rule>) -> bool {
    let setup = Setup { partition: Partition::Degrade, without, ..three() };
    let (mut world, _) = world_with_a_record(setup);
    let id = owned_by("n0", "n1");
    world.cut.extend([(0, 1), (1, 0)]);
    world.take_for_dead(0, 1);
    create(&mut world, 0, id);
    world.step(Duration::from_millis(60));
    world.crash(0);
    world.cut.clear();
    world.step(6 * SECOND);
    let reply = ask(&mut world, 1, Request::Load { id, proof: None, seen: None });
    matches!(reply, Reply::Lookup(Lookup::Found(_)))
}

fn three() -> Setup {
    Setup {
        nodes: 3,
        copies: Copies::Backups(1),
        acks: Acks::One,
        partition: Partition::Fail,
        without: None,
        for_seconds: 0,
    }
}

fn world_with_a_record(setup: Setup) -> (World, RecordId) {
    let mut world = World::new(setup, 1);
    world.run_until_settled(30 * SECOND).unwrap();
    let id = record_id(1);
    create(&mut world, 0, id);
    (world, id)
}

/// An id whose record has this owner and this backup, of three nodes.
fn owned_by(owner: &str, backup: &str) -> RecordId {
    let names = (0..3).map(|n| format!("n{n}").parse().unwrap());
    let placement = Placement::new(names, 2);
    let is_right = |id: &RecordId| {
        let holders = placement.holders(*id);
        holders[0].as_str() == owner && holders[1].as_str() == backup
    };
    (100..1_000).map(record_id).find(is_right).unwrap()
}

fn record_id(n: u128) -> RecordId {
    let mut bytes = n.to_be_bytes();
    bytes[6] = 0x40;
    RecordId::from_bytes(bytes)
}

fn create(world: &mut World, n: usize, id: RecordId) {
    let now = world.now(usize::MAX).wall;
    let hash = SecretHash::from_parts(KeyId::NONE, [1; 32]);
    let record = Record::new(hash, now, now + 3_600 * SECOND, now + 8 * 3_600 * SECOND);
    let admission = Admission::default();
    let reply = ask(world, n, Request::Create { id, record: record.into(), admission });
    assert!(is_applied(&reply), "{reply:?}");
}

fn put(world: &mut World, n: usize, id: RecordId, value: i64) {
    let mut patch = Patch::new();
    patch.put("a", value.into()).unwrap();
    let reply = ask(world, n, Request::Update { id, patch: patch.into() });
    assert!(is_applied(&reply), "{reply:?}");
}

fn value(world: &mut World, n: usize, id: RecordId, key: &str) -> Option<i64> {
    match ask(world, n, Request::Load { id, proof: None, seen: None }) {
        Reply::Lookup(Lookup::Found(found)) => {
            let json = found.record.values.get(key)?;
            std::str::from_utf8(json).unwrap().parse().ok()
        }
        other => panic!("{other:?}"),
    }
}

/// Puts a call, and lets time pass until it is answered.
fn ask(world: &mut World, n: usize, request: Request) -> Reply {
    let number = world.call(n, request, 3 * SECOND).unwrap();
    for _ in 0..4_000 {
        let answered = world.answers.iter().position(|(_, answered, _)| *answered == number);
        if let Some(at) = answered {
            return world.answers.remove(at).2;
        }
        world.step(Duration::from_millis(1));
    }
    panic!("no answer came");
}

fn is_applied(reply: &Reply) -> bool {
    matches!(reply, Reply::Outcome(Outcome::Applied(_)))
}

const SECOND: Duration = Duration::from_secs(1);
