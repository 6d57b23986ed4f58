//! Nodes with their own clocks, the links between them, and time, driven by events.
//!
//! A run depends only on its seed: the same seed gives the same [trace](World::trace).

mod clock;
mod network;
mod node;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use steadfast_core::RecordId;
use steadfast_replication::epoch::Settings;
use steadfast_replication::member::Boot;

pub use self::clock::Clock;
pub use self::network::Direction;
use self::network::{Network, Sent};
use self::node::Waiting;
pub use self::node::{End, Node};
pub use self::watch::Trace;
use self::watch::Watch;
use crate::process::{Discovery, Effect, Measure, Now, Process, Reply, Request, Start};
use crate::random::Random;

/// The simulated world.
pub struct World<P: Process> {
    time: Duration,
    nodes: Vec<Node<P>>,
    network: Network<P::Packet>,
    events: BTreeMap<(Duration, u64), Event<P>>,
    last_event: u64,
    calls: Calls,
    /// Nodes that have not yet noticed that their link to another one is closed.
    closing: BTreeSet<Direction>,
    /// Nodes that know that the address of another one refuses links, and after which start of it.
    refused: BTreeSet<(usize, usize, u64)>,
    watch: Watch,
    /// The sessions whose ends were reported to an application, with the time.
    told: Vec<(RecordId, Duration)>,
    random: Random,
    habits: Habits,
}

/// The settings of machines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    /// True if a resumed process ticks before it handles waiting packets.
    pub ticks_first: bool,
    /// True if a restarted process keeps its boot, which leaves out I1.
    pub keeps_boots: bool,
    /// True if packets are measured and limited.
    pub measures: bool,
}

/// An event at a time.
enum Event<P: Process> {
    /// Dials links, and breaks those whose packets wait too long.
    Dial,
    Tick {
        to: usize,
        start: u64,
    },
    Wake(usize),
    Input {
        to: usize,
        input: Input<P>,
    },
}

/// An input of a node. It waits while the node is stopped.
enum Input<P: Process> {
    Opened { from: usize, link: u64, hello: P::Hello },
    Closed { from: usize, link: u64, boot: Boot },
    Packet { from: usize, link: u64, packet: P::Packet },
    Call { ticket: u64, request: Box<Request>, within: Duration },
}

/// The unanswered calls of clients, and the answers that were not taken yet.
#[derive(Debug, Default)]
struct Calls {
    last: u64,
    /// The node of each ticket.
    open: BTreeMap<u64, usize>,
    /// The ticket of each node and number.
    numbers: BTreeMap<(usize, u64), u64>,
    answers: Vec<Answer>,
}

/// The outcome of a call.
#[derive(Debug)]
pub struct Answer {
    /// The ticket of the call.
    pub ticket: u64,
    /// The time of the answer.
    pub at: Duration,
    /// The answer, or `None` if the process ended first.
    pub reply: Option<Reply>,
}

impl<P: Process> fmt::Debug for World<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}", self.nodes, self.time)
    }
}

/// The interval at which nodes try to connect.
const DIAL: Duration = Duration::from_millis(20);

impl<P: Process> World<P> {
    /// Creates a world whose nodes are started one by one.
    pub fn new(seed: u64, habits: Habits) -> Self {
        let mut world = Self {
            time: Duration::from_secs(1_000),
            nodes: Vec::new(),
            network: Network::new(seed),
            events: BTreeMap::new(),
            last_event: 0,
            calls: Calls::default(),
            closing: BTreeSet::new(),
            refused: BTreeSet::new(),
            watch: Watch::default(),
            told: Vec::new(),
            random: Random::new(seed, 1),
            habits,
        };
        world.later(DIAL, Event::Dial);
        world
    }

    /// Adds a machine without a process. Discovery returns it while a process runs there, or
    /// always.
    pub fn add(&mut self, start: Start, clock: Clock, is_named: bool) -> usize {
        self.nodes.push(Node::new(start, clock, is_named));
        self.nodes.len() - 1
    }

    /// Returns the true time.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Returns the nodes.
    pub fn nodes(&self) -> &[Node<P>] {
        &self.nodes
    }

    /// Returns the digest of the events so far, and the violation if there is one.
    pub fn trace(&self) -> &Trace {
        self.watch.trace()
    }

    /// Records each event from now on.
    pub fn keep_trace(&mut self) {
        self.watch.keep();
    }

    /// Watches which nodes serve a record.
    pub fn watch(&mut self, id: RecordId) {
        self.watch.add(id);
    }

    /// Allows separated sides to serve from now on.
    pub fn allow_splits(&mut self) {
        self.watch.allow_splits();
    }

