//! The records of several members, with their messages and epochs, and a lease for all that is ready.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{
    Absence, Deleted, EndReason, KeyId, LoginPolicy, Lookup, Outcome, Patch, Principal, Realm,
    Record, RecordId, SecretHash, Timestamp,
};

use super::{Standing, Tenant};
use crate::call::{CallId, Reply, Request};
use crate::context::{Now, View};
use crate::epoch::tests::{SETTINGS, after, boot, full, joining, key, lineage};
use crate::epoch::{Change, Epoch, Lineage};
use crate::member::{Boot, Member};
use crate::message::Message;
use crate::owner::{Asked, Told};
use crate::record::{Entry, Held, Kept, List, ListEntry, Revision, Tombstone};
use crate::rules::{Rule, Rules};
use crate::settings::{Replication, Settings};
use crate::slots::{Slot, SlotSet};

#[test]
fn a_write_is_on_its_backup() {
    let mut members = Members::new(3, 1);
    let id = members.create(0);
    let holders = members.holders(id);
    let held = |boot: &Boot| members.confirmed(*boot, id).is_some();
    assert!(holders.iter().all(held));
    assert_eq!(members.boots().iter().filter(|boot| held(boot)).count(), 2);
}

#[test]
fn a_backup_answers_reads_under_a_lease() {
    let mut members = Members::new(3, 1);
    let id = members.create(0);
    let backup = members.holders(id)[1];
    let load = load(id);
    assert!(members.read(backup, &load).is_none(), "it has no lease");
    members.run();
    assert!(members.read(backup, &load).is_some());
    members.pass(300);
    assert!(members.read(backup, &load).is_none(), "the lease is over");
}

#[test]
fn a_backup_shows_nothing_tentative() {
    let shown = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let [owner, backup] = members.holders(id)[..] else { panic!("two holders") };
        members.read(backup, &load(id));
        members.run();
        members.deaf.insert(owner);
        members.ask(owner, 9, add(id));
        members.run();
        members.read(backup, &load(id)).is_some()
    };
    assert!(!shown(Rules::default()));
    assert!(shown(Rules::without(Rule::W3)));
}

#[test]
fn an_heir_has_what_was_acknowledged() {
    let mut members = Members::new(3, 1);
    let ids: Vec<_> = (0..40).map(|n| members.create(n)).collect();
    members.crash(0);
    for id in &ids {
        assert_eq!(members.count(*id), 1);
    }
    let is_twice = |id: &RecordId| {
        members.boots().iter().filter(|boot| members.confirmed(**boot, *id).is_some()).count() == 2
    };
    assert!(ids.iter().all(is_twice), "the copies are there again");
}

#[test]
fn a_call_asked_again_is_applied_once() {
    let counted = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let owner = members.holders(id)[0];
        let caller = *members.boots().iter().find(|boot| **boot != owner).unwrap();
        members.ask_as(caller, 7, add(id));
        let index = members.boots().iter().position(|boot| *boot == owner).unwrap();
        members.crash(index);
        members.ask_as(caller, 7, add(id));
        members.count(id)
    };
    assert_eq!(counted(Rules::default()), 2);
    assert_eq!(counted(Rules::without(Rule::C1)), 3);
}

#[test]
fn a_call_that_was_given_up_is_refused() {
    let counted = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let owner = members.holders(id)[0];
        let caller = *members.boots().iter().find(|boot| **boot != owner).unwrap();
        members.open = 8;
        members.ask_as(caller, 7, add(id));
        members.count(id)
    };
    assert_eq!(counted(Rules::default()), 1);
    assert_eq!(counted(Rules::without(Rule::C2)), 2);
}

#[test]
fn an_heir_commits_tentative_writes_again() {
    let is_again = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let [owner, backup] = members.holders(id)[..] else { panic!("two holders") };
        members.deaf.insert(owner);
        members.ask(owner, 9, add(id));
        members.run();
        assert!(members.tenants[&backup].replicas().tentative(id).is_some());
        members.crash_boot(owner);
        assert_eq!(members.count(id), 2);
        let third = members.holders(id)[1];
        let epoch = members.confirmed(third, id).map(|entry| entry.revision.epoch);
        epoch == Some(members.epoch.id().number)
    };
    assert!(is_again(Rules::default()));
    assert!(!is_again(Rules::without(Rule::T7)));
}

