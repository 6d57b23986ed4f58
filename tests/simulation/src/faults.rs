//! Faults, and their repair.
//!
//! Faults that cost a process its memory, or other nodes its responses, are limited: no more of
//! them are active together than the settings promise to survive, and there is time for repair in
//! between. All other faults overlap freely. With [`Level::Beyond`], all faults do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use steadfast_replication::epoch::{Acknowledgements, Settings};
use steadfast_replication::placement::Replication;

use crate::process::{Process, Start};
use crate::random::Random;
use crate::world::{Clock, Direction, End, World};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process is killed, and restarted after a while, possibly with a wrong clock.
    Crash,
    /// A process is killed and restarted within milliseconds.
    QuickRestart,
    /// A process stops for 300 ms to 10 s.
    Stall,
    /// A process stops for 50 to 250 ms.
    ShortStall,
    /// Two nodes cannot reach each other.
    CutPair,
    /// Packets from one node to another are held back.
    CutOneWay,
    /// A node cannot reach any other.
    Isolate,
    /// A link breaks.
    Reset,
    /// A node is slow.
    Slow,
    /// A wall clock jumps by seconds or hours, and later back.
    ClockJump,
    /// Nodes suspect a healthy node.
    Suspicion,
    /// A second process starts under the name of a running one.
    Twin,
    /// A new node joins, and leaves later.
    Join,
    /// A process drains, exits and is restarted.
    Drain,
    /// All processes of a zone are killed and restarted.
    Zone,
    /// An operator changes the settings. Later processes start with the new ones.
    Reconfigure,
}

impl Fault {
    /// Every kind of fault that suits any service.
    pub const ALL: [Self; 14] = [
        Self::Crash,
        Self::QuickRestart,
        Self::Stall,
        Self::ShortStall,
        Self::CutPair,
        Self::CutOneWay,
        Self::Isolate,
        Self::Reset,
        Self::Slow,
        Self::ClockJump,
        Self::Suspicion,
        Self::Twin,
        Self::Join,
        Self::Drain,
    ];

    /// Finds a kind of fault by its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .chain([Self::Zone, Self::Reconfigure])
            .find(|fault| format!("{fault:?}") == name)
    }

    /// Returns true if the node is impaired until everything is repaired.
    fn is_grave(self) -> bool {
        matches!(
            self,
            Self::Crash
                | Self::QuickRestart
                | Self::Stall
                | Self::Isolate
                | Self::CutOneWay
                | Self::Suspicion
                | Self::Join
                | Self::Drain
                | Self::Zone
        )
    }
}

/// The number of concurrent faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// At most this number of nodes are impaired.
    Covered(usize),
    /// Any number of nodes.
    Beyond,
}

/// The faults of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The kinds of faults, each with the same probability.
    pub kinds: Vec<Fault>,
    /// The number of concurrent faults.
    pub level: Level,
    /// The longest pause between two faults.
    pub pause: Duration,
    /// The number of zones of the machines.
    pub zones: usize,
}

/// Injects faults, and repairs them.
#[derive(Debug)]
pub struct Faults {
    plan: Plan,
    random: Random,
    /// The machines that belong to the service. Those after them join and leave.
    nodes: usize,
    repairs: Vec<(Duration, Repair)>,
    in_trouble: BTreeSet<usize>,
    next_at: Duration,
    /// The time of the next check whether everything has recovered.
    looks_at: Duration,
    counts: BTreeMap<Fault, u64>,
}

#[derive(Clone, Debug)]
enum Repair {
    Start(usize),
    Heal(Vec<Direction>),
    /// Ends a process once it is drained. It is restarted if it belongs to the service.
    Stop(usize),
    /// Ends a process for good.
    Remove(usize),
    Hurry(usize),
    SetClock(usize),
    Leave(usize),
    /// Repeats a request until the service has these settings.
    Configure(Settings),
}

impl Faults {
    /// Creates a plan in which nothing is broken yet.
    pub fn new(seed: u64, nodes: usize, plan: Plan) -> Self {
        Self {
            plan,
            random: Random::new(seed, 4),
            nodes,
            repairs: Vec::new(),
            in_trouble: BTreeSet::new(),
            next_at: Duration::ZERO,
            looks_at: Duration::ZERO,
            counts: BTreeMap::new(),
        }
    }

    /// Returns the number of faults of each kind.
    pub fn counts(&self) -> &BTreeMap<Fault, u64> {
        &self.counts
    }

    /// Repairs what is due, and sometimes injects a fault.
    pub fn act<P: Process>(&mut self, world: &mut World<P>) {
        self.repair_what_is_due(world);
        let is_due = self.repairs.is_empty() && world.time() >= self.looks_at;
        if is_due && !self.in_trouble.is_empty() {
            self.looks_at = world.time() + Duration::from_millis(100);
            if world.is_settled() {
                self.in_trouble.clear();
            }
        }
        if world.time() >= self.next_at {
            let pause = self.random.between(self.plan.pause / 10, self.plan.pause);
            self.next_at = world.time() + pause;
            self.strike(world);
        }
    }

