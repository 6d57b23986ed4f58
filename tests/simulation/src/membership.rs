//! Several memberships on a network that loses, delays and reorders frames, with crashes, cuts and
//! stalls. It checks C13 (an epoch number is used once), C14 (at most one node serves a slot), and
//! that the nodes agree again after the faults.
//!
//! Time passes in steps of 5 ms. Each node has its own clock, up to 5 % fast or slow. Steps 2 and 3
//! of a take-over are left out: a node marks each of its own clear slots as ready, so it serves
//! more often than it could.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use steadfast_replication::cluster::Timing;
use steadfast_replication::epoch::{Acknowledgements, Epoch, EpochId, PartitionPolicy, Settings};
use steadfast_replication::member::{Boot, Member, Role, Versions};
use steadfast_replication::membership::{
    Discovery, Effect, End, Frame, Identity, Membership, Message, Refusal,
};
use steadfast_replication::placement::Replication;
use steadfast_replication::rules::Rules;
use steadfast_replication::slots::{Slot, SlotSet};

/// The configuration of a node.
#[derive(Clone, Copy, Debug)]
pub struct Configuration {
    /// Its settings.
    pub settings: Settings,
    /// The versions of the protocol that it speaks.
    pub protocol: Versions,
    /// The rules that it keeps.
    pub rules: Rules,
}

impl Default for Configuration {
    fn default() -> Self {
        let settings = Settings {
            replication: Replication::Backups(1),
            acknowledgements: Acknowledgements::One,
            policy: None,
        };
        Self { settings, protocol: Versions::default(), rules: Rules::default() }
    }
}

/// Nodes and the network between them.
#[derive(Debug)]
pub struct World {
    now: Duration,
    random: u64,
    processes: Vec<Option<Process>>,
    /// The names that discovery returns.
    named: BTreeSet<usize>,
    network: Network,
    under_load: bool,
    /// True if names without a process get a new one.
    restarts: bool,
    rules: Rules,
    history: History,
}

#[derive(Debug)]
struct Process {
    membership: Membership,
    boot: Boot,
    /// The speed of its clock, in thousandths.
    rate: u32,
    /// The offset of its clock: the time at which the clock showed zero.
    offset: Duration,
    stalled_until: Duration,
    waiting: Vec<Frame>,
    /// The owners whose answers it waits for.
    calls: BTreeSet<Boot>,
}

#[derive(Debug, Default)]
struct Network {
    /// Ordered by arrival.
    frames: BTreeMap<(Duration, u64), (Boot, Frame)>,
    sent: u64,
    /// Pairs of processes, with the time since which each end has been unreachable.
    links: BTreeMap<(Boot, Boot), Option<Duration>>,
    /// Directions between two nodes.
    cuts: BTreeSet<(usize, usize)>,
    /// Lost frames, per thousand.
    lost: u64,
    /// The longest delay.
    delay: Duration,
}

/// Returns the events so far.
#[derive(Debug, Default)]
pub struct History {
    /// Every epoch that a node learned.
    pub epochs: BTreeMap<EpochId, Arc<Epoch>>,
    /// Nodes that exited by themselves, with the reason.
    pub ended: Vec<(usize, End)>,
    /// Nodes that were refused, with the reason; by the node that logged it.
    pub refused: Vec<(usize, Refusal)>,
    /// The number of times two services met that an operator has to reconcile.
    pub conflicts: usize,
    /// The number of frames of each kind since the last reset.
    pub sent: BTreeMap<&'static str, u64>,
    /// The violation, if there is one.
    pub broken: Option<String>,
}

const STEP: Duration = Duration::from_millis(5);

/// Nodes tick every 20 ms.
const TICK: u32 = 4;

/// The number of slots that are checked.
const SLOTS: usize = 8;

/// A link closes after the other end was silent for this long.
const KEEPALIVE: Duration = Duration::from_secs(2);

impl World {
    /// Creates a world with this number of names, and no process yet.
    pub fn new(seed: u64, nodes: usize) -> Self {
        Self::with(seed, nodes, Rules::default())
    }

