//! Floods of visitors, whom the budgets of the nodes end, and users, whom they spare.

use std::time::Duration;

use steadfast_core::{
    Admission, Budget, Deletion, KeyId, Lookup, Outcome, Patch, Principal, RawJson, Realm, Record,
    RecordId, SecretHash,
};

use super::faults::Faults;
use super::scenarios::{ask, is_applied, is_found, record_id};
use super::world::{Random, World};
use super::{Setup, asked};
use crate::engine::config::{Budgets, Copies};
use crate::engine::table::Class;
use crate::engine::{Message, Reply, Request};
use crate::placement::Placement;
use crate::record::Stamp;

#[test]
fn invariant_09_a_flood_of_visitors_ends_no_session_of_a_user() {
    for copies in [Copies::Backups(1), Copies::All] {
        let mut world = settled(Setup { copies, ..small() });
        let users: Vec<_> = (0..50).map(|n| log_in(&mut world, n)).collect();
        let most = flood(&mut world, 0..3_000, |n| owned_by(0, n));
        assert!(most <= VISITORS + SLACK, "{most}");
        (0..3).for_each(|n| assert!(held(&world, n) <= VISITORS, "{n}"));
        assert!(users.iter().all(|id| (0..3).all(|n| is_found(&load(&mut world, n, *id)))));
    }
}

#[test]
fn sessions_that_were_quiet_for_longest_end_first() {
    let mut world = settled(small());
    flood(&mut world, 0..250, scattered);
    let is_busy = |n: &u128| n.is_multiple_of(2);
    (0..250).filter(is_busy).for_each(|n| touch(&mut world, scattered(n)));
    flood(&mut world, 1_000..1_100, scattered);
    let live = |n: &u128| world.is_live(scattered(*n));
    let (busy, quiet): (Vec<_>, Vec<_>) = (0..250).filter(live).partition(is_busy);
    assert!(busy.len() >= 124 && quiet.len() <= 90, "{} {}", busy.len(), quiet.len());
}

#[test]
fn a_fresh_visitor_stays_while_older_ones_go() {
    let mut world = settled(small());
    for n in 0..1_000 {
        create(&mut world, scattered(n));
        assert!(is_found(&load(&mut world, 0, scattered(n))));
    }
}

#[test]
fn memory_is_bounded_on_backups_too_by_bytes() {
    let anonymous = Budget { records: 1_000_000, bytes: 1 << 20 };
    let mut world = settled(with(anonymous));
    for n in 0..2_000 {
        let id = owned_by(0, n);
        let request = creation(&world, id, Some(4_000));
        world.call(0, request, 3 * SECOND).unwrap();
        world.step(MILLISECOND);
        for n in 0..3 {
            assert!(world.total(n, Class::Anonymous).bytes < (1 << 20) + (64 << 10));
        }
    }
    assert!(world.total(0, Class::Anonymous).bytes > 900 << 10);
}

#[test]
fn what_a_budget_ends_leaves_nothing_behind_on_any_node() {
    let mut world = settled(small());
    flood(&mut world, 0..1_000, scattered);
    world.run_until_settled(30 * SECOND).unwrap();
    world.is_at_rest().unwrap();
    let ended: Vec<_> = (0..1_000).map(scattered).filter(|id| !world.is_live(*id)).collect();
    assert_eq!(world.tables().iter().map(Vec::len).sum::<usize>(), 2 * (1_000 - ended.len()));
    for (n, id) in ended.into_iter().enumerate().take(3) {
        let patch = Patch::touch(world.now(n).wall).into();
        let gone = ask(&mut world, n, Request::Update { id, patch });
        assert!(matches!(gone, Reply::Outcome(Outcome::Gone)), "{gone:?}");
        let absent = load(&mut world, n, id);
        assert!(matches!(absent, Reply::Lookup(Lookup::Absent(_))), "{absent:?}");
    }
}

#[test]
fn only_the_owner_has_a_copy_dropped_and_none_that_is_newer() {
    let (mut world, id) = (settled(small()), owned_by(0, 1));
    create(&mut world, id);
    world.run_until_settled(30 * SECOND).unwrap();
    let backup = (1..3).find(|n| world.holds(*n, id)).unwrap();
    let tables = world.tables();
    let (_, kept) = tables[backup].iter().find(|(held, _)| *held == id).unwrap();
    let older = Stamp { time: kept.stamp().time - 1, ..kept.stamp() };
    for (from, stamp, stays) in
        [(0, older, true), (3 - backup, kept.stamp(), true), (0, kept.stamp(), false)]
    {
        let from = world.nodes[from].name.clone();
        world.receive(backup, &from, Message::Evicted(vec![(id, stamp)]));
        assert_eq!(world.holds(backup, id), stays);
    }
}

