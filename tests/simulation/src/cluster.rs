//! A model of the cluster component of several nodes, under every order of messages. It checks C13
//! (an epoch number is used once) and C14 (at most one node serves a slot).
//!
//! The nodes run the code that applications run. Messages are delivered in any order, any number of
//! times, or never, which includes cuts, one-way cuts and pauses. Time passes in ticks, equally for
//! all nodes: a lease lasts two of them and the wait for it also lasts two, as if a slow clock and
//! a fast one had used up the margin. A node that restarts is a new boot. Steps 2 and 3 of a
//! take-over are left out, so an owner serves more often than it could.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash};
use std::sync::Arc;
use std::time::Duration;

use steadfast_replication::cluster::{Cluster, Effect, Frame, Message, Timing};
use steadfast_replication::epoch::{Acknowledgements, Change, Epoch, Lineage, Settings};
use steadfast_replication::member::{Boot, Member, Role};
use steadfast_replication::placement::Replication;
use steadfast_replication::rules::Rules;
use steadfast_replication::slots::{HashKey, Slot, SlotSet};

use crate::explore::{Mixer, Model, Step, Steps};

/// The bounds of an exploration.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The number of nodes: 3 to 5.
    pub nodes: usize,
    /// The number of epochs after the first one.
    pub epochs: u64,
    /// The number of times a node tries to get an epoch chosen.
    pub attempts: u8,
    /// The number of times an owner asks for a lease.
    pub leases: u8,
    /// The number of times a node ends and a new boot with its name begins.
    pub restarts: u8,
    /// The number of ticks that pass.
    pub ticks: u8,
    /// True if the owner starts with a lease that all nodes granted.
    pub is_served: bool,
}

/// The model of the cluster component.
#[derive(Debug)]
pub struct ClusterModel {
    bounds: Bounds,
    rules: Rules,
    /// True if a node that restarts keeps its boot, and is thus trusted to remember. Rule I1
    /// forbids this.
    keeps_boots: bool,
    clusters: Interned<Cluster>,
    frames: Interned<(Boot, Frame)>,
    epochs: Interned<Epoch>,
    results: HashMap<(u32, Input), Arc<Outcome>, BuildHasherDefault<Mixer>>,
}

/// The state of all nodes. Nodes, frames and epochs are numbers, which keeps it small.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    nodes: Vec<u32>,
    /// The frames that were sent, in order. Each may arrive at any time, any number of times.
    frames: Vec<u32>,
    /// The epochs that were chosen.
    chosen: Vec<u32>,
    time: u8,
    left: Left,
}

/// The remaining numbers of attempts, leases, restarts and ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Left {
    attempts: u8,
    leases: u8,
    restarts: u8,
}

/// An input of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Input {
    Frame(u32, u8),
    Want(Option<Wish>, u8),
    Lease(u8),
    Withdraw,
}

impl Input {
    fn time(&self) -> u8 {
        match self {
            Self::Frame(_, time) | Self::Want(_, time) | Self::Lease(time) => *time,
            Self::Withdraw => 0,
        }
    }
}

/// A change that a node may want, rightly or wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wish {
    SetAside(Boot),
    ComeBack(Boot),
    Join(usize, Boot),
}

/// The result of an input.
#[derive(Debug)]
struct Outcome {
    cluster: u32,
    sent: Vec<u32>,
    learned: Option<u32>,
}

impl ClusterModel {
    /// Creates a model that keeps all rules.
    pub fn new(bounds: Bounds) -> Self {
        Self::with(bounds, Rules::default(), false)
    }

    /// Creates a model without a rule. `keeps_boots` leaves out rule I1.
    pub fn with(bounds: Bounds, rules: Rules, keeps_boots: bool) -> Self {
        let (clusters, frames) = (Interned::default(), Interned::default());
        let (epochs, results) = (Interned::default(), HashMap::default());
        Self { bounds, rules, keeps_boots, clusters, frames, epochs, results }
    }