    /// Creates a world with this number of names, whose processes keep these rules.
    pub fn with(seed: u64, nodes: usize, rules: Rules) -> Self {
        Self {
            rules,
            now: Duration::from_secs(1),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            processes: (0..nodes).map(|_| None).collect(),
            named: (0..nodes).collect(),
            network: Network { delay: Duration::from_millis(4), ..Network::default() },
            under_load: true,
            restarts: false,
            history: History::default(),
        }
    }

    /// Starts a new process for each of these names.
    pub fn start_all(&mut self, nodes: impl IntoIterator<Item = usize>) {
        for node in nodes {
            self.start(node, Configuration { rules: self.rules, ..Configuration::default() });
        }
    }

    /// Starts a new process for a name, unless it has one.
    pub fn start(&mut self, node: usize, configuration: Configuration) {
        if self.processes[node].is_some() {
            return;
        }
        let (boot, seed) = (Boot::new(self.bytes()), self.bytes());
        let name = format!("n{node}").parse().expect("a short name");
        let member = Member {
            protocol: configuration.protocol,
            ..Member::joining(name, boot, format!("address-{node}"), None)
        };
        let rate = 950 + self.draw(101) as u32;
        let offset = Duration::from_millis(self.draw(1_000_000));
        let identity = Identity { member, settings: configuration.settings, seed };
        let now = clock(self.now, rate, offset);
        let rules = configuration.rules;
        let membership = Membership::new(identity, Timing::DEFAULT, rules, now);
        self.processes[node] = Some(Process {
            membership,
            boot,
            rate,
            offset,
            stalled_until: Duration::ZERO,
            waiting: Vec::new(),
            calls: BTreeSet::new(),
        });
        self.discover(node);
    }

    /// Kills a process. Its kernel closes the sockets.
    pub fn kill(&mut self, node: usize) {
        let Some(process) = self.processes[node].take() else {
            return;
        };
        // Everything that arrived before the connection closed was handled first.
        self.network.frames.retain(|_, (_, frame)| frame.from != process.boot);
        let links: Vec<_> = self.network.links.keys().copied().collect();
        for (one, other) in links {
            let peer = match process.boot {
                boot if boot == one => other,
                boot if boot == other => one,
                _ => continue,
            };
            let Some(to) = self.node_of(peer) else {
                continue;
            };
            if self.is_reached(node, to) {
                self.network.links.remove(&(one, other));
                self.on_node(to, |membership, now| {
                    membership.disconnected(process.boot, true, now)
                });
                self.discover(to);
            }
        }
    }

    /// Kills a process without a trace, as if its machine lost power.
    pub fn cut_the_power(&mut self, node: usize) {
        self.processes[node] = None;
    }

    /// Stops a process for a while.
    pub fn stall(&mut self, node: usize, time: Duration) {
        let until = self.now + time;
        if let Some(process) = &mut self.processes[node] {
            process.stalled_until = process.stalled_until.max(until);
        }
    }

