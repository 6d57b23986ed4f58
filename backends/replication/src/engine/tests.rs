//! Several whole nodes, over links that lose nothing.

mod caps;
mod endings;
mod operation;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use steadfast_core::{
    Authentication, Change, EndReason, KeyId, Limits, LoginPolicy, Lookup, Outcome, Patch,
    Principal, RawJson, Realm, Record, RecordId, Rejection, Revocation, Rotation, SecretHash,
    Timestamp,
};

use super::{Effect, Engine, Packet};
use crate::budget::Budgets;
use crate::call::{Failure, Reply, Request};
use crate::cluster::Timing;
use crate::context::Now;
use crate::epoch::tests::{SETTINGS, boot, joining};
use crate::member::{Boot, Member, Role};
use crate::membership::{Discovery, Drain, Identity, Membership};
use crate::record::{Entry, Held, Kept, List, ListEntry, Revision, Stamp};
use crate::rules::{Rule, Rules};
use crate::slots::Slot;

#[test]
fn one_node_founds_a_service() {
    let mut nodes = Nodes::new(1);
    let id = nodes.create(0, 1);
    assert_eq!(nodes.count(0, id), 1);
}

#[test]
fn nodes_become_one_service() {
    let nodes = Nodes::new(3);
    let epoch = nodes.engines[&boot(0)].membership().epoch().unwrap();
    assert_eq!(epoch.members().iter().filter(|member| member.role == Role::Full).count(), 3);
    for engine in nodes.engines.values() {
        assert_eq!(engine.membership().epoch().unwrap().id(), epoch.id());
    }
}

#[test]
fn every_node_answers_for_every_session() {
    let mut nodes = Nodes::new(3);
    let ids: Vec<_> = (0..12).map(|n| nodes.create(n as usize % 3, n)).collect();
    for (n, id) in ids.iter().enumerate() {
        nodes.add(n % 3, *id);
    }
    for node in 0..3 {
        assert!(ids.iter().all(|id| nodes.count(node, *id) == 2));
    }
}

#[test]
fn a_crash_loses_nothing_and_delays_little() {
    let mut nodes = Nodes::new(3);
    let ids: Vec<_> = (0..30).map(|n| nodes.create(n as usize % 3, n)).collect();
    nodes.crash(2);
    let start = nodes.now.mono;
    assert!(ids.iter().all(|id| nodes.add(0, *id) == 2));
    assert!(nodes.now.mono - start < Duration::from_millis(1_000), "{:?}", nodes.now.mono - start);
    assert!(ids.iter().all(|id| nodes.count(1, *id) == 2));
}

#[test]
fn nodes_that_drain_and_restart_lose_nothing() {
    let mut nodes = Nodes::new(3);
    let ids: Vec<_> = (0..30).map(|n| nodes.create(n as usize % 3, n)).collect();
    for n in 0..3 {
        nodes.drain(n);
        nodes.crash(n);
        nodes.start(joining(n + 20 * (n + 1)), &format!("n{n}"));
        nodes.pass(3_000);
    }
    assert!(ids.iter().all(|id| nodes.count_anywhere(*id) == 1));
}

#[test]
fn outcomes_of_calls_are_forgotten_at_rest() {
    let mut nodes = Nodes::new(3);
    let ids: Vec<_> = (0..6).map(|n| nodes.create(n as usize % 3, n)).collect();
    for id in &ids {
        nodes.add(1, *id);
    }
    assert!(nodes.remembered() > 0);
    nodes.pass(9_000);
    assert_eq!(nodes.remembered(), 0);
}

#[test]
fn ended_sessions_are_forgotten_in_time() {
    let mut nodes = Nodes::new(3);
    let (id, _) = nodes.sign_in(0, 1, 10, None);
    let reply = nodes.end_all(1, None, None);
    assert!(matches!(reply, Reply::Count(1)), "{reply:?}");
    nodes.pass(9_000);
    assert!(nodes.holds(id));
    nodes.now.wall = nodes.now.wall + Duration::from_secs(24 * 3_600);
    nodes.pass(9_000);
    let held: usize = nodes
        .engines
        .values()
        .map(|engine| engine.tenant().unwrap().replicas().iter().count())
        .sum();
    assert_eq!(held, 0);
}

#[test]
fn one_wrong_clock_ends_no_session() {
    let lives = |rules| {
        let mut nodes = Nodes::with(3, rules);
        let ids: Vec<_> = (0..9).map(|n| nodes.create_until(n as usize % 3, n, 600)).collect();
        nodes.ahead.insert(boot(1), Duration::from_secs(7_200));
        nodes.pass(9_000);
        let mut lives = |id: &RecordId| nodes.try_count(0, *id).is_some();
        ids.iter().filter(|id| lives(id)).count()
    };
    assert_eq!(lives(Rules::default()), 9);
    assert!(lives(Rules::without(Rule::K1)) < 9);
}