#[test]
fn an_heir_waits_for_a_complete_holder() {
    let answers = |rules| {
        let (mut members, [owner, backup], id) = with_stale_backup(rules);
        members.crash_boot(owner);
        members.ask(backup, 9, load(id));
        members.run();
        members.answer(backup, 9).is_some()
    };
    assert!(!answers(Rules::default()));
    assert!(answers(Rules::without(Rule::T3)));
}

#[test]
fn a_stale_copy_is_not_evidence() {
    let is_back = |rules| {
        let (mut members, [owner, backup], id) = with_stale_backup(rules);
        members.leave_only(backup, id);
        // Both are heard: the backup alone is not enough.
        members.late.insert(owner);
        members.change(&[Change::Drain(owner), Change::Drain(backup)]);
        members.run();
        members.late.clear();
        members.deliver_late();
        members.count(id) > 0
    };
    assert!(!is_back(Rules::default()));
    assert!(is_back(Rules::without(Rule::T5)));
}

#[test]
fn an_owner_new_to_a_slot_replaces_copies() {
    let is_back = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let [owner, backup] = members.holders(id)[..] else { panic!("two holders") };
        let third = *members.boots().iter().find(|boot| ![owner, backup].contains(boot)).unwrap();
        members.leave_only(third, id);
        members.change(&[Change::Drain(owner), Change::Drain(backup)]);
        members.run();
        members.count(id) > 0
    };
    assert!(!is_back(Rules::default()));
    assert!(is_back(Rules::without(Rule::T6)));
}

#[test]
fn a_holder_drops_copies_its_owner_lacks() {
    let is_kept = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let backup = members.holders(id)[1];
        members.leave_only(backup, id);
        members.change(&[Change::Join(joining(7))]);
        members.run();
        members.confirmed(backup, id).is_some()
    };
    assert!(!is_kept(Rules::default()));
    assert!(is_kept(Rules::without(Rule::Y1)));
}

#[test]
fn a_complete_holder_drops_old_tentative_writes() {
    let is_kept = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let backup = members.holders(id)[1];
        let mut entry = members.confirmed(backup, id).unwrap().clone();
        entry.revision.number += 1;
        members.tenants.get_mut(&backup).unwrap().replicas.stage(id, entry, 1);
        members.change(&[Change::Join(joining(7))]);
        members.run();
        members.tenants[&backup].replicas.tentative(id).is_some()
    };
    assert!(!is_kept(Rules::default()));
    assert!(is_kept(Rules::without(Rule::T10)));
}

#[test]
fn a_slot_is_ready_once_its_holders_know() {
    let is_ready = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let [owner, backup] = members.holders(id)[..] else { panic!("two holders") };
        members.late.insert(backup);
        members.change(&[Change::Join(joining(7))]);
        members.run();
        members.ready[&owner].contains(Slot::of(id, &key()))
    };
    assert!(!is_ready(Rules::default()));
    assert!(is_ready(Rules::without(Rule::T8)));
}

#[test]
fn slots_are_lost_after_asking_their_holders() {
    let is_hopeless = |rules, wait| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let [owner, backup] = members.holders(id)[..] else { panic!("two holders") };
        members.deaf.extend([owner, backup]);
        members.change(&[Change::SetAside(owner), Change::SetAside(backup)]);
        let third = members.holders(id)[0];
        let mut hopeless = BTreeMap::new();
        for _ in 0..wait / 100 {
            members.now.mono += Duration::from_millis(100);
            members.step(third, |tenant, lease, now| {
                hopeless = tenant.hopeless(lease, now);
                Vec::new()
            });
        }
        let slot = Slot::of(id, &key());
        let silent = hopeless.iter().find(|(_, slots)| slots.contains(slot));
        silent.is_some_and(|(silent, _)| *silent == BTreeSet::from([owner, backup]))
    };
    assert!(!is_hopeless(Rules::default(), 50_000));
    assert!(is_hopeless(Rules::default(), 60_000));
    assert!(is_hopeless(Rules::without(Rule::G1), 50_000));
}

#[test]
fn revisions_stay_unique_after_a_take_over() {
    let is_shared = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let [owner, backup] = members.holders(id)[..] else { panic!("two holders") };
        members.deaf.insert(backup);
        members.ask(owner, 9, add(id));
        members.run();
        let lost = members.tenants[&owner].replicas.tentative(id).unwrap().revision;
        members.deaf = BTreeSet::from([owner]);
        members.change(&[Change::SetAside(owner)]);
        members.run();
        members.call(add(id));
        members.confirmed(backup, id).unwrap().revision == lost
    };
    assert!(!is_shared(Rules::default()));
    assert!(is_shared(Rules::without(Rule::V1)));
}

