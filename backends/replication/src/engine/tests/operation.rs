//! Descriptions for operators, and their calls.

use std::collections::BTreeMap;

use steadfast_core::Budget;

use super::*;
use crate::budget::Class;
use crate::description::Suspected;
use crate::membership::{self, End, Problem};

#[test]
fn a_flood_of_visitors_spares_users() {
    let mut nodes = within(30, 1_000);
    let users: Vec<_> = (0..10).map(|n| nodes.sign_in(n as usize % 3, n, 99, None).0).collect();
    for n in 100..300 {
        nodes.create(n as usize % 3, n);
        nodes.engines.values().for_each(|engine| assert!(visitors(engine) <= 40));
    }
    nodes.pass(1_000);
    nodes.engines.values().for_each(|engine| assert!(visitors(engine) <= 30));
    assert!(users.iter().all(|id| nodes.count(1, *id) == 1));
    assert_eq!(nodes.listed(0), users);
}

#[test]
fn evicted_sessions_leave_nothing_behind() {
    let mut nodes = within(20, 1_000);
    (0..150).for_each(|n| _ = nodes.create(n as usize % 3, n));
    nodes.pass(9_000);
    let live: Vec<_> = (0..150).map(id).filter(|id| nodes.holds(*id)).collect();
    assert!((20..40).contains(&live.len()), "{}", live.len());
    nodes.assert_equal_copies(2 * live.len());
    let ended = nodes.effects.iter().filter(|(_, effect)| matches!(effect, Effect::Evicted(_)));
    assert_eq!(ended.count(), 150 - live.len());
    let told = |change: &&Change| matches!(change, Change::Ended(_, EndReason::Evicted));
    nodes.step(boot(0), |engine, now| _ = engine.listen(now));
    nodes.pass(100);
    (200..260).for_each(|n| _ = nodes.create(n as usize % 3, n));
    assert!(nodes.changes.iter().filter(told).count() > 40);
}

#[test]
fn a_budget_ends_sessions_for_all_holders() {
    let differ = |rules| {
        let mut nodes = Nodes::of(3, (budgets(20, 1_000), rules));
        (0..100).for_each(|n| _ = nodes.create(n as usize % 3, n));
        nodes.pass(5_000);
        nodes.copies().values().any(|copies| copies.len() != 2)
    };
    assert!(!differ(Rules::default()));
    assert!(differ(Rules::without(Rule::B1)));
}

#[test]
fn the_session_of_a_user_ends_for_good() {
    let mut nodes = within(1_000, 10);
    let ids: Vec<_> = (0..40).map(|n| nodes.sign_in(n as usize % 3, n, 99, None).0).collect();
    nodes.pass(2_000);
    let live: Vec<_> = ids.iter().copied().filter(|id| nodes.try_count(0, *id).is_some()).collect();
    assert!(live.len() < 25, "{}", live.len());
    assert_eq!(nodes.listed(1), live, "the list knows");
    assert!(ids.iter().all(|id| nodes.holds(*id)), "an end is remembered");
}

#[test]
fn copies_for_others_count_by_bytes() {
    let visitors = Budget { records: 1_000, bytes: 200 << 10 };
    let mut nodes = Nodes::of(3, (Budgets { visitors, ..Budgets::default() }, Rules::default()));
    for n in 0..150 {
        let mut record = record(n);
        let text = format!("\"{}\"", "x".repeat(4_000));
        record.values = [("n", &b"1"[..]), ("text", text.as_bytes())].into_iter().collect();
        let (id, policy) = (id(n), LoginPolicy::default());
        nodes.call(boot(0), Request::Create { id, record: Box::new(record), policy });
        for engine in nodes.engines.values() {
            assert!(engine.stats().bytes < 230 << 10, "{:?}", engine.stats());
        }
    }
    let least = nodes.engines.values().map(|engine| engine.stats().bytes).min().unwrap();
    assert!(least > 150 << 10, "{least}");
}

