//! Nodes that come and go as planned, while calls go on: none of them may fail.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::{Deletion, Patch, Principal, Realm, RecordId};

use super::Setup;
use super::scenarios::{create, creation, is_applied, owned_by, record_id, value};
use super::world::{CallId, World};
use crate::engine::config::{Acks, Copies};
use crate::engine::{Reply, Request};

#[test]
fn a_node_that_is_drained_and_comes_back_fails_no_call() {
    for seed in 0..SEEDS {
        let (copies, acks) = [
            (Copies::Backups(1), Acks::One),
            (Copies::Backups(2), Acks::All),
            (Copies::All, Acks::One),
        ][seed as usize % 3];
        let mut load = Load::new(Setup { copies, acks, ..Setup::plain() }, seed);
        load.go_on(300);
        load.drain_and_stop(0);
        let calls = load.world.random.below(300);
        load.go_on(calls);
        load.world.start(0);
        load.go_on(500);
        load.answer_all();
        load.world.run_until_settled(30 * SECOND).unwrap();
        load.check(seed);
    }
}

#[test]
fn a_node_that_joins_and_one_that_leaves_fail_no_call() {
    for seed in 0..SEEDS {
        let mut load = Load::new(Setup { spares: 1, ..Setup::plain() }, seed);
        load.world.join(3);
        load.go_on(500);
        load.answer_all();
        load.world.run_until_settled(30 * SECOND).unwrap();
        load.drain_and_stop(3);
        load.go_on(500);
        load.check(seed);
    }
}

#[test]
fn lists_and_logins_of_one_user_wait_for_each_other_at_no_new_owner() {
    for seed in 0..SEEDS {
        let mut load = Load { users: 1, ..Load::new(Setup { spares: 1, ..Setup::plain() }, seed) };
        load.world.join(3);
        load.go_on(300);
        load.drain_and_stop(3);
        load.go_on(100);
        load.check(seed);
    }
}

#[test]
fn a_session_that_is_written_all_the_time_leaves_a_node_that_drains() {
    let mut load = Load::new(Setup::plain(), 1);
    let id = owned_by("n0", "n1");
    create(&mut load.world, 2, id);
    load.world.drain(0);
    for _ in 0..5_000 {
        load.world.call(2, visit_to(id), SECOND).unwrap();
        load.world.step(Duration::from_millis(1));
    }
    assert!(load.world.nodes[0].is_drained);
}

/// Visitors whose visits are counted, many of them at once in one session, and users who come and go.
struct Load {
    world: World,
    sessions: Vec<RecordId>,
    users: u64,
    /// Sessions of users that were created so far.
    logins: u128,
    /// Calls without an answer: since when, and whose visits they count.
    under_way: BTreeMap<CallId, (Duration, Option<RecordId>)>,
    visits: BTreeMap<RecordId, i64>,
    failed: Vec<Reply>,
    slowest: Duration,
    drains: Option<usize>,
}

impl Load {
    fn new(setup: Setup, seed: u64) -> Self {
        let mut world = World::new(setup, seed);
        world.run_until_settled(30 * SECOND).unwrap();
        let sessions: Vec<_> = (0..30).map(record_id).collect();
        for (n, id) in sessions.iter().enumerate() {
            create(&mut world, n % 3, *id);
        }
        Self {
            world,
            sessions,
            users: 10,
            logins: 0,
            under_way: BTreeMap::new(),
            visits: BTreeMap::new(),
            failed: Vec::new(),
            slowest: Duration::ZERO,
            drains: None,
        }
    }

    /// Calls, a few milliseconds apart.
    fn go_on(&mut self, calls: u64) {
        for _ in 0..calls {
            let up: Vec<_> = (0..self.world.nodes.len()).filter(|n| self.serves(*n)).collect();
            let node = up[self.world.random.below(up.len() as u64) as usize];
            let (visited, request) = self.next_call();
            let call = self.world.call(node, request, 3 * SECOND).unwrap();
            self.under_way.insert(call, (self.world.time, visited));
            self.world.step(BETWEEN_CALLS);
            self.hear();
        }
    }

    /// Of eight calls, five are visits, and one of these is to the first session.
    fn next_call(&mut self) -> (Option<RecordId>, Request) {
        let user = user(self.world.random.below(self.users));
        let recent = self.logins.saturating_sub(self.world.random.below(6).into());
        let request = match self.world.random.below(8) {
            0 => Request::List { principal: user },
            1 => Request::delete(record_id(1_000 + recent), &Deletion::LOGOUT),
            2 => {
                self.logins += 1;
                login(creation(&self.world, record_id(1_000 + self.logins)), user)
            }
            3 => Request::Load { id: self.sessions[1], proof: None, seen: None },
            4 => return self.visit(0),
            _ => {
                let session = self.world.random.below(30);
                return self.visit(session as usize);
            }
        };
        (None, request)
    }

    fn visit(&self, session: usize) -> (Option<RecordId>, Request) {
        let id = self.sessions[session];
        (Some(id), visit_to(id))
    }

    /// Whether a balancer sends requests to a node: one that has joined and is not about to go.
    fn serves(&self, n: usize) -> bool {
        let engine = self.world.nodes[n].engine.as_ref();
        engine.is_some_and(|engine| engine.health().has_joined) && self.drains != Some(n)
    }

    fn drain_and_stop(&mut self, n: usize) {
        self.drains = Some(n);
        self.world.drain(n);
        let waits = |load: &Self| load.under_way.keys().any(|call| call.node == n);
        while !self.world.nodes[n].is_drained || waits(self) {
            self.go_on(1);
        }
        self.world.stop_drained(n, n < 3);
        self.drains = None;
    }

    fn hear(&mut self) {
        for answer in std::mem::take(&mut self.world.answers) {
            let Some((since, visited)) = self.under_way.remove(&answer.id) else {
                continue;
            };
            self.slowest = self.slowest.max(self.world.time - since);
            if let Reply::Failed(_) = answer.reply {
                self.failed.push(answer.reply);
            } else if let Some(id) = visited {
                assert!(is_applied(&answer.reply), "{:?}", answer.reply);
                *self.visits.entry(id).or_default() += 1;
            }
        }
    }

    fn answer_all(&mut self) {
        for _ in 0..3_000 {
            self.world.step(Duration::from_millis(1));
            self.hear();
        }
    }

    /// Every call was answered soon, and every visit counted once.
    fn check(&mut self, seed: u64) {
        self.answer_all();
        let failed = self.failed.first();
        assert!(failed.is_none(), "seed {seed}: {}, first {failed:?}", self.failed.len());
        assert!(self.under_way.is_empty(), "seed {seed}: {:?}", self.under_way);
        assert!(self.slowest < SECOND / 2, "seed {seed}: {:?}", self.slowest);
        for (id, visits) in self.visits.clone() {
            assert_eq!(value(&mut self.world, 1, id, "n"), Some(visits), "seed {seed}: {id}");
        }
    }
}

fn visit_to(id: RecordId) -> Request {
    let mut patch = Patch::new();
    patch.add("n", 1).unwrap();
    Request::Update { id, patch: patch.into() }
}

fn user(n: u64) -> Principal {
    Principal::new(Realm::new("sim").unwrap(), &format!("u{n}")).unwrap()
}

fn login(mut creation: Request, user: Principal) -> Request {
    if let Request::Create { record, .. } = &mut creation {
        record.principal = Some(user);
    }
    creation
}

const SEEDS: u64 = 20;

const BETWEEN_CALLS: Duration = Duration::from_millis(7);

const SECOND: Duration = Duration::from_secs(1);
