//! Sessions that end without a request, until the application has a report.

use std::collections::{BTreeMap, BTreeSet};

use steadfast_core::{Budget, CLAIMED_FOR, Ending};

use super::*;
use crate::record::{Tombstone, Unreported};

#[test]
fn an_ending_is_told_until_it_is_reported() {
    let mut nodes = keeping(Nodes::new(3));
    let ids: BTreeSet<_> = (0..30).map(|n| nodes.create_until(n as usize % 3, n, 600)).collect();
    nodes.wait_until(601);
    let told = nodes.claim_all();
    assert_eq!(told.keys().copied().collect::<BTreeSet<_>>(), ids);
    let deadline = Timestamp::UNIX_EPOCH + Duration::from_secs(600);
    let is_right = |ending: &Ending| (ending.reason, ending.at) == (EndReason::Expired, deadline);
    assert!(told.values().all(is_right), "{told:?}");
    let (reported, left): (Vec<_>, Vec<_>) = ids.iter().partition(|id| nodes.owner(**id) != 1);
    reported.iter().for_each(|id| nodes.report(1, *id));
    assert!(nodes.claim_all().is_empty(), "it is claimed");
    nodes.pass_by_the_clock(CLAIMED_FOR);
    assert!(nodes.claim_all().into_keys().eq(left));
}

#[test]
fn only_an_owner_tells_of_an_ending() {
    let mut nodes = keeping(Nodes::new(3));
    let ids: Vec<_> = (0..30).map(|n| nodes.create_until(n as usize % 3, n, 600)).collect();
    nodes.wait_until(601);
    for n in 0..3 {
        let claimed: BTreeSet<_> = nodes.claim(n, 99).into_iter().map(|ending| ending.id).collect();
        assert!(ids.iter().all(|id| claimed.contains(id) == (nodes.owner(*id) == n)));
    }
}

#[test]
fn endings_are_not_kept_until_wanted() {
    let mut nodes = Nodes::new(3);
    (0..9).for_each(|n| _ = nodes.create_until(n as usize % 3, n, 600));
    nodes.wait_until(601);
    let mut nodes = keeping(nodes);
    assert!(nodes.claim_all().is_empty());
    let id = nodes.create_until(0, 9, 700);
    nodes.wait_until(701);
    assert!(nodes.claim_all().into_keys().eq([id]));
}

#[test]
fn the_end_of_a_request_is_not_kept() {
    let mut nodes = keeping(Nodes::new(3));
    let first = nodes.sign_in(0, 1, 1, None).0;
    let second = nodes.sign_in(1, 2, 1, None).0;
    assert!(matches!(nodes.end_all(2, None, None), Reply::Count(1)));
    let told = nodes.claim_all();
    let ended = |ending: &Ending| (ending.id, ending.reason, ending.principal.clone());
    assert_eq!(
        told.values().map(ended).collect::<Vec<_>>(),
        [(first, EndReason::Cap, Some(alice()))]
    );
    assert!(!told.contains_key(&second));
}

#[test]
fn what_lives_cannot_be_reported() {
    let mut nodes = keeping(Nodes::new(3));
    let id = nodes.create_until(0, 1, 600);
    nodes.report(1, id);
    assert_eq!(nodes.count(2, id), 1, "it lives");
    nodes.now.wall = Timestamp::UNIX_EPOCH + Duration::from_secs(601);
    nodes.report(1, id);
    nodes.wait_until(602);
    assert!(nodes.claim_all().into_keys().eq([id]), "the report came before the end");
}

/// The node that dies claimed and reported nothing for a while; sessions expire before and after its death.
#[test]
fn no_ending_is_lost_with_its_owner() {
    let (told, alive) = tell_over_a_crash(Rules::default());
    assert_eq!(told.len(), 1_000);
    assert!(alive.iter().all(|id| !told.contains(id)));
    let (told, _) = tell_over_a_crash(Rules::without(Rule::X3));
    assert!(told.len() < 1_000, "{}", told.len());
}

/// Those told in time, and those that live on.
fn tell_over_a_crash(rules: Rules) -> (BTreeSet<RecordId>, Vec<RecordId>) {
    let mut nodes = keeping(Nodes::with(3, rules));
    let calls: Vec<_> = (0..1_100)
        .map(|n| {
            let ends_at = if n < 1_000 { 600 + n } else { 1_000_000 };
            let (id, policy) = (id(n), LoginPolicy::default());
            let record = Box::new(Record { idle_deadline: seconds(ends_at), ..record(n) });
            nodes.begin_call(n as usize % 3, Request::Create { id, record, policy })
        })
        .collect();
    calls.into_iter().for_each(|(me, number)| drop(nodes.wait(me, number)));
    let mut told = BTreeSet::new();
    for step in 0..20 {
        if step == 10 {
            // Its claims are lost with it: no report was made.
            nodes.crash(2);
            nodes.pass(2_000);
        }
        nodes.wait_until(650 + step * 50);
        for n in 0..if step < 10 { 3 } else { 2 } {
            let claimed = nodes.claim(n, 1_000);
            if n < 2 {
                claimed.iter().for_each(|ending| nodes.report(n, ending.id));
                told.extend(claimed.into_iter().map(|ending| ending.id));
            }
        }
    }
    (told, (1_000..1_100).map(id).collect())
}

