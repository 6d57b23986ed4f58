//! One run: a service starts, clients call it, faults are injected and repaired, and the clients'
//! answers are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use steadfast_core::{Budget, RecordId};
use steadfast_replication::budget::Budgets;
use steadfast_replication::epoch::{Acknowledgements, PartitionPolicy, Settings};
use steadfast_replication::member::Boot;
use steadfast_replication::placement::Replication;
use steadfast_replication::rules::{Rule, Rules};

use crate::faults::{Fault, Faults, Level, Plan};
use crate::history::checks::{answers_from_copies, check_history, is_available};
use crate::history::clients::{Clients, Habits, PATIENCE};
use crate::history::sides::check_sides;
use crate::history::{Told, reports};
use crate::process::{Holding, Measure, Process, Start};
use crate::random::Random;
use crate::world::{self, Clock, Node, World};

/// The setup of a run.
// Ten fields, because each is drawn or set by itself.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The number of nodes of the service.
    pub nodes: usize,
    /// The number of further nodes that may join and leave.
    pub spares: usize,
    /// The configuration of all nodes.
    pub settings: Settings,
    /// The number of visitors' sessions that a node may hold. `None` is the default, which no run
    /// reaches.
    pub visitors: Option<u64>,
    /// The faults.
    pub plan: Plan,
    /// The time in which faults are injected.
    pub lasts: Duration,
    /// The time that recovery may take after that.
    pub settles: Duration,
    /// The behaviour of clients.
    pub habits: Habits,
    /// The behaviour of machines.
    pub machines: Machines,
    /// The rule that is left out.
    pub without: Option<Rule>,
}

/// The behaviour of machines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machines {
    /// Their settings in the world.
    pub habits: world::Habits,
    /// The number of zones. Neither 0 nor 1 makes any.
    pub zones: usize,
    /// True if processes do not know their zones.
    pub hides_zones: bool,
    /// True if the ends of sessions are remembered for seconds only.
    pub forgets_soon: bool,
    /// True if applications want reports of sessions that end without a request.
    pub are_told: bool,
    /// The smallest percentage of reads that are answered without asking another node.
    pub answers: usize,
}

impl Setup {
    /// Returns true if the sides of a split may serve independently.
    pub fn may_split(&self) -> bool {
        self.settings.policy == Some(PartitionPolicy::Degrade) && self.nodes > 1
    }

    /// Returns true if no process loses its memory.
    fn is_lossless(&self) -> bool {
        let loses =
            |fault: &Fault| matches!(fault, Fault::Crash | Fault::QuickRestart | Fault::Twin);
        !self.plan.kinds.iter().any(loses)
    }

    /// Creates a service of this number of nodes with the default settings, and all kinds of
    /// faults.
    pub fn of(nodes: usize) -> Self {
        Self {
            nodes,
            spares: 1,
            settings: Settings {
                replication: Replication::Backups(1),
                acknowledgements: Acknowledgements::One,
                policy: Some(PartitionPolicy::Fail),
            },
            visitors: None,
            plan: Plan {
                kinds: Fault::ALL.to_vec(),
                level: Level::Covered(1),
                pause: Duration::from_secs(3),
                zones: 1,
            },
            lasts: Duration::from_secs(25),
            settles: Duration::from_secs(20),
            habits: Habits::default(),
            machines: Machines::default(),
            without: None,
        }
    }

    /// Draws a setup from a seed: nodes, settings and behaviour.
    pub fn drawn(seed: u64, nodes: Option<usize>) -> Self {
        let mut random = Random::new(seed, 5);
        let drawn = random.one_of(&[3, 3, 3, 4, 5, 5, 6, 7, 9]).unwrap_or(3);
        let mut setup = Self::of(nodes.unwrap_or(drawn));
        let backups = match random.below(6) {
            0 => Replication::Full,
            1 => Replication::Backups(2),
            _ => Replication::Backups(1),
        };
        setup.settings.replication = backups;
        if random.one_in(4) {
            setup.settings.acknowledgements = Acknowledgements::All;
        }
        if setup.nodes >= 3 && random.one_in(2) {
            setup.settings.policy = None;
        }
        setup.habits.is_sticky = random.one_in(3);
        setup.plan.pause = random.millis(500, 5_000);
        setup.visitors = random.one_in(4).then(|| 3 + random.draw() % 4);
        setup.machines.forgets_soon = seed % 4 == 1;
        setup.machines.are_told = seed.is_multiple_of(3);
        setup
    }
}

