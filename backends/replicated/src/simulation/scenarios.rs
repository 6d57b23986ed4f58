//! Single things that must hold, where chance would rarely bring them about.

use std::time::Duration;

use steadfast_core::{
    Admission, Deleted, Deletion, KeyId, Lookup, Outcome, Patch, Record, RecordId, Rotation,
    SecretHash, Version,
};

use super::Setup;
use super::world::{CallId, World};
use crate::engine::config::{Copies, Partition};
use crate::engine::{Engine, Failure, Message, Reply, Request, Rule};
use crate::placement::Placement;

#[test]
fn invariant_11_thirty_increments_from_three_nodes_are_thirty() {
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
    assert!(world.answers.drain(..).all(|answer| is_applied(&answer.reply)));
    assert_eq!(value(&mut world, 1, id, "n"), Some(30));
}

#[test]
fn invariant_12_memory_returns_to_zero_after_everything_ended() {
    let (mut world, id) = world_with_a_record(three());
    ask(&mut world, 0, Request::delete(id, &Deletion::LOGOUT));
    create(&mut world, 1, record_id(9));
    for n in 0..3 {
        world.turn_clock(n, Duration::from_secs(3_600 * 9));
    }
    world.step(30 * SECOND);
    assert_eq!((0..3).map(|n| world.held(n)).sum::<usize>(), 0);
}