#[test]
fn a_record_that_is_larger_than_the_budget_ends_every_other() {
    let mut world = settled(with(Budget { records: 100, bytes: 48 << 10 }));
    flood(&mut world, 0..40, |n| owned_by(0, n));
    let large = owned_by(0, 1_000);
    create(&mut world, large);
    ["a", "b", "c", "d"].iter().for_each(|key| put(&mut world, large, key, 15_000));
    world.step(SECOND);
    assert!(is_found(&load(&mut world, 0, large)));
    assert_eq!(held(&world, 0), 1);
    create(&mut world, owned_by(0, 1_001));
    world.step(SECOND);
    assert!(!world.is_live(large) && held(&world, 0) == 1, "until another one comes");
}

#[test]
fn nodes_that_get_the_copies_of_another_come_back_within_their_budgets() {
    let mut world = settled(small());
    flood(&mut world, 0..1_000, scattered);
    world.crash(2);
    world.step(30 * SECOND);
    assert_eq!(world.base(0), 2);
    let held = [held(&world, 0), held(&world, 1)];
    assert!(held.iter().all(|held| (VISITORS - 40..=VISITORS).contains(held)), "{held:?}");
    world.start(2);
    world.run_until_settled(60 * SECOND).unwrap();
    world.is_at_rest().unwrap();
}

/// A backup that was cut off has an older copy, perhaps with a secret that was replaced since.
#[test]
fn a_session_of_a_user_that_a_budget_ended_does_not_come_back() {
    let authenticated = Budget { records: 10, bytes: 1 << 20 };
    let budgets = Budgets { authenticated, ..Budgets::default() };
    let mut world = settled(Setup { budgets, ..Setup::plain() });
    let id = log_in(&mut world, 0);
    let cut_off = (0..3).find(|n| world.holds(*n, id)).unwrap();
    let rest = [0, 1, 2].map(|n| (n + cut_off) % 3);
    world.cut.extend(rest[1..].iter().flat_map(|n| [(cut_off, *n), (*n, cut_off)]));
    world.step(5 * SECOND);
    let others: Vec<_> = (1..100).map(|user| log_in_at(&mut world, rest[1], user)).collect();
    assert!(world.holds(cut_off, id) && rest[1..].iter().all(|n| !world.holds(*n, id)));
    for id in others {
        ask(&mut world, rest[1], Request::delete(id, &Deletion::LOGOUT));
    }
    world.cut.clear();
    world.run_until_settled(60 * SECOND).unwrap();
    world.is_at_rest().unwrap();
    assert!(!world.is_live(id), "though there is room for it again");
}