#[test]
fn a_holder_that_is_suspected_is_waited_for() {
    let is_answered = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let [owner, backup] = members.holders(id)[..] else { panic!("two holders") };
        members.deaf.insert(backup);
        members.suspected.insert(backup);
        members.ask(owner, 9, add(id));
        members.run();
        members.answer(owner, 9).is_some()
    };
    assert!(!is_answered(Rules::default()));
    assert!(is_answered(Rules::without(Rule::P2)));
}

#[test]
fn only_an_owner_that_serves_says_absent() {
    let is_answered = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let owner = members.holders(id)[0];
        members.delete(id);
        members.ready.clear();
        members.ask(owner, 9, load(id));
        members.run();
        members.answer(owner, 9).is_some()
    };
    assert!(!is_answered(Rules::default()));
    assert!(is_answered(Rules::without(Rule::R2)));
}

#[test]
fn a_read_lease_ends_with_the_owners() {
    let reads = |rules| {
        let mut members = Members::with(3, 1, rules);
        members.lease = Duration::from_millis(100);
        let id = members.create(0);
        let backup = members.holders(id)[1];
        members.read(backup, &load(id));
        members.run();
        assert!(members.read(backup, &load(id)).is_some());
        members.pass(1);
        members.read(backup, &load(id)).is_some()
    };
    assert!(!reads(Rules::default()));
    assert!(reads(Rules::without(Rule::R1)));
}

#[test]
fn sessions_near_their_deadline_need_the_owner() {
    let reads = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let backup = members.holders(id)[1];
        members.pass(3_596_000);
        members.read(backup, &load(id));
        members.run();
        members.read(backup, &load(id)).is_some()
    };
    assert!(!reads(Rules::default()));
    assert!(reads(Rules::without(Rule::K3)));
}

#[test]
fn a_tombstone_lasts_until_all_holders_have_it() {
    let is_kept = |rules| {
        let mut members = Members::with(3, 2, rules);
        let id = members.create(0);
        let [owner, _, away] = members.holders(id)[..] else { panic!("three holders") };
        members.deaf.insert(away);
        members.change(&[Change::Join(joining(7))]);
        members.pass(1_000);
        members.delete(id);
        // No call is asked again.
        members.tenants.get_mut(&owner).unwrap().on_open(owner, 1_000);
        members.pass(90_000_000);
        // Until each slot was looked at.
        (0..5).for_each(|_| members.run());
        members.confirmed(owner, id).is_some()
    };
    assert!(is_kept(Rules::default()));
    assert!(!is_kept(Rules::without(Rule::X2)));
}

#[test]
fn an_heir_hears_enough_holders() {
    // Two backups, and one acknowledgement: a copy that missed a write must not win.
    let counted = |rules| {
        let mut members = Members::with(4, 2, rules);
        let id = members.create(0);
        let [owner, first, second] = members.holders(id)[..] else { panic!("three holders") };
        // The first backup, which is the heir, misses the write; the second one acknowledges it.
        members.deaf.insert(first);
        members.ask(owner, 9, add(id));
        members.run();
        let revision = |boot| members.confirmed(boot, id).map(|entry| entry.revision);
        assert!(revision(second) > revision(first));
        members.deaf.clear();
        members.late.insert(second);
        let index = members.boots().iter().position(|boot| *boot == owner).unwrap();
        members.crash(index);
        members.late.clear();
        members.deliver_late();
        members.count(id)
    };
    assert_eq!(counted(Rules::default()), 2);
    assert_eq!(counted(Rules::without(Rule::T2)), 1);
}

#[test]
fn a_joiner_is_filled() {
    let mut members = Members::new(2, 1);
    let ids: Vec<_> = (0..40).map(|n| members.create(n)).collect();
    members.change(&[Change::Join(joining(2))]);
    members.run();
    assert!(members.tenants[&boot(2)].is_filled());
    members.change(&[Change::BecomeFull(boot(2))]);
    members.run();
    assert!(ids.iter().all(|id| members.count(*id) == 1));
    assert!(ids.iter().any(|id| members.holders(*id)[0] == boot(2)));
    let kept = |id: &RecordId| {
        members.boots().iter().filter(|boot| members.confirmed(**boot, *id).is_some()).count()
    };
    assert!(ids.iter().all(|id| kept(id) == 2), "copies that are not needed go");
}

