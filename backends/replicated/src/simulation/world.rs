//! The nodes, the links between them, and time.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use steadfast_core::{Change, Limits, Record, RecordId, Timestamp};

use super::Setup;
use crate::engine::config::{BEAT, Copies, DrainAs, Partition};
use crate::engine::message::Kept;
use crate::engine::table::{Class, Total};
use crate::engine::{Config, Counts, Effect, Engine, Message, Now, Reply, Request, Rule};
use crate::placement::{Name, Placement};

/// All of it.
pub(super) struct World {
    pub(super) time: Duration,
    pub(super) nodes: Vec<Node>,
    /// Directions in which nothing gets through.
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) answers: Vec<Answer>,
    /// What listeners heard, and on which node.
    pub(super) changes: Vec<(usize, Change)>,
    pub(super) random: Random,
    /// Every frame that was sent, where a test wants them.
    pub(super) log: Option<Vec<(usize, usize, Message)>>,
    setup: Setup,
    events: BTreeMap<(Duration, u64), Event>,
    last_event: u64,
    /// The ends of the links: the number of the connection, and when its last frame arrives.
    ends: BTreeMap<(usize, usize), End>,
    last_link: u64,
    unreachable: BTreeMap<(usize, usize), Duration>,
    trace: DefaultHasher,
}

/// A call: the node, which start of it, and the number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallId {
    pub(super) node: usize,
    start: u64,
    number: u64,
}

pub(super) struct Answer {
    pub(super) id: CallId,
    pub(super) reply: Reply,
}

pub(super) struct Node {
    pub(super) name: Name,
    /// Whether it is one of the service, up or not.
    pub(super) belongs: bool,
    pub(super) is_drained: bool,
    pub(super) engine: Option<Engine>,
    pub(super) paused_until: Duration,
    /// How far its wall clock is ahead.
    skew: Duration,
    held: Vec<Event>,
    starts: u64,
}

struct End {
    link: u64,
    last_arrival: Duration,
    /// Frames that wait for a cut to heal.
    blocked: Vec<Message>,
}

enum Event {
    Tick(usize),
    Deliver { from: usize, to: usize, link: u64, message: Box<Message> },
    Closed { from: usize, to: usize, link: u64 },
    Dial,
}

impl World {
    pub(super) fn new(setup: Setup, seed: u64) -> Self {
        let mut world = Self {
            time: Duration::from_secs(1),
            nodes: Vec::new(),
            cut: BTreeSet::new(),
            answers: Vec::new(),
            changes: Vec::new(),
            random: Random(seed),
            log: None,
            setup,
            events: BTreeMap::new(),
            last_event: 0,
            ends: BTreeMap::new(),
            last_link: 0,
            unreachable: BTreeMap::new(),
            trace: DefaultHasher::new(),
        };
        for n in 0..setup.nodes + setup.spares {
            world.nodes.push(Node {
                name: format!("n{n}").parse().unwrap(),
                belongs: n < setup.nodes,
                is_drained: false,
                engine: None,
                paused_until: Duration::ZERO,
                skew: setup.skew.mul_f64(world.random.below(1_000) as f64 / 1_000.0),
                held: Vec::new(),
                starts: 0,
            });
            if n < setup.nodes {
                world.start(n);
            }
        }
        world.later(Duration::ZERO, Event::Dial);
        world
    }

    pub(super) fn start(&mut self, n: usize) {
        let config = Config {
            copies: self.setup.copies,
            acks: self.setup.acks,
            partition: Some(self.setup.partition),
            drain_as: if n < self.setup.nodes { DrainAs::Restart } else { DrainAs::Leave },
            limits: Limits::default(),
            budgets: self.setup.budgets,
            expects_peers: true,
            without: self.setup.without,
        };
        let now = self.now(n);
        let node = &mut self.nodes[n];
        node.starts += 1;
        node.is_drained = false;
        let incarnation = node.starts << 32;
        node.engine = Some(Engine::new(node.name.clone(), incarnation, config, now, n as u64));
        let jitter = self.random.micros(0, 25_000);
        self.later(jitter, Event::Tick(n));
    }

    pub(super) fn crash(&mut self, n: usize) {
        self.nodes[n].engine = None;
        self.nodes[n].held.clear();
        for other in 0..self.nodes.len() {
            if let Some(end) = self.ends.remove(&(n, other)) {
                let after = self.random.micros(100, 2_000);
                self.later(after, Event::Closed { from: n, to: other, link: end.link });
            }
        }
    }