#[test]
fn a_drain_says_what_moved() {
    let mut nodes = Nodes::new(3);
    (0..30).for_each(|n| _ = nodes.create(n as usize % 3, n));
    let held = nodes.engines[&boot(2)].stats().records;
    nodes.drain(2);
    assert_eq!(nodes.drained(), [(held, 0)]);
    nodes.pass(1_000);
    assert_eq!(nodes.drained(), [], "it is said once");
    nodes.drain(2);
    assert_eq!(nodes.drained(), [(held, 0)], "and again when it is asked");
    assert_eq!(nodes.engines[&boot(2)].stats().records, 0);
}

#[test]
fn a_node_that_leaves_says_what_moved() {
    let mut nodes = Nodes::new(2);
    (0..9).for_each(|n| _ = nodes.create(n as usize % 2, n));
    nodes.pass(100);
    nodes.step(boot(1), |engine, now| engine.drain(now, Drain::Leave));
    nodes.pass(5_000);
    assert_eq!(nodes.drained(), [(9, 0)]);
    let has_left = |(_, effect): &(_, Effect)| {
        matches!(effect, Effect::Cluster(membership::Effect::Ended(End::Left)))
    };
    assert!(nodes.effects.iter().any(has_left));
}

#[test]
fn the_last_node_says_what_is_lost() {
    let mut nodes = Nodes::new(1);
    (0..9).for_each(|n| _ = nodes.create(0, n));
    nodes.drain(0);
    assert_eq!(nodes.drained(), [(0, 9)]);
}

#[test]
fn expired_sessions_are_collected_now() {
    let mut nodes = Nodes::new(3);
    (0..30).for_each(|n| _ = nodes.create_until(n as usize % 3, n, 600));
    nodes.pass(2_000);
    nodes.now.wall = nodes.now.wall + Duration::from_secs(601);
    nodes.pass(50);
    let mut due = 0;
    for boot in nodes.boots() {
        nodes.step(boot, |engine, now| due += engine.collect(now));
    }
    nodes.pass(200);
    let expired = nodes.effects.iter().filter(|(_, effect)| matches!(effect, Effect::Expired(_)));
    assert_eq!(expired.count(), 30);
    assert!(due > 20, "few ended by themselves before: {due}");
    assert!(nodes.engines.values().all(|engine| engine.stats().records == 0));
}

#[test]
fn sessions_expire_while_nothing_is_asked() {
    let mut nodes = Nodes::new(3);
    (0..30).for_each(|n| _ = nodes.create_until(n as usize % 3, n, 600));
    nodes.now.wall = nodes.now.wall + Duration::from_secs(601);
    nodes.pass(9_000);
    assert!(nodes.engines.values().all(|engine| engine.stats().records == 0));
}

#[test]
fn a_scan_pages_through_a_nodes_copies() {
    let mut nodes = Nodes::new(1);
    let ids: Vec<_> = (0..25).map(|n| nodes.create(0, n)).collect();
    nodes.sign_in(0, 25, 9, None);
    let engine = &nodes.engines[&boot(0)];
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let scan = engine.scan(after, 10);
        found.extend(scan.records.iter().map(|scanned| scanned.id));
        pages += 1;
        after = scan.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((pages, &found[..25], found.len()), (3, &ids[..], 26));
    let stats = engine.stats();
    assert_eq!((stats.records, stats.authenticated), (26, 1));
}

#[test]
fn one_node_owns_each_new_session() {
    let nodes = Nodes::new(3);
    let owners = |n| nodes.engines.values().filter(|e| e.would_own(id(n))).count();
    assert!((0..50).all(|n| owners(n) == 1));
}

#[test]
fn a_write_says_when_fewer_nodes_hold_it() {
    let mut nodes = Nodes::new(3);
    let degraded = |nodes: &mut Nodes, n| {
        let (id, policy) = (id(n), LoginPolicy::default());
        let request = Request::Create { id, record: Box::new(record(n)), policy };
        match nodes.call(boot(0), request) {
            Reply::Outcome(Outcome::Applied(applied)) => applied.degraded,
            reply => panic!("{reply:?}"),
        }
    };
    assert!((0..9).all(|n| !degraded(&mut nodes, n)));
    let mut alone = Nodes::new(1);
    assert!(degraded(&mut alone, 1));
    assert_eq!(alone.figures(0).counts.calls.degraded, 1);
    assert!(alone.figures(0).health.is_degraded);
}