#[test]
fn sessions_stay_ended_after_a_holder_returns() {
    let mut members = Members::new(3, 2);
    let id = members.create(0);
    let away = members.holders(id)[2];
    members.deaf.insert(away);
    members.change(&[Change::SetAside(away)]);
    members.run();
    members.delete(id);
    members.deaf.clear();
    members.change(&[Change::ComeBack(away)]);
    members.run();
    members.change(&[Change::BecomeFull(away)]);
    members.run();
    for boot in members.boots() {
        let entry = members.confirmed(boot, id).unwrap();
        assert!(matches!(entry.kept, Kept::Ended(_)), "{boot:?}");
    }
}

#[test]
fn an_end_waits_for_readers() {
    let ended = |rules| {
        let mut members = Members::with(3, 2, rules);
        let id = members.create(0);
        let [owner, first, second] = members.holders(id)[..] else { panic!("three holders") };
        members.read(second, &load(id));
        members.run();
        assert!(members.read(second, &load(id)).is_some());
        members.deaf.insert(second);
        members.ask(owner, 9, delete(id));
        members.run();
        assert!(members.confirmed(first, id).is_some());
        let at_once = members.answer(owner, 9).is_some();
        members.pass(400);
        assert!(members.answer(owner, 9).is_some(), "the lease is over");
        at_once
    };
    assert!(!ended(Rules::default()));
    assert!(ended(Rules::without(Rule::X1)));
}

#[test]
fn an_end_ignores_readers_of_other_slots() {
    let mut members = Members::new(3, 1);
    let id = members.create(0);
    let [owner, backup] = members.holders(id)[..] else { panic!("two holders") };
    let is_elsewhere = |members: &Members, other| {
        let [first, second] = members.holders(other)[..] else { panic!("two holders") };
        (first == owner && second != backup).then_some((other, second))
    };
    let found = (1..100).find_map(|n| {
        let other = members.create(n);
        is_elsewhere(&members, other)
    });
    let (other, reader) = found.expect("a record that the third node holds");
    members.read(reader, &load(other));
    members.run();
    assert!(members.read(reader, &load(other)).is_some(), "it has a lease of the same owner");
    members.ask(owner, 9, delete(id));
    members.run();
    assert!(members.answer(owner, 9).is_some());
}

#[test]
fn an_expired_session_ends_on_every_holder() {
    let mut members = Members::new(3, 1);
    let id = members.create(0);
    members.pass(3_700_000);
    let reply = members.call(load(id));
    assert!(matches!(reply, Reply::Lookup(Lookup::Absent(Absence::Expired))));
    for holder in members.holders(id) {
        assert!(members.confirmed(holder, id).unwrap().kept.live().is_none());
    }
}

#[test]
fn sides_of_a_split_are_merged() {
    let (values, lives) = after_a_split(Rules::default());
    assert_eq!(values, ["1", "2"], "each side wrote one key");
    assert_eq!(lives, [true, true, false, false]);
    let (_, lives) = after_a_split(Rules::without(Rule::D1));
    assert_eq!(lives, [true, false, false, true], "the owner replaces");
}

/// The keys of a session that both sides wrote, and whether these live: one that was created on each side, and
/// one that ended on each.
fn after_a_split(rules: Rules) -> (Vec<String>, Vec<bool>) {
    let mut members = Members::with(2, 1, rules);
    let both = members.create(0);
    let [ended_here, ended_there] = [1, 2].map(|n| members.create(n));
    members.part();
    let made_here = members.create_at(boot(0), 3);
    let made_there = members.create_at(boot(1), 4);
    for (side, key, ended) in [(0, "a", ended_here), (1, "b", ended_there)] {
        members.call_at(boot(side), put(both, key, side as i64 + 1));
        members.call_at(boot(side), delete(ended));
        let other = if ended == ended_here { ended_there } else { ended_here };
        members.call_at(boot(side), put(other, "c", 1));
    }
    members.meet();
    let values = members.values(both, &["a", "b"]);
    let ids = [made_here, made_there, ended_here, ended_there];
    let lives = ids.map(|id| members.count(id) == 1);
    (values, lives.to_vec())
}

#[test]
fn copies_that_are_merged_are_counted() {
    let mut members = Members::new(2, 1);
    let [both, one] = [0, 1].map(|n| members.create(n));
    members.part();
    members.call_at(boot(0), put(both, "a", 1));
    members.call_at(boot(1), put(both, "b", 2));
    members.call_at(boot(0), load(one));
    members.create_at(boot(1), 2);
    members.meet();
    assert_eq!(members.merged, 1);
}