    /// Returns the violation, if there is one.
    pub fn violation(&self) -> Option<&str> {
        self.watch.violation()
    }

    /// Starts a process on a machine where none runs.
    pub fn start(&mut self, at: usize) {
        let (drawn, old) = (self.random.bytes(), &self.nodes[at]);
        let is_kept = self.habits.keeps_boots && old.starts() > 0;
        let boot = if is_kept { old.boot().to_bytes() } else { drawn };
        let seed = self.random.draw();
        let time = self.time;
        self.watch.note(time, || format!("{at} starts"), ("start", at, 0));
        let start = self.nodes[at].start(time, boot, seed);
        self.effects(at);
        let wait = self.random.millis(0, 20);
        self.later(wait, Event::Tick { to: at, start });
        self.discover(at);
    }

    /// Kills a process. Packets in transit may arrive first, or be lost.
    pub fn crash(&mut self, at: usize) {
        if !self.nodes[at].is_up() {
            return;
        }
        let time = self.time;
        self.watch.note(time, || format!("{at} crashes"), ("crash", at, 0));
        self.nodes[at].stop();
        self.calls.lose(at, time);
        self.closing.retain(|(node, _)| *node != at);
        let is_abrupt = self.random.one_in(2);
        for peer in self.network.peers(at) {
            self.close(at, peer, is_abrupt);
        }
    }

    /// Stops a process for a while. Its sockets stay open.
    pub fn stall(&mut self, at: usize, duration: Duration) {
        let until = self.time + duration;
        let time = self.time;
        self.watch.note(time, || format!("{at} stalls for {duration:?}"), ("stall", at, 0));
        self.nodes[at].stall(until);
        self.later(duration, Event::Wake(at));
    }

    /// Makes a node slow: it stops for a moment after some inputs.
    pub fn set_slow(&mut self, at: usize, is_slow: bool) {
        self.nodes[at].set_slow(is_slow);
    }

    /// Sets the lead and the lag of a machine's wall clock.
    pub fn set_wall(&mut self, at: usize, ahead: Duration, behind: Duration) {
        let time = self.time;
        self.watch.note(time, || format!("{at}'s clock +{ahead:?} -{behind:?}"), ("wall", at, 0));
        self.nodes[at].clock_mut().set_wall(ahead, behind);
    }

    /// Cuts directions.
    pub fn cut(&mut self, directions: &[Direction]) {
        let time = self.time;
        self.watch.note(time, || format!("cut {directions:?}"), ("cut", directions.len(), 0));
        self.network.cut(directions);
    }

    /// Ends cuts of these directions.
    pub fn heal(&mut self, directions: &[Direction]) {
        let time = self.time;
        self.watch.note(time, || format!("healed {directions:?}"), ("heal", directions.len(), 0));
        self.network.heal(directions);
    }

    /// Ends all cuts.
    pub fn heal_all(&mut self) {
        self.network.heal_all();
    }

    /// Breaks a link. Packets in transit are lost.
    pub fn reset(&mut self, a: usize, b: usize) {
        let time = self.time;
        self.watch.note(time, || format!("link {a}-{b} breaks"), ("reset", a, b));
        let sides = [(a, b), (b, a)];
        let ends = sides.map(|(at, from)| (at, from, self.network.close(at, from, time)));
        for (at, from, end) in ends {
            if let Some((link, boot, _)) = end {
                self.closing.insert((at, from));
                self.input(at, Input::Closed { from, link, boot });
            }
        }
    }

    /// Makes a node suspect another one.
    pub fn suspect(&mut self, at: usize, suspect: usize) {
        let boot = self.nodes[suspect].boot();
        self.with(at, |process, now| process.suspect(now, boot));
    }

    /// Asks a process to drain.
    pub fn drain(&mut self, at: usize, leaves: bool) {
        let time = self.time;
        self.watch.note(time, || format!("{at} drains"), ("drain", at, leaves.into()));
        self.nodes[at].drain();
        self.with(at, |process, now| process.drain(now, leaves));
    }

    /// Changes the settings, as an operator would. Later processes start with the new ones.
    pub fn reconfigure(&mut self, at: usize, settings: Settings) {
        let time = self.time;
        self.watch.note(time, || format!("{at} is to have {settings:?}"), ("configure", at, 0));
        self.nodes.iter_mut().for_each(|node| node.configure(settings));
        self.with(at, |process, now| process.reconfigure(now, settings));
    }

    /// Returns the sessions whose end without a request was reported to an application, with the
    /// time.
    pub fn told(&self) -> &[(RecordId, Duration)] {
        &self.told
    }

