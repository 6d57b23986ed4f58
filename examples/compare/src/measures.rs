//! The measures: how each figure of the report comes from the records of a contestant.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::contest::Contest;
use crate::fault::Fault;
use crate::records::{Action, Outcome, Phase, Place, Record};
use crate::statistics::{percent, quantile, skew};

/// A figure that every contestant has.
#[derive(Debug)]
pub struct Measure {
    /// The name in JSON.
    pub key: &'static str,
    /// The group of the table.
    pub group: &'static str,
    /// The name for people, with the unit.
    pub title: &'static str,
    /// The trade-off that the figure shows, in words.
    pub note: &'static str,
    value: fn(&Contest) -> Option<f64>,
}

/// A contestant with its figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The name of the strategy in options.
    pub id: String,
    /// The name for people.
    pub title: String,
    /// The strategy and its price.
    pub summary: String,
    /// The figures by the keys of [`all`]. `null` where a strategy has no such figure.
    pub measures: BTreeMap<String, Option<f64>>,
    /// The lowest and the highest figure, where a contestant ran several times.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ranges: BTreeMap<String, (f64, f64)>,
    /// Requests of the calm load that each node answered.
    pub node_requests: Vec<u64>,
    /// Sessions by the node that they live on, where visitors carry its label.
    pub node_sessions: Option<Vec<u64>>,
    /// Answers against time around each fault.
    pub faults: Vec<Timeline>,
    /// The share of the machine that other programs used during the calm load, in percent.
    pub others_percent: f64,
}

/// Reads and writes against time, by verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timeline {
    /// The name of the fault in options.
    pub fault: String,
    /// The length of an interval, in milliseconds.
    pub interval_ms: u64,
    /// The moment of the fault, in milliseconds since the start.
    pub fault_ms: u64,
    /// Requests by the interval in which they were to be sent.
    pub good: Vec<u64>,
    /// Those that showed an older value than was acknowledged.
    pub stale: Vec<u64>,
    /// Those that found the visitor signed out.
    pub signed_out: Vec<u64>,
    /// Those that failed, or had no answer.
    pub failed: Vec<u64>,
}

impl Measured {
    /// A figure by its key.
    pub fn figure(&self, key: &str) -> Option<f64> {
        self.measures.get(key).copied().flatten()
    }
}

/// Works out the figures of a contestant.
pub fn measure(contest: &Contest, nodes: usize) -> Measured {
    let strategy = contest.strategy;
    Measured {
        id: strategy.id().to_owned(),
        title: strategy.title().to_owned(),
        summary: strategy.summary().to_owned(),
        measures: all().map(|one| (one.key.to_owned(), (one.value)(contest).map(short))).collect(),
        ranges: BTreeMap::new(),
        node_requests: node_requests(contest, nodes),
        node_sessions: contest.homes.clone(),
        faults: contest.faults.iter().map(|(fault, at)| timeline(contest, *fault, *at)).collect(),
        others_percent: short(contest.cost.others * 100.0),
    }
}

/// All measures, in the order of the table. Of each, less is better.
pub fn all() -> impl Iterator<Item = &'static Measure> {
    [&GENERAL[..], &UNITS, &KILL, &STOP, &DRAIN, &OUTAGE, &JOIN, &FAILOVER, &TO_RUN]
        .into_iter()
        .flatten()
}

