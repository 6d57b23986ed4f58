//! What a sign-in, a change of the hash key and the end of a session mean on every node.

use std::time::Duration;

use steadfast_core::{
    Admission, Authentication, Change, Deleted, Deletion, EndReason, Facts, KeyId, Outcome, Patch,
    Principal, Proof, Realm, RecordId, Rehash, Rotation, SecretHash, Timestamp,
};

use super::Setup;
use super::scenarios::{ask, create, is_applied, owned_by, value};
use super::world::World;
use crate::engine::{Failure, Reply, Request};

#[test]
fn a_login_removes_unseen_pre_auth_values_from_every_copy() {
    let (mut world, id) = world_with_a_record();
    put(&mut world, 1, id, &["~csrf", "cart"]);
    assert!(is_applied(&ask(&mut world, 2, login(id, "alice", 10))));
    for n in 0..3 {
        assert_eq!(value(&mut world, n, id, "~csrf"), None, "n{n}");
        assert_eq!(value(&mut world, n, id, "cart"), Some(1), "n{n}");
    }
    world.crash(0);
    world.step(4 * SECOND);
    assert_eq!(value(&mut world, 1, id, "~csrf"), None, "nor has the backup kept it");
}

#[test]
fn what_was_sent_before_a_sign_in_changes_nothing_after_it() {
    let (mut world, id) = world_with_a_record();
    assert!(is_applied(&ask(&mut world, 2, login(id, "alice", 10))));
    for n in 0..3 {
        let mut patch = Patch::new();
        patch.put("a", 1.into()).unwrap();
        patch.within(0);
        let reply = ask(&mut world, n, Request::Update { id, patch: patch.into() });
        assert!(matches!(reply, Reply::Outcome(Outcome::Superseded)), "n{n} {reply:?}");
        let deletion = Deletion { sign_in: Some(0), ..Deletion::LOGOUT };
        let reply = ask(&mut world, n, Request::delete(id, &deletion));
        assert!(matches!(reply, Reply::Ended(Deleted::Superseded)), "n{n} {reply:?}");
    }
    assert_eq!(value(&mut world, 1, id, "a"), None);
}

#[test]
fn a_rehash_and_its_writes_reach_every_copy() {
    let (mut world, id) = world_with_a_record();
    for (key, n) in [("a", 1), ("b", 2)] {
        let mut patch = Patch::new();
        patch.put(key, 1.into()).unwrap();
        patch.rehash(Rehash { from: vec![hash(FIRST)], to: keyed(FIRST) });
        assert!(is_applied(&ask(&mut world, n, Request::Update { id, patch: patch.into() })));
    }
    world.step(SECOND);
    for n in (0..3).filter(|n| world.holds(*n, id)).collect::<Vec<_>>() {
        let record = world.copy(n, id).unwrap();
        assert_eq!((record.secret, record.replaced.is_none()), (keyed(FIRST), true), "n{n}");
    }
    assert_eq!(value(&mut world, 0, id, "a"), value(&mut world, 1, id, "b"));
}

#[test]
fn a_hash_under_an_unknown_key_is_an_error_from_every_node() {
    let (mut world, id) = world_with_a_record();
    let mut patch = Patch::new();
    patch.rehash(Rehash { from: vec![hash(FIRST)], to: keyed(FIRST) });
    assert!(is_applied(&ask(&mut world, 0, Request::Update { id, patch: patch.into() })));
    for n in 0..3 {
        let proof: Proof = hash(FIRST).into();
        let mut patch = Patch::new();
        patch.put("a", 1.into()).unwrap();
        patch.prove(proof.clone());
        let deletion = Deletion { proof: Some(&proof), ..Deletion::LOGOUT };
        let requests = [
            Request::Load { id, proof: Some(proof.clone()), seen: None },
            Request::Update { id, patch: patch.into() },
            Request::delete(id, &deletion),
        ];
        for request in requests {
            let reply = ask(&mut world, n, request);
            let Reply::Failed(Failure::UnknownKey(key)) = reply else { panic!("n{n} {reply:?}") };
            assert_eq!(key.name(), "k2");
        }
    }
    assert_eq!(value(&mut world, 1, id, "a"), None);
}

#[test]
fn facts_are_the_same_on_every_copy() {
    let (mut world, id) = world_with_a_record();
    assert!(is_applied(&ask(&mut world, 2, login(id, "alice", 10))));
    world.step(SECOND);
    for n in (0..3).filter(|n| world.holds(*n, id)).collect::<Vec<_>>() {
        let record = world.copy(n, id).unwrap();
        assert_eq!((record.facts.as_bytes(), record.sign_in), (&b"web"[..], 1), "n{n}");
    }
}