#[test]
fn invariant_9_a_client_pushes_neither_a_clock_nor_a_version() {
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
fn a_session_ends_and_a_secret_is_replaced_though_the_owner_went_down_with_the_call() {
    for request in [delete, rotate] {
        let mut world = World::new(three(), 1);
        world.run_until_settled(30 * SECOND).unwrap();
        let id = owned_by("n0", "n1");
        create(&mut world, 0, id);
        let number = world.call(2, request(id), 5 * SECOND).unwrap();
        world.crash(0);
        let reply = answer(&mut world, number);
        assert!(matches!(reply, Reply::Ended(Deleted::Ended)) || is_applied(&reply), "{reply:?}");
    }
}

#[test]
fn a_session_is_created_though_the_owner_went_down_with_the_call() {
    let mut world = World::new(three(), 1);
    world.run_until_settled(30 * SECOND).unwrap();
    let request = creation(&world, owned_by("n0", "n1"));
    let number = world.call(2, request, 5 * SECOND).unwrap();
    world.crash(0);
    assert!(is_applied(&answer(&mut world, number)));
}

#[test]
fn a_logout_goes_on_when_the_link_to_a_holder_breaks_and_is_back() {
    let mut world = World::new(three(), 1);
    world.run_until_settled(30 * SECOND).unwrap();
    let id = owned_by("n0", "n1");
    create(&mut world, 0, id);
    let number = world.call(0, delete(id), 3 * SECOND).unwrap();
    world.relink(0, 1);
    let reply = answer(&mut world, number);
    assert!(matches!(reply, Reply::Ended(Deleted::Ended)), "{reply:?}");
}

#[test]
fn a_long_queue_that_nobody_can_acknowledge_is_answered() {
    let mut world = World::new(three(), 1);
    world.run_until_settled(30 * SECOND).unwrap();
    let id = owned_by("n0", "n1");
    create(&mut world, 0, id);
    for _ in 0..5_000 {
        let mut patch = Patch::new();
        patch.add("n", 1).unwrap();
        world.call(0, Request::Update { id, patch: patch.into() }, SECOND).unwrap();
    }
    world.unlink(0, 1);
    assert_eq!(world.answers.len(), 5_000);
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
    assert!((0..2).any(|n| world.counts(n).conflicts > 0), "it is counted");
}

#[test]
fn invariant_6_who_is_promoted_held_a_copy_already() {
    let mut world = World::new(three(), 1);
    world.run_until_settled(30 * SECOND).unwrap();
    let id = owned_by("n0", "n1");
    create(&mut world, 2, id);
    put(&mut world, 2, id, 5);
    world.crash(0);
    world.cut.extend([(1, 2), (2, 1)]);
    world.step(100 * MILLISECOND);
    assert_eq!(world.holders(id, |record| record.values.get("a") == Some(b"5")), 1);
    world.cut.clear();
    world.step(4 * SECOND);
    assert_eq!(value(&mut world, 1, id, "a"), Some(5));
}

#[test]
fn invariant_10_strangers_and_who_has_no_link_change_nothing() {
    let (mut world, id) = world_with_log(three());
    ask(&mut world, 0, Request::delete(id, &Deletion::LOGOUT));
    world.run_until_settled(30 * SECOND).unwrap();
    let log = world.log.take().unwrap();
    let before = world.tables();
    world.unlink(1, 0);
    let unlinked = world.nodes[0].name.clone();
    for (_, _, message) in log {
        world.receive(1, &"stranger".parse().unwrap(), message.clone());
        world.receive(1, &unlinked, message);
    }
    assert_eq!(world.tables(), before);
    world.run_until_settled(30 * SECOND).unwrap();
    assert_eq!(world.tables(), before);
}

#[test]
fn invariant_8_a_node_that_reaches_nobody_answers_in_time() {
    let (mut world, id) = world_with_a_record(three());
    world.cut.extend([(0, 1), (0, 2), (1, 0), (2, 0)]);
    for _ in 0..500 {
        let mut patch = Patch::new();
        patch.put("a", 1.into()).unwrap();
        world.call(0, Request::Update { id, patch: patch.into() }, SECOND).unwrap();
        world.call(0, Request::Load { id, proof: None, seen: None }, SECOND).unwrap();
        world.step(2 * MILLISECOND);
    }
    world.step(SECOND + 50 * MILLISECOND);
    assert_eq!(world.answers.len(), 1_000);
    world.bounds_queues().unwrap();
}

#[test]
fn a_touch_that_was_answered_outlives_the_crash_of_the_owner() {
    let setup = Setup { skew: Duration::ZERO, ..three() };
    let mut world = World::new(setup, 1);
    world.run_until_settled(30 * SECOND).unwrap();
    let id = owned_by("n0", "n1");
    create(&mut world, 0, id);
    // The visitor comes back shortly before the end of an hour.
    (0..3).for_each(|n| world.turn_clock(n, 3_500 * SECOND));
    let until = world.now(0).wall + 3_600 * SECOND;
    let touch = Request::Update { id, patch: Patch::touch(until).into() };
    assert!(is_applied(&ask(&mut world, 0, touch)));
    world.crash(0);
    world.step(4 * SECOND);
    (1..3).for_each(|n| world.turn_clock(n, 3_500 * SECOND));
    let load = Request::Load { id, proof: None, seen: None };
    assert!(is_found(&ask(&mut world, 1, load.clone())));
    (1..3).for_each(|n| world.turn_clock(n, 120 * SECOND));
    assert!(!is_found(&ask(&mut world, 1, load)), "and ends no later");
}

#[test]
fn a_node_that_was_alone_for_a_day_wipes_itself() {
    let (mut world, id) = world_with_a_record(three());
    world.run_until_settled(30 * SECOND).unwrap();
    let alone = (0..3).find(|n| world.holds(*n, id)).unwrap();
    let others: Vec<_> = (0..3).filter(|n| *n != alone).collect();
    let ways = others.iter().flat_map(|n| [(alone, *n), (*n, alone)]);
    world.cut.extend(ways);
    world.step(5 * SECOND);
    let delete = Request::delete(id, &Deletion::LOGOUT);
    assert!(matches!(ask(&mut world, others[0], delete), Reply::Ended(Deleted::Ended)));
    (0..3).for_each(|n| world.turn_clock(n, 25 * 3_600 * SECOND));
    world.step(100 * SECOND);
    assert!(world.holds(alone, id), "nobody told it");
    assert!(!world.holds(others[0], id) && !world.holds(others[1], id), "nobody remembers");
    world.cut.clear();
    world.run_until_settled(60 * SECOND).unwrap();
    world.step(60 * SECOND);
    assert_eq!(world.tables(), vec![vec![]; 3]);
}

#[test]
fn who_is_left_of_a_lost_majority_refuses_until_the_others_are_back() {
    let mut world = World::new(three(), 1);
    world.run_until_settled(30 * SECOND).unwrap();
    let id = owned_by("n0", "n1");
    create(&mut world, 0, id);
    world.crash(1);
    world.crash(2);
    world.step(5 * SECOND);
    let load = Request::Load { id, proof: None, seen: None };
    let reply = ask(&mut world, 0, load.clone());
    assert!(matches!(reply, Reply::Failed(Failure::NoMajority)), "{reply:?}");
    world.start(1);
    world.start(2);
    world.run_until_settled(60 * SECOND).unwrap();
    assert!(is_found(&ask(&mut world, 2, load)), "what the one node held is there");
}

#[test]
fn five_nodes_that_become_three_by_leaving_survive_a_kill_at_once() {
    let (mut world, ids) = world_with_records(Setup { spares: 2, ..three() }, 100);
    world.join(3);
    world.join(4);
    world.run_until_settled(60 * SECOND).unwrap();
    assert_eq!(world.base(0), 5);
    world.drain(3);
    world.drain(4);
    world.stop_drained(3, false);
    world.stop_drained(4, false);
    assert_eq!((world.base(1), world.base(2)), (3, 3));
    world.crash(0);
    world.step(5 * SECOND);
    for id in ids {
        assert!(is_found(&ask(&mut world, 1, Request::Load { id, proof: None, seen: None })));
    }
    create(&mut world, 2, record_id(7_777));
}

#[test]
fn nodes_that_are_drained_and_restarted_in_turn_lose_nothing() {
    let (mut world, ids) = world_with_records(three(), 100);
    for n in 0..3 {
        world.drain(n);
        world.stop_drained(n, true);
        world.step(SECOND);
        assert_eq!(world.base((n + 1) % 3), 3, "it comes back");
        world.start(n);
        world.run_until_settled(60 * SECOND).unwrap();
    }
    for id in ids {
        assert!(is_found(&ask(&mut world, 0, Request::Load { id, proof: None, seen: None })));
    }
}

#[test]
fn who_does_not_come_back_from_a_restart_leaves_the_base_after_a_minute() {
    let (mut world, _) = world_with_a_record(Setup { spares: 0, nodes: 4, ..three() });
    world.drain(3);
    world.stop_drained(3, false);
    world.step(50 * SECOND);
    assert_eq!(world.base(0), 4);
    world.step(15 * SECOND);
    assert_eq!(world.base(0), 3);
}

#[test]
fn a_node_that_left_is_forgotten_when_it_holds_nothing_any_more() {
    let (mut world, _) = world_with_a_record(Setup { spares: 1, ..three() });
    world.join(3);
    world.run_until_settled(60 * SECOND).unwrap();
    world.drain(3);
    world.stop_drained(3, false);
    world.step(5 * SECOND);
    let known = |world: &World| world.nodes[0].engine.as_ref().map(Engine::known);
    assert_eq!(known(&world), Some(3), "it may come back");
    (0..3).for_each(|n| world.turn_clock(n, 25 * 3_600 * SECOND));
    world.step(5 * SECOND);
    assert_eq!(known(&world), Some(2));
}

#[test]
fn a_joining_node_has_its_share_within_15_seconds() {
    let (mut world, _) = world_with_records(Setup { spares: 1, ..three() }, 20_000);
    world.join(3);
    world.run_until_settled(15 * SECOND).unwrap();
    world.is_at_rest().unwrap();
    assert!(world.held(3) > 8_000, "about half of them");
}

#[test]
fn a_snapshot_that_was_interrupted_goes_on_where_it_was() {
    let (mut world, _) = world_with_records(Setup { spares: 1, ..three() }, 6_000);
    world.log = Some(Vec::new());
    world.join(3);
    world.step(250 * MILLISECOND);
    world.relink(3, 0);
    world.run_until_settled(15 * SECOND).unwrap();
    let chunks = world.log.take().unwrap().into_iter().filter_map(|(from, _, message)| {
        let Message::Chunk { records, .. } = message else {
            return None;
        };
        Some((from, records.len()))
    });
    let sent: usize = chunks.filter(|(from, _)| *from == 0).map(|(_, count)| count).sum();
    let share = world.held(3);
    assert!(sent < share, "nothing was sent twice but the part on its way: {sent} of {share}");
    world.is_at_rest().unwrap();
}

#[test]
fn a_joining_node_shows_nothing_that_is_stale() {
    let (mut world, ids) = world_with_records(Setup { spares: 1, ..three() }, 2_000);
    world.join(3);
    for round in 1..200 {
        put(&mut world, 0, ids[7], round);
        assert_eq!(value(&mut world, 3, ids[7], "a"), Some(round));
    }
    world.run_until_settled(15 * SECOND).unwrap();
}

#[test]
fn cursors_and_parts_of_a_snapshot_that_make_no_sense_change_nothing() {
    let (mut world, _) = world_with_records(three(), 50);
    world.run_until_settled(30 * SECOND).unwrap();
    let before = world.tables();
    let (name, view) = (world.nodes[1].name.clone(), world.view(0));
    let (first, last) = (RecordId::from_bytes([0; 16]), RecordId::from_bytes([0xff; 16]));
    for after in [None, Some(first), Some(last)] {
        for view in [view, !view] {
            world.receive(0, &name, Message::Snapshot { view, after });
            world.receive(0, &name, Message::Chunk { view, records: Vec::new(), next: after });
            let records = vec![(record_id(8_888), before[0][0].1.clone())];
            world.receive(0, &name, Message::Chunk { view, records, next: after });
        }
    }
    world.run_until_settled(30 * SECOND).unwrap();
    assert_eq!(world.tables(), before);
}

#[test]
fn invariant_2_what_was_answered_is_not_lost_with_its_owner() {
    assert!(!is_an_answered_write_lost(None));
}

#[test]
fn without_acknowledgements_invariant_2_is_broken() {
    assert!(is_an_answered_write_lost(Some(Rule::Acknowledge)));
}

/// The owner of a record crashes before its backup has a change.
fn is_an_answered_write_lost(without: Option<Rule>) -> bool {
    let mut world = World::new(Setup { without, ..three() }, 1);
    world.run_until_settled(30 * SECOND).unwrap();
    let id = owned_by("n0", "n1");
    create(&mut world, 0, id);
    world.cut.insert((0, 1));
    let mut patch = Patch::new();
    patch.put("a", 5.into()).unwrap();
    let answered = is_applied(&ask(&mut world, 0, Request::Update { id, patch: patch.into() }));
    world.crash(0);
    world.cut.clear();
    world.step(5 * SECOND);
    let is_kept = value(&mut world, 1, id, "a") == Some(5);
    assert_eq!(is_kept, world.holders(id, |record| record.values.get("a") == Some(b"5")) > 0);
    answered && !is_kept
}

#[test]
fn invariant_7_a_copy_that_a_wrong_view_made_outlives_its_owner() {
    assert!(is_kept_by_a_node_that_should_not_hold_it(None));
}

#[test]
fn without_the_grace_before_a_drop_invariant_7_is_broken() {
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
    assert_eq!(matches!(reply, Reply::Lookup(Lookup::Found(_))), world.is_live(id));
    world.is_live(id)
}

#[test]
fn more_than_ten_nodes_that_hold_everything_are_said_to_be_too_many() {
    for (nodes, copies, is_crowded) in
        [(10, Copies::All, false), (11, Copies::All, true), (11, Copies::Backups(1), false)]
    {
        let mut world = World::new(Setup { nodes, copies, ..three() }, 1);
        world.run_until_settled(30 * SECOND).unwrap();
        let health = world.nodes[0].engine.as_ref().map(Engine::health);
        assert_eq!(health.map(|health| health.is_crowded), Some(is_crowded));
    }
}

fn three() -> Setup {
    Setup::plain()
}

fn world_with_a_record(setup: Setup) -> (World, RecordId) {
    let mut world = World::new(setup, 1);
    world.run_until_settled(30 * SECOND).unwrap();
    let id = record_id(1);
    create(&mut world, 0, id);
    (world, id)
}

fn world_with_log(setup: Setup) -> (World, RecordId) {
    let mut world = World::new(setup, 1);
    world.run_until_settled(30 * SECOND).unwrap();
    world.log = Some(Vec::new());
    let id = record_id(1);
    create(&mut world, 0, id);
    put(&mut world, 1, id, 1);
    (world, id)
}

fn world_with_records(setup: Setup, count: u128) -> (World, Vec<RecordId>) {
    let mut world = World::new(setup, 1);
    world.run_until_settled(30 * SECOND).unwrap();
    // Ids as random as they are: the first bits of a UUID are.
    let ids: Vec<_> =
        (0..count).map(|n| record_id(n.wrapping_mul(0x9e37_79b9_7f4a_7c15 << 64 | 1))).collect();
    for (n, id) in ids.iter().enumerate() {
        let request = creation(&world, *id);
        world.call(n % 3, request, 3 * SECOND).unwrap();
        if n % 20 == 0 {
            world.step(MILLISECOND);
        }
    }
    world.step(SECOND);
    assert!(world.answers.drain(..).all(|answer| is_applied(&answer.reply)));
    (world, ids)
}

/// An id whose record has this owner and this backup, of three nodes.
pub(super) fn owned_by(owner: &str, backup: &str) -> RecordId {
    let names = (0..3).map(|n| format!("n{n}").parse().unwrap());
    let placement = Placement::new(names, 2);
    let is_right = |id: &RecordId| {
        let holders = placement.holders(*id);
        holders[0].as_str() == owner && holders[1].as_str() == backup
    };
    (100..1_000).map(record_id).find(is_right).unwrap()
}

pub(super) fn record_id(n: u128) -> RecordId {
    super::session_id(n.to_be_bytes())
}

pub(super) fn create(world: &mut World, n: usize, id: RecordId) {
    let request = creation(world, id);
    let reply = ask(world, n, request);
    assert!(is_applied(&reply), "{reply:?}");
}

pub(super) fn creation(world: &World, id: RecordId) -> Request {
    let now = world.now(usize::MAX).wall;
    let hash = SecretHash::from_parts(KeyId::NONE, [1; 32]);
    let record = Record::new(hash, now, now + 3_600 * SECOND, now + 8 * 3_600 * SECOND);
    Request::Create { id, record: record.into(), admission: Admission::default() }
}

fn delete(id: RecordId) -> Request {
    Request::delete(id, &Deletion::LOGOUT)
}

fn rotate(id: RecordId) -> Request {
    let mut patch = Patch::new();
    let [old, hash] = [1, 2].map(|n| SecretHash::from_parts(KeyId::NONE, [n; 32]));
    patch.rotate(old.into(), Rotation { hash, authentication: None });
    Request::Update { id, patch: patch.into() }
}

fn put(world: &mut World, n: usize, id: RecordId, value: i64) {
    let mut patch = Patch::new();
    patch.put("a", value.into()).unwrap();
    let reply = ask(world, n, Request::Update { id, patch: patch.into() });
    assert!(is_applied(&reply), "{reply:?}");
}

pub(super) fn value(world: &mut World, n: usize, id: RecordId, key: &str) -> Option<i64> {
    match ask(world, n, Request::Load { id, proof: None, seen: None }) {
        Reply::Lookup(Lookup::Found(found)) => {
            let json = found.record.values.get(key)?;
            std::str::from_utf8(json).unwrap().parse().ok()
        }
        other => panic!("{other:?}"),
    }
}

/// Puts a call, and lets time pass until it is answered.
pub(super) fn ask(world: &mut World, n: usize, request: Request) -> Reply {
    let number = world.call(n, request, 3 * SECOND).unwrap();
    answer(world, number)
}

fn answer(world: &mut World, number: CallId) -> Reply {
    for _ in 0..6_000 {
        let answered = world.answers.iter().position(|answer| answer.id == number);
        if let Some(at) = answered {
            return world.answers.remove(at).reply;
        }
        world.step(Duration::from_millis(1));
    }
    panic!("no answer came");
}

pub(super) fn is_found(reply: &Reply) -> bool {
    matches!(reply, Reply::Lookup(Lookup::Found(_)))
}

pub(super) fn is_applied(reply: &Reply) -> bool {
    matches!(reply, Reply::Outcome(Outcome::Applied(_)))
}

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
