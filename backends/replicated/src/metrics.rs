//! What an operator sees of a node, through the facade of the `metrics` crate. `lib.rs` lists it.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::Unit;

use crate::engine::message::Replica;
use crate::engine::table::Class;
use crate::engine::{Counts, Figures, Message};
use crate::placement::Name;

/// What was sent to each peer since the node began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic(BTreeMap<Name, [Sent; Kind::ALL.len()]>);

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    messages: u64,
    bytes: u64,
}

impl Traffic {
    pub(crate) fn count(&mut self, to: &Name, kind: Kind, bytes: usize) {
        let sent = match self.0.get_mut(to) {
            Some(known) => known,
            None => self.0.entry(to.clone()).or_default(),
        };
        sent[kind as usize].messages += 1;
        sent[kind as usize].bytes += bytes as u64;
    }
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A change of a record, for its other holders.
    Patch,
    /// That a change is held, and that it counts.
    Ack,
    /// A call for the owner of a record, or its answer.
    Call,
    /// A read lease.
    Lease,
    /// What a node missed, or has to take over.
    Repair,
    /// Who is there, and whether copies are alike.
    Control,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Patch, Self::Ack, Self::Call, Self::Lease, Self::Repair, Self::Control];

    pub(crate) fn of(message: &Message) -> Self {
        match message {
            Message::Replicate { change: Replica::Full(_, true), .. }
            | Message::Pull { .. }
            | Message::Pulled { .. }
            | Message::Offer(_)
            | Message::Safe(_)
            | Message::Want(_)
            | Message::Handover { .. }
            | Message::Snapshot { .. }
            | Message::Chunk { .. } => Self::Repair,
            Message::Replicate { .. } | Message::Expired(_) | Message::Evicted(_) => Self::Patch,
            Message::Ack { .. } | Message::Confirm(_) | Message::Unsettled(_) => Self::Ack,
            Message::Ask { .. } | Message::Reply { .. } => Self::Call,
            Message::Lease { .. } | Message::Grant { .. } => Self::Lease,
            Message::Status(_)
            | Message::Digest { .. }
            | Message::Stamps { .. }
            | Message::Base(_)
            | Message::Changes(_) => Self::Control,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Patch => "patch",
            Self::Ack => "ack",
            Self::Call => "call",
            Self::Lease => "lease",
            Self::Repair => "repair",
            Self::Control => "control",
        }
    }
}

/// What was published so far: counters grow by what came since.
#[derive(Debug, Default)]
pub(crate) struct Published {
    at: Duration,
    counts: Counts,
    traffic: Traffic,
}

impl Published {
    /// Whether it is time to publish again.
    pub(crate) fn is_due(&mut self, now: Duration) -> bool {
        let is_due = self.at + PUBLISH_EVERY <= now;
        if is_due {
            self.at = now;
        }
        is_due
    }

    /// Publishes everything; `queued` are the bytes that wait for each peer.
    pub(crate) fn publish(
        &mut self,
        node: &Name,
        figures: &Figures,
        traffic: Traffic,
        queued: &BTreeMap<Name, usize>,
    ) {
        describe();
        publish_gauges(node, figures);
        publish_counts(node, &figures.counts, &self.counts);
        for (peer, sent) in &traffic.0 {
            let before = self.traffic.0.get(peer).copied().unwrap_or_default();
            publish_sent(node, peer, sent, &before);
            let bytes = queued.get(peer).copied().unwrap_or_default();
            let gauge = metrics::gauge!(QUEUED, "node" => label(node), "peer" => label(peer));
            gauge.set(bytes as f64);
        }
        self.counts = figures.counts;
        self.traffic = traffic;
    }
}

/// A peer was taken for dead, so long after its last sign of life.
pub(crate) fn detected(node: &Name, silent: Duration) {
    metrics::histogram!(DETECTION, "node" => label(node)).record(silent);
}

/// Again and again, since the recorder may be younger than the store.
fn describe() {
    for (name, unit, text) in COUNTERS {
        metrics::describe_counter!(name, unit, text);
    }
    for (name, unit, text) in GAUGES {
        metrics::describe_gauge!(name, unit, text);
    }
    metrics::describe_histogram!(
        DETECTION,
        Unit::Seconds,
        "From the last sign of life of a node until it is taken for dead"
    );
}

fn publish_gauges(node: &Name, figures: &Figures) {
    let health = &figures.health;
    for (name, value) in [
        (UNDER_REPLICATED, health.under_replicated),
        (DEGRADED, figures.is_degraded.into()),
        (READY, health.is_ready.into()),
        (MEMBERS, health.members),
        (BASE_MEMBERS, health.base),
    ] {
        metrics::gauge!(name, "node" => label(node)).set(value as f64);
    }
    for (role, copies) in [("owner", figures.holdings.owned), ("backup", figures.holdings.backups)]
    {
        metrics::gauge!(COPIES, "node" => label(node), "role" => role).set(copies as f64);
    }
    for class in Class::ALL {
        let held = figures.held.of(class);
        for (name, value) in [(HELD_RECORDS, held.records), (HELD_BYTES, held.bytes)] {
            let gauge = metrics::gauge!(name, "node" => label(node), "class" => class.name());
            gauge.set(value as f64);
        }
    }
}