#[test]
fn merged_calls_are_not_applied_again() {
    let mut members = Members::new(2, 1);
    let id = members.create(0);
    members.part();
    let call = CallId { caller: boot(1), number: 7 };
    let until = members.now.mono + Duration::from_secs(60);
    let asked = || Asked { call, id, request: add(id), until };
    members.step(boot(1), |tenant, lease, now| tenant.ask(asked(), lease, now));
    members.run();
    assert!(members.answer(boot(1), 7).is_some());
    members.meet();
    let owner = members.holders(id)[0];
    members.step(owner, |tenant, lease, now| tenant.ask(asked(), lease, now));
    members.run();
    assert_eq!(members.count(id), 2);
}

#[test]
fn tombstones_are_kept_while_a_side_is_away() {
    let mut members = Members::new(2, 1);
    let id = members.create(0);
    members.part();
    members.call_at(boot(0), delete(id));
    members.pass(25 * 3_600_000);
    (0..6).for_each(|_| members.run());
    assert!(members.confirmed(boot(0), id).is_some());
    members.meet();
    assert_eq!(members.count(id), 0);
}

#[test]
fn ends_win_in_lost_slots() {
    let count = |rules| {
        let mut members = Members::with(3, 2, rules);
        let id = members.create(0);
        let last = members.holders(id)[2];
        let end = members.confirmed(last, id).unwrap().clone();
        let reason = EndReason::Logout;
        let stamp = end.kept.stamp();
        let kept =
            Kept::Ended(Tombstone { stamp, until: Timestamp::MAX, reason, unreported: None });
        let end = Held { confirmed: Some(Entry { kept, ..end }), ..Held::default() };
        members.call(add(id));
        members.tenants.get_mut(&last).unwrap().replicas.put(id, end);
        members.give_up(id, &[]);
        members.run();
        members.count(id)
    };
    assert_eq!(count(Rules::default()), 0);
    assert_eq!(count(Rules::without(Rule::D1)), 2);
}

#[test]
fn old_copies_do_not_return_to_lost_slots() {
    let is_back = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let holders = members.holders(id);
        let third = *members.boots().iter().find(|boot| !holders.contains(boot)).unwrap();
        members.leave_only(third, id);
        members.give_up(id, &[]);
        members.run();
        members.count(id) > 0
    };
    assert!(!is_back(Rules::default()));
    assert!(is_back(Rules::without(Rule::G2)));
}

#[test]
fn a_member_aside_is_asked_for_lost_slots() {
    let mut members = Members::new(3, 1);
    let id = members.create(0);
    let holders = members.holders(id);
    members.deaf.extend(&holders);
    let aside: Vec<_> = holders.iter().map(|boot| Change::SetAside(*boot)).collect();
    members.give_up(id, &aside);
    members.run();
    let owner = members.holders(id)[0];
    members.ask(owner, 9, load(id));
    members.run();
    assert!(members.answer(owner, 9).is_none(), "they may be there again");
    members.deaf.clear();
    members.give_up(id, &[]);
    members.run();
    assert_eq!(members.count(id), 1);
}

#[test]
fn a_copy_that_was_not_heard_is_dropped() {
    let is_kept = |rules| {
        let mut members = Members::with(3, 1, rules);
        let id = members.create(0);
        let away = members.holders(id)[1];
        members.crashed.insert(away);
        members.give_up(id, &[Change::SetAside(away)]);
        members.run();
        members.crashed.clear();
        members.change(&[Change::ComeBack(away)]);
        members.confirmed(away, id).is_some()
    };
    assert!(!is_kept(Rules::default()));
    assert!(is_kept(Rules::without(Rule::G3)));
}

#[test]
fn an_owner_asks_about_unsettled_entries() {
    let asks = |rules| {
        let mut members = Members::with(3, 1, rules);
        let principal = Principal::new(Realm::default(), "alice").unwrap();
        let list_id = key().list_of(&principal);
        let mut list = List::new(principal);
        let entry = ListEntry { authenticated: START, until: Timestamp::MAX, is_settled: false };
        list.insert(RecordId::from_bytes([7; 16]), entry);
        let (revision, kept) = (Revision { epoch: 1, number: 1 }, Kept::List(list));
        let confirmed = Some(Entry { revision, kept, done: Vec::new() });
        let owner = members.holders(list_id)[0];
        let tenant = members.tenants.get_mut(&owner).unwrap();
        tenant.replicas.put(list_id, Held { confirmed, ..Held::default() });
        members.pass(1_001);
        // Until each slot was looked at.
        (0..5).for_each(|_| members.run());
        members.asked_about > 0
    };
    assert!(asks(Rules::default()));
    assert!(!asks(Rules::without(Rule::Q1)));
}