#[test]
fn sessions_end_once_the_service_is_late() {
    let mut nodes = Nodes::new(3);
    let id = nodes.create_until(0, 1, 600);
    nodes.now.wall = nodes.now.wall + Duration::from_secs(601);
    nodes.pass(9_000);
    assert_eq!(nodes.try_count(2, id), None);
}

#[test]
fn the_next_call_sees_all_clocks_move() {
    let mut nodes = Nodes::new(3);
    let id = nodes.create_until(0, 1, 600);
    for node in 0..3 {
        assert!(nodes.try_count(node, id).is_some());
    }
    nodes.now.wall = nodes.now.wall + Duration::from_secs(601);
    for node in 0..3 {
        assert_eq!(nodes.try_count(node, id), None);
    }
}

#[test]
fn abandoned_calls_are_not_sent_again() {
    let mut nodes = Nodes::new(3);
    let id = nodes.create(0, 1);
    let owner = nodes.owner(id);
    let caller = boot((owner + 1) % 3);
    nodes.mute.insert(caller);
    nodes.pass(2_000);
    let mut number = 0;
    let (request, within) = (added(id), Duration::from_millis(500));
    nodes.step(caller, |engine, now| number = engine.call(now, request, within));
    let reply = nodes.wait(caller, number);
    assert!(matches!(reply, Reply::Failed(Failure::Timeout)), "{reply:?}");
    nodes.mute.clear();
    nodes.pass(3_000);
    assert_eq!(nodes.count(owner, id), 1, "as created");
}

#[test]
fn unconfirmed_writes_never_replace_later_ones() {
    for (at_owner, is_cut) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut nodes = Nodes::new(3);
        let id = nodes.create(0, 1);
        let owner = nodes.owner(id);
        let [lost, other] = [boot(owner), boot((owner + 1) % 3)];
        nodes.put(other, id, 1);
        nodes.mute.insert(lost);
        let caller = if at_owner { lost } else { other };
        let (mut number, within) = (0, Duration::from_millis(500));
        nodes.step(caller, |engine, now| number = engine.call(now, put(id, 2), within));
        nodes.pass(1_500);
        if is_cut {
            nodes.cut(lost);
        }
        nodes.pass(2_000);
        (3..6).for_each(|value| nodes.put(other, id, value));
        nodes.mute.clear();
        if is_cut {
            nodes.join(lost);
        }
        nodes.pass(5_000);
        for node in 0..3 {
            let value = nodes.value(boot(node), id);
            assert_eq!(value.as_deref(), Some("5"), "{at_owner} {is_cut} at {node}");
        }
    }
}

#[test]
fn listeners_hear_of_changes_everywhere() {
    let mut nodes = Nodes::new(3);
    nodes.step(boot(2), |engine, now| _ = engine.listen(now));
    nodes.pass(100);
    assert_eq!(std::mem::take(&mut nodes.changes), [Change::Missed]);
    let ids: Vec<_> = (0..9).map(|n| nodes.create(n as usize % 3, n)).collect();
    nodes.pass(100);
    let heard = |change: &Change| matches!(change, Change::Patched(..));
    assert_eq!(nodes.changes.iter().filter(|change| heard(change)).count(), 9);
    nodes.changes.clear();
    nodes.crash(1);
    nodes.pass(3_000);
    assert_eq!(nodes.changes.first(), Some(&Change::Down));
    assert_eq!(nodes.changes.last(), Some(&Change::Missed));
    nodes.add(0, ids[0]);
    nodes.pass(100);
    assert!(nodes.changes.last().is_some_and(heard));
}

#[test]
fn slots_without_holders_are_given_up() {
    let mut nodes = Nodes::new(3);
    let ids: Vec<_> = (0..30).map(|n| nodes.create(n as usize % 3, n)).collect();
    for n in [1, 2] {
        nodes.crash(n);
        nodes.start(joining(n + 20), &format!("n{n}"));
    }
    nodes.pass(5_000);
    let lives =
        |nodes: &mut Nodes| ids.iter().filter(|id| nodes.try_count(0, **id).is_some()).count();
    let left = lives(&mut nodes);
    assert!(left > 5 && left < 30, "the copies of n0 are there: {left}");
    nodes.pass(1_000);
    assert_eq!(lives(&mut nodes), left);
}