    pub(super) fn drain(&mut self, n: usize) {
        let now = self.now(n);
        self.with(n, |engine| engine.drain(now));
    }

    /// Has a node listen to changes.
    pub(super) fn listen(&mut self, n: usize) {
        let now = self.now(n);
        self.with(n, |engine| {
            engine.listen(now);
        });
    }

    pub(super) fn pause(&mut self, n: usize, until: Duration) {
        self.nodes[n].paused_until = until;
    }

    /// A node gets a frame, whoever sends it.
    pub(super) fn receive(&mut self, n: usize, from: &Name, message: Message) {
        let now = self.now(n);
        self.with(n, |engine| engine.receive(now, from, message));
    }

    /// Replaces the link between two nodes.
    pub(super) fn relink(&mut self, a: usize, b: usize) {
        self.unlink(a, b);
        self.unlink(b, a);
        self.dial();
    }

    /// Takes a link from one of its ends.
    pub(super) fn unlink(&mut self, n: usize, other: usize) {
        self.ends.remove(&(n, other));
        let (now, name) = (self.now(n), self.nodes[other].name.clone());
        self.with(n, |engine| engine.unlinked(now, &name));
    }

    pub(super) fn view(&self, n: usize) -> u64 {
        self.nodes[n].engine.as_ref().unwrap().status().view
    }

    /// Whether a node holds a record that did not end.
    pub(super) fn holds(&self, n: usize, id: RecordId) -> bool {
        self.nodes[n].engine.as_ref().is_some_and(|engine| engine.copies_of(id).next().is_some())
    }

    /// The copy of a record that a node shows, if it has one.
    pub(super) fn copy(&self, n: usize, id: RecordId) -> Option<Record> {
        let engine = self.nodes[n].engine.as_ref()?;
        engine.copies_of(id).next().cloned()
    }

    /// Starts a node that was not of the service before.
    pub(super) fn join(&mut self, n: usize) {
        self.nodes[n].belongs = true;
        self.start(n);
    }

    /// Ends a node that was drained, unless that takes too long; it may come back.
    pub(super) fn stop_drained(&mut self, n: usize, is_back: bool) {
        let end = self.time + Duration::from_secs(30);
        while !self.nodes[n].is_drained {
            assert!(self.time < end, "a drain never ends: {}", self.statuses());
            self.step(BEAT);
        }
        self.crash(n);
        self.nodes[n].belongs = is_back;
    }

    /// How many members the base has, as one node knows it.
    pub(super) fn base(&self, n: usize) -> usize {
        let engine = self.nodes[n].engine.as_ref().unwrap();
        engine.status().base.map_or(0, |base| base.members.len())
    }

    /// What each node holds.
    pub(super) fn tables(&self) -> Vec<Vec<(RecordId, Kept)>> {
        let engines = self.nodes.iter().filter_map(|node| node.engine.as_ref());
        engines.map(Engine::records).collect()
    }

    /// Puts the wall clock of a node ahead.
    pub(super) fn turn_clock(&mut self, n: usize, by: Duration) {
        self.nodes[n].skew += by;
    }

    /// How many records, in whatever state, a node holds.
    pub(super) fn held(&self, n: usize) -> usize {
        self.nodes[n].engine.as_ref().map_or(0, |engine| engine.records().len())
    }

    pub(super) fn counts(&self, n: usize) -> Counts {
        self.nodes[n].engine.as_ref().map_or(Counts::default(), |engine| engine.figures().counts)
    }

    pub(super) fn take_for_dead(&mut self, observer: usize, peer: usize) {
        let (now, name) = (self.now(observer), self.nodes[peer].name.clone());
        self.with(observer, |engine| engine.down(now, &name));
    }

    /// Whether the process that took a call still runs.
    pub(super) fn runs(&self, id: CallId) -> bool {
        let node = &self.nodes[id.node];
        node.engine.is_some() && node.starts == id.start
    }

    /// How many nodes hold such a copy of a record, confirmed or not.
    pub(super) fn holders(&self, id: RecordId, such: impl Fn(&Record) -> bool) -> usize {
        let engines = self.nodes.iter().filter_map(|node| node.engine.as_ref());
        engines.filter(|engine| engine.copies_of(id).any(&such)).count()
    }

    pub(super) fn is_live(&self, id: RecordId) -> bool {
        self.holders(id, |_| true) > 0
    }