/// Several members, and the messages between them.
struct Members {
    epoch: Arc<Epoch>,
    tenants: BTreeMap<Boot, Tenant>,
    ready: BTreeMap<Boot, SlotSet>,
    queue: VecDeque<(Boot, Boot, Message)>,
    crashed: BTreeSet<Boot>,
    /// Members that hear nothing.
    deaf: BTreeSet<Boot>,
    /// Members whose messages wait.
    late: BTreeSet<Boot>,
    waiting: VecDeque<(Boot, Boot, Message)>,
    answers: BTreeMap<CallId, Reply>,
    now: Now,
    open: u64,
    number: u64,
    lease: Duration,
    suspected: BTreeSet<Boot>,
    merged: usize,
    /// Returns the number of queries to the owner of a session about an entry of a list.
    asked_about: usize,
    rules: Rules,
}

/// Members, the holders of a record, and the record: its backup was not told that it is complete in the
/// epoch, which joined a member.
fn with_stale_backup(rules: Rules) -> (Members, [Boot; 2], RecordId) {
    let mut members = Members::with(3, 1, rules);
    let id = members.create(0);
    let [owner, backup] = members.holders(id)[..] else { panic!("two holders") };
    members.late.insert(owner);
    members.change(&[Change::Join(joining(7))]);
    members.run();
    members.late.clear();
    (members, [owner, backup], id)
}

/// A lease for everything that is ready, how long it runs, and the members that are suspected.
struct Leased(SlotSet, Duration, BTreeSet<Boot>);

impl Standing for Leased {
    fn serves(&self, slot: Slot, _: Duration) -> bool {
        self.0.contains(slot)
    }

    fn is_clear(&self, _: Slot, _: Duration) -> bool {
        true
    }

    fn suspects(&self, boot: Boot) -> bool {
        self.2.contains(&boot)
    }

    fn is_lost(&self, _: Boot, _: Duration) -> bool {
        false
    }

    fn lease_left(&self, _: Duration) -> Duration {
        self.1
    }
}

impl Members {
    fn new(members: usize, backups: u32) -> Self {
        Self::with(members, backups, Rules::default())
    }

    fn with(members: usize, backups: u32, rules: Rules) -> Self {
        let settings = Settings { replication: Replication::Backups(backups), ..SETTINGS };
        let all = (0..members).map(full).map(|member| Member { votes: true, ..member });
        let epoch = Arc::new(Epoch::of(lineage(), key(), settings, all.collect()));
        let tenant = |n| {
            let view = View::new(boot(n), Arc::clone(&epoch));
            (boot(n), Tenant::new(view, Default::default(), rules))
        };
        let mut this = Self {
            tenants: (0..members).map(tenant).collect(),
            ready: BTreeMap::new(),
            queue: VecDeque::new(),
            crashed: BTreeSet::new(),
            deaf: BTreeSet::new(),
            late: BTreeSet::new(),
            waiting: VecDeque::new(),
            answers: BTreeMap::new(),
            now: Now { mono: Duration::from_secs(1), wall: START },
            open: 0,
            number: 100,
            lease: Duration::from_millis(300),
            suspected: BTreeSet::new(),
            merged: 0,
            asked_about: 0,
            epoch: Arc::clone(&epoch),
            rules,
        };
        this.enter(&epoch);
        this.run();
        this
    }

    /// The next epoch; all slots are served in this one.
    fn change(&mut self, changes: &[Change]) {
        let epoch = after(&self.epoch, changes, &Slot::all().collect()).unwrap();
        self.enter(&Arc::new(epoch));
    }

    /// The next epoch, which gives the slot of a record up.
    fn give_up(&mut self, id: RecordId, changes: &[Change]) {
        let slots = SlotSet::from_iter([Slot::of(id, &key())]);
        let give_up = Change::GiveUp(slots, BTreeSet::new());
        let changes = [&[give_up], changes].concat();
        let epoch = after(&self.epoch, &changes, &SlotSet::new()).unwrap();
        self.enter(&Arc::new(epoch));
    }