/// Figures of one or more runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// The number of runs.
    pub runs: u64,
    /// The calls that clients made.
    pub calls: u64,
    /// The calls with an unknown outcome.
    pub unknown: u64,
    /// The reads that found a session.
    pub found: u64,
    /// The outcomes of calls that nodes remember at rest.
    pub outcomes: u64,
    /// The ends of sessions that were reported to applications.
    pub told: u64,
    /// The events of the world.
    pub events: u64,
    /// Simulated seconds.
    pub seconds: u64,
    /// The digest of every event.
    pub trace: u64,
    /// The most bytes and records that a node sent to another one in a step, if measured.
    pub most: (usize, usize),
    /// The number of faults of each kind.
    pub faults: BTreeMap<Fault, u64>,
}

impl Ran {
    /// Adds the figures of another run.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.calls += other.calls;
        self.unknown += other.unknown;
        self.found += other.found;
        self.outcomes += other.outcomes;
        self.told += other.told;
        self.events += other.events;
        self.seconds += other.seconds;
        self.trace ^= other.trace;
        self.most = (self.most.0.max(other.most.0), self.most.1.max(other.most.1));
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, calls, unknown, found, outcomes, told, events, seconds, trace, .. } = self;
        writeln!(
            f,
            "{runs} runs, {seconds} simulated seconds, {events} events, trace {trace:016x}"
        )?;
        writeln!(f, "{calls} calls, {unknown} without an answer; {found} reads found a session")?;
        writeln!(f, "{outcomes} outcomes of calls are remembered at rest")?;
        if *told > 0 {
            writeln!(f, "{told} ends of sessions were told")?;
        }
        if let (bytes, records @ 1..) = self.most {
            writeln!(f, "at most {bytes} bytes and {records} records to a node in a step")?;
        }
        let faults: Vec<_> =
            self.faults.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect();
        write!(f, "faults: {}", faults.join(", "))
    }
}

/// A run that violated a rule.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Its seed.
    pub seed: u64,
    /// The violation.
    pub what: String,
    /// The events before it, if they were requested.
    pub trace: Vec<String>,
}

/// Runs a service once.
///
/// # Errors
///
/// Returns the first violation.
pub fn run<P: Process>(setup: &Setup, seed: u64, is_traced: bool) -> Result<Ran, Broken> {
    let mut run = Run::<P>::new(setup, seed);
    if is_traced {
        run.world.keep_trace();
    }
    match run.all() {
        Ok(()) => Ok(run.ran()),
        Err(what) => {
            let trace = run.world.trace().lines().map(str::to_owned).collect();
            Err(Broken { seed, what, trace })
        }
    }
}

struct Run<P: Process> {
    setup: Setup,
    world: World<P>,
    clients: Clients,
    faults: Faults,
}

const STEP: Duration = Duration::from_millis(5);
/// The time that nodes which start together take until they are ready.
const STARTS: Duration = Duration::from_secs(30);
/// A time without faults, in which no call may fail.
const CALM: Duration = Duration::from_secs(3);

/// The time within which the end of a session is reported.
const REPORTED_WITHIN: Duration = Duration::from_secs(5);

/// The number of checks for rest.
const LOOKS: usize = 5;

/// The time within which an end that is in progress is confirmed.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

impl<P: Process> Run<P> {
    fn new(setup: &Setup, seed: u64) -> Self {
        let mut world = World::new(seed, setup.machines.habits);
        if setup.may_split() {
            world.allow_splits();
        }
        let mut random = Random::new(seed, 6);
        for n in 0..setup.nodes + setup.spares {
            // Rates differ by at most 5 %.
            let drift = random.below(48_000) as i64 - 24_000;
            world.add(start(setup, n), Clock::new(drift), n < setup.nodes);
        }
        let mut clients = Clients::new(seed, setup.habits);
        if setup.visitors.is_some() {
            clients.expect_evictions();
        }
        Self {
            setup: setup.clone(),
            world,
            clients,
            faults: Faults::new(seed, setup.nodes, setup.plan.clone()),
        }
    }