#[test]
fn slots_of_dead_machines_are_served_again() {
    let mut nodes = Nodes::new(5);
    let ids: Vec<_> = (0..40).map(|n| nodes.create(n as usize % 5, n)).collect();
    [1, 2].into_iter().for_each(|n| nodes.crash(n));
    nodes.pass(64_000);
    let left = ids.iter().filter(|id| nodes.try_count(0, **id).is_some()).count();
    assert!(left > 20 && left < 40, "every call is answered: {left}");
}

#[test]
fn a_node_that_leaves_ends() {
    let mut nodes = Nodes::new(3);
    let ids: Vec<_> = (0..9).map(|n| nodes.create(n as usize % 3, n)).collect();
    let leaver = nodes.boot(2);
    nodes.step(leaver, |engine, now| engine.drain(now, Drain::Leave));
    nodes.pass(5_000);
    assert_eq!(nodes.engines[&boot(0)].membership().epoch().unwrap().members().len(), 2);
    nodes.crash(2);
    assert!(ids.iter().all(|id| nodes.count(0, *id) == 1));
}

#[test]
fn a_node_that_never_returns_is_forgotten() {
    let members = |rules, hours: u64| {
        let mut nodes = Nodes::with(3, rules);
        let id = nodes.create(0, 1);
        nodes.crash(2);
        nodes.pass(3_000);
        nodes.now.mono += Duration::from_secs(hours * 3_600);
        nodes.pass(3_000);
        assert_eq!(nodes.count(1, id), 1);
        nodes.engines[&boot(0)].membership().epoch().unwrap().members().len()
    };
    assert_eq!(members(Rules::default(), 23), 3);
    assert_eq!(members(Rules::default(), 24), 2);
    assert_eq!(members(Rules::without(Rule::E3), 24), 3);
}

#[test]
fn a_list_is_rebuilt_after_a_loss() {
    let listed = |rules| {
        let mut nodes = Nodes::with(3, rules);
        // Both holders of the list are lost, and n0 has copies of some of the sessions.
        let list = nodes.list_slot();
        let ids: Vec<_> = (0..30).map(|n| nodes.sign_in(n as usize % 3, n, 100, None).0).collect();
        let holders = nodes.engines[&boot(0)].tenant().unwrap().view().holders(list).to_vec();
        let left = (0..3).find(|n| !holders.contains(&boot(*n))).unwrap();
        for n in (0..3).filter(|n| *n != left) {
            nodes.crash(n);
            nodes.start(joining(n + 20), &format!("n{n}"));
        }
        nodes.pass(8_000);
        let live: Vec<_> = ids.iter().filter(|id| nodes.is_live(left, **id)).copied().collect();
        assert!(!live.is_empty() && live.len() < ids.len(), "{live:?}");
        (live, nodes.listed(left))
    };
    let (live, listed_then) = listed(Rules::default());
    assert_eq!(listed_then, live);
    let (_, listed_then) = listed(Rules::without(Rule::Q2));
    assert!(listed_then.is_empty());
}

#[test]
fn the_cap_holds_on_a_rebuilt_list() {
    let mut nodes = Nodes::new(3);
    let ids: Vec<_> = (0..30).map(|n| nodes.sign_in(n as usize % 3, n, 100, None).0).collect();
    for n in [1, 2] {
        nodes.crash(n);
        nodes.start(joining(n + 20), &format!("n{n}"));
    }
    nodes.pass(8_000);
    let live = ids.iter().filter(|id| nodes.is_live(0, **id)).count();
    let (_, ended) = nodes.sign_in(1, 99, live, None);
    assert_eq!(ended.len(), 1);
    let reply = nodes.end_all(2, None, None);
    assert!(matches!(reply, Reply::Count(count) if count as usize == live), "{reply:?}");
}

#[test]
fn a_service_at_rest_is_silent() {
    let mut nodes = Nodes::new(3);
    let id = nodes.create(0, 1);
    assert_eq!(nodes.count(1, id), 1);
    nodes.pass(5_000);
    nodes.sent.clear();
    nodes.pass(5_000);
    assert!(nodes.sent.is_empty());
}

#[test]
fn sessions_of_a_principal_are_listed_and_ended() {
    let mut nodes = Nodes::new(3);
    let ids: Vec<_> = (0..5).map(|n| nodes.sign_in(n as usize % 3, n, 10, None).0).collect();
    assert_eq!(nodes.listed(1), ids);
    let reply = nodes.end_all(2, Some(ids[0]), None);
    assert!(matches!(reply, Reply::Count(4)), "{reply:?}");
    assert_eq!(nodes.listed(0), ids[..1]);
}