    /// Returns the most that a node sent to another one in a step, if measured.
    pub fn most_sent(&self) -> Measure {
        self.watch.most()
    }

    /// Makes a client's call. Returns `None` if no process runs there.
    pub fn call(&mut self, at: usize, request: Request, within: Duration) -> Option<u64> {
        if !self.nodes[at].is_up() {
            return None;
        }
        self.calls.last += 1;
        let ticket = self.calls.last;
        self.calls.open.insert(ticket, at);
        self.input(at, Input::Call { ticket, request: request.into(), within });
        Some(ticket)
    }

    /// Returns true if a balancer sends calls to a node: it runs, does not drain, and is the first
    /// with its name.
    pub fn takes_calls(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        node.is_up() && !node.is_draining() && self.is_of_its_own(at)
    }

    /// Returns true if no earlier machine has its name.
    pub fn is_of_its_own(&self, at: usize) -> bool {
        let name = |node: &Node<P>| node.configuration().name.clone();
        self.nodes[..at].iter().all(|node| name(node) != name(&self.nodes[at]))
    }

    /// Returns true if a process was stopped at this time or later.
    pub fn stood_still(&self, at: usize, since: Duration) -> bool {
        self.nodes[at].is_stalled(since)
    }

    /// Returns true if the first nodes, up to this number, are ready.
    pub fn are_ready(&self, nodes: usize) -> bool {
        self.nodes[..nodes]
            .iter()
            .all(|node| node.process().is_some_and(|process| process.is_ready(node.now(self.time))))
    }

    /// Returns true if no node has anything left to take over or to sync.
    pub fn is_settled(&self) -> bool {
        let epochs = self.nodes.iter().filter_map(Node::process).map(Process::epoch);
        if epochs.collect::<BTreeSet<_>>().len() > 1 {
            return false;
        }
        let mut up = self.nodes.iter().filter_map(|node| Some((node, node.process()?)));
        up.all(|(node, process)| process.is_settled(node.now(self.time)))
    }

    /// Returns the reasons why nodes are not ready.
    pub fn describe(&self) -> String {
        let told = |node: &Node<P>| {
            let process = node.process();
            let state = process.map_or("down".to_owned(), |p| p.describe(node.now(self.time)));
            format!("{node:?}: {state}")
        };
        self.nodes.iter().map(told).collect::<Vec<_>>().join("; ")
    }