    /// Whether no memory was ever lost, so that who acknowledged a write has it.
    pub(super) fn is_all_there(&self) -> bool {
        let is_first = |node: &Node| {
            node.starts == u64::from(node.belongs) && node.engine.is_some() == node.belongs
        };
        let waits = self.setup.without != Some(Rule::Acknowledge);
        waits && self.setup.partition == Partition::Fail && self.nodes.iter().all(is_first)
    }

    pub(super) fn call(&mut self, n: usize, request: Request, within: Duration) -> Option<CallId> {
        let now = self.now(n);
        if self.time < self.nodes[n].paused_until {
            return None;
        }
        let mut number = None;
        self.with(n, |engine| number = Some(engine.call(now, request, within)));
        Some(CallId { node: n, start: self.nodes[n].starts, number: number? })
    }

    pub(super) fn is_up(&self, n: usize) -> bool {
        self.nodes[n].engine.is_some() && self.nodes[n].paused_until <= self.time
    }

    /// Lets time pass.
    pub(super) fn step(&mut self, by: Duration) {
        let end = self.time + by;
        while let Some(((at, _), _)) =
            self.events.first_key_value().filter(|((at, _), _)| *at <= end)
        {
            self.time = *at;
            let Some((_, event)) = self.events.pop_first() else {
                break;
            };
            self.happen(event);
        }
        self.time = end;
    }

    /// Whether every node is up and has nothing left to do.
    pub(super) fn is_settled(&self) -> bool {
        let mut digests = BTreeSet::new();
        let members = self.members();
        let settled = members.iter().all(|n| {
            let Some(engine) = self.nodes[*n].engine.as_ref().filter(|_| self.is_up(*n)) else {
                return false;
            };
            let (name, status) = (&self.nodes[*n].name, engine.status());
            digests.insert(status.view);
            let is_one_of = |name: &Name| members.iter().any(|n| self.nodes[*n].name == *name);
            status.settled
                && !status.down.iter().any(|(name, _)| is_one_of(name))
                && engine.is_idle()
                && status.base.is_some_and(|base| {
                    base.members.len() == members.len()
                        && base.members.contains(&(name.clone(), status.incarnation))
                })
        });
        settled && digests.len() == 1
    }