    /// Handles an input of a node. The result is cached, because the same input has the same
    /// result.
    fn step(&mut self, node: u32, input: &Input) -> Arc<Outcome> {
        if let Some(step) = self.results.get(&(node, input.clone())) {
            return Arc::clone(step);
        }
        let mut cluster = self.clusters.get(node).clone();
        let mut effects = VecDeque::from(self.run(&mut cluster, input));
        let (mut sent, mut learned) = (Vec::new(), None);
        while let Some(effect) = effects.pop_front() {
            match effect {
                // A node need not send anything to itself.
                Effect::Send(to, frame) if to == cluster.me() => {
                    effects.extend(cluster.receive(frame, now(input.time())));
                }
                Effect::Send(_, Frame { message: Message::Nack(_), .. }) => {}
                Effect::Send(to, frame) => sent.push(self.frames.number((to, frame))),
                Effect::Learned(epoch) => learned = Some(self.epochs.number((*epoch).clone())),
                _ => {}
            }
        }
        let step = Arc::new(Outcome { cluster: self.clusters.number(cluster), sent, learned });
        self.results.insert((node, input.clone()), Arc::clone(&step));
        step
    }

    fn run(&self, cluster: &mut Cluster, input: &Input) -> Vec<Effect> {
        match input {
            Input::Frame(frame, time) => {
                let (_, frame) = self.frames.get(*frame);
                cluster.receive(frame.clone(), now(*time))
            }
            Input::Want(wish, _) => cluster.want(wish.iter().map(|wish| wish.change()).collect()),
            Input::Lease(time) => {
                cluster.make_ready(&slots(), now(*time));
                cluster.ask_lease(now(*time))
            }
            Input::Withdraw => cluster.withdraw(&slots()),
        }
    }

    /// Returns the state after an input of a node, or the violation that it causes.
    fn after(
        &mut self,
        state: &State,
        node: usize,
        input: &Input,
    ) -> Option<Result<State, String>> {
        let step = self.step(state.nodes[node], input);
        let is_sent = |frame: &u32| state.frames.binary_search(frame).is_ok();
        if step.cluster == state.nodes[node] && step.sent.iter().all(is_sent) {
            return None;
        }
        let mut next = state.clone();
        next.nodes[node] = step.cluster;
        next.frames.extend(&step.sent);
        next.frames.sort_unstable();
        next.frames.dedup();
        if let Some(learned) = step.learned {
            let number = self.epochs.get(learned).id().number;
            if number > 1 + self.bounds.epochs {
                return None;
            }
            if let Err(what) = next.learn(number, learned) {
                return Some(Err(what));
            }
        }
        self.forget(&mut next);
        Some(self.check(&next).map(|()| next))
    }

    /// Removes frames that no node listens to any more.
    fn forget(&self, state: &mut State) {
        let epochs = state.nodes.iter().map(|node| self.clusters.get(*node).epoch().id().number);
        let least = epochs.min().unwrap_or_default();
        let news = |frame: &u32| match &self.frames.get(*frame).1 {
            Frame { message: Message::Epoch(epoch), .. } => epoch.id().number > least,
            frame => frame.epoch.number >= least,
        };
        state.frames.retain(news);
    }

    /// Lets the owner ask for a lease, and all nodes grant it.
    fn lease(&mut self, mut nodes: Vec<u32>) -> Vec<u32> {
        let owner = first_epoch(self.bounds.nodes).placement().owner(slot());
        let is_owner = |node: &u32| Some(self.clusters.get(*node).me()) == owner;
        let owner = nodes.iter().position(is_owner).expect("one of them owns it");
        let step = self.step(nodes[owner], &Input::Lease(0));
        nodes[owner] = step.cluster;
        for asked in &step.sent {
            let to = self.frames.get(*asked).0;
            let is_asked = |node: &u32| self.clusters.get(*node).me() == to;
            let voter = nodes.iter().position(is_asked).expect("one of them is asked");
            let grant = self.step(nodes[voter], &Input::Frame(*asked, 0));
            nodes[voter] = grant.cluster;
            for granted in &grant.sent {
                nodes[owner] = self.step(nodes[owner], &Input::Frame(*granted, 0)).cluster;
            }
        }
        nodes
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let serves = |node: &&u32| self.clusters.get(**node).serves(slot(), now(state.time));
        let serving: Vec<_> = state.nodes.iter().filter(serves).collect();
        if serving.len() > 1 {
            return Err("C14: two nodes serve a slot".to_owned());
        }
        for node in serving {
            let number = self.clusters.get(*node).epoch().id().number;
            let next = state.chosen.get(number as usize).map(|epoch| self.epochs.get(*epoch));
            if next.is_some_and(|next| next.last_served(slot()).number() != number) {
                return Err("an epoch does not know that a slot is served".to_owned());
            }
        }
        Ok(())
    }