const GENERAL: [Measure; 19] = [
    Measure {
        key: "mismatch_percent",
        group: "Right answers, without a fault",
        title: "session mismatch, % of reads",
        note: "Reads that were older than what was acknowledged, or found the visitor signed out.",
        value: |contest| {
            let reads = reads(contest, Phase::Calm);
            let wrong = |record: &&Record| is(record, &[Outcome::Stale, Outcome::Missing]);
            percent(reads.iter().filter(|record| wrong(record)).count() as u64, reads.len() as u64)
        },
    },
    Measure {
        key: "stale_reads",
        group: "Right answers, without a fault",
        title: "stale reads",
        note: "Copies that lag show an older value than was acknowledged.",
        value: |contest| count(contest, Phase::Calm, &READS, &[Outcome::Stale]),
    },
    Measure {
        key: "missing_reads",
        group: "Right answers, without a fault",
        title: "reads without the session",
        note: "The request reached a node that does not know the session.",
        value: |contest| count(contest, Phase::Calm, &READS, &[Outcome::Missing]),
    },
    Measure {
        key: "revived",
        group: "Right answers, without a fault",
        title: "sessions alive after their sign-out",
        note: "The old cookie was tried again, immediately and after the load.",
        value: |contest| count(contest, Phase::Calm, &[Action::Replay], &[Outcome::Revived]),
    },
    Measure {
        key: "lost_updates_percent",
        group: "Right answers, without a fault",
        title: "lost updates, % of overlapping ones",
        note: "Eight requests add to one counter at the same moment; acknowledged additions that it does not show.",
        value: |contest| {
            let (acknowledged, shown) = contest.together;
            percent(acknowledged - shown, acknowledged)
        },
    },
    Measure {
        key: "read_p50_ms",
        group: "Latency, from the planned arrival",
        title: "read, median, ms",
        note: "Through the balancer. A server costs a round trip.",
        value: |contest| latency(contest, Action::Read, 0.5),
    },
    Measure {
        key: "read_p99_ms",
        group: "Latency, from the planned arrival",
        title: "read, p99, ms",
        note: "Counted from when the request was to be sent, so a stall shows.",
        value: |contest| latency(contest, Action::Read, 0.99),
    },
    Measure {
        key: "write_p50_ms",
        group: "Latency, from the planned arrival",
        title: "write, median, ms",
        note: "A copy on another machine costs a round trip before the answer.",
        value: |contest| latency(contest, Action::Write, 0.5),
    },
    Measure {
        key: "write_p99_ms",
        group: "Latency, from the planned arrival",
        title: "write, p99, ms",
        note: "Counted from when the request was to be sent, so a stall shows.",
        value: |contest| latency(contest, Action::Write, 0.99),
    },
    Measure {
        key: "read_owner_ms",
        group: "Latency, from the planned arrival",
        title: "read at the node where the session lives, median, ms",
        note: "Where visitors carry a route, the balancer tells which node answered.",
        value: |contest| latency_at(contest, Some(Place::Owner)),
    },
    Measure {
        key: "read_copy_ms",
        group: "Latency, from the planned arrival",
        title: "read at a node with a copy, median, ms",
        note: "A copy answers by itself while it has a lease.",
        value: |contest| latency_at(contest, Some(Place::Copy)),
    },
    Measure {
        key: "read_elsewhere_ms",
        group: "Latency, from the planned arrival",
        title: "read at another node, median, ms",
        note: "It has to ask the one where the session lives.",
        value: |contest| latency_at(contest, Some(Place::Elsewhere)),
    },
    Measure {
        key: "read_server_ms",
        group: "Latency, from the planned arrival",
        title: "read from the server, median, ms",
        note: "Every node asks the server, so it does not matter which one answers.",
        value: |contest| {
            let asks = contest.strategy.server().is_some() && contest.homes.is_none();
            asks.then(|| latency_at(contest, None)).flatten()
        },
    },
    Measure {
        key: "request_skew",
        group: "Load and cost",
        title: "load skew: requests, busiest node / mean",
        note: "1 is even. What sticks cannot be spread.",
        value: |contest| skew(&node_requests(contest, nodes_seen(contest))),
    },
    Measure {
        key: "session_skew",
        group: "Load and cost",
        title: "load skew: sessions, fullest node / mean",
        note: "1 is even. Where nodes do not own sessions there is no such figure.",
        value: |contest| skew(contest.homes.as_deref()?),
    },
    Measure {
        key: "cpu_ms_per_1000",
        group: "Load and cost",
        title: "CPU, ms per 1,000 requests, all processes",
        note: "Nodes, balancer and server together: a server moves work, it does not remove it.",
        value: |contest| {
            let cost = contest.cost;
            per_1000(contest, cost.nodes_ms + cost.balancer_ms + cost.server_ms)
        },
    },
    Measure {
        key: "node_cpu_ms_per_1000",
        group: "Load and cost",
        title: "of it, the nodes",
        note: "Copies cost the nodes, a server spares them.",
        value: |contest| per_1000(contest, contest.cost.nodes_ms),
    },
    Measure {
        key: "node_mb",
        group: "Load and cost",
        title: "memory of a node, MB",
        note: "On average, with the program itself. Copies on all nodes cost each of them all sessions.",
        value: |contest| Some(contest.cost.node_kb as f64 / 1_024.0),
    },
    Measure {
        key: "server_mb",
        group: "Load and cost",
        title: "memory of the server, MB",
        note: "With the program itself.",
        value: |contest| contest.strategy.server().map(|_| contest.cost.server_kb as f64 / 1_024.0),
    },
];