#[test]
fn budgets_hold_under_faults() {
    for seed in 0..asked("STEADFAST_SEEDS", 20) {
        flood_under_faults(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

fn flood_under_faults(seed: u64) -> Result<(), String> {
    let plain = Setup::number(seed);
    let setup = Setup { budgets: small().budgets, idle: None, ..plain };
    let (mut world, mut faults) = (World::new(setup, seed), Faults::new(seed, setup));
    let mut random = Random(seed);
    world.run_until_settled(30 * SECOND)?;
    let users: Vec<_> = (0..20).map(|n| log_in(&mut world, n)).collect();
    for n in 0..4_000 {
        faults.next(&mut world);
        let request = creation(&world, scattered(n), None);
        let node = random.below(world.nodes.len() as u64) as usize;
        world.call(node, request, 3 * SECOND);
        world.step(2 * MILLISECOND);
    }
    faults.heal(&mut world)?;
    world.step(10 * SECOND);
    world.run_until_settled(60 * SECOND)?;
    world.is_at_rest()?;
    world.counts_right()?;
    let is_up = |n: &usize| world.is_up(*n);
    let over = (0..world.nodes.len()).filter(is_up).find(|n| held(&world, *n) > VISITORS);
    let lost = users.iter().find(|id| !world.is_live(**id));
    let ended = 4_000 - (0..4_000).filter(|n| world.is_live(scattered(*n))).count();
    match (over, lost) {
        (None, None) if ended > 1_000 => Ok(()),
        found => Err(format!("{ended} ended; over its budget, or lost: {found:?}")),
    }
}

/// Three nodes with room for few visitors.
fn small() -> Setup {
    with(Budget { records: VISITORS.into(), bytes: 1 << 30 })
}

fn with(anonymous: Budget) -> Setup {
    Setup { budgets: Budgets { anonymous, ..Budgets::default() }, ..Setup::plain() }
}

fn settled(setup: Setup) -> World {
    let mut world = World::new(setup, 1);
    world.run_until_settled(30 * SECOND).unwrap();
    world
}

/// Creates visitors at one node after the other, and says how many one node held at most.
fn flood(world: &mut World, visitors: std::ops::Range<u128>, id: impl Fn(u128) -> RecordId) -> u32 {
    let mut most = 0;
    for n in visitors {
        let request = creation(world, id(n), None);
        world.call(n as usize % 3, request, 3 * SECOND).unwrap();
        world.step(MILLISECOND);
        most = (0..3).map(|n| held(world, n)).max().unwrap().max(most);
    }
    world.step(SECOND);
    assert!(world.answers.drain(..).all(|answer| is_applied(&answer.reply)));
    most
}

fn create(world: &mut World, id: RecordId) {
    let request = creation(world, id, None);
    let reply = ask(world, 0, request);
    assert!(is_applied(&reply), "{reply:?}");
}

fn creation(world: &World, id: RecordId, size: Option<usize>) -> Request {
    let now = world.now(usize::MAX).wall;
    let hash = SecretHash::from_parts(KeyId::NONE, [1; 32]);
    let mut record = Record::new(hash, now, now + 3_600 * SECOND, now + 8 * 3_600 * SECOND);
    if let Some(size) = size {
        record.values = [("blob", blob(size).as_bytes())].into_iter().collect();
    }
    Request::Create { id, record: record.into(), admission: Admission::default() }
}

fn put(world: &mut World, id: RecordId, key: &str, size: usize) {
    let mut patch = Patch::new();
    patch.put(key, RawJson::copied(blob(size).as_bytes())).unwrap();
    let reply = ask(world, 0, Request::Update { id, patch: patch.into() });
    assert!(is_applied(&reply), "{reply:?}");
}

fn blob(size: usize) -> String {
    format!("{:?}", "x".repeat(size))
}

fn touch(world: &mut World, id: RecordId) {
    let patch = Patch::touch(world.now(usize::MAX).wall + 3_600 * SECOND).into();
    let reply = ask(world, 0, Request::Update { id, patch });
    assert!(is_applied(&reply), "{reply:?}");
}

fn log_in(world: &mut World, user: u128) -> RecordId {
    log_in_at(world, 0, user)
}

fn log_in_at(world: &mut World, n: usize, user: u128) -> RecordId {
    let id = scattered(1 << 40 | user);
    let Request::Create { mut record, admission, .. } = creation(world, id, None) else {
        panic!("that is no creation");
    };
    record.principal =
        Some(Principal::new(Realm::default(), &format!("user-{user}")).expect("a name"));
    let reply = ask(world, n, Request::Create { id, record, admission });
    assert!(is_applied(&reply), "{reply:?}");
    id
}

fn load(world: &mut World, n: usize, id: RecordId) -> Reply {
    ask(world, n, Request::Load { id, proof: None, seen: None })
}

fn held(world: &World, n: usize) -> u32 {
    world.total(n, Class::Anonymous).records.try_into().unwrap()
}

/// An id that this node of three owns, as `mint` finds it.
fn owned_by(owner: usize, n: u128) -> RecordId {
    let names = (0..3).map(|n| format!("n{n}").parse().unwrap());
    let placement = Placement::new(names, 2);
    let name = format!("n{owner}");
    let is_right = |id: &RecordId| placement.owner(*id).is_some_and(|o| o.as_str() == name);
    (0..).map(|draw| scattered(n << 20 | draw)).find(is_right).unwrap()
}

/// An id as random as ids are.
fn scattered(n: u128) -> RecordId {
    record_id((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 << 64 | 1))
}

/// How many visitors a node has room for.
const VISITORS: u32 = 200;

/// What may be on its way to a node, or from one that makes room, when a frame takes 60 ms.
const SLACK: u32 = 60;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