#[test]
fn a_report_reaches_the_next_owner() {
    let mut nodes = keeping(Nodes::new(3));
    (0..30).for_each(|n| _ = nodes.create_until(n as usize % 3, n, 600));
    nodes.wait_until(601);
    let claimed = nodes.claim(2, 99);
    assert!(!claimed.is_empty());
    nodes.drain(2);
    for ending in &claimed {
        nodes.report(2, ending.id);
    }
    nodes.pass_by_the_clock(CLAIMED_FOR);
    let told = nodes.claim_all();
    assert_eq!(told.len(), 30 - claimed.len());
    assert!(claimed.iter().all(|ending| !told.contains_key(&ending.id)));
}

#[test]
fn a_next_owner_tells_again_unless_reported() {
    let mut nodes = keeping(Nodes::new(3));
    (0..30).for_each(|n| _ = nodes.create_until(n as usize % 3, n, 600));
    nodes.wait_until(601);
    let claimed = nodes.claim(2, 99);
    let (reported, lost) = claimed.split_at(claimed.len() / 2);
    reported.iter().for_each(|ending| nodes.report(2, ending.id));
    nodes.crash(2);
    nodes.pass(2_000);
    let told: Vec<_> = [0, 1].into_iter().flat_map(|n| nodes.claim(n, 99)).collect();
    assert!(lost.iter().all(|ending| told.contains(ending)));
    assert!(reported.iter().all(|ending| !told.contains(ending)));
}

#[test]
fn evicted_visitors_are_forgotten_once_reported() {
    let visitors = Budget { records: 20, bytes: 1 << 30 };
    let budgets = Budgets { visitors, ..Budgets::default() };
    let mut nodes = keeping(Nodes::of(3, (budgets, Rules::default())));
    (0..150).for_each(|n| _ = nodes.create(n as usize % 3, n));
    nodes.pass(1_000);
    let told = nodes.claim_all();
    let live: Vec<_> = (0..150).map(id).filter(|id| nodes.try_count(0, *id).is_some()).collect();
    assert!(told.values().all(|ending| ending.reason == EndReason::Evicted));
    assert!(live.iter().all(|id| !told.contains_key(id)));
    assert_eq!(told.len(), 150 - live.len());
    assert!(told.keys().all(|id| nodes.holds(*id)), "it is not reported");
    told.keys().for_each(|id| nodes.report(1, *id));
    nodes.pass(3_000);
    assert!(told.keys().all(|id| !nodes.holds(*id)), "a flood leaves nothing");
}

#[test]
fn endings_above_a_bound_are_not_kept() {
    let mut nodes = keeping(Nodes::new(1));
    let revision = Revision { epoch: 1, number: 1 };
    let end = Unreported { principal: None, at: Timestamp::UNIX_EPOCH };
    let replicas = nodes.engines.get_mut(&boot(0)).unwrap().tenant.as_mut().unwrap().replicas_mut();
    for n in 0..99_999 {
        let kept = Kept::Ended(Tombstone {
            stamp: Stamp::ZERO,
            until: Timestamp::MAX,
            reason: EndReason::Expired,
            unreported: Some(Box::new(end.clone())),
        });
        let confirmed = Some(Entry { revision, kept, done: Vec::new() });
        replicas.put(id(n), Held { confirmed, ..Held::default() });
    }
    let late = [100_000, 100_001].map(|n| nodes.create_until(0, n, 600));
    nodes.wait_until(601);
    let told = nodes.claim(0, usize::MAX);
    let kept = told.iter().filter(|ending| late.contains(&ending.id)).count();
    assert_eq!((told.len(), kept), (100_000, 1));
    assert!(late.iter().all(|id| nodes.try_count(0, *id).is_none()), "both have ended");
}

#[test]
fn unreported_endings_are_forgotten_after_a_day() {
    let mut nodes = keeping(Nodes::new(3));
    let id = nodes.create_until(0, 1, 600);
    nodes.wait_until(601);
    assert!(nodes.claim_all().into_keys().eq([id]));
    nodes.pass_by_the_clock(Duration::from_secs(24 * 3_600));
    nodes.pass(9_000);
    assert!(nodes.claim_all().is_empty() && !nodes.holds(id));
}

fn keeping(mut nodes: Nodes) -> Nodes {
    nodes.boots().into_iter().for_each(|boot| nodes.step(boot, |engine, _| engine.keep_endings()));
    nodes
}

fn seconds(seconds: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
}

impl Nodes {
    /// Moves the clocks, and lets what is due then end.
    fn wait_until(&mut self, at: u64) {
        self.now.wall = seconds(at);
        self.pass(200);
        for boot in self.boots() {
            self.step(boot, |engine, now| _ = engine.collect(now));
        }
        self.pass(200);
    }

    fn pass_by_the_clock(&mut self, by: Duration) {
        self.now.wall = self.now.wall + by;
        self.pass(200);
    }

    fn claim(&mut self, n: usize, limit: usize) -> Vec<Ending> {
        let (me, mut claimed) = (self.boot(n), Vec::new());
        self.step(me, |engine, now| claimed = engine.claim_endings(now, limit));
        claimed
    }

    /// Claims everything. Two nodes claim no ending both.
    fn claim_all(&mut self) -> BTreeMap<RecordId, Ending> {
        let mut told = BTreeMap::new();
        for boot in self.boots() {
            let mut claimed = Vec::new();
            self.step(boot, |engine, now| claimed = engine.claim_endings(now, 1_000));
            for ending in claimed {
                assert!(told.insert(ending.id, ending).is_none(), "one node tells of it");
            }
        }
        told
    }

    fn report(&mut self, n: usize, id: RecordId) {
        let reply = self.call(self.boot(n), Request::MarkReported { id });
        assert!(matches!(reply, Reply::Done), "{reply:?}");
    }
}