#[test]
fn nodes_agree_once_their_slots_are_complete() {
    let nodes = Nodes::new(3);
    for engine in nodes.engines.values() {
        let agreement = engine.agreement(nodes.now);
        assert!((agreement.full_members, agreement.is_settled) == (3, true));
    }
}

#[test]
fn a_node_is_ready_while_it_has_leases() {
    let mut nodes = Nodes::new(3);
    nodes.pass(9_000);
    assert!(!nodes.is_ready(0), "at rest it has no lease");
    nodes.pass(50);
    assert!(nodes.is_ready(0), "the question asked for one");
    nodes.cut_off(boot(0));
    nodes.pass(1_000);
    nodes.is_ready(0);
    nodes.pass(5_500);
    assert!(!nodes.is_ready(0));
    assert!(matches!(nodes.problem(0), Some(Problem::NoMajority { .. } | Problem::NoLease)));
}

#[test]
fn a_wrong_clock_makes_a_node_unready() {
    let mut nodes = Nodes::new(3);
    nodes.ahead.insert(boot(1), Duration::from_secs(3));
    for _ in 0..7 {
        nodes.is_ready(1);
        nodes.pass(1_000);
    }
    assert!(!nodes.is_ready(1));
    let millis = match nodes.problem(1) {
        Some(Problem::Clock { millis }) => millis,
        problem => panic!("{problem:?}"),
    };
    assert!((1_001..=3_000).contains(&millis), "{millis}");
    nodes.is_ready(0);
    nodes.pass(50);
    assert!(nodes.is_ready(0), "{:?}", nodes.problem(0));
}

#[test]
fn figures_say_how_a_node_is() {
    let mut nodes = Nodes::new(3);
    (0..30).for_each(|n| _ = nodes.create(n as usize % 3, n));
    nodes.pass(1_000);
    let figures = [0, 1, 2].map(|n| nodes.figures(n));
    let members = figures[0].members.unwrap();
    assert_eq!((members.full, members.voters, members.aside), (3, 3, 0));
    let sum = |of: fn(&crate::figures::Figures) -> usize| figures.iter().map(of).sum::<usize>();
    assert_eq!(sum(|f| f.slots.served), crate::slots::SLOTS);
    assert_eq!(sum(|f| f.slots.waiting + f.slots.filling + f.slots.given_up), 0);
    assert_eq!((sum(|f| f.copies.owned), sum(|f| f.copies.backups)), (30, 30));
    assert_eq!(sum(|f| f.health.under_replicated + f.health.unsynced), 0);
    assert_eq!(sum(|f| f.counts.calls.asked as usize), 30);
    assert!((5..30).contains(&sum(|f| f.counts.calls.forwarded as usize)));
    assert_eq!(sum(|f| f.held.of(Class::Visitors).records as usize), 60);
}

#[test]
fn a_crash_shows_in_figures_and_descriptions() {
    let mut nodes = Nodes::new(3);
    (0..30).for_each(|n| _ = nodes.create(n as usize % 3, n));
    let boot = boot(2);
    nodes.engines.remove(&boot);
    for other in nodes.boots() {
        nodes.step(other, |engine, now| engine.disconnected(now, boot, true));
    }
    let described = nodes.engines[&nodes.boot(0)].describe(nodes.now);
    let member = described.cluster.unwrap().members.into_iter().find(|m| m.boot == boot).unwrap();
    let reach = member.reach.unwrap();
    assert_eq!((reach.is_linked, reach.suspected), (false, Some(Suspected::Refused)));
    nodes.pass(2_000);
    let figures = [0, 1].map(|n| nodes.figures(n));
    assert_eq!(figures[0].members.unwrap().aside, 1);
    let taken_over: u64 = figures.iter().map(|f| f.counts.records.taken_over).sum();
    assert!(taken_over > 3 && taken_over < 20, "{taken_over}");
}