/// The measures of a fault, whose keys begin with its name.
macro_rules! of_fault {
    ($name:literal, $fault:expr) => {
        [
            Measure {
                key: concat!($name, "_lost_sessions"),
                group: Fault::title($fault),
                title: "sessions lost",
                note: "Visitors who were signed out by it.",
                value: |contest| of(contest, $fault, |record| record.action == Action::Loss),
            },
            Measure {
                key: concat!($name, "_lost_values"),
                group: Fault::title($fault),
                title: "acknowledged values lost",
                note: "The last acknowledged value of a session was gone, with the session or without.",
                value: |contest| of(contest, $fault, is_value_gone),
            },
            Measure {
                key: concat!($name, "_stale_reads"),
                group: Fault::title($fault),
                title: "stale reads",
                note: "A read showed an older value than was acknowledged.",
                value: |contest| of(contest, $fault, is_stale_read),
            },
            Measure {
                key: concat!($name, "_failed_requests"),
                group: Fault::title($fault),
                title: "failed requests",
                note: "Answers other than 200, and none at all.",
                value: |contest| of(contest, $fault, Record::is_failed),
            },
            Measure {
                key: concat!($name, "_failing_ms"),
                group: Fault::title($fault),
                title: "until they stop failing, ms",
                note: "From the fault to the end of the last request that failed.",
                value: |contest| failing(contest, $fault),
            },
            Measure {
                key: concat!($name, "_forced_sign_ins"),
                group: Fault::title($fault),
                title: "forced sign-ins",
                note: "People who have to type a password again.",
                value: |contest| of(contest, $fault, |record| record.action == Action::ForcedSignIn),
            },
        ]
    };
}

const KILL: [Measure; 6] = of_fault!("kill", Fault::Kill);
const STOP: [Measure; 6] = of_fault!("stop", Fault::Stop);
const DRAIN: [Measure; 6] = of_fault!("drain", Fault::Drain);
const OUTAGE: [Measure; 6] = of_fault!("outage", Fault::Outage);
const JOIN: [Measure; 6] = of_fault!("join", Fault::Join);
const FAILOVER: [Measure; 6] = of_fault!("failover", Fault::Failover);

/// The costs of one request and of one session.
const UNITS: [Measure; 8] = [
    Measure {
        key: "write_bytes",
        group: ONE_EACH,
        title: "bytes of a write",
        note: "Between nodes, and between nodes and server, TLS included. Copies on all nodes are sent to all of them.",
        value: |contest| Some(contest.units.as_ref()?.write.bytes),
    },
    Measure {
        key: "read_bytes",
        group: ONE_EACH,
        title: "bytes of a read",
        note: "A node that holds the session sends nothing, but the leases under which it answers.",
        value: |contest| Some(contest.units.as_ref()?.read.bytes),
    },
    Measure {
        key: "create_bytes",
        group: ONE_EACH,
        title: "bytes of a sign-in",
        note: "A new session goes to every copy.",
        value: |contest| Some(contest.units.as_ref()?.create.bytes),
    },
    Measure {
        key: "rest_bytes",
        group: ONE_EACH,
        title: "bytes per second at rest",
        note: "Without visitors. The balancer asks each node once a second whether it is ready, and the node asks its store, or the other nodes.",
        value: |contest| Some(contest.units.as_ref()?.rest.bytes),
    },
    Measure {
        key: "node_session_bytes",
        group: ONE_EACH,
        title: "memory per session on a node, bytes",
        note: "For each session of the service, on average over the nodes: copies on all nodes do not shrink with more of them.",
        value: |contest| Some(contest.units.as_ref()?.node_session),
    },
    Measure {
        key: "server_session_bytes",
        group: ONE_EACH,
        title: "memory per session on the server, bytes",
        note: "A replica needs the same again.",
        value: |contest| {
            contest.strategy.server()?;
            Some(contest.units.as_ref()?.server_session)
        },
    },
    Measure {
        key: "read_cpu_ms",
        group: ONE_EACH,
        title: "CPU of a read, ms",
        note: "Of nodes, balancer and server.",
        value: |contest| Some(contest.units.as_ref()?.read.cpu_ms),
    },
    Measure {
        key: "write_cpu_ms",
        group: ONE_EACH,
        title: "CPU of a write, ms",
        note: "Of nodes, balancer and server.",
        value: |contest| Some(contest.units.as_ref()?.write.cpu_ms),
    },
];