    fn enter(&mut self, epoch: &Arc<Epoch>) {
        self.epoch = Arc::clone(epoch);
        self.queue.clear();
        self.waiting.clear();
        self.ready.clear();
        let is_there = |member: &&Member| !self.crashed.contains(&member.boot);
        for member in epoch.members().iter().filter(is_there).cloned().collect::<Vec<_>>() {
            let view = || View::new(member.boot, Arc::clone(epoch));
            let tenant = self.tenants.entry(member.boot);
            tenant.or_insert_with(|| Tenant::new(view(), Default::default(), self.rules));
            if !self.deaf.contains(&member.boot) {
                self.step(member.boot, |tenant, lease, now| tenant.on_epoch(view(), lease, now));
            }
        }
    }

    fn crash(&mut self, n: usize) {
        self.tenants.remove(&boot(n));
        self.crashed.insert(boot(n));
        self.change(&[Change::SetAside(boot(n))]);
        self.run();
    }

    fn crash_boot(&mut self, boot: Boot) {
        let index = self.boots().iter().position(|other| *other == boot).unwrap();
        self.crash(index);
    }

    /// A record is nowhere but in an old copy of one member: all others forgot it.
    fn leave_only(&mut self, there: Boot, id: RecordId) {
        let held =
            self.tenants.values().find_map(|tenant| tenant.replicas.get(id)).unwrap().clone();
        for (boot, tenant) in &mut self.tenants {
            match *boot == there {
                true => tenant.replicas.put(id, Held { told_in: 0, ..held.clone() }),
                false => tenant.replicas.remove(id),
            }
        }
    }

    fn step(&mut self, me: Boot, step: impl FnOnce(&mut Tenant, &dyn Standing, Now) -> Vec<Told>) {
        let ready = self.ready.get(&me).cloned().unwrap_or_default();
        let lease = Leased(ready, self.lease, self.suspected.clone());
        let Some(tenant) = self.tenants.get_mut(&me) else { return };
        let told = step(tenant, &lease, self.now);
        self.queue.extend(tenant.take_messages().into_iter().map(|(to, m)| (me, to, m)));
        for told in told {
            match told {
                Told::Answer(call, reply) => drop(self.answers.insert(call, reply)),
                Told::Merged => self.merged += 1,
                Told::Step(None, Request::Describe { .. }) => self.asked_about += 1,
                _ => {}
            }
        }
    }

    /// Delivers all messages, while 60 ms pass.
    fn run(&mut self) {
        for _ in 0..60 {
            self.deliver();
            for me in self.boots() {
                let mut ready = SlotSet::new();
                self.step(me, |tenant, lease, now| {
                    let (told, slots) = tenant.tick(lease, now);
                    ready = slots;
                    told
                });
                self.ready.entry(me).or_default().insert_all(&ready);
            }
            self.now.mono += Duration::from_millis(1);
        }
    }

    fn deliver(&mut self) {
        // Holders that never agree would go on for ever.
        for _ in 0..20_000 {
            let Some((from, to, message)) = self.queue.pop_front() else { return };
            if self.late.contains(&from) {
                self.waiting.push_back((from, to, message));
            } else if !self.deaf.contains(&to) {
                self.step(to, |tenant, lease, now| tenant.receive(from, message, lease, now));
            }
        }
    }

    fn deliver_late(&mut self) {
        self.queue.append(&mut self.waiting);
        self.run();
    }

    fn pass(&mut self, millis: u64) {
        self.now.mono += Duration::from_millis(millis);
        self.now.wall = self.now.wall + Duration::from_millis(millis);
        self.run();
    }

    fn create(&mut self, n: u64) -> RecordId {
        let (id, request) = creation(n);
        let reply = self.call(request);
        assert!(matches!(reply, Reply::Outcome(Outcome::Applied(_))), "{reply:?}");
        id
    }

    /// Two members lose each other: each goes on by itself.
    fn part(&mut self) {
        self.queue.clear();
        self.ready.clear();
        for n in 0..2 {
            let lineage = Lineage::new([20 + n as u8; 16]);
            let side = self.epoch.split(lineage, full(n).name, &[boot(n)].into());
            let view = View::new(boot(n), Arc::new(side));
            self.step(boot(n), |tenant, lease, now| tenant.on_epoch(view, lease, now));
        }
        self.run();
    }

    /// The second one joins the first.
    fn meet(&mut self) {
        let side = Arc::clone(&self.tenants[&boot(0)].view().epoch);
        self.enter(&side);
        for change in [Change::ComeBack(boot(1)), Change::BecomeFull(boot(1))] {
            self.change(&[change]);
            self.run();
            self.run();
        }
        assert!(self.tenants[&boot(1)].is_filled());
    }