    fn all(&mut self) -> Result<(), String> {
        self.begin()?;
        self.go_on(self.setup.lasts, true, true)?;
        self.repair()?;
        let since = self.world.time();
        self.clients.all_is_well(since);
        self.go_on(CALM, false, true)?;
        self.rest(since)?;
        self.judge(since)
    }

    fn begin(&mut self) -> Result<(), String> {
        for n in 0..self.setup.nodes {
            self.world.start(n);
        }
        self.until(STARTS, |world, nodes| world.are_ready(nodes) && world.is_settled())
            .map_err(|why| format!("the service never starts: {why}"))
    }

    fn repair(&mut self) -> Result<(), String> {
        self.faults.end(&mut self.world);
        let end = self.world.time() + self.setup.settles;
        while !(self.faults.is_over() && self.is_well()) {
            if self.world.time() > end {
                let why = self.world.describe();
                return Err(format!("C19: everything is repaired, and not well again: {why}"));
            }
            self.faults.repair_what_is_due(&mut self.world);
            self.go_on(STEP * 10, false, true)?;
        }
        Ok(())
    }

    fn is_well(&self) -> bool {
        self.world.are_ready(self.setup.nodes) && self.world.is_settled()
    }

    /// Stops the clients until the service is at rest, and then reads everything.
    fn rest(&mut self, since: Duration) -> Result<(), String> {
        self.go_on(PATIENCE + Duration::from_secs(1), false, false)?;
        let late = (since + Duration::from_secs(11)).saturating_sub(self.world.time());
        self.go_on(late, false, false)?;
        self.comes_to_rest()?;
        self.clients.look_at_everything(&mut self.world);
        self.go_on(PATIENCE + Duration::from_secs(1), false, false)?;
        self.comes_to_rest()
    }

    fn judge(&mut self, since: Duration) -> Result<(), String> {
        if self.setup.machines.are_told {
            self.judge_reports()?;
        }
        let history = self.clients.history();
        is_available(history, since)?;
        answers_from_copies(history, self.setup.machines.answers)?;
        match self.setup.plan.level {
            Level::Covered(_) if self.setup.may_split() => {
                check_sides(history, self.setup.is_lossless())
            }
            Level::Covered(_) => check_history(history),
            // Checks that all nodes and lists agree on the sessions that are left. Losses are
            // accepted.
            Level::Beyond => check_sides(history, false),
        }
    }

    /// Checks that each remembered end was reported. If no process loses its memory, exactly the
    /// ends that happened have to be reported.
    fn judge_reports(&mut self) -> Result<(), String> {
        let up = self.world.nodes().iter().filter_map(Node::process);
        let ended: Vec<_> = up.flat_map(Process::endings).collect();
        // Sessions also end at rest, and are reported a moment later.
        self.go_on(REPORTED_WITHIN, false, false)?;
        let (history, told) = (self.clients.history(), self.world.told());
        reports::are_told(told, ended.into_iter())?;
        let is_covered = matches!(self.setup.plan.level, Level::Covered(_));
        if is_covered && !self.setup.may_split() {
            reports::check(history, told)?;
        }
        Ok(())
    }

    fn go_on(&mut self, span: Duration, breaks: bool, asks: bool) -> Result<(), String> {
        let end = self.world.time() + span;
        while self.world.time() < end {
            self.world.pass(STEP);
            if let Some(violation) = self.world.violation() {
                return Err(violation.to_owned());
            }
            self.clients.hear(&mut self.world)?;
            if breaks {
                self.faults.act(&mut self.world);
            }
            if asks {
                self.clients.act(&mut self.world);
            }
        }
        Ok(())
    }