const ONE_EACH: &str = "One request, one session";

const TO_RUN: [Measure; 4] = [
    Measure {
        key: "processes",
        group: "To run",
        title: "processes",
        note: "Nodes, balancer and server, without the standby that a server needs to survive.",
        value: |contest| Some(contest.operations.processes as f64),
    },
    Measure {
        key: "ports",
        group: "To run",
        title: "ports",
        note: "That nodes, balancer and server listen on.",
        value: |contest| Some(contest.operations.ports as f64),
    },
    Measure {
        key: "secrets",
        group: "To run",
        title: "secrets",
        note: "Between nodes, or of the server.",
        value: |contest| Some(contest.operations.secrets as f64),
    },
    Measure {
        key: "balancer_lines",
        group: "To run",
        title: "lines that configure the balancer",
        note: "Of HAProxy, with one for each node.",
        value: |contest| Some(contest.operations.balancer_lines as f64),
    },
];

/// Rounds to four digits, since a single pass is not more precise.
fn short(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let scale = 10_f64.powf(3.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

fn is(record: &Record, outcomes: &[Outcome]) -> bool {
    outcomes.contains(&record.outcome)
}

fn of_phase(contest: &Contest, phase: Phase) -> impl Iterator<Item = &Record> {
    contest.records.iter().filter(move |record| record.phase == phase)
}

/// Reads that were judged.
fn reads(contest: &Contest, phase: Phase) -> Vec<&Record> {
    let judged = [Outcome::Good, Outcome::Stale, Outcome::Missing];
    let reads = of_phase(contest, phase).filter(|record| READS.contains(&record.action));
    reads.filter(|record| is(record, &judged)).collect()
}

fn count(contest: &Contest, phase: Phase, actions: &[Action], outcomes: &[Outcome]) -> Option<f64> {
    let records = of_phase(contest, phase).filter(|record| actions.contains(&record.action));
    Some(records.filter(|record| is(record, outcomes)).count() as f64)
}

/// Good answers of the calm load.
fn latency(contest: &Contest, action: Action, share: f64) -> Option<f64> {
    let records = of_phase(contest, Phase::Calm).filter(|record| record.action == action);
    let good = records.filter(|record| !record.is_failed());
    quantile(&good.map(|record| milliseconds(record.took)).collect::<Vec<_>>(), share)
}

/// The median of good reads at nodes of that place.
fn latency_at(contest: &Contest, place: Option<Place>) -> Option<f64> {
    let reads = of_phase(contest, Phase::Calm).filter(|record| record.action == Action::Read);
    let reads = reads.filter(|record| record.outcome == Outcome::Good && record.place == place);
    quantile(&reads.map(|record| milliseconds(record.took)).collect::<Vec<_>>(), 0.5)
}

fn per_1000(contest: &Contest, spent_ms: f64) -> Option<f64> {
    let during = |record: &&Record| record.is_request() && record.action != Action::Audit;
    let requests = of_phase(contest, Phase::Calm).filter(during).count();
    (requests > 0).then(|| spent_ms * 1_000.0 / requests as f64)
}

fn of(contest: &Contest, fault: Fault, is_one: impl Fn(&Record) -> bool) -> Option<f64> {
    fault_time(contest, fault)?;
    let records = of_phase(contest, Phase::Fault(fault));
    Some(records.filter(|record| is_one(record)).count() as f64)
}

fn is_value_gone(record: &Record) -> bool {
    matches!(record.action, Action::Loss | Action::Audit) && record.outcome == Outcome::Stale
}

fn is_stale_read(record: &Record) -> bool {
    record.action == Action::Read && record.outcome == Outcome::Stale
}

fn fault_time(contest: &Contest, fault: Fault) -> Option<Duration> {
    contest.faults.iter().find(|(one, _)| *one == fault).map(|(_, at)| *at)
}

fn failing(contest: &Contest, fault: Fault) -> Option<f64> {
    let at = fault_time(contest, fault)?;
    let failed = of_phase(contest, Phase::Fault(fault))
        .filter(|record| record.is_failed() && record.action != Action::Audit);
    let last = failed.map(|record| record.planned + record.took).max().unwrap_or(at);
    Some(milliseconds(last.saturating_sub(at)))
}

fn node_requests(contest: &Contest, nodes: usize) -> Vec<u64> {
    let mut requests = vec![0; nodes];
    let calm = of_phase(contest, Phase::Calm).filter(|record| record.is_request());
    for node in calm.filter_map(|record| record.node) {
        if let Some(count) = requests.get_mut(usize::from(node)) {
            *count += 1;
        }
    }
    requests
}

/// The number of nodes that can be told apart by what they answered.
fn nodes_seen(contest: &Contest) -> usize {
    let nodes = contest.records.iter().filter_map(|record| record.node);
    nodes.max().map_or(0, |node| usize::from(node) + 1)
}

fn timeline(contest: &Contest, fault: Fault, at: Duration) -> Timeline {
    let steps = |record: &&Record| matches!(record.action, Action::Read | Action::Write);
    let records: Vec<_> = of_phase(contest, Phase::Fault(fault)).filter(steps).collect();
    let length = records.iter().map(|record| record.planned.as_millis() as u64).max();
    let length = length.unwrap_or(0) + 1;
    let interval_ms = (length / INTERVALS).max(100);
    let counted = |outcomes: &[Outcome]| {
        let mut counts = vec![0; length.div_ceil(interval_ms) as usize];
        for record in records.iter().filter(|record| is(record, outcomes)) {
            counts[(record.planned.as_millis() as u64 / interval_ms) as usize] += 1;
        }
        counts
    };
    Timeline {
        fault: fault.id().to_owned(),
        interval_ms,
        fault_ms: at.as_millis() as u64,
        good: counted(&[Outcome::Good, Outcome::Overtaken]),
        stale: counted(&[Outcome::Stale]),
        signed_out: counted(&[Outcome::Missing]),
        failed: counted(&[Outcome::Refused, Outcome::Unanswered]),
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

const READS: [Action; 2] = [Action::Read, Action::Audit];

/// Intervals of a timeline.
const INTERVALS: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::{Cost, Operations};
    use crate::strategy::Strategy;

    #[test]
    fn mismatch_is_a_share_of_judged_reads() {
        let mut contest = contest();
        let outcomes = [Outcome::Good, Outcome::Stale, Outcome::Missing, Outcome::Good];
        contest.records = outcomes.map(|outcome| read(Phase::Calm, 0, outcome)).to_vec();
        contest.records.push(read(Phase::Calm, 0, Outcome::Refused));
        contest.records.push(read(KILLED, 0, Outcome::Missing));
        assert_eq!(figure(&contest, "mismatch_percent"), Some(50.0));
        assert_eq!(figure(&contest, "stale_reads"), Some(1.0));
        assert_eq!(figure(&contest, "missing_reads"), Some(1.0));
    }

    #[test]
    fn the_requests_of_a_load_share_its_cost() {
        let mut contest = contest();
        contest.records = vec![read(Phase::Calm, 0, Outcome::Good); 4];
        contest.records.push(Record { action: Action::Audit, ..contest.records[0] });
        assert_eq!(figure(&contest, "cpu_ms_per_1000"), Some(1_500.0));
        assert_eq!(figure(&contest, "node_cpu_ms_per_1000"), Some(500.0));
    }

    #[test]
    fn an_outage_lasts_until_the_last_failure_ends() {
        let mut contest = contest();
        contest.faults = vec![(Fault::Kill, Duration::from_millis(1_000))];
        contest.records = vec![
            read(KILLED, 1_200, Outcome::Refused),
            read(KILLED, 1_500, Outcome::Unanswered),
            read(KILLED, 4_000, Outcome::Good),
        ];
        assert_eq!(figure(&contest, "kill_failing_ms"), Some(510.0));
        assert_eq!(figure(&contest, "kill_failed_requests"), Some(2.0));
        contest.records.truncate(0);
        assert_eq!(figure(&contest, "kill_failing_ms"), Some(0.0));
        contest.faults.clear();
        assert_eq!(figure(&contest, "kill_failing_ms"), None);
    }

    #[test]
    fn values_are_lost_with_a_session_or_without() {
        let mut contest = contest();
        contest.faults = vec![(Fault::Kill, Duration::ZERO)];
        let with = |action, outcome| Record { action, ..read(KILLED, 0, outcome) };
        contest.records = vec![
            with(Action::Loss, Outcome::Stale),
            with(Action::Loss, Outcome::Good),
            with(Action::Audit, Outcome::Stale),
            with(Action::Read, Outcome::Stale),
        ];
        assert_eq!(figure(&contest, "kill_lost_sessions"), Some(2.0));
        assert_eq!(figure(&contest, "kill_lost_values"), Some(2.0));
        assert_eq!(figure(&contest, "kill_stale_reads"), Some(1.0));
        assert_eq!(figure(&contest, "stop_lost_sessions"), None);
    }

    #[test]
    fn a_timeline_counts_by_the_planned_moment() {
        let mut contest = contest();
        contest.faults = vec![(Fault::Kill, Duration::from_millis(150))];
        contest.records = vec![
            read(KILLED, 50, Outcome::Good),
            read(KILLED, 120, Outcome::Refused),
            read(KILLED, 290, Outcome::Missing),
        ];
        let timeline = measure(&contest, 3).faults.remove(0);
        assert_eq!((timeline.interval_ms, timeline.fault_ms), (100, 150));
        assert_eq!(timeline.good, [1, 0, 0]);
        assert_eq!(timeline.failed, [0, 1, 0]);
        assert_eq!(timeline.signed_out, [0, 0, 1]);
    }

    #[test]
    fn figures_have_four_digits() {
        assert_eq!(short(1.234_56), 1.235);
        assert_eq!(short(123_456.0), 123_500.0);
        assert_eq!(short(0.0), 0.0);
    }

    #[test]
    fn a_key_names_one_measure() {
        let measured = measure(&contest(), 3);
        assert_eq!(measured.measures.len(), all().count());
    }

    const KILLED: Phase = Phase::Fault(Fault::Kill);

    fn figure(contest: &Contest, key: &str) -> Option<f64> {
        measure(contest, 3).figure(key)
    }

    fn read(phase: Phase, planned: u64, outcome: Outcome) -> Record {
        let (planned, took) = (Duration::from_millis(planned), Duration::from_millis(10));
        Record { phase, planned, took, action: Action::Read, outcome, node: Some(0), place: None }
    }

    fn contest() -> Contest {
        let (nodes_ms, balancer_ms, server_ms) = (2.0, 1.0, 3.0);
        Contest {
            strategy: Strategy::Redis,
            records: Vec::new(),
            cost: Cost { nodes_ms, balancer_ms, server_ms, node_kb: 9, server_kb: 9, others: 0.0 },
            homes: None,
            together: (8, 8),
            faults: Vec::new(),
            operations: Operations { processes: 5, ports: 5, secrets: 1, balancer_lines: 20 },
            units: None,
        }
    }
}