#[test]
fn the_oldest_session_ends_at_the_cap() {
    let mut nodes = Nodes::new(3);
    let ids: Vec<_> = (0..5).map(|n| nodes.sign_in(n as usize % 3, n, 3, None)).collect();
    let ended: Vec<_> = ids.iter().flat_map(|(_, ended)| ended.clone()).collect();
    assert_eq!(ended, [ids[0].0, ids[1].0]);
    assert_eq!(nodes.listed(1), ids[2..].iter().map(|(id, _)| *id).collect::<Vec<_>>());
}

#[test]
fn sessions_are_listed_under_their_last_principal() {
    let mut nodes = Nodes::new(3);
    nodes.sign_in(0, 1, 10, None);
    let login = login(1, principal("bob"), LoginPolicy::default());
    let reply = nodes.call(nodes.boot(1), login);
    assert!(matches!(reply, Reply::Outcome(Outcome::Applied(_))), "{reply:?}");
    nodes.pass(1_000);
    let lists = nodes.engines.values().flat_map(|engine| {
        let records = engine.tenant().unwrap().replicas().iter();
        records.filter_map(|(_, held)| held.confirmed.as_ref()?.kept.list().map(List::len))
    });
    assert_eq!(lists.sum::<usize>(), 2, "on the two holders of one list");
}

#[test]
fn a_login_below_the_floor_is_rejected() {
    let mut nodes = Nodes::new(3);
    nodes.sign_in(0, 1, 10, Some(1));
    let reply = nodes.end_all(1, None, Some(2));
    assert!(matches!(reply, Reply::Count(1)), "{reply:?}");
    let reply = nodes.try_sign_in(2, 2, 10, Some(1));
    let rejected = Outcome::Rejected(Rejection::StaleEpoch);
    assert!(
        matches!(&reply, Reply::Outcome(outcome) if format!("{outcome:?}") == format!("{rejected:?}"))
    );
    nodes.sign_in(2, 3, 10, Some(2));
    assert_eq!(nodes.listed(0).len(), 1);
}

#[test]
fn parallel_logins_do_not_deadlock() {
    let mut nodes = Nodes::new(3);
    let ids: Vec<_> = (0..3).map(|n| nodes.sign_in(n as usize % 3, n, 1, None).0).collect();
    let numbers: Vec<_> = (10..14).map(|n| nodes.begin_sign_in(n as usize % 3, n, 1)).collect();
    nodes.pass(3_000);
    for (node, number) in numbers {
        let reply = nodes.answers.remove(&(node, number));
        assert!(matches!(reply, Some(Reply::Outcome(Outcome::Applied(_)))), "{reply:?}");
    }
    assert_eq!(nodes.listed(0).len(), 1, "{ids:?}");
}

#[test]
fn lists_survive_a_crash() {
    let mut nodes = Nodes::new(3);
    let ids: Vec<_> = (0..9).map(|n| nodes.sign_in(n as usize % 3, n, 10, None).0).collect();
    nodes.crash(1);
    assert_eq!(nodes.listed(0), ids);
    let (id, ended) = nodes.sign_in(2, 20, 10, None);
    assert!(ended.is_empty());
    let (_, ended) = nodes.sign_in(2, 21, 10, None);
    assert_eq!(ended, [ids[0]], "{id:?}");
}

#[test]
fn a_repeated_login_names_the_same_evictions() {
    let named = |rules| {
        let mut nodes = Nodes::with(3, rules);
        let [first, second, caller] = nodes.spread();
        let oldest = nodes.owned_by(&[second, caller], 1);
        nodes.sign_in(0, oldest, 1, None);
        nodes.pass(200);
        let login = nodes.owned_by(&[first], oldest + 1);
        let (me, number) = nodes.begin_sign_in(caller, login, 1);
        nodes.hop_until(|nodes| nodes.has_left_the_list(id(oldest)));
        nodes.crash(first);
        let reply = nodes.wait(me, number);
        let Reply::Outcome(Outcome::Applied(applied)) = reply else { panic!("{reply:?}") };
        applied.ended.contains(&id(oldest))
    };
    assert!(named(Rules::default()));
    assert!(!named(Rules::without(Rule::Q3)));
}

