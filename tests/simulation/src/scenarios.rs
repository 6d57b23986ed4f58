//! Failures of the first edition of the protocol, each as a setup of its own.

use std::time::Duration;

use steadfast_replication::epoch::{Acknowledgements, PartitionPolicy};
use steadfast_replication::placement::Replication;

use crate::faults::{Fault, Level};
use crate::run::Setup;

/// A named setup.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// A description.
    pub what: &'static str,
    setup: fn(&mut Setup),
}

impl Scenario {
    /// All scenarios.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "identity",
            what: "processes restart on machines whose clock is up to 4 min behind or ahead",
            setup: |setup| setup.plan.kinds = vec![Fault::Crash, Fault::ClockJump],
        },
        Self {
            name: "names",
            what: "a second process starts under the name of a living one",
            setup: |setup| setup.plan.kinds = vec![Fault::Twin, Fault::ShortStall],
        },
        Self {
            name: "authority",
            what: "nodes of five stand still for seconds, so that other holders answer",
            setup: |setup| {
                setup.nodes = 5;
                setup.plan.kinds = vec![Fault::Stall];
                setup.plan.level = Level::Covered(2);
            },
        },
        Self {
            name: "two backups",
            what: "two backups, one of which acknowledges; nodes stand still and crash",
            setup: |setup| {
                setup.nodes = 5;
                setup.settings.replication = Replication::Backups(2);
                setup.plan.kinds = vec![Fault::Stall, Fault::Crash, Fault::Isolate];
            },
        },
        Self {
            name: "quorum",
            what: "nodes are suspected wrongly and crash, under the policy `Fail` by default",
            setup: |setup| {
                setup.settings.policy = None;
                setup.plan.kinds = vec![Fault::Suspicion, Fault::Crash, Fault::Isolate];
            },
        },
        Self {
            name: "clocks",
            what: "wall clocks jump by seconds to hours, one at a time",
            setup: |setup| setup.plan.kinds = vec![Fault::ClockJump],
        },
        Self {
            name: "links",
            what: "pairs of nodes do not reach each other, both ways or one way, during joins and drains",
            setup: |setup| {
                setup.plan.kinds =
                    vec![Fault::CutPair, Fault::CutOneWay, Fault::Reset, Fault::Join, Fault::Drain];
            },
        },
        Self {
            name: "deaths",
            what: "processes are killed and started again, seconds or milliseconds later",
            setup: |setup| setup.plan.kinds = vec![Fault::Crash, Fault::QuickRestart],
        },
        Self {
            name: "lists",
            what: "many logins of few principals, with caps and revocations, while processes are killed",
            setup: |setup| {
                setup.habits.principals = 2;
                setup.habits.sessions = 24;
                setup.plan.kinds = vec![Fault::Crash, Fault::Stall, Fault::Drain];
            },
        },
        Self {
            name: "logins",
            what: "logins of few principals and little else, while processes are killed again and again",
            setup: |setup| {
                setup.habits.principals = 2;
                setup.habits.sessions = 400;
                setup.habits.rate = 300;
                setup.lasts = Duration::from_secs(8);
                setup.plan.pause = Duration::from_millis(500);
                setup.plan.kinds = vec![Fault::QuickRestart];
            },
        },
        Self {
            name: "rolled back",
            what: "creates and logins are interrupted by take-overs, again and again",
            setup: |setup| {
                setup.habits.sessions = 60;
                setup.habits.rate = 240;
                setup.plan.kinds = vec![Fault::QuickRestart, Fault::Isolate, Fault::Reset];
            },
        },
        Self {
            name: "stalls",
            what: "nodes stand still for 50 to 250 ms, and are slow",
            setup: |setup| {
                setup.plan.kinds = vec![Fault::ShortStall, Fault::Slow];
                setup.plan.pause = Duration::from_millis(400);
            },
        },
        Self {
            name: "leases",
            what: "few calls, so that leases end between them",
            setup: |setup| {
                setup.habits.rate = 4;
                setup.plan.kinds = vec![Fault::ShortStall, Fault::CutPair, Fault::Crash];
            },
        },
        Self {
            name: "expiry",
            what: "sessions with a short idle life, whose owners stand still",
            setup: |setup| {
                setup.habits.short_life = Duration::from_secs(12);
                setup.plan.kinds = vec![Fault::Stall, Fault::ShortStall, Fault::ClockJump];
            },
        },
        Self {
            name: "reports",
            what: "more visitors than a budget allows, and owners that are killed before ends are reported",
            setup: |setup| {
                setup.machines.are_told = true;
                setup.visitors = Some(6);
                setup.habits.sessions = 24;
                setup.habits.short_life = Duration::from_secs(4);
                setup.plan.kinds =
                    vec![Fault::Crash, Fault::QuickRestart, Fault::Stall, Fault::Drain];
            },
        },
        Self {
            name: "late ticks",
            what: "nodes stand still, and judge deadlines before they handle what waits",
            setup: |setup| {
                setup.machines.habits.ticks_first = true;
                setup.plan.kinds = vec![Fault::ShortStall, Fault::Stall];
                setup.plan.pause = Duration::from_millis(1_500);
            },
        },
        Self {
            name: "idle owners",
            what: "reads through one node only, whose copies others own",
            setup: |setup| {
                setup.settings.replication = Replication::Full;
                setup.habits.only_reads = true;
                setup.plan.kinds = Vec::new();
                setup.machines.answers = 84;
            },
        },
        Self {
            name: "repair",
            what: "thousands of sessions, some with large values, are copied again after crashes",
            setup: |setup| {
                setup.habits.sessions = 4_000;
                setup.habits.rate = 1_000;
                setup.habits.blob = 16_000;
                setup.plan.kinds = vec![Fault::Crash, Fault::Isolate, Fault::Drain];
                setup.machines.habits.measures = true;
            },
        },
        Self {
            name: "zones",
            what: "six nodes in three zones, one of which loses its power",
            setup: |setup| {
                setup.nodes = 6;
                setup.spares = 0;
                setup.machines.zones = 3;
                (setup.plan.zones, setup.plan.kinds) = (3, vec![Fault::Zone, Fault::ShortStall]);
            },
        },
        Self {
            name: "configuration",
            what: "an operator asks for other copies and acknowledgements, and nodes restart in turn",
            setup: |setup| {
                setup.nodes = 4;
                setup.plan.kinds = vec![Fault::Reconfigure, Fault::Drain, Fault::Crash];
            },
        },
        Self {
            name: "forgotten ends",
            what: "ends of sessions are remembered for 4 s, and nodes come back with copies",
            setup: |setup| {
                setup.machines.forgets_soon = true;
                setup.habits.ends = 40;
                setup.plan.kinds =
                    vec![Fault::Isolate, Fault::Stall, Fault::Suspicion, Fault::CutPair];
            },
        },
        Self {
            name: "joins and drains",
            what: "nodes join, drain, leave and are restarted in turn",
            setup: |setup| {
                setup.spares = 2;
                setup.plan.kinds = vec![Fault::Join, Fault::Drain];
            },
        },
        Self {
            name: "all copies",
            what: "every node holds everything, and a majority acknowledges",
            setup: |setup| {
                setup.settings.replication = Replication::Full;
                setup.settings.acknowledgements = Acknowledgements::One;
            },
        },
        Self {
            name: "beyond",
            what: "any number of faults at a time: what is left has to agree, and to serve again",
            setup: |setup| {
                setup.plan.level = Level::Beyond;
                setup.machines.are_told = true;
                setup.plan.pause = Duration::from_millis(1_500);
                setup.settles = Duration::from_secs(120);
            },
        },
        Self {
            name: "two nodes",
            what: "two nodes, which are below a majority when one is gone",
            setup: |setup| {
                setup.nodes = 2;
                setup.settings.policy = Some(PartitionPolicy::Fail);
            },
        },
        Self {
            name: "split of two",
            what: "two nodes lose each other, go on by themselves, and meet again",
            setup: |setup| {
                setup.nodes = 2;
                split(setup);
            },
        },
        Self {
            name: "split of three",
            what: "one node of three, or a pair of them, is cut off and goes on by itself",
            setup: split,
        },
        Self {
            name: "degrade",
            what: "sides go on by themselves, while processes are killed and stand still",
            setup: |setup| {
                split(setup);
                setup.plan.kinds = Fault::ALL.to_vec();
                // Merging relies on clocks, and on one process per name.
                let is_left_out = |fault: &Fault| matches!(fault, Fault::ClockJump | Fault::Twin);
                setup.plan.kinds.retain(|fault| !is_left_out(fault));
            },
        },
        Self {
            name: "lost lists",
            what: "processes lose their memory, any number at a time",
            setup: |setup| {
                setup.habits.principals = 8;
                setup.habits.sessions = 40;
                setup.plan.kinds = vec![Fault::QuickRestart];
                setup.plan.pause = Duration::from_secs(4);
                setup.plan.level = Level::Beyond;
                setup.settles = Duration::from_secs(120);
            },
        },
        Self {
            name: "one node",
            what: "one node alone, whose writes no other acknowledges, and whose clock no other corrects",
            setup: |setup| {
                setup.nodes = 1;
                setup.spares = 0;
                setup.settings.policy = Some(PartitionPolicy::Degrade);
                setup.plan.kinds = vec![Fault::ShortStall, Fault::Slow];
            },
        },
    ];

    /// Finds a scenario by its name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|scenario| scenario.name == name)
    }

    /// Returns the setup of its runs.
    pub fn setup(&self, nodes: Option<usize>) -> Setup {
        let mut setup = Setup::of(3);
        (self.setup)(&mut setup);
        setup.nodes = nodes.unwrap_or(setup.nodes);
        setup
    }
}

/// Adds cuts, during which both sides continue under `Degrade`.
fn split(setup: &mut Setup) {
    setup.settings.policy = Some(PartitionPolicy::Degrade);
    setup.machines.are_told = true;
    setup.plan.kinds = vec![Fault::Isolate, Fault::CutPair, Fault::ShortStall];
    setup.settles = Duration::from_secs(40);
}