    /// The nodes of the service.
    fn members(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].belongs).collect()
    }

    pub(super) fn run_until_settled(&mut self, within: Duration) -> Result<(), String> {
        let end = self.time + within;
        while !self.is_settled() {
            if self.time >= end {
                return Err(format!("the nodes never come to rest: {}", self.statuses()));
            }
            self.step(Duration::from_millis(100));
        }
        Ok(())
    }

    fn statuses(&self) -> String {
        let statuses = self.nodes.iter().map(|node| {
            let engine = node.engine.as_ref();
            format!(
                "\n{}: {}",
                node.name.as_str(),
                engine.map(Engine::describe).unwrap_or_default()
            )
        });
        statuses.collect()
    }

    /// At rest, all holders hold the same, and nobody else holds anything.
    pub(super) fn is_at_rest(&mut self) -> Result<(), String> {
        let members = self.members();
        let copies = match self.setup.copies {
            Copies::All => members.len(),
            Copies::Backups(k) => 1 + k,
        };
        let names = members.into_iter().map(|n| self.nodes[n].name.clone());
        let placement = Placement::new(names, copies);
        let mut wrong = String::new();
        for _ in 0..1_000 {
            wrong = self.misplaced(&placement);
            if wrong.is_empty() {
                return Ok(());
            }
            self.step(Duration::from_millis(100));
        }
        Err(format!("invariant 3: holders are not R, or differ: {wrong}"))
    }

    fn misplaced(&self, placement: &Placement) -> String {
        let mut held = BTreeMap::<RecordId, BTreeMap<Name, Kept>>::new();
        for node in &self.nodes {
            for (id, kept) in node.engine.iter().flat_map(Engine::records) {
                held.entry(id).or_default().insert(node.name.clone(), kept);
            }
        }
        for (id, copies) in held {
            let holders: BTreeSet<_> = placement.holders(id).into_iter().collect();
            let names: BTreeSet<_> = copies.keys().cloned().collect();
            let is_dead = copies.values().any(|kept| matches!(kept, Kept::Dead { .. }));
            let mut states = copies.values();
            let first = states.next();
            let are_equal = states.all(|kept| Some(kept) == first);
            if !are_equal || (holders != names && !is_dead) {
                return format!("{id}: {names:?} instead of {holders:?}: {copies:?}");
            }
        }
        String::new()
    }

    /// Memory of what is over returns to zero: all clocks go on by more than anything lives.
    pub(super) fn forgets_everything(&mut self) -> Result<(), String> {
        for n in 0..self.nodes.len() {
            self.turn_clock(n, Duration::from_secs(3_600 * 200));
        }
        for _ in 0..600 {
            if self.members().iter().all(|n| self.held(*n) == 0) {
                return Ok(());
            }
            self.step(Duration::from_millis(200));
        }
        let left: Vec<_> = self.members().iter().map(|n| self.held(*n)).collect();
        Err(format!("invariant 12: records are left: {left:?}"))
    }

    /// The sums of what each node holds are what it holds.
    pub(super) fn counts_right(&self) -> Result<(), String> {
        let is_wrong = |node: &&Node| node.engine.as_ref().is_some_and(|e| !e.counts_right());
        match self.nodes.iter().find(is_wrong) {
            Some(node) => Err(format!("{:?} holds other than it counts", node.name)),
            None => Ok(()),
        }
    }

    /// How much a node holds of a class.
    pub(super) fn total(&self, n: usize, class: Class) -> Total {
        let engine = self.nodes[n].engine.as_ref();
        engine.map(|engine| engine.figures().held.of(class)).unwrap_or_default()
    }

    /// No queue grows without bound, also of frames that wait for a cut to heal.
    pub(super) fn bounds_queues(&self) -> Result<(), String> {
        match self.ends.iter().find(|(_, end)| end.blocked.len() > BLOCKED) {
            Some((way, end)) => Err(format!("invariant 8: {} wait on {way:?}", end.blocked.len())),
            None => Ok(()),
        }
    }

    /// How much time has passed by the clients' clock.
    pub(super) fn wall(&self) -> Duration {
        self.time * self.setup.wall_speed
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    pub(super) fn now(&self, n: usize) -> Now {
        let start = Timestamp::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let skew = self.nodes.get(n).map_or(Duration::ZERO, |node| node.skew);
        Now { mono: self.time, wall: start + self.wall() + skew }
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.last_event += 1;
        self.events.insert((self.time + after, self.last_event), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Dial => {
                self.unblock();
                self.dial();
                self.detect();
                self.later(Duration::from_millis(50), Event::Dial);
            }
            Event::Tick(n) | Event::Deliver { to: n, .. } | Event::Closed { to: n, .. }
                if self.nodes[n].paused_until > self.time =>
            {
                let wakes = self.nodes[n].paused_until;
                if !matches!(event, Event::Tick(_)) {
                    self.nodes[n].held.push(event);
                } else {
                    self.later(wakes - self.time, event);
                }
            }
            Event::Tick(n) | Event::Deliver { to: n, .. } | Event::Closed { to: n, .. } => {
                self.wake(n);
                self.happen_now(event);
            }
        }
    }

    /// Whatever arrived while a process slept is there when it wakes up.
    fn wake(&mut self, n: usize) {
        for event in std::mem::take(&mut self.nodes[n].held) {
            self.happen_now(event);
        }
    }

    fn happen_now(&mut self, event: Event) {
        match event {
            Event::Tick(n) => {
                let now = self.now(n);
                if self.nodes[n].engine.is_some() {
                    self.with(n, |engine| engine.tick(now));
                    self.later(BEAT, Event::Tick(n));
                }
            }
            Event::Deliver { from, to, link, message } => {
                if self.ends.get(&(to, from)).is_some_and(|end| end.link == link) {
                    let (now, name) = (self.now(to), self.nodes[from].name.clone());
                    (self.time, from, to, std::mem::discriminant(&*message)).hash(&mut self.trace);
                    self.with(to, |engine| engine.receive(now, &name, *message));
                }
            }
            Event::Closed { from, to, link } => {
                if self.ends.get(&(to, from)).is_some_and(|end| end.link == link) {
                    self.ends.remove(&(to, from));
                    let (now, name) = (self.now(to), self.nodes[from].name.clone());
                    self.with(to, |engine| engine.unlinked(now, &name));
                }
            }
            Event::Dial => {}
        }
    }

    /// Lets through what waited for a cut to heal.
    fn unblock(&mut self) {
        let open = self.ends.iter_mut().filter(|(direction, _)| !self.cut.contains(direction));
        let blocked: Vec<_> =
            open.map(|(direction, end)| (*direction, std::mem::take(&mut end.blocked))).collect();
        for ((from, to), messages) in blocked {
            let name = self.nodes[to].name.clone();
            for message in messages {
                self.send(from, &name, message);
            }
        }
    }

    /// Connects what can be connected, unless both ends think that it is.
    fn dial(&mut self) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                let joined = self.ends.get(&(a, b)).map(|end| end.link);
                let is_joined =
                    joined.is_some() && joined == self.ends.get(&(b, a)).map(|end| end.link);
                let is_cut = self.cut.contains(&(a, b)) || self.cut.contains(&(b, a));
                if is_joined || is_cut || !self.is_up(a) || !self.is_up(b) {
                    continue;
                }
                self.last_link += 1;
                for direction in [(a, b), (b, a)] {
                    let (link, last_arrival) = (self.last_link, self.time);
                    self.ends.insert(direction, End { link, last_arrival, blocked: Vec::new() });
                }
                for (n, other) in [(a, b), (b, a)] {
                    let (now, name) = (self.now(n), self.nodes[other].name.clone());
                    self.with(n, |engine| engine.linked(now, &name));
                }
            }
        }
    }

    /// What a SWIM detector would say: dead is who cannot be reached for a while, also not through
    /// another node.
    fn detect(&mut self) {
        for a in (0..self.nodes.len()).filter(|n| self.is_up(*n)).collect::<Vec<_>>() {
            for b in (0..self.nodes.len()).filter(|b| *b != a).collect::<Vec<_>>() {
                if self.reaches(a, b) {
                    self.unreachable.remove(&(a, b));
                    continue;
                }
                let patience = Duration::from_millis(1_000 + self.random.below(1_000));
                let since = *self.unreachable.entry((a, b)).or_insert(self.time);
                if since + patience <= self.time {
                    self.take_for_dead(a, b);
                }
            }
        }
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        let open = |x, y| {
            self.is_up(x)
                && self.is_up(y)
                && !self.cut.contains(&(x, y))
                && !self.cut.contains(&(y, x))
        };
        open(a, b) || (0..self.nodes.len()).any(|x| open(a, x) && open(x, b))
    }

    fn with(&mut self, n: usize, act: impl FnOnce(&mut Engine)) {
        let Some(engine) = self.nodes[n].engine.as_mut() else {
            return;
        };
        act(engine);
        for effect in engine.take_effects() {
            self.effect(n, effect);
        }
    }

    fn effect(&mut self, n: usize, effect: Effect) {
        match effect {
            Effect::Send(to, message) => self.send(n, &to, message),
            Effect::Close(peer) => {
                let Some(other) = self.nodes.iter().position(|node| node.name == peer) else {
                    return;
                };
                if let Some(end) = self.ends.remove(&(n, other))
                    && !self.cut.contains(&(n, other))
                {
                    let after = self.random.micros(100, 2_000);
                    self.later(after, Event::Closed { from: n, to: other, link: end.link });
                }
            }
            Effect::Answer(number, reply) => {
                let id = CallId { node: n, start: self.nodes[n].starts, number };
                self.answers.push(Answer { id, reply });
            }
            Effect::Drained { .. } => self.nodes[n].is_drained = true,
            Effect::Changed(change) => self.changes.push((n, change)),
            Effect::Expired(_) | Effect::Evicted(_) | Effect::TakenForDead(_) => {}
        }
    }

    /// Frames of a link stay in order, and wait while it is cut.
    fn send(&mut self, from: usize, to: &Name, message: Message) {
        let Some(to) = self.nodes.iter().position(|node| node.name == *to) else {
            return;
        };
        if let Some(log) = &mut self.log {
            log.push((from, to, message.clone()));
        }
        let delay = match self.random.below(50) {
            0 => self.random.micros(5_000, 60_000),
            _ => self.random.micros(100, 2_000),
        };
        let Some(end) = self.ends.get_mut(&(from, to)) else {
            return;
        };
        if self.cut.contains(&(from, to)) || !end.blocked.is_empty() {
            end.blocked.push(message);
            return;
        }
        let arrival = (self.time + delay).max(end.last_arrival + Duration::from_micros(1));
        end.last_arrival = arrival;
        let link = end.link;
        let deliver = Event::Deliver { from, to, link, message: Box::new(message) };
        self.later(arrival - self.time, deliver);
    }
}

/// Frames that may wait on a link: some hundreds of writes, until a link on which nothing is
/// acknowledged is closed.
const BLOCKED: usize = 1_000;

/// A small generator, so that a run depends on its seed alone.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn micros(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from + self.below(to - from))
    }

    pub(super) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}