#[test]
fn a_high_cap_adds_little_cost() {
    let mut nodes = Nodes::new(3);
    let first: Vec<_> = (0..991).map(|n| nodes.begin_sign_in(n as usize % 3, n, 1_000)).collect();
    nodes.pass(5_000);
    assert!(first.iter().all(|call| nodes.answers.contains_key(call)));
    let mut packets = |logins: std::ops::Range<u64>, ends: usize| {
        nodes.sent.clear();
        for n in logins {
            let (_, ended) = nodes.sign_in(n as usize % 3, n, 1_000, None);
            assert_eq!(ended.len(), ends);
            nodes.pass(100);
        }
        nodes.sent.len()
    };
    let (below, at) = (packets(991..1_000, 0), packets(1_000..1_009, 1));
    assert!(at <= 2 * below, "{at} packets at the cap, {below} below it");
    nodes.sent.clear();
    assert_eq!(nodes.listed(1).len(), 1_000);
    assert!(nodes.sent.len() < 60, "{} packets list 1,000 sessions", nodes.sent.len());
    nodes.sent.clear();
    let reply = nodes.end_all(0, None, None);
    assert!(matches!(reply, Reply::Count(1_000)), "{reply:?}");
    assert!(nodes.sent.len() < 400, "{} packets end 1,000 sessions", nodes.sent.len());
}

#[test]
fn a_long_list_is_sent_in_parts() {
    let mut nodes = Nodes::new(3);
    nodes.put_list(20_000);
    let lost = (0..3).find(|n| nodes.list_of(*n).is_some() && nodes.owner(alices(&nodes)) != *n);
    nodes.sent.clear();
    nodes.crash(lost.unwrap());
    nodes.pass(2_000);
    let lengths = |nodes: &Nodes| -> Vec<_> {
        nodes.engines.values().filter_map(list_of).map(List::len).collect()
    };
    assert_eq!(lengths(&nodes), [20_000, 20_000]);
    let left = nodes.boots()[0];
    let n = (0..3).find(|n| Some(*n) != lost && nodes.boot(*n) == left).unwrap();
    nodes.sign_in(n, 1, 20_000, None);
    nodes.pass(200);
    assert_eq!(lengths(&nodes), [20_000, 20_000]);
    let largest = nodes.sent.iter().max();
    assert!(largest < Some(&(128 << 10)), "{largest:?}");
}

// Ten fields: what the nodes told is kept by kind.
struct Nodes {
    engines: BTreeMap<Boot, Engine>,
    packets: VecDeque<(Boot, Boot, Packet)>,
    answers: BTreeMap<(Boot, u64), Reply>,
    changes: Vec<Change>,
    /// Other notifications, each with the node that sent it.
    effects: Vec<(Boot, Effect)>,
    now: Now,
    /// The leads of the wall clocks of some nodes.
    ahead: BTreeMap<Boot, Duration>,
    /// The sizes of all packets.
    sent: Vec<usize>,
    /// Nodes of which no packet arrives.
    mute: BTreeSet<Boot>,
    terms: (Budgets, Rules),
}

impl Nodes {
    fn new(nodes: usize) -> Self {
        Self::with(nodes, Rules::default())
    }

    fn with(nodes: usize, rules: Rules) -> Self {
        Self::of(nodes, (Budgets::default(), rules))
    }

    fn of(nodes: usize, terms: (Budgets, Rules)) -> Self {
        let now = Now { mono: Duration::from_secs(1), wall: Timestamp::UNIX_EPOCH };
        let (engines, packets) = (BTreeMap::new(), VecDeque::new());
        let (answers, ahead) = (BTreeMap::new(), BTreeMap::new());
        let (changes, effects) = (Vec::new(), Vec::new());
        let mut this = Self {
            engines,
            packets,
            answers,
            changes,
            effects,
            now,
            ahead,
            sent: Vec::new(),
            mute: BTreeSet::new(),
            terms,
        };
        for n in 0..nodes {
            this.start(joining(n), &format!("n{n}"));
        }
        for boot in this.boots() {
            let discovery = Discovery { has_others: nodes > 1, silent: Vec::new() };
            this.step(boot, |engine, now| engine.discovered(now, discovery));
        }
        this.pass(3_000);
        this
    }

    fn start(&mut self, member: Member, name: &str) {
        let me = member.boot;
        let member = Member { name: name.parse().unwrap(), ..member };
        let identity = Identity { member, settings: SETTINGS, seed: me.to_bytes() };
        let (budgets, rules) = self.terms;
        let membership = Membership::new(identity, Timing::DEFAULT, rules, self.now.mono);
        self.engines.insert(me, Engine::new(membership, Limits::default(), budgets, rules));
        let discovery = Discovery { has_others: true, silent: vec!["others".to_owned()] };
        self.step(me, |engine, now| engine.discovered(now, discovery));
        self.join(me);
    }

    fn crash(&mut self, n: usize) {
        let boot = self.boot(n);
        self.engines.remove(&boot);
        for other in self.boots() {
            self.step(other, |engine, now| engine.disconnected(now, boot, true));
        }
    }