    fn create_at(&mut self, side: Boot, n: u64) -> RecordId {
        let (id, request) = creation(n);
        let reply = self.call_at(side, request);
        assert!(matches!(reply, Reply::Outcome(Outcome::Applied(_))), "{reply:?}");
        id
    }

    fn call_at(&mut self, side: Boot, request: Request) -> Reply {
        self.number += 1;
        let number = self.number;
        self.ask(side, number, request);
        self.run();
        self.answer(side, number).expect("the side answers")
    }

    fn values(&mut self, id: RecordId, keys: &[&str]) -> Vec<String> {
        let Reply::Lookup(Lookup::Found(found)) = self.call(load(id)) else { return Vec::new() };
        let values = keys.iter().filter_map(|key| found.record.values.get(key));
        values.map(|json| String::from_utf8(json.to_vec()).unwrap()).collect()
    }

    fn delete(&mut self, id: RecordId) {
        let reply = self.call(delete(id));
        assert!(matches!(reply, Reply::Deleted(Deleted::Ended)), "{reply:?}");
    }

    fn count(&mut self, id: RecordId) -> u64 {
        let Reply::Lookup(Lookup::Found(found)) = self.call(load(id)) else { return 0 };
        let json = found.record.values.get("n").unwrap();
        std::str::from_utf8(json).unwrap().parse().unwrap()
    }

    /// Asks the owner, and waits for its answer.
    fn call(&mut self, request: Request) -> Reply {
        self.number += 1;
        let owner = self.holders(request.record(&key()))[0];
        let number = self.number;
        self.ask(owner, number, request);
        self.run();
        self.answer(owner, number).expect("the owner answers")
    }

    fn ask(&mut self, owner: Boot, number: u64, request: Request) {
        let until = self.now.mono + Duration::from_secs(60);
        let call = CallId { caller: owner, number };
        let id = request.record(&key());
        let asked = Asked { call, id, request, until };
        self.step(owner, |tenant, lease, now| tenant.ask(asked, lease, now));
    }

    /// Asks the owner with a message of another member.
    fn ask_as(&mut self, caller: Boot, number: u64, request: Request) {
        let owner = self.holders(request.record(&key()))[0];
        let (open, within) = (self.open, Duration::from_secs(60));
        let message = Message::Call { number, open, within, request };
        self.queue.push_back((caller, owner, message));
        self.run();
    }

    fn read(&mut self, me: Boot, request: &Request) -> Option<Reply> {
        let mut reply = None;
        self.step(me, |tenant, lease, now| {
            reply = tenant.read(request, lease, now);
            Vec::new()
        });
        reply
    }

    fn answer(&self, caller: Boot, number: u64) -> Option<Reply> {
        self.answers.get(&CallId { caller, number }).cloned()
    }

    fn confirmed(&self, boot: Boot, id: RecordId) -> Option<&Entry> {
        self.tenants.get(&boot)?.replicas().confirmed(id)
    }

    fn holders(&self, id: RecordId) -> Vec<Boot> {
        self.epoch.placement().holders(Slot::of(id, self.epoch.key()))
    }

    fn boots(&self) -> Vec<Boot> {
        self.tenants.keys().copied().collect()
    }
}

fn creation(n: u64) -> (RecordId, Request) {
    let id = crate::replicas::tests::id(n << 32 | 5);
    let hash = SecretHash::from_parts(KeyId::NONE, [0; 32]);
    let end = START + Duration::from_secs(3_600);
    let mut record = Record::new(hash, START, end, end);
    record.values = [("n", &b"1"[..])].into_iter().collect();
    (id, Request::Create { id, record: Box::new(record), policy: LoginPolicy::default() })
}

fn put(id: RecordId, key: &str, number: i64) -> Request {
    let mut patch = Patch::new();
    patch.put(key, number.into()).unwrap();
    Request::Update { id, patch: Box::new(patch) }
}

fn load(id: RecordId) -> Request {
    Request::Load { id, proof: None, seen: None }
}

fn add(id: RecordId) -> Request {
    let mut patch = Patch::new();
    patch.add("n", 1).unwrap();
    Request::Update { id, patch: Box::new(patch) }
}

fn delete(id: RecordId) -> Request {
    Request::Delete { id, proof: None, sign_in: None, reason: EndReason::Logout }
}

const START: Timestamp = Timestamp::UNIX_EPOCH;