    /// Cuts one direction between two nodes.
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.network.cuts.insert((from, to));
    }

    /// Cuts both directions between two nodes.
    pub fn cut(&mut self, one: usize, other: usize) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, node: usize) {
        for other in (0..self.processes.len()).filter(|other| *other != node) {
            self.cut(node, other);
        }
    }

    /// Ends all cuts, losses and delays.
    pub fn heal(&mut self) {
        self.network.cuts.clear();
        (self.network.lost, self.network.delay) = (0, Duration::from_millis(4));
    }

    /// Sets whether the nodes receive calls.
    pub fn set_load(&mut self, under_load: bool) {
        self.under_load = under_load;
    }

    /// Restricts discovery to these names.
    pub fn name(&mut self, nodes: impl IntoIterator<Item = usize>) {
        self.named = nodes.into_iter().collect();
        for node in 0..self.processes.len() {
            self.discover(node);
        }
    }

    /// Returns the events so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Returns the membership of a node's process.
    pub fn membership(&self, node: usize) -> Option<&Membership> {
        self.processes[node].as_ref().map(|process| &process.membership)
    }

    /// Returns the time of a node's clock.
    pub fn local(&self, node: usize) -> Duration {
        let process = self.processes[node].as_ref();
        process.map_or(self.now, |process| process.local(self.now))
    }

    /// Calls a function on a node's membership.
    pub fn on_node(
        &mut self,
        node: usize,
        step: impl FnOnce(&mut Membership, Duration) -> Vec<Effect>,
    ) {
        let Some(process) = &mut self.processes[node] else {
            return;
        };
        let now = process.local(self.now);
        let effects = step(&mut process.membership, now);
        self.carry_out(node, effects);
    }

    /// Lets time pass until a rule is violated.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end && self.history.broken.is_none() {
            self.step();
        }
    }

    /// Lets time pass until the nodes agree. Returns the time that it took.
    pub fn run_until_agreed(&mut self, within: Duration) -> Result<Duration, String> {
        let begin = self.now;
        loop {
            self.step();
            if let Some(broken) = &self.history.broken {
                return Err(broken.clone());
            }
            match self.disagreement() {
                None => return Ok(self.now - begin),
                Some(what) if self.now - begin > within => {
                    return Err(format!("{what}\n{}", self.description()));
                }
                Some(_) => {}
            }
        }
    }

    /// Returns the reason why the nodes do not agree. All live nodes have to share one epoch, be
    /// full or joining in it, and include a majority of the voters.
    pub fn disagreement(&self) -> Option<String> {
        let lives = || self.processes.iter().flatten();
        let mut epochs = BTreeSet::new();
        for process in lives() {
            let membership = &process.membership;
            let Some(epoch) = membership.epoch() else {
                return Some(format!("{:?}: {:?}", process.boot, membership.problem(self.now)));
            };
            epochs.insert(epoch.id());
            let role = epoch.member(process.boot).map(|member| member.role);
            if !matches!(role, Some(Role::Full | Role::Joining | Role::Draining)) {
                return Some(format!("{:?} is {role:?} in {:?}", process.boot, epoch.id()));
            }
        }
        if epochs.len() > 1 {
            return Some(format!("several epochs: {epochs:?}"));
        }
        let epoch = lives().next()?.membership.epoch()?;
        let voters = lives().filter(|process| epoch.is_voter(process.boot)).count();
        (voters < epoch.quorum()).then(|| format!("{voters} voters live of {:?}", epoch.voters()))
    }

    /// Describes the state of each node.
    fn description(&self) -> String {
        let mut lines = Vec::new();
        for (node, process) in self.processes.iter().enumerate() {
            let Some(process) = process else {
                continue;
            };
            let (boot, membership) = (process.boot, &process.membership);
            lines.push(format!("n{node} {boot:?}: {:?}", membership.problem(self.now)));
            let Some(epoch) = membership.epoch() else {
                continue;
            };
            lines.push(format!("  {:?} {:?}", epoch.id(), epoch.policy()));
            lines.extend(epoch.members().iter().map(|member| {
                let Member { name, boot, role, votes, .. } = member;
                let is_suspected = membership.suspects(*boot);
                format!("  {name:?} {boot:?} {role:?} votes {votes} suspected {is_suspected}")
            }));
        }
        lines.join("\n")
    }

    /// Resumes stopped processes.
    pub fn wake_all(&mut self) {
        for process in self.processes.iter_mut().flatten() {
            process.stalled_until = self.now;
        }
    }

    /// Returns the number of frames sent since the last call, by kind.
    pub fn take_sent(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.history.sent)
    }

    /// Draws a number below a bound.
    pub fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    /// Sets the number of lost frames per thousand, and the longest delay.
    pub fn disturb(&mut self, lost: u64, delay: Duration) {
        (self.network.lost, self.network.delay) = (lost, delay);
    }

    fn bytes(&mut self) -> [u8; 16] {
        std::array::from_fn(|_| self.draw(256) as u8)
    }

    fn step(&mut self) {
        self.now += STEP;
        if self.restarts {
            self.start_all(0..self.processes.len());
        }
        self.deliver();
        self.resume();
        self.mend_links();
        let turn = (self.now.as_millis() / STEP.as_millis()) as u32;
        for node in 0..self.processes.len() {
            if turn % TICK == node as u32 % TICK {
                self.tick(node);
            }
        }
        self.check();
    }

    fn tick(&mut self, node: usize) {
        if self.is_stalled(node) {
            return;
        }
        if self.under_load && self.draw(3) == 0 {
            self.call(node);
        }
        self.answer(node);
        let slots: SlotSet = (0..SLOTS).map(Slot::at).collect();
        self.on_node(node, |membership, now| {
            let mut effects = membership.make_ready(&slots, now);
            effects.extend(membership.set_filled(true, now));
            effects.extend(membership.tick(now));
            effects
        });
    }

    /// Lets a node call the owner of some slot. A slot of its own needs a lease.
    fn call(&mut self, node: usize) {
        let slot = Slot::at(self.draw(SLOTS as u64) as usize);
        self.on_node(node, |membership, now| {
            let owner = membership.epoch().and_then(|epoch| epoch.placement().owner(slot));
            match owner {
                Some(owner) if owner != membership.me() => {
                    membership.on_awaited(owner, now);
                    Vec::new()
                }
                _ => membership.want_lease(now),
            }
        });
        let process = self.processes[node].as_mut();
        if let Some(process) = process
            && let Some(epoch) = process.membership.epoch()
            && let Some(owner) = epoch.placement().owner(slot)
        {
            process.calls.insert(owner);
        }
    }

    /// Answers the calls whose owner is reachable in both directions.
    fn answer(&mut self, node: usize) {
        let Some(process) = &mut self.processes[node] else {
            return;
        };
        for owner in std::mem::take(&mut process.calls) {
            let there = self.node_of(owner).filter(|there| !self.is_stalled(*there));
            if there.is_some_and(|there| self.has_a_way(node, there) && self.has_a_way(there, node))
            {
                self.on_node(node, |membership, now| membership.on_answer(owner, now));
            } else if let Some(process) = &mut self.processes[node] {
                process.calls.insert(owner);
            }
        }
    }

    /// Returns true if a frame gets through, directly or through a third node.
    fn has_a_way(&self, from: usize, to: usize) -> bool {
        let others = 0..self.processes.len();
        let mut others = others.filter(|other| self.processes[*other].is_some());
        self.is_reached(from, to)
            || others.any(|other| {
                !self.is_stalled(other)
                    && self.is_reached(from, other)
                    && self.is_reached(other, to)
            })
    }

    fn is_reached(&self, from: usize, to: usize) -> bool {
        !self.network.cuts.contains(&(from, to))
    }

    fn is_stalled(&self, node: usize) -> bool {
        let process = self.processes[node].as_ref();
        process.is_some_and(|process| process.stalled_until > self.now)
    }

    fn deliver(&mut self) {
        while let Some(((at, number), (to, frame))) = self.network.frames.pop_first() {
            if at > self.now {
                self.network.frames.insert((at, number), (to, frame));
                return;
            }
            let Some(node) = self.node_of(to) else {
                continue;
            };
            if self.is_stalled(node) {
                if let Some(process) = &mut self.processes[node] {
                    process.waiting.push(frame);
                }
            } else {
                self.on_node(node, |membership, now| membership.receive(frame, now));
            }
        }
    }

    /// Lets resumed nodes handle the frames that waited.
    fn resume(&mut self) {
        for node in 0..self.processes.len() {
            if self.is_stalled(node) {
                continue;
            }
            let waiting = self.processes[node].as_mut().map(|process| &mut process.waiting);
            for frame in waiting.map(std::mem::take).unwrap_or_default() {
                self.on_node(node, |membership, now| membership.receive(frame, now));
            }
        }
    }

    /// Opens links between nodes that reach each other, and closes those that have been cut for a
    /// while.
    fn mend_links(&mut self) {
        let links: Vec<_> = self.network.links.keys().copied().collect();
        for (one, other) in links {
            let ends = (self.node_of(one), self.node_of(other));
            let is_well = match ends {
                (Some(a), Some(b)) => self.is_reached(a, b) && self.is_reached(b, a),
                _ => false,
            };
            let now = self.now;
            let silent = self.network.links.get_mut(&(one, other)).expect("it was there");
            *silent = if is_well { None } else { Some(silent.unwrap_or(now)) };
            if silent.is_some_and(|since| now - since >= KEEPALIVE) {
                self.network.links.remove(&(one, other));
                for (end, peer) in [(ends.0, other), (ends.1, one)] {
                    if let Some(end) = end {
                        self.on_node(end, |membership, now| {
                            membership.disconnected(peer, false, now)
                        });
                        self.discover(end);
                    }
                }
            }
        }
        for one in 0..self.processes.len() {
            for other in one + 1..self.processes.len() {
                self.connect(one, other);
            }
        }
    }

    fn connect(&mut self, one: usize, other: usize) {
        let both = [one, other];
        let is_named = both.iter().any(|node| self.named.contains(node));
        let can = is_named
            && self.is_reached(one, other)
            && self.is_reached(other, one)
            && both.iter().all(|node| !self.is_stalled(*node));
        let (Some(a), Some(b)) = (&self.processes[one], &self.processes[other]) else {
            return;
        };
        let pair = (a.boot, b.boot);
        if !can || self.network.links.contains_key(&pair) || self.draw(10) > 0 {
            return;
        }
        let (Some(a), Some(b)) = (&self.processes[one], &self.processes[other]) else {
            return;
        };
        let hellos = [b.membership.hello(), a.membership.hello()];
        self.network.links.insert(pair, None);
        for (node, hello) in both.into_iter().zip(hellos) {
            self.on_node(node, |membership, now| membership.connected(hello, now));
            self.discover(node);
        }
    }

    fn discover(&mut self, node: usize) {
        let Some(process) = &self.processes[node] else {
            return;
        };
        let links = self
            .network
            .links
            .keys()
            .filter(|(one, other)| *one == process.boot || *other == process.boot);
        let ends = links.flat_map(|(one, other)| [*one, *other]);
        let linked: BTreeSet<_> = ends.filter_map(|end| self.node_of(end)).collect();
        let others = self.named.iter().filter(|other| **other != node);
        let silent = others.clone().filter(|other| !linked.contains(other));
        let silent = silent.map(|other| format!("address-{other}")).collect();
        let has_others = others.count() > 0;
        let discovery = Discovery { has_others, silent };
        self.on_node(node, |membership, now| membership.discovered(discovery, now));
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(to, frame) => self.send(node, to, &frame),
                Effect::Learned(epoch) => self.learned(&epoch),
                Effect::Refused(_, refusal) => self.history.refused.push((node, refusal)),
                Effect::Conflict(_) => self.history.conflicts += 1,
                Effect::Ended(end) => {
                    self.history.ended.push((node, end));
                    self.kill(node);
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, node: usize, to: Boot, frame: &Frame) {
        *self.history.sent.entry(kind(&frame.message)).or_default() += 1;
        let Some(from) = self.processes[node].as_ref().map(|process| process.boot) else {
            return;
        };
        let links = &self.network.links;
        let is_linked = links.contains_key(&(from, to)) || links.contains_key(&(to, from));
        let there = self.node_of(to);
        if !is_linked || !there.is_some_and(|there| self.is_reached(node, there)) {
            return;
        }
        let is_lost = self.draw(1_000) < self.network.lost;
        if is_lost {
            return;
        }
        // Some frames overtake others, and some arrive twice.
        let copies = if self.network.lost > 0 && self.draw(50) == 0 { 2 } else { 1 };
        for _ in 0..copies {
            let longest = self.network.delay.as_micros() as u64;
            let delay = Duration::from_micros(200 + self.draw(longest));
            self.network.sent += 1;
            let key = (self.now + delay, self.network.sent);
            self.network.frames.insert(key, (to, frame.clone()));
        }
    }

    fn learned(&mut self, epoch: &Arc<Epoch>) {
        let known = self.history.epochs.entry(epoch.id()).or_insert_with(|| Arc::clone(epoch));
        if known != epoch {
            self.history.broken = Some(format!("C13: two epochs are {:?}", epoch.id()));
        }
    }

    fn node_of(&self, boot: Boot) -> Option<usize> {
        let is_it = |process: &Option<Process>| {
            process.as_ref().is_some_and(|process| process.boot == boot)
        };
        self.processes.iter().position(is_it)
    }

    /// Checks C14. Under `Degrade`, sides of a split are exempt.
    fn check(&mut self) {
        for slot in (0..SLOTS).map(Slot::at) {
            let running = self.processes.iter().flatten();
            let running = running.filter(|process| process.stalled_until <= self.now);
            let serves =
                |process: &&Process| process.membership.serves(slot, process.local(self.now));
            let epochs = running.filter(serves).filter_map(|process| process.membership.epoch());
            let serving: Vec<_> = epochs.collect();
            for (n, one) in serving.iter().enumerate() {
                for other in &serving[n + 1..] {
                    let is_strict = |epoch: &Epoch| epoch.policy() == PartitionPolicy::Fail;
                    let is_one_lineage = one.id().lineage == other.id().lineage;
                    if is_one_lineage || is_strict(one) && is_strict(other) {
                        let (one, other) = (one.id(), other.id());
                        let what = format!("C14: {slot:?} is served in {one:?} and {other:?}");
                        self.history.broken = Some(what);
                        return;
                    }
                }
            }
        }
    }
}