    /// Returns the answers since the last call.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.calls.answers)
    }

    /// Lets time pass.
    pub fn pass(&mut self, span: Duration) {
        let end = self.time + span;
        while let Some(((at, n), _)) = self.events.first_key_value()
            && *at <= end
            && self.watch.violation().is_none()
        {
            let key = (*at, *n);
            let event = self.events.remove(&key).expect("the first event is there");
            self.time = key.0;
            self.happen(event);
        }
        self.time = end;
    }

    fn later(&mut self, after: Duration, event: Event<P>) {
        self.last_event += 1;
        self.events.insert((self.time + after, self.last_event), event);
    }

    fn happen(&mut self, event: Event<P>) {
        match event {
            Event::Dial => {
                self.release();
                self.break_links();
                self.dial();
                self.later(DIAL, Event::Dial);
            }
            Event::Tick { to, start } => self.tick(to, start),
            Event::Wake(at) => self.wake(at),
            Event::Input { to, input } => self.input(to, input),
        }
    }

    fn tick(&mut self, at: usize, start: u64) {
        if !self.nodes[at].is_start(start) {
            return;
        }
        let wait = self.random.millis(10, 25);
        self.later(wait, Event::Tick { to: at, start });
        if self.nodes[at].is_stalled(self.time) {
            self.nodes[at].missed_tick();
            return;
        }
        if self.random.one_in(10) {
            self.discover(at);
        }
        self.with(at, Process::tick);
    }

    /// Handles the inputs that waited, and the missed tick before or after them.
    fn wake(&mut self, at: usize) {
        if self.nodes[at].is_stalled(self.time) || !self.nodes[at].is_up() {
            return;
        }
        let Waiting { inputs, missed_tick } = self.nodes[at].take_waiting();
        let is_drawn = self.random.one_in(2);
        let is_first = missed_tick && (is_drawn || self.habits.ticks_first);
        if is_first {
            self.with(at, Process::tick);
        }
        for input in inputs {
            self.input(at, input);
        }
        if missed_tick && !is_first {
            self.with(at, Process::tick);
        }
    }

    fn input(&mut self, at: usize, input: Input<P>) {
        if !self.nodes[at].is_up() {
            return;
        }
        if self.nodes[at].is_stalled(self.time) || self.nodes[at].is_behind() {
            self.nodes[at].wait_with(input);
            return;
        }
        match input {
            Input::Opened { from, link, hello } => {
                if self.network.peer(at, from, link).is_some() {
                    self.note("opened", at, from);
                    self.with(at, |process, now| process.connected(now, hello));
                }
            }
            Input::Closed { from, link, boot } => self.closed(at, from, link, boot),
            Input::Packet { from, link, packet } => {
                if let Some(boot) = self.network.peer(at, from, link) {
                    let time = self.time;
                    let told = || format!("{from} -> {at}: {packet:?}");
                    self.watch.note(time, told, ("packet", from, at));
                    self.with(at, |process, now| process.receive(now, boot, packet));
                }
            }
            Input::Call { ticket, request, within } => self.hand_over(at, ticket, *request, within),
        }
        self.slow_down(at);
    }

    fn hand_over(&mut self, at: usize, ticket: u64, request: Request, within: Duration) {
        let time = self.time;
        self.watch.note(time, || format!("{at} is asked #{ticket} {request:?}"), ("call", at, 0));
        let now = self.nodes[at].now(time);
        if let Some(process) = self.nodes[at].process_mut() {
            let number = process.call(now, request, within);
            self.calls.numbers.insert((at, number), ticket);
        }
        self.effects(at);
    }

    fn slow_down(&mut self, at: usize) {
        if self.nodes[at].is_slow() && self.random.one_in(8) {
            let pause = self.random.millis(2, 40);
            self.stall(at, pause);
        }
    }

    fn closed(&mut self, at: usize, from: usize, link: u64, boot: Boot) {
        let is_open = self.network.peer(at, from, link).is_some();
        if !self.closing.remove(&(at, from)) && !is_open {
            return;
        }
        if is_open {
            self.network.close(at, from, self.time);
        }
        let was_refused = !self.nodes[from].is_up() && self.network.is_reached(at, from);
        if was_refused {
            self.refused.insert((at, from, self.nodes[from].starts()));
        }
        self.note(if was_refused { "refused" } else { "closed" }, at, from);
        self.with(at, |process, now| process.disconnected(now, boot, was_refused));
    }

    /// Delivers the packets that waited for the end of a cut.
    fn release(&mut self) {
        for ((from, to), packet) in self.network.released() {
            self.send(from, to, packet);
        }
    }

    /// Breaks the links whose packets waited too long, and those whose other end is gone.
    fn break_links(&mut self) {
        let half = self.network.half_open();
        let seen = half.into_iter().filter(|(at, from)| self.network.is_reached(*at, *from));
        let mut broken = self.network.broken(self.time);
        broken.extend(seen);
        for (from, to) in broken {
            self.reset(from, to);
        }
    }

    /// Connects nodes that can reach each other, and notices addresses that refuse links.
    fn dial(&mut self) {
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                let is_linked = self.network.is_open(a, b) || self.network.is_open(b, a);
                let is_closing = self.closing.contains(&(a, b)) || self.closing.contains(&(b, a));
                let is_reached = a != b && self.network.is_reached(a, b);
                if is_linked || is_closing || !is_reached || !self.nodes[a].is_up() {
                    continue;
                }
                if !self.nodes[b].is_up() {
                    self.refuse(a, b);
                } else if !self.random.one_in(3) {
                    self.connect(a, b);
                }
            }
        }
    }

    fn refuse(&mut self, at: usize, from: usize) {
        let starts = self.nodes[from].starts();
        if starts > 0 && self.refused.insert((at, from, starts)) {
            self.note("refused", at, from);
            let boot = self.nodes[from].boot();
            self.with(at, |process, now| process.disconnected(now, boot, true));
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        let [one, other] = [a, b].map(|n| (n, self.nodes[n].boot()));
        let link = self.network.open(one, other, self.time);
        for (from, to) in [(a, b), (b, a)] {
            let Some(hello) = self.nodes[from].process().map(Process::hello) else {
                continue;
            };
            let opened = Input::Opened { from, link, hello };
            let delay = self.random.millis(1, 4);
            self.network.hold(from, to, self.time + delay);
            self.later(delay, Event::Input { to, input: opened });
        }
    }

    /// Closes a node's end of a link. The other end notices after the packets in transit, unless
    /// these are lost.
    fn close(&mut self, from: usize, to: usize, is_abrupt: bool) {
        let Some((link, _, seen)) = self.network.close(from, to, self.time) else {
            return;
        };
        if !self.network.is_reached(from, to) || self.network.peer(to, from, link).is_none() {
            return;
        }
        let boot = self.nodes[from].boot();
        if is_abrupt {
            self.network.close(to, from, self.time);
        }
        self.closing.insert((to, from));
        let closed = Event::Input { to, input: Input::Closed { from, link, boot } };
        self.later(seen.saturating_sub(self.time), closed);
    }

    fn discover(&mut self, at: usize) {
        let mut discovery = Discovery::default();
        let is_named = |other: &usize| *other != at && self.nodes[*other].is_named();
        for other in (0..self.nodes.len()).filter(is_named) {
            let address = self.nodes[other].configuration().address.clone();
            if !self.network.is_open(at, other) {
                discovery.unanswered.push(address.clone());
            }
            discovery.named.push(address);
        }
        self.with(at, |process, now| process.discovered(now, &discovery));
    }

    fn with(&mut self, at: usize, act: impl FnOnce(&mut P, Now)) {
        let now = self.nodes[at].now(self.time);
        if let Some(process) = self.nodes[at].process_mut() {
            act(process, now);
            self.effects(at);
        }
    }

    fn effects(&mut self, at: usize) {
        let effects = self.nodes[at].process_mut().map(Process::take_effects).unwrap_or_default();
        self.look_at_packets(at, &effects);
        for effect in effects {
            self.effect(at, effect);
        }
        let time = self.time;
        self.watch.look(time, &self.nodes, at);
    }

    fn look_at_packets(&mut self, at: usize, effects: &[Effect<P::Packet>]) {
        let (time, node) = (self.time, &self.nodes[at]);
        let Some(process) = node.process() else {
            return;
        };
        let mut sent = BTreeMap::<Boot, (Measure, Measure)>::new();
        for effect in effects {
            let Effect::Send(to, packet) = effect else { continue };
            if let Some(epoch) = process.word_in(packet) {
                self.watch.spoke(time, node, epoch);
            }
            if self.habits.measures {
                let Measure { bytes, records } = process.measure(*to, packet);
                let (most, sum) = sent.entry(*to).or_default();
                *most =
                    Measure { bytes: bytes.max(most.bytes), records: records.max(most.records) };
                *sum = Measure { bytes: bytes + sum.bytes, records: records + sum.records };
            }
        }
        sent.into_values().for_each(|sent| self.watch.sent(time, node, sent));
    }

    fn effect(&mut self, at: usize, effect: Effect<P::Packet>) {
        match effect {
            Effect::Send(boot, packet) => {
                if let Some(to) =
                    self.nodes.iter().position(|node| node.is_up() && node.boot() == boot)
                {
                    self.send(at, to, packet);
                }
            }
            Effect::Answer(number, reply) => self.answered(at, number, reply),
            Effect::Told(id) => {
                let time = self.time;
                self.watch.note(time, || format!("{at} is told that {id} ended"), ("told", at, 0));
                self.told.push((id, time));
            }
            Effect::Drained => self.nodes[at].ends(End::Drained),
            Effect::Ended(why) => {
                let time = self.time;
                self.watch.note(time, || format!("{at} ends: {why}"), ("ends", at, 0));
                self.nodes[at].ends(End::Itself);
                self.crash(at);
            }
        }
    }

    fn answered(&mut self, at: usize, number: u64, reply: Reply) {
        let Some(ticket) = self.calls.numbers.remove(&(at, number)) else {
            return;
        };
        let time = self.time;
        self.watch.note(time, || format!("{at} answers #{ticket} {reply:?}"), ("answer", at, 0));
        self.calls.open.remove(&ticket);
        self.calls.answers.push(Answer { ticket, at: time, reply: Some(reply) });
    }

    fn send(&mut self, from: usize, to: usize, packet: P::Packet) {
        if let Sent::Arrives(link, at, packet) = self.network.send(from, to, self.time, packet) {
            let input = Input::Packet { from, link, packet };
            self.later(at - self.time, Event::Input { to, input });
        }
    }

    fn note(&mut self, what: &'static str, at: usize, from: usize) {
        let time = self.time;
        self.watch.note(time, || format!("{at}: link to {from} {what}"), (what, at, from));
    }
}

impl Calls {
    /// Fails a call whose process is gone.
    fn lose(&mut self, at: usize, time: Duration) {
        let lost = self.open.iter().filter(|(_, node)| **node == at).map(|(ticket, _)| *ticket);
        for ticket in lost.collect::<Vec<_>>() {
            self.open.remove(&ticket);
            self.answers.push(Answer { ticket, at: time, reply: None });
        }
        self.numbers.retain(|(node, _), _| *node != at);
    }
}