    /// Repairs everything except drains, which finish by themselves.
    pub fn end<P: Process>(&mut self, world: &mut World<P>) {
        world.heal_all();
        for (at, repair) in std::mem::take(&mut self.repairs) {
            match repair {
                Repair::Heal(_) => {}
                Repair::Stop(_) | Repair::Leave(_) | Repair::Configure(_) => {
                    self.repairs.push((at, repair));
                }
                _ => self.repair(world, repair),
            }
        }
    }

    /// Returns true if nothing is left to repair.
    pub fn is_over(&self) -> bool {
        self.repairs.is_empty()
    }

    /// Repairs what is due. Restarts processes that exited.
    pub fn repair_what_is_due<P: Process>(&mut self, world: &mut World<P>) {
        let now = world.time();
        let ended =
            |n: &usize| !world.nodes()[*n].is_up() && world.nodes()[*n].end() == End::Itself;
        for at in (0..self.nodes).filter(ended).collect::<Vec<_>>() {
            world.start(at);
        }
        let (due, later): (Vec<_>, _) =
            std::mem::take(&mut self.repairs).into_iter().partition(|(at, _)| *at <= now);
        self.repairs = later;
        for (_, repair) in due {
            self.repair(world, repair);
        }
    }

    fn strike<P: Process>(&mut self, world: &mut World<P>) {
        let Some(fault) = self.random.one_of(&self.plan.kinds) else {
            return;
        };
        let Some(victim) = self.victim(world, fault) else {
            return;
        };
        if fault.is_grave() && !self.may_be_in_trouble(victim) {
            return;
        }
        if self.strike_at(world, fault, victim) {
            *self.counts.entry(fault).or_default() += 1;
            if fault.is_grave() {
                self.in_trouble.insert(victim);
            }
        }
    }

    fn may_be_in_trouble(&self, victim: usize) -> bool {
        match self.plan.level {
            Level::Covered(most) => {
                self.in_trouble.len() < most && !self.in_trouble.contains(&victim)
            }
            Level::Beyond => true,
        }
    }

    fn victim<P: Process>(&mut self, world: &World<P>, fault: Fault) -> Option<usize> {
        let spares = self.nodes..world.nodes().len();
        if fault == Fault::Join {
            let down = spares.filter(|n| !world.nodes()[*n].is_up() && world.is_of_its_own(*n));
            return self.random.one_of(&down.collect::<Vec<_>>());
        }
        let up = (0..self.nodes).filter(|n| world.nodes()[*n].is_up());
        self.random.one_of(&up.collect::<Vec<_>>())
    }

    /// Returns true if the fault was possible.
    fn strike_at<P: Process>(&mut self, world: &mut World<P>, fault: Fault, victim: usize) -> bool {
        let lasts = self.random.millis(100, 6_000);
        match fault {
            Fault::Crash => self.crash(world, victim, lasts),
            Fault::QuickRestart => self.crash(world, victim, Duration::from_millis(2)),
            Fault::Stall => {
                let longest = self.random.millis(300, 10_000);
                world.stall(victim, lasts.min(longest));
                self.later(world, longest, Repair::Hurry(victim));
            }
            Fault::ShortStall => world.stall(victim, self.random.millis(50, 250)),
            Fault::CutPair | Fault::CutOneWay | Fault::Reset | Fault::Suspicion => {
                return self.strike_between(world, fault, victim, lasts);
            }
            Fault::Isolate => {
                let others = (0..world.nodes().len()).filter(|n| *n != victim);
                let all = others.flat_map(|n| [(n, victim), (victim, n)]).collect();
                self.cut(world, lasts, all);
            }
            Fault::Slow => {
                world.set_slow(victim, true);
                self.later(world, lasts, Repair::Hurry(victim));
            }
            Fault::ClockJump => return self.jump(world, victim, lasts),
            Fault::Twin => self.start_twin(world, victim, lasts),
            Fault::Join => {
                world.start(victim);
                self.later(world, lasts * 2, Repair::Leave(victim));
            }
            Fault::Drain => self.drain(world, victim, false),
            Fault::Zone => {
                for at in (victim % self.plan.zones..self.nodes).step_by(self.plan.zones) {
                    self.crash(world, at, lasts);
                }
            }
            Fault::Reconfigure => return self.reconfigure(world),
        }
        true
    }

    fn strike_between<P: Process>(
        &mut self,
        world: &mut World<P>,
        fault: Fault,
        victim: usize,
        lasts: Duration,
    ) -> bool {
        let others = (0..self.nodes).filter(|n| *n != victim && world.nodes()[*n].is_up());
        let others: Vec<_> = others.collect();
        let Some(other) = self.random.one_of(&others) else {
            return false;
        };
        match fault {
            Fault::CutPair => self.cut(world, lasts, vec![(victim, other), (other, victim)]),
            Fault::CutOneWay => self.cut(world, lasts, vec![(victim, other)]),
            Fault::Reset => world.reset(victim, other),
            _ => {
                let count = others.len() / 2 + 1;
                for judge in others.into_iter().take(count) {
                    world.suspect(judge, victim);
                }
            }
        }
        true
    }