#[test]
fn a_description_names_all_members() {
    let mut nodes = Nodes::new(3);
    nodes.create(0, 1);
    let description = nodes.engines[&boot(1)].describe(nodes.now);
    assert_eq!((description.name.as_str(), description.boot), ("n1", boot(1)));
    let cluster = description.cluster.unwrap();
    let names: Vec<_> = cluster.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["n0", "n1", "n2"]);
    assert!(cluster.members[1].reach.is_none(), "it is the one that describes");
    assert!(cluster.members[0].reach.as_ref().unwrap().is_linked);
    assert_eq!(cluster.members[0].clock_offset_millis, Some(0));
    let seeking = Nodes::of(0, Default::default()).start_alone();
    assert!(seeking.problem.unwrap().contains("others"));
}

fn within(visitors: u64, users: u64) -> Nodes {
    Nodes::of(3, (budgets(visitors, users), Rules::default()))
}

fn budgets(visitors: u64, users: u64) -> Budgets {
    let of = |records| Budget { records, bytes: 1 << 30 };
    Budgets { visitors: of(visitors), users: of(users) }
}

fn visitors(engine: &Engine) -> u64 {
    let stats = engine.stats();
    stats.records - stats.authenticated
}

impl Nodes {
    /// The confirmed sessions and their ends on all nodes.
    fn copies(&self) -> BTreeMap<RecordId, Vec<crate::record::Revision>> {
        let mut copies = BTreeMap::<RecordId, Vec<_>>::new();
        for engine in self.engines.values() {
            for (id, held) in engine.tenant().unwrap().replicas().iter() {
                copies.entry(id).or_default().extend(held.confirmed.as_ref().map(|e| e.revision));
            }
        }
        copies
    }

    fn assert_equal_copies(&self, count: usize) {
        let copies = self.copies();
        assert!(copies.values().all(|copies| copies.iter().all(|one| *one == copies[0])));
        assert_eq!(copies.values().map(Vec::len).sum::<usize>(), count);
    }

    /// Returns the results of drains since the last call.
    fn drained(&mut self) -> Vec<(u64, u64)> {
        let (drained, others) = std::mem::take(&mut self.effects)
            .into_iter()
            .partition(|(_, effect)| matches!(effect, Effect::Drained { .. }));
        self.effects = others;
        let drained: Vec<(Boot, Effect)> = drained;
        let figures = |(_, effect): &(_, Effect)| match effect {
            Effect::Drained { moved, lost } => Some((*moved, *lost)),
            _ => None,
        };
        drained.iter().filter_map(figures).collect()
    }

    fn is_ready(&mut self, node: usize) -> bool {
        let (me, mut is_ready) = (self.boot(node), false);
        self.step(me, |engine, now| is_ready = engine.is_ready(now));
        is_ready
    }

    fn problem(&self, node: usize) -> Option<Problem> {
        let me = self.boot(node);
        self.engines[&me].problem(self.now_of(me))
    }

    fn figures(&self, node: usize) -> crate::figures::Figures {
        let me = self.boot(node);
        self.engines[&me].figures(self.now_of(me))
    }

    fn now_of(&self, me: Boot) -> Now {
        let ahead = self.ahead.get(&me).copied().unwrap_or_default();
        Now { wall: self.now.wall + ahead, ..self.now }
    }

    /// A node loses its links, though its process lives.
    fn cut_off(&mut self, boot: Boot) {
        for other in self.boots().into_iter().filter(|other| *other != boot) {
            self.step(boot, |engine, now| engine.disconnected(now, other, false));
            self.step(other, |engine, now| engine.disconnected(now, boot, false));
        }
    }

    /// Returns the description of a node that finds no others.
    fn start_alone(mut self) -> crate::description::Description {
        self.start(joining(0), "n0");
        self.engines[&boot(0)].describe(self.now)
    }
}