    fn drain(&mut self, n: usize) {
        let boot = self.boot(n);
        self.step(boot, |engine, now| engine.drain(now, Drain::Restart));
        self.pass(2_000);
    }

    /// The boot that has a name now.
    fn boot(&self, n: usize) -> Boot {
        let name = format!("n{n}");
        let is_it = |engine: &&Engine| engine.hello().member.name.as_str() == name;
        self.engines.values().find(is_it).unwrap().membership().me()
    }

    fn step(&mut self, me: Boot, step: impl FnOnce(&mut Engine, Now)) {
        let Some(engine) = self.engines.get_mut(&me) else { return };
        let ahead = self.ahead.get(&me).copied().unwrap_or_default();
        step(engine, Now { wall: self.now.wall + ahead, ..self.now });
        for effect in engine.take_effects() {
            match effect {
                Effect::Send(to, packet) => self.packets.push_back((me, to, packet)),
                Effect::Answer(number, reply) => drop(self.answers.insert((me, number), reply)),
                Effect::Changed(change) => self.changes.push(change),
                effect => self.effects.push((me, effect)),
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.turn();
        }
    }

    /// Delivers what was sent, each hop in 1 ms, and lets 10 ms pass.
    fn turn(&mut self) {
        (0..10).for_each(|_| self.hop());
        for boot in self.boots() {
            self.step(boot, Engine::tick);
        }
    }

    fn hop(&mut self) {
        for (from, to, packet) in std::mem::take(&mut self.packets) {
            self.sent.push(match &packet {
                Packet::Stream(packet) => packet.content.as_ref().map_or(0, |c| c.message.size()),
                Packet::Cluster(_) => 0,
            });
            if !self.mute.contains(&from) {
                self.step(to, |engine, now| engine.receive(now, from, packet));
            }
        }
        self.now.mono += Duration::from_millis(1);
    }

    fn hop_until(&mut self, is_there: impl Fn(&Self) -> bool) {
        for _ in 0..100 {
            if is_there(self) {
                return;
            }
            self.hop();
        }
        panic!("it did not come to that");
    }

    /// The nodes, the owner of alice's list last.
    fn spread(&self) -> [usize; 3] {
        let list = self.owner(alices(self));
        [(list + 1) % 3, (list + 2) % 3, list]
    }

    fn owner(&self, id: RecordId) -> usize {
        let tenant = self.engines.values().next().unwrap().tenant().unwrap();
        let owner = tenant.view().owner(tenant.replicas().slot_of(id));
        (0..3).find(|n| owner == Some(self.boot(*n))).unwrap()
    }

    /// The first number from one on of a session that one of these nodes owns.
    fn owned_by(&self, nodes: &[usize], from: u64) -> u64 {
        (from..).find(|n| nodes.contains(&self.owner(id(*n)))).unwrap()
    }

    /// Gives alice a list of sessions that nothing else knows, at its holders.
    fn put_list(&mut self, sessions: u64) {
        let list_id = alices(self);
        let (until, is_settled) = (Timestamp::MAX, true);
        let session = |n: u64| {
            let authenticated = Timestamp::UNIX_EPOCH + Duration::from_secs(n);
            let spread = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64;
            let entry = ListEntry { authenticated, until, is_settled };
            (RecordId::from_bytes(spread.to_be_bytes()), entry)
        };
        let sessions = ((0..sessions).map(session).collect(), Vec::new());
        let list = List::of(alice(), Stamp::ZERO, None, sessions);
        for engine in self.engines.values_mut() {
            let tenant = engine.tenant.as_mut().unwrap();
            let (view, slot) = (tenant.view(), tenant.replicas().slot_of(list_id));
            if view.holders(slot).contains(&view.me) {
                let revision = Revision { epoch: view.number(), number: 1 };
                let kept = Kept::List(list.clone());
                let confirmed = Some(Entry { revision, kept, done: Vec::new() });
                let told_in = revision.epoch;
                let held = Held { confirmed, tentative: None, told_in };
                tenant.replicas_mut().put(list_id, held);
            }
        }
    }

    fn list_of(&self, node: usize) -> Option<&List> {
        list_of(&self.engines[&self.boot(node)])
    }

    /// Returns true if a session ended, and the owner of its list knows.
    fn has_left_the_list(&self, session: RecordId) -> bool {
        let entry = |id: RecordId| {
            let owner = &self.engines[&self.boot(self.owner(id))];
            owner.tenant().unwrap().replicas().confirmed(id).map(|entry| &entry.kept)
        };
        let list = entry(alices(self)).and_then(Kept::list);
        entry(session).is_some_and(Kept::is_ended)
            && list.is_some_and(|list| list.get(session).is_none())
    }

    fn call(&mut self, me: Boot, request: Request) -> Reply {
        let mut number = 0;
        self.step(me, |engine, now| number = engine.call(now, request, Duration::from_secs(5)));
        self.wait(me, number)
    }

    fn wait(&mut self, me: Boot, number: u64) -> Reply {
        for _ in 0..600 {
            if let Some(reply) = self.answers.remove(&(me, number)) {
                return reply;
            }
            self.turn();
        }
        panic!("no answer");
    }

    fn create(&mut self, node: usize, n: u64) -> RecordId {
        self.create_until(node, n, 1_000_000_000)
    }

    fn create_until(&mut self, node: usize, n: u64, seconds: u64) -> RecordId {
        let idle_deadline = Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
        let record = Box::new(Record { idle_deadline, ..record(n) });
        let (id, policy) = (id(n), LoginPolicy::default());
        let reply = self.call(self.boot(node), Request::Create { id, record, policy });
        assert!(matches!(reply, Reply::Outcome(Outcome::Applied(_))), "{reply:?}");
        id
    }

    /// A session of alice's, and the sessions that ended for it.
    fn sign_in(
        &mut self,
        node: usize,
        n: u64,
        cap: usize,
        epoch: Option<u64>,
    ) -> (RecordId, Vec<RecordId>) {
        match self.try_sign_in(node, n, cap, epoch) {
            Reply::Outcome(Outcome::Applied(applied)) => (id(n), applied.ended),
            reply => panic!("{reply:?}"),
        }
    }

    fn try_sign_in(&mut self, node: usize, n: u64, cap: usize, epoch: Option<u64>) -> Reply {
        let request = signed_in(n, LoginPolicy { cap, epoch, ..LoginPolicy::default() });
        self.call(self.boot(node), request)
    }

    fn begin_sign_in(&mut self, node: usize, n: u64, cap: usize) -> (Boot, u64) {
        self.begin(node, n, LoginPolicy::capped(cap))
    }

    fn begin(&mut self, node: usize, n: u64, policy: LoginPolicy) -> (Boot, u64) {
        self.begin_call(node, signed_in(n, policy))
    }

    fn begin_call(&mut self, node: usize, request: Request) -> (Boot, u64) {
        let (me, mut number) = (self.boot(node), 0);
        self.step(me, |engine, now| number = engine.call(now, request, Duration::from_secs(5)));
        (me, number)
    }

    fn listed(&mut self, node: usize) -> Vec<RecordId> {
        let (me, mut number) = (self.boot(node), 0);
        self.step(me, |engine, now| number = engine.list(now, alice(), Duration::from_secs(5)));
        let Reply::Listed(infos) = self.wait(me, number) else { panic!("no list") };
        let mut ids: Vec<_> = infos.iter().map(|info| info.id).collect();
        ids.sort();
        ids
    }

    fn is_live(&mut self, node: usize, id: RecordId) -> bool {
        self.try_count(node, id).is_some()
    }

    /// The slot of the list of alice's sessions.
    fn list_slot(&self) -> Slot {
        let replicas = self.engines[&boot(0)].tenant().unwrap().replicas();
        replicas.slot_of(replicas.key().list_of(&alice()))
    }

    fn end_all(&mut self, node: usize, except: Option<RecordId>, epoch: Option<u64>) -> Reply {
        let (me, mut number) = (self.boot(node), 0);
        let revocation = Revocation { except, epoch, reason: EndReason::Admin };
        self.step(me, |engine, now| {
            number = engine.delete_all(now, alice(), revocation, Duration::from_secs(5));
        });
        self.wait(me, number)
    }

    fn add(&mut self, node: usize, id: RecordId) -> i64 {
        match self.call(self.boot(node), added(id)) {
            Reply::Outcome(Outcome::Applied(applied)) => applied.counters[0].1,
            reply => panic!("{reply:?}"),
        }
    }

    fn put(&mut self, me: Boot, id: RecordId, value: u64) {
        let reply = self.call(me, put(id, value));
        assert!(matches!(reply, Reply::Outcome(Outcome::Applied(_))), "{reply:?}");
    }

    fn value(&mut self, me: Boot, id: RecordId) -> Option<String> {
        let reply = self.call(me, Request::Load { id, proof: None, seen: None });
        let Reply::Lookup(Lookup::Found(found)) = reply else { panic!("{reply:?}") };
        found.record.values.get("v").map(|json| String::from_utf8_lossy(json).into_owned())
    }

    /// Ends the links of a node.
    fn cut(&mut self, me: Boot) {
        for other in self.boots().into_iter().filter(|other| *other != me) {
            self.step(me, |engine, now| engine.disconnected(now, other, false));
            self.step(other, |engine, now| engine.disconnected(now, me, false));
        }
    }

    /// Links a node with the others again.
    fn join(&mut self, me: Boot) {
        for other in self.boots().into_iter().filter(|other| *other != me) {
            let (mine, theirs) = (self.engines[&me].hello(), self.engines[&other].hello());
            self.step(me, |engine, now| engine.connected(now, theirs));
            self.step(other, |engine, now| engine.connected(now, mine));
        }
    }

    fn count(&mut self, node: usize, id: RecordId) -> u64 {
        self.count_at(self.boot(node), id)
    }

    fn count_anywhere(&mut self, id: RecordId) -> u64 {
        self.count_at(self.boots()[0], id)
    }

    fn count_at(&mut self, me: Boot, id: RecordId) -> u64 {
        self.look_up(me, id).expect("the session is live")
    }

    fn try_count(&mut self, node: usize, id: RecordId) -> Option<u64> {
        self.look_up(self.boot(node), id)
    }

    fn look_up(&mut self, me: Boot, id: RecordId) -> Option<u64> {
        match self.call(me, Request::Load { id, proof: None, seen: None }) {
            Reply::Lookup(Lookup::Found(found)) => {
                let json = found.record.values.get("n").unwrap();
                Some(std::str::from_utf8(json).unwrap().parse().unwrap())
            }
            Reply::Lookup(Lookup::Absent(_)) => None,
            reply => panic!("{reply:?}"),
        }
    }

    /// Returns the number of calls that records remember.
    fn remembered(&self) -> usize {
        let held = |engine: &Engine| -> usize {
            let records = engine.tenant().unwrap().replicas().iter();
            records
                .filter_map(|(_, held)| held.confirmed.as_ref())
                .map(|entry| entry.done.len())
                .sum()
        };
        self.engines.values().map(held).sum()
    }

    fn holds(&self, id: RecordId) -> bool {
        let holds = |engine: &Engine| engine.tenant().unwrap().replicas().get(id).is_some();
        self.engines.values().any(holds)
    }

    fn boots(&self) -> Vec<Boot> {
        self.engines.keys().copied().collect()
    }
}

fn added(id: RecordId) -> Request {
    let mut patch = Patch::new();
    patch.add("n", 1).unwrap();
    Request::Update { id, patch: Box::new(patch) }
}

fn put(id: RecordId, value: u64) -> Request {
    let mut patch = Patch::new();
    let json = value.to_string();
    patch.put("v", RawJson::copied(json.as_bytes())).unwrap();
    Request::Update { id, patch: Box::new(patch) }
}

fn record(n: u64) -> Record {
    let hash = SecretHash::from_parts(KeyId::NONE, [0; 32]);
    let start = Timestamp::UNIX_EPOCH + Duration::from_secs(n);
    let mut record = Record::new(hash, start, Timestamp::MAX, Timestamp::MAX);
    record.values = [("n", &b"1"[..])].into_iter().collect();
    record
}

fn signed_in(n: u64, policy: LoginPolicy) -> Request {
    let record = record(n);
    let (authenticated, principal) = (Some(record.created), Some(alice()));
    let record = Box::new(Record { authenticated, principal, ..record });
    Request::Create { id: id(n), record, policy }
}

fn login(n: u64, principal: Principal, policy: LoginPolicy) -> Request {
    let authentication = Authentication {
        at: Timestamp::UNIX_EPOCH,
        absolute_deadline: Timestamp::MAX,
        principal: Some(principal),
        facts: None,
        policy,
    };
    let hash = SecretHash::from_parts(KeyId::NONE, [9; 32]);
    let rotation = Rotation { hash, authentication: Some(authentication) };
    let mut patch = Patch::new();
    patch.rotate(SecretHash::from_parts(KeyId::NONE, [0; 32]).into(), rotation);
    Request::Update { id: id(n), patch: Box::new(patch) }
}

fn id(n: u64) -> RecordId {
    crate::replicas::tests::id(n << 32 | 5)
}

fn list_of(engine: &Engine) -> Option<&List> {
    let replicas = engine.tenant().unwrap().replicas();
    replicas.confirmed(replicas.key().list_of(&alice()))?.kept.list()
}

/// The record of alice's list.
fn alices(nodes: &Nodes) -> RecordId {
    let tenant = nodes.engines.values().next().unwrap().tenant().unwrap();
    tenant.replicas().key().list_of(&alice())
}

fn alice() -> Principal {
    principal("alice")
}

fn principal(id: &str) -> Principal {
    Principal::new(Realm::default(), id).unwrap()
}