    fn wishes(&self, state: &State, node: usize) -> Vec<Option<Wish>> {
        let epoch = self.clusters.get(state.nodes[node]).epoch();
        let mut wishes = vec![None];
        for (n, other) in state.nodes.iter().enumerate() {
            let boot = self.clusters.get(*other).me();
            match epoch.member(boot).map(|member| member.role) {
                Some(Role::Aside) => wishes.push(Some(Wish::ComeBack(boot))),
                Some(_) if n != node => wishes.push(Some(Wish::SetAside(boot))),
                Some(_) => {}
                None => wishes.push(Some(Wish::Join(n, boot))),
            }
        }
        // The boot has ended.
        let is_gone = |member: &&Member| {
            let there = |node: &u32| self.clusters.get(*node).me() == member.boot;
            !state.nodes.iter().any(there) && member.role != Role::Aside
        };
        let gone = epoch.members().iter().filter(is_gone);
        wishes.extend(gone.map(|member| Some(Wish::SetAside(member.boot))));
        wishes
    }

    /// Ends a node, and starts another boot that knows the epoch of some node.
    fn restart(&mut self, state: &State, node: usize) -> State {
        let old = self.clusters.get(state.nodes[node]).me();
        let boot = if self.keeps_boots { old } else { next_boot(old) };
        let epochs = state.nodes.iter().map(|node| self.clusters.get(*node).epoch());
        let epoch = epochs.max_by_key(|epoch| epoch.id()).expect("there are nodes");
        let new = Cluster::new(boot, Arc::clone(epoch), TIMING, self.rules, now(state.time));
        let mut next = state.clone();
        next.nodes[node] = self.clusters.number(new);
        next.left.restarts -= 1;
        next
    }
}

impl Model for ClusterModel {
    type State = State;

    fn first(&mut self) -> State {
        let epoch = Arc::new(first_epoch(self.bounds.nodes));
        let chosen = vec![self.epochs.number((*epoch).clone())];
        let new = |n| Cluster::new(boot(n), Arc::clone(&epoch), TIMING, self.rules, now(0));
        let clusters: Vec<_> = (0..self.bounds.nodes).map(new).collect();
        let nodes = clusters.into_iter().map(|cluster| self.clusters.number(cluster)).collect();
        let nodes = if self.bounds.is_served { self.lease(nodes) } else { nodes };
        let Bounds { attempts, leases, restarts, .. } = self.bounds;
        let left = Left { attempts, leases, restarts };
        State { nodes, frames: Vec::new(), chosen, time: 0, left }
    }

