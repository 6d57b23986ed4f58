//! What was sent before, and what was written on the other side of a partition: it changes nothing
//! that counts. Over many seeds, if they are asked for.

use std::time::Duration;

use super::scenarios::{ask, create, is_applied, is_found, record_id};
use super::world::{Random, World};
use super::{Setup, asked};
use crate::engine::config::Partition;
use crate::engine::{Message, Reply, Request};
use crate::placement::Name;
use steadfast_core::{Deleted, Deletion, KeyId, Patch, RecordId, Rotation, SecretHash};

#[test]
fn frames_of_an_older_link_change_nothing_on_a_new_one() {
    for seed in 0..asked("STEADFAST_SEEDS", 20) {
        replay(seed);
    }
}

/// Repeats frames of sessions that changed and ended since, in any order, as the first of new links.
fn replay(seed: u64) {
    let (mut world, mut random) = (World::new(Setup::plain(), seed), Random(seed));
    world.run_until_settled(30 * SECOND).unwrap();
    world.log = Some(Vec::new());
    let ids: Vec<_> = (1..9).map(record_id).collect();
    ids.iter().for_each(|id| create(&mut world, 0, *id));
    for _ in 0..40 {
        let id = ids[random.below(8) as usize];
        let request = any_change(&mut random, id);
        let node = random.below(3) as usize;
        ask(&mut world, node, request);
    }
    world.run_until_settled(30 * SECOND).unwrap();
    let (log, before) = (world.log.take().unwrap(), world.tables());
    for _ in 0..300 {
        let (from, to, message) = log[random.below(log.len() as u64) as usize].clone();
        if random.one_in(10) {
            world.relink(from, to);
        }
        let name: Name = world.nodes[from].name.clone();
        if is_about_records(&message) {
            world.receive(to, &name, message);
        }
    }
    world.run_until_settled(30 * SECOND).unwrap();
    assert_eq!(world.tables(), before, "seed {seed}");
}

/// Frames about nodes are of their link, which repeats them itself.
fn is_about_records(message: &Message) -> bool {
    !matches!(message, Message::Status(_) | Message::Base(_) | Message::Ask { .. })
}

fn any_change(random: &mut Random, id: RecordId) -> Request {
    let mut patch = Patch::new();
    match random.below(6) {
        0 => return Request::delete(id, &Deletion::LOGOUT),
        1 => {
            let hash = SecretHash::from_parts(KeyId::NONE, [random.below(200) as u8; 32]);
            let old = SecretHash::from_parts(KeyId::NONE, [1; 32]);
            patch.rotate(old.into(), Rotation { hash, authentication: None });
        }
        2 => patch.remove("a").unwrap(),
        3 => patch.clear(),
        _ => patch.put(["a", "b"][random.below(2) as usize], 5.into()).unwrap(),
    }
    Request::Update { id, patch: patch.into() }
}

#[test]
fn a_logout_wins_over_a_partition_and_what_was_written_behind_it() {
    for seed in 0..asked("STEADFAST_SEEDS", 20) {
        let partition = if seed % 3 == 0 { Partition::Degrade } else { Partition::Fail };
        let nodes = 2 + seed as usize % 3;
        log_out_behind_a_partition(Setup { nodes, partition, ..Setup::plain() }, seed);
    }
}

fn log_out_behind_a_partition(setup: Setup, seed: u64) {
    let (mut world, mut random) = (World::new(setup, seed), Random(seed));
    world.run_until_settled(30 * SECOND).unwrap();
    let (id, nodes) = (record_id(1), setup.nodes as u64);
    create(&mut world, 0, id);
    world.step(random.micros(0, 1_000_000));
    let (here, there) = (0, 1 + random.below(nodes - 1) as usize);
    let is_there = |n: usize| n == there || (n > 0 && n % 2 == there % 2);
    for a in (0..setup.nodes).filter(|n| is_there(*n)) {
        for b in (0..setup.nodes).filter(|n| !is_there(*n)) {
            world.cut.extend([(a, b), (b, a)]);
        }
    }
    world.step(random.micros(1, 4_000_000));
    write(&mut world, there, id);
    let ended = ask(&mut world, here, Request::delete(id, &Deletion::LOGOUT));
    for _ in 0..random.below(4) {
        world.step(random.micros(1, 1_000_000));
        write(&mut world, there, id);
    }
    world.cut.clear();
    world.run_until_settled(60 * SECOND).unwrap();
    if matches!(ended, Reply::Ended(Deleted::Ended)) {
        for n in 0..setup.nodes {
            let reply = ask(&mut world, n, Request::Load { id, proof: None, seen: None });
            assert!(!is_found(&reply), "seed {seed}: n{n} found {reply:?}");
        }
        assert!(!is_applied(&write(&mut world, there, id)), "seed {seed}");
    }
}

fn write(world: &mut World, n: usize, id: RecordId) -> Reply {
    let mut patch = Patch::new();
    patch.put("a", 1.into()).unwrap();
    ask(world, n, Request::Update { id, patch: patch.into() })
}

const SECOND: Duration = Duration::from_secs(1);