#[test]
fn every_listener_hears_of_a_sign_in_and_why_a_session_ended() {
    let reasons = [
        (Request::delete as fn(_, &_) -> _, EndReason::Admin),
        (|_, deletion: &Deletion<'_>| end_all(deletion.reason), EndReason::Logout),
        (|_, _: &Deletion<'_>| login(owned_by("n2", "n1"), "alice", 1), EndReason::Cap),
    ];
    for (request, reason) in reasons {
        let (mut world, id) = world_with_a_record();
        create(&mut world, 1, owned_by("n2", "n1"));
        (0..3).for_each(|n| world.listen(n));
        world.step(SECOND);
        assert!(is_applied(&ask(&mut world, 2, login(id, "alice", 10))));
        ask(&mut world, 1, request(id, &Deletion::for_reason(reason)));
        world.step(SECOND);
        for n in 0..3 {
            let heard = |wanted: &dyn Fn(&Change) -> bool| {
                world.changes.iter().any(|(at, change)| *at == n && wanted(change))
            };
            assert!(heard(&|change| matches!(change, Change::SignedIn(of, _) if *of == id)));
            assert!(heard(&|change| *change == Change::Ended(id, reason)), "n{n} {reason:?}");
            let is_other = |change: &Change| matches!(change, Change::Ended(of, other) if *of == id && *other != reason);
            assert!(!heard(&is_other), "n{n} {reason:?}");
        }
    }
}

#[test]
fn a_backup_that_was_cut_off_hears_why_a_session_ended() {
    let (mut world, id) = world_with_a_record();
    world.listen(1);
    world.step(SECOND);
    for other in [0, 2] {
        world.cut.extend([(1, other), (other, 1)]);
    }
    world.step(5 * SECOND);
    let ended = ask(&mut world, 0, Request::delete(id, &Deletion::for_reason(EndReason::Admin)));
    assert!(matches!(ended, Reply::Ended(Deleted::Ended)), "{ended:?}");
    world.cut.clear();
    world.run_until_settled(60 * SECOND).unwrap();
    assert!(world.changes.contains(&(1, Change::Ended(id, EndReason::Admin))));
}

#[test]
fn a_listener_without_a_copy_is_told_when_its_links_break_and_when_they_are_back() {
    let (mut world, id) = world_with_a_record();
    world.listen(2);
    world.step(SECOND);
    assert!(!world.holds(2, id));
    world.changes.clear();
    for other in [0, 1] {
        world.cut.extend([(2, other), (other, 2)]);
        world.unlink(2, other);
        world.unlink(other, 2);
    }
    world.step(5 * SECOND);
    let ended = ask(&mut world, 0, Request::delete(id, &Deletion::for_reason(EndReason::Admin)));
    assert!(matches!(ended, Reply::Ended(Deleted::Ended)), "{ended:?}");
    let feed = |world: &World| {
        let of_feed =
            |change: &&(usize, Change)| matches!(change, (2, Change::Down | Change::Missed));
        world.changes.iter().rfind(of_feed).map(|(_, change)| *change)
    };
    assert_eq!(feed(&world), Some(Change::Down));
    world.cut.clear();
    world.run_until_settled(60 * SECOND).unwrap();
    world.step(SECOND);
    assert_eq!(feed(&world), Some(Change::Missed), "so that it asks about its sessions once");
}

/// Three nodes, and a session whose owner is n0 and whose backup is n1.
fn world_with_a_record() -> (World, RecordId) {
    let mut world = World::new(Setup { skew: Duration::ZERO, ..Setup::plain() }, 1);
    world.run_until_settled(30 * SECOND).unwrap();
    let id = owned_by("n0", "n1");
    create(&mut world, 0, id);
    (world, id)
}

fn put(world: &mut World, n: usize, id: RecordId, keys: &[&str]) {
    let mut patch = Patch::new();
    keys.iter().for_each(|key| patch.put(key, 1.into()).unwrap());
    assert!(is_applied(&ask(world, n, Request::Update { id, patch: patch.into() })));
}

/// A login, which replaces the first secret, by a request that saw no values.
fn login(id: RecordId, who: &str, cap: usize) -> Request {
    let authentication = Authentication {
        at: Timestamp::UNIX_EPOCH,
        absolute_deadline: Timestamp::MAX,
        principal: Some(principal(who)),
        facts: Some(Facts::new(*b"web").unwrap()),
        admission: Admission { cap, epoch: None },
    };
    let mut patch = Patch::new();
    let rotation = Rotation { hash: hash(2), authentication: Some(authentication) };
    patch.rotate(hash(FIRST).into(), rotation);
    Request::Update { id, patch: patch.into() }
}

fn end_all(reason: EndReason) -> Request {
    Request::DeleteAll { principal: principal("alice"), except: None, epoch: None, reason }
}

fn principal(who: &str) -> Principal {
    Principal::new(Realm::default(), who).unwrap()
}

fn hash(n: u8) -> SecretHash {
    SecretHash::from_parts(KeyId::NONE, [n; 32])
}

fn keyed(n: u8) -> SecretHash {
    SecretHash::from_parts(KeyId::from_parts(7, "k2").unwrap(), [n; 32])
}

/// The secret of a session that was just created.
const FIRST: u8 = 1;

const SECOND: Duration = Duration::from_secs(1);