    fn crash<P: Process>(&mut self, world: &mut World<P>, victim: usize, lasts: Duration) {
        world.crash(victim);
        if self.plan.kinds.contains(&Fault::ClockJump) && self.random.one_in(3) {
            let ahead = self.random.millis(0, 240_000);
            self.set_wall(world, victim, ahead);
            self.later(world, lasts + Duration::from_secs(1), Repair::SetClock(victim));
        }
        self.later(world, lasts, Repair::Start(victim));
    }

    /// Only one clock is wrong at a time, so that the other ones agree.
    fn jump<P: Process>(&mut self, world: &mut World<P>, victim: usize, lasts: Duration) -> bool {
        if world.nodes().iter().any(|node| !node.clock().is_right()) {
            return false;
        }
        let span = self.random.one_of(&[2_000, 20_000, 600_000, 7_200_000]).unwrap_or_default();
        let span = self.random.millis(span / 2, span);
        self.set_wall(world, victim, span);
        self.later(world, lasts, Repair::SetClock(victim));
        true
    }

    fn set_wall<P: Process>(&mut self, world: &mut World<P>, victim: usize, span: Duration) {
        match self.random.one_in(2) {
            true => world.set_wall(victim, span, Duration::ZERO),
            false => world.set_wall(victim, Duration::ZERO, span),
        }
    }

    fn start_twin<P: Process>(&mut self, world: &mut World<P>, of: usize, lasts: Duration) {
        let count = world.nodes().len();
        let start = world.nodes()[of].configuration().clone();
        let address = format!("{}-twin-{count}", start.address);
        let twin = world.add(Start { address, ..start }, Clock::new(0), false);
        world.start(twin);
        self.later(world, lasts, Repair::Remove(twin));
    }

    fn drain<P: Process>(&mut self, world: &mut World<P>, victim: usize, leaves: bool) {
        world.drain(victim, leaves);
        self.later(world, Duration::ZERO, Repair::Stop(victim));
    }

    fn cut<P: Process>(
        &mut self,
        world: &mut World<P>,
        lasts: Duration,
        directions: Vec<Direction>,
    ) {
        world.cut(&directions);
        self.later(world, lasts, Repair::Heal(directions));
    }

    fn later<P: Process>(&mut self, world: &World<P>, after: Duration, repair: Repair) {
        self.repairs.push((world.time() + after, repair));
    }

    fn repair<P: Process>(&mut self, world: &mut World<P>, repair: Repair) {
        match repair {
            Repair::Start(at) if !world.nodes()[at].is_up() => world.start(at),
            Repair::Start(_) => {}
            Repair::Heal(directions) => world.heal(&directions),
            Repair::Stop(at) => self.stop(world, at),
            Repair::Remove(at) => world.crash(at),
            Repair::Hurry(at) => world.set_slow(at, false),
            Repair::SetClock(at) => world.set_wall(at, Duration::ZERO, Duration::ZERO),
            Repair::Leave(at) => self.drain(world, at, true),
            Repair::Configure(settings) => self.configure(world, settings),
        }
    }

    /// Changes the number of copies and of acknowledgements. One change at a time.
    fn reconfigure<P: Process>(&mut self, world: &mut World<P>) -> bool {
        let is_open = |(_, repair): &(Duration, Repair)| matches!(repair, Repair::Configure(_));
        if self.repairs.iter().any(is_open) {
            return false;
        }
        let mut settings = world.nodes()[0].configuration().settings;
        settings.replication = match settings.replication {
            Replication::Backups(1) => Replication::Backups(2),
            _ => Replication::Backups(1),
        };
        if self.random.one_in(2) {
            settings.acknowledgements = match settings.acknowledgements {
                Acknowledgements::One => Acknowledgements::All,
                _ => Acknowledgements::One,
            };
        }
        self.configure(world, settings);
        true
    }

    fn configure<P: Process>(&mut self, world: &mut World<P>, settings: Settings) {
        let has_them = |at: &usize| {
            let process = world.nodes()[*at].process();
            process.and_then(Process::settings) == Some(settings)
        };
        let up = (0..self.nodes).filter(|at| world.nodes()[*at].is_up()).collect::<Vec<_>>();
        if up.iter().any(has_them) {
            return;
        }
        if let Some(at) = self.random.one_of(&up) {
            world.reconfigure(at, settings);
        }
        self.later(world, Duration::from_millis(500), Repair::Configure(settings));
    }

    /// Ends a process that drained, or waits for it.
    fn stop<P: Process>(&mut self, world: &mut World<P>, at: usize) {
        let node = &world.nodes()[at];
        if node.is_up() && node.end() == End::Draining {
            return self.later(world, Duration::from_millis(50), Repair::Stop(at));
        }
        world.crash(at);
        if at < self.nodes {
            let away = self.random.millis(50, 3_000);
            self.later(world, away, Repair::Start(at));
        }
    }
}