impl Process {
    fn local(&self, now: Duration) -> Duration {
        clock(now, self.rate, self.offset)
    }
}

fn clock(now: Duration, rate: u32, offset: Duration) -> Duration {
    now * rate / 1_000 + offset
}

fn kind(message: &Message) -> &'static str {
    match message {
        Message::Cluster(_) => "cluster",
        Message::Hello { .. } => "hello",
        Message::Ask(_) => "ask",
        Message::Known => "known",
        Message::Ping | Message::Pong => "ping",
        Message::Suspect(_) | Message::Trust(_) => "suspicion",
        Message::Relay { .. } => "relay",
        _ => "other",
    }
}

/// Runs a world through random faults, until it agrees and is at rest.
///
/// # Errors
///
/// Returns the violated rule.
pub fn storm(seed: u64, nodes: usize, rules: Rules) -> Result<Duration, String> {
    let mut world = World::with(seed, nodes, rules);
    world.start_all(0..nodes);
    if world.draw(2) == 0 {
        world.run(Duration::from_secs(3));
    }
    let faults = 10 + world.draw(30);
    for _ in 0..faults {
        disturb(&mut world, nodes);
        let pause = 20 + world.draw(800);
        world.run(Duration::from_millis(pause));
    }
    world.heal();
    world.wake_all();
    world.restarts = true;
    let took = world.run_until_agreed(Duration::from_secs(5))?;
    world.set_load(false);
    world.run(Duration::from_secs(10));
    world.take_sent();
    world.run(Duration::from_secs(3));
    let sent = world.take_sent();
    let broken = world.history.broken.take().or_else(|| world.disagreement());
    match broken {
        Some(broken) => Err(broken),
        None if sent.is_empty() => Ok(took),
        None => Err(format!("not at rest: {sent:?}")),
    }
}

/// Injects one random fault, or ends the others.
fn disturb(world: &mut World, nodes: usize) {
    let node = world.draw(nodes as u64) as usize;
    let other = (node + 1 + world.draw((nodes as u64).max(2) - 1) as usize) % nodes;
    match world.draw(14) {
        0 | 1 => world.kill(node),
        2 => world.cut_the_power(node),
        3..=5 => world.start_all(0..nodes),
        6 if node != other => world.cut(node, other),
        7 if node != other => world.cut_one_way(node, other),
        8 => world.isolate(node),
        9 | 10 => {
            let time = 50 + world.draw(3_000);
            world.stall(node, Duration::from_millis(time));
        }
        11 => {
            let (lost, delay) = (world.draw(200), 5 + world.draw(80));
            world.disturb(lost, Duration::from_millis(delay));
        }
        _ => world.heal(),
    }
}