    fn steps(&mut self, state: &State, tells: bool, steps: &mut Steps<State>) {
        let mut push = |name: &dyn Fn() -> String, weight, to: Option<Result<State, String>>| {
            if let Some(to) = to {
                let name = if tells { name() } else { String::new() };
                steps.push(Step { name, weight, to });
            }
        };
        if state.time < self.bounds.ticks {
            let next = State { time: state.time + 1, ..state.clone() };
            push(&|| "time passes".to_owned(), 12, Some(self.check(&next).map(|()| next)));
        }
        let boots: Vec<_> = state.nodes.iter().map(|node| self.clusters.get(*node).me()).collect();
        for frame in state.frames.iter().copied() {
            let to = self.frames.get(frame).0;
            let Some(node) = boots.iter().position(|boot| *boot == to) else {
                continue;
            };
            let step = self.after(state, node, &Input::Frame(frame, state.time));
            let frame = &self.frames.get(frame).1;
            push(&|| format!("{node} receives {}", told(frame)), 12, step);
        }
        for node in 0..state.nodes.len() {
            let cluster = self.clusters.get(state.nodes[node]);
            let (me, epoch) = (cluster.me(), Arc::clone(cluster.epoch()));
            let is_member = epoch.member(me).is_some();
            let asks = epoch.placement().owner(slot()) == Some(me)
                && cluster.is_clear(slot(), now(state.time));
            if is_member && state.left.attempts > 0 && epoch.id().number <= self.bounds.epochs {
                for wish in self.wishes(state, node) {
                    let mut before = state.clone();
                    before.left.attempts -= 1;
                    let step = self.after(&before, node, &Input::Want(wish, state.time));
                    push(&|| format!("{node} wants {wish:?}"), 1, step);
                }
            }
            if asks && state.left.leases > 0 {
                let mut before = state.clone();
                before.left.leases -= 1;
                let step = self.after(&before, node, &Input::Lease(state.time));
                push(&|| format!("{node} asks for a lease"), 8, step);
            }
            if epoch.last_served(slot()).owner(slot()) == Some(me) {
                let step = self.after(state, node, &Input::Withdraw);
                push(&|| format!("{node} withdraws"), 8, step);
            }
            if state.left.restarts > 0 {
                let next = self.restart(state, node);
                push(&|| format!("{node} restarts"), 2, Some(self.check(&next).map(|()| next)));
            }
        }
    }
}

impl State {
    /// Records that an epoch was chosen.
    fn learn(&mut self, number: u64, epoch: u32) -> Result<(), String> {
        match self.chosen.get(number as usize - 1) {
            Some(chosen) if *chosen != epoch => Err("C13: two epochs have one number".to_owned()),
            Some(_) => Ok(()),
            None => {
                self.chosen.push(epoch);
                Ok(())
            }
        }
    }
}

impl Wish {
    fn change(self) -> Change {
        match self {
            Self::SetAside(boot) => Change::SetAside(boot),
            Self::ComeBack(boot) => Change::ComeBack(boot),
            Self::Join(n, boot) => Change::Join(Member { boot, ..member(n) }),
        }
    }
}

/// Values that are replaced by numbers.
#[derive(Debug)]
struct Interned<T> {
    values: Vec<Arc<T>>,
    numbers: HashMap<Arc<T>, u32, BuildHasherDefault<Mixer>>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::default() }
    }
}

impl<T: Hash + Eq> Interned<T> {
    fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = self.values.len() as u32;
        let value = Arc::new(value);
        self.values.push(Arc::clone(&value));
        self.numbers.insert(value, number);
        number
    }

    fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}

fn told(frame: &Frame) -> String {
    let what = match &frame.message {
        Message::Epoch(epoch) => format!("epoch {}", epoch.id().number),
        Message::Promise(promise) => format!("a promise in ballot {:?}", promise.ballot),
        Message::Accept(ballot, _) => format!("a proposal in ballot {ballot:?}"),
        other => format!("{other:?}"),
    };
    format!("{what} of {:?} in epoch {}", frame.from, frame.epoch.number)
}

/// The first epoch of a service of full members.
fn first_epoch(nodes: usize) -> Epoch {
    let settings = Settings {
        replication: Replication::Backups(1),
        acknowledgements: Acknowledgements::One,
        policy: None,
    };
    let full = |n| Member { role: Role::Full, votes: true, ..member(n) };
    let members = (0..nodes).map(full).collect();
    Epoch::of(Lineage::new([1; 16]), HashKey::new([7; 16]), settings, members)
}

fn member(n: usize) -> Member {
    let name = format!("n{n}").parse().expect("a short name");
    Member::joining(name, boot(n), String::new(), None)
}

fn boot(n: usize) -> Boot {
    Boot::new([n as u8 + 1; 16])
}

fn next_boot(boot: Boot) -> Boot {
    let mut bytes = boot.to_bytes();
    bytes[15] += 100;
    Boot::new(bytes)
}

fn slot() -> Slot {
    Slot::at(0)
}

fn slots() -> SlotSet {
    SlotSet::from_iter([slot()])
}

fn now(time: u8) -> Duration {
    Duration::from_secs(time.into())
}

/// A tick is one second here.
const TIMING: Timing = Timing { lease: Duration::from_secs(2), wait: Duration::from_secs(2) };