    fn until(
        &mut self,
        most: Duration,
        is_done: impl Fn(&World<P>, usize) -> bool,
    ) -> Result<(), String> {
        let end = self.world.time() + most;
        while !is_done(&self.world, self.setup.nodes) {
            if self.world.time() > end {
                return Err(self.world.describe());
            }
            self.go_on(STEP, false, false)?;
        }
        Ok(())
    }

    /// Waits for rest. Sessions also expire at rest, and each end is a write, so one of several
    /// checks has to find none in progress.
    fn comes_to_rest(&mut self) -> Result<(), String> {
        for _ in 1..LOOKS {
            if self.rests().is_ok() {
                return Ok(());
            }
            self.go_on(BETWEEN_LOOKS, false, false)?;
        }
        self.rests()
    }

    /// Checks that, at rest, holders hold the same, no other node holds anything, and nothing is
    /// open.
    fn rests(&self) -> Result<(), String> {
        let up = || self.world.nodes().iter().filter(|node| node.is_up());
        for node in up() {
            let open = node.process().map(Process::open).unwrap_or_default();
            if let Some((what, count)) = open.into_iter().find(|(_, count)| *count > 0) {
                return Err(format!("at rest, {node:?} has {count} {what}"));
            }
        }
        let mut held = BTreeMap::<RecordId, Vec<Option<Holding>>>::new();
        let holdings: Vec<_> =
            up().filter_map(|node| Some((node, node.process()?.holdings()))).collect();
        let ids = holdings.iter().flat_map(|(_, holdings)| holdings.keys().copied());
        for id in ids.collect::<BTreeSet<_>>() {
            for (node, holdings) in &holdings {
                let holding = holdings.get(&id).copied();
                match node.process().is_some_and(|process| process.is_holder(id)) {
                    true => held.entry(id).or_default().push(holding),
                    false if holding.is_some() => {
                        return Err(format!("at rest, {node:?} holds {id}, and is no holder"));
                    }
                    false => {}
                }
            }
        }
        let differing = held.iter().find(|(_, all)| all.iter().any(|one| *one != all[0]));
        differing.map_or(Ok(()), |(id, all)| {
            Err(format!("at rest, the holders of {id} differ: {all:?}"))
        })
    }

    fn outcomes(&self) -> u64 {
        let up = self.world.nodes().iter().filter_map(Node::process);
        up.map(|process| process.outcomes() as u64).sum()
    }

    fn ran(&self) -> Ran {
        let history = self.clients.history();
        let count = |is: fn(&Told) -> bool| {
            history.calls.iter().filter(|call| is(&call.told)).count() as u64
        };
        let Measure { bytes, records } = self.world.most_sent();
        Ran {
            most: (bytes, records),
            runs: 1,
            calls: history.calls.len() as u64,
            unknown: count(|told| matches!(told, Told::Nothing(_))),
            found: count(|told| matches!(told, Told::Found(_))),
            outcomes: self.outcomes(),
            told: self.world.told().len() as u64,
            events: self.world.trace().events(),
            seconds: self.world.time().as_secs() - 1_000,
            trace: self.world.trace().digest(),
            faults: self.faults.counts().clone(),
        }
    }
}

fn budgets(setup: &Setup) -> Budgets {
    let default = Budgets::default();
    let records = setup.visitors.unwrap_or(default.visitors.records);
    Budgets { visitors: Budget { records, ..default.visitors }, ..default }
}

fn start(setup: &Setup, n: usize) -> Start {
    let name = format!("n{n}").parse().expect("the name of the node is right");
    let Machines { zones, hides_zones, forgets_soon, are_told, .. } = setup.machines;
    let rules = setup.without.map_or(Rules::default(), Rules::without);
    Start {
        name,
        boot: Boot::new([0; 16]),
        address: format!("10.0.0.{n}:7000"),
        zone: (zones > 1 && !hides_zones).then(|| format!("z{}", n % zones)),
        settings: setup.settings,
        budgets: budgets(setup),
        seed: 0,
        rules: if forgets_soon { rules.that_forget_soon() } else { rules },
        is_told: are_told,
    }
}