fn publish_counts(node: &Name, counts: &Counts, before: &Counts) {
    for (name, count) in [
        (CALLS, counts.calls - before.calls),
        (FORWARDED, counts.forwarded - before.forwarded),
        (LEASE_MISSES, counts.lease_misses - before.lease_misses),
        (DEGRADED_WRITES, counts.degraded - before.degraded),
        (ROLLED_BACK, counts.rolled_back - before.rolled_back),
        (CONFLICTS, counts.conflicts - before.conflicts),
        (TAKEOVERS, counts.take_overs - before.take_overs),
    ] {
        metrics::counter!(name, "node" => label(node)).increment(count);
    }
    for class in Class::ALL {
        let count = counts.evicted[class as usize] - before.evicted[class as usize];
        metrics::counter!(EVICTED, "node" => label(node), "class" => class.name()).increment(count);
    }
}

fn publish_sent(node: &Name, peer: &Name, sent: &[Sent], before: &[Sent]) {
    for (kind, (sent, before)) in Kind::ALL.into_iter().zip(sent.iter().zip(before)) {
        for (name, count) in
            [(MESSAGES, sent.messages - before.messages), (BYTES, sent.bytes - before.bytes)]
        {
            let counter = metrics::counter!(
                name, "node" => label(node), "peer" => label(peer), "kind" => kind.name()
            );
            counter.increment(count);
        }
    }
}

fn label(name: &Name) -> String {
    name.as_str().to_owned()
}

const COPIES: &str = "steadfast_copies";
const HELD_RECORDS: &str = "steadfast_held_records";
const HELD_BYTES: &str = "steadfast_held_bytes";
const UNDER_REPLICATED: &str = "steadfast_under_replicated";
const DEGRADED: &str = "steadfast_degraded";
const READY: &str = "steadfast_ready";
const MEMBERS: &str = "steadfast_members";
const BASE_MEMBERS: &str = "steadfast_base_members";
const QUEUED: &str = "steadfast_queued_bytes";
const CALLS: &str = "steadfast_calls_total";
const FORWARDED: &str = "steadfast_forwarded_calls_total";
const LEASE_MISSES: &str = "steadfast_lease_misses_total";
const DEGRADED_WRITES: &str = "steadfast_degraded_writes_total";
const ROLLED_BACK: &str = "steadfast_rolled_back_writes_total";
const CONFLICTS: &str = "steadfast_conflicts_total";
const TAKEOVERS: &str = "steadfast_takeovers_total";
const EVICTED: &str = "steadfast_evicted_total";
const MESSAGES: &str = "steadfast_sent_messages_total";
const BYTES: &str = "steadfast_sent_bytes_total";
const DETECTION: &str = "steadfast_detection_seconds";

const GAUGES: [(&str, Unit, &str); 9] = [
    (COPIES, Unit::Count, "Copies of records that a node holds, as their owner or as a backup"),
    (HELD_RECORDS, Unit::Count, "Sessions that a node holds, for the budget of their class"),
    (HELD_BYTES, Unit::Bytes, "Memory of what a node holds, for the budget of its class"),
    (UNDER_REPLICATED, Unit::Count, "Copies that other nodes should hold and may lack"),
    (DEGRADED, Unit::Count, "Whether there are fewer nodes than a record should have copies"),
    (READY, Unit::Count, "Whether a node has joined, and sees a majority where it needs one"),
    (MEMBERS, Unit::Count, "Nodes that records are placed on"),
    (BASE_MEMBERS, Unit::Count, "Nodes whose majority counts"),
    (QUEUED, Unit::Bytes, "What waits to be sent to a node"),
];

const COUNTERS: [(&str, Unit, &str); 10] = [
    (CALLS, Unit::Count, "Calls of the application"),
    (FORWARDED, Unit::Count, "Calls of the application that were sent to another node"),
    (LEASE_MISSES, Unit::Count, "Reads at a holder that had no lease, and asked the owner"),
    (DEGRADED_WRITES, Unit::Count, "Writes that fewer nodes hold than configured"),
    (ROLLED_BACK, Unit::Count, "Writes that missed their acknowledgements"),
    (CONFLICTS, Unit::Count, "Copies that went apart and were merged"),
    (TAKEOVERS, Unit::Count, "Records that changed their owner"),
    (EVICTED, Unit::Count, "Sessions that a budget ended early"),
    (MESSAGES, Unit::Count, "Messages to a node, by what they are for"),
    (BYTES, Unit::Bytes, "Bytes of messages to a node before encryption, by what they are for"),
];

/// How often figures are published: more often than anybody looks.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
