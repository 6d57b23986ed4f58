//! Metrics of a node, through the facade of the `metrics` crate.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::Unit;
use steadfast_replication::budget::Class;
use steadfast_replication::engine::Packet;
use steadfast_replication::figures::{Counts, Figures, Members};
use steadfast_replication::member::{Boot, Name};
use steadfast_replication::message::Message;

/// Counts of the messages and bytes sent to each peer since the node began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic(BTreeMap<Boot, [Sent; Kind::ALL.len()]>);

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    messages: u64,
    bytes: u64,
}

/// Messages and bytes sent to a peer, and the bytes that wait for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ToPeer {
    sent: [Sent; Kind::ALL.len()],
    queued: usize,
}

impl Traffic {
    /// Counts the messages of a packet, each for what it is for, and the bytes for what the first one is for.
    pub(crate) fn count(&mut self, to: Boot, packet: &Packet, bytes: usize) {
        let sent = self.0.entry(to).or_default();
        let kinds = Kind::all_of(packet);
        if let Some(first) = kinds.first() {
            sent[*first as usize].bytes += bytes as u64;
        }
        kinds.into_iter().for_each(|kind| sent[kind as usize].messages += 1);
    }

    /// The traffic to the boots of each name, together, and the bytes that wait for them.
    pub(crate) fn by_name(
        &self,
        names: &BTreeMap<Boot, Name>,
        queued: &BTreeMap<Boot, usize>,
    ) -> BTreeMap<Name, ToPeer> {
        let mut peers: BTreeMap<Name, ToPeer> = BTreeMap::new();
        for (boot, sent) in &self.0 {
            let Some(name) = names.get(boot) else { continue };
            let peer = peers.entry(name.clone()).or_default();
            peer.queued += queued.get(boot).copied().unwrap_or_default();
            for (sum, sent) in peer.sent.iter_mut().zip(sent) {
                sum.messages += sent.messages;
                sum.bytes += sent.bytes;
            }
        }
        peers
    }
}

/// The purpose of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A change of a record, for its other holders.
    Patch,
    /// That a change is held, and that it is valid.
    Ack,
    /// A call for the owner of a record, or its answer.
    Call,
    /// A read lease.
    Lease,
    /// Records that a node missed or has to take over.
    Repair,
    /// Membership, leases of owners, clocks, and comparisons of copies.
    Control,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Patch, Self::Ack, Self::Call, Self::Lease, Self::Repair, Self::Control];

    fn all_of(packet: &Packet) -> Vec<Self> {
        let Packet::Stream(packet) = packet else {
            return vec![Self::Control];
        };
        match packet.content.as_ref().map(|content| &content.message) {
            None => vec![Self::Ack],
            Some(Message::Bundle(messages)) => messages.iter().map(Self::of).collect(),
            Some(message) => vec![Self::of(message)],
        }
    }

    fn of(message: &Message) -> Self {
        match message {
            Message::Replicate { .. } | Message::Forget(_) => Self::Patch,
            Message::Acknowledge { .. } | Message::Confirm(_) => Self::Ack,
            Message::Call { .. } | Message::Reply { .. } | Message::Open(_) => Self::Call,
            Message::AskReadLease(_) | Message::ReadLease { .. } => Self::Lease,
            Message::Lacks { .. }
            | Message::Pull { .. }
            | Message::Page { .. }
            | Message::Fetch { .. }
            | Message::Want { .. }
            | Message::Records { .. } => Self::Repair,
            _ => Self::Control,
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

/// The values that were published last: counters grow by the difference. A peer that restarts under
/// its name, and a node that joins another service, count from 0 again.
#[derive(Debug, Default)]
pub(crate) struct Published {
    at: Duration,
    counts: Counts,
    relayed: u64,
    peers: BTreeMap<Name, ToPeer>,
}

impl Published {
    /// Returns true if the next publication is due, and starts the next interval.
    pub(crate) fn is_due(&mut self, now: Duration) -> bool {
        let is_due = self.at + PUBLISH_EVERY <= now;
        if is_due {
            self.at = now;
        }
        is_due
    }

    /// Publishes everything.
    pub(crate) fn publish(
        &mut self,
        node: &Name,
        figures: &Figures,
        is_ready: bool,
        peers: BTreeMap<Name, ToPeer>,
    ) {
        describe();
        publish_gauges(node, figures, is_ready);
        publish_counts(node, &figures.counts, &self.counts);
        let relayed = figures.relayed.saturating_sub(self.relayed);
        metrics::counter!(RELAYED, "node" => label(node)).increment(relayed);
        for (peer, to) in &peers {
            let before = self.peers.get(peer).copied().unwrap_or_default();
            publish_sent(node, peer, &to.sent, &before.sent);
            let gauge = metrics::gauge!(QUEUED, "node" => label(node), "peer" => label(peer));
            gauge.set(to.queued as f64);
        }
        (self.counts, self.relayed, self.peers) = (figures.counts, figures.relayed, peers);
    }
}

/// A peer was suspected so long after its last sign of life.
pub(crate) fn detected(node: &Name, silent: Duration) {
    metrics::histogram!(DETECTION, "node" => label(node)).record(silent);
}

/// Repeated, since the recorder may be younger than the store.
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
        "From the last sign of life of a node until it is suspected"
    );
}

fn publish_gauges(node: &Name, figures: &Figures, is_ready: bool) {
    let (health, slots) = (&figures.health, &figures.slots);
    let members = figures.members.unwrap_or_default();
    for (name, value) in [
        (UNDER_REPLICATED, health.under_replicated as f64),
        (DEGRADED, f64::from(u8::from(health.is_degraded))),
        (READY, f64::from(u8::from(is_ready))),
        (MEMBERS, members.full as f64),
        (BASE_MEMBERS, members.voters as f64),
        (EPOCH, members.epoch as f64),
        (SUSPECTS, health.suspects as f64),
        (UNSYNCED, health.unsynced as f64),
        (CLOCK_OFFSET, health.clock_offset_millis as f64 / 1_000.0),
    ] {
        metrics::gauge!(name, "node" => label(node)).set(value);
    }
    let copies = [("owner", figures.copies.owned), ("backup", figures.copies.backups)];
    publish_each(COPIES, "role", node, copies);
    publish_each(ROLES, "role", node, by_role(&members));
    let slots = [
        ("served", slots.served),
        ("waiting", slots.waiting),
        ("complete", slots.complete),
        ("filling", slots.filling),
        ("given_up", slots.given_up),
    ];
    publish_each(SLOTS, "state", node, slots);
    let held = |class: Class| (class.name(), figures.held.of(class).records as usize);
    publish_each(HELD_RECORDS, "class", node, Class::ALL.map(held));
    let held = |class: Class| (class.name(), figures.held.of(class).bytes as usize);
    publish_each(HELD_BYTES, "class", node, Class::ALL.map(held));
}

fn by_role(members: &Members) -> [(&'static str, usize); 4] {
    let Members { joining, full, draining, aside, .. } = *members;
    [("joining", joining), ("full", full), ("draining", draining), ("aside", aside)]
}

/// Publishes a gauge for each value of a label.
fn publish_each<const N: usize>(
    name: &'static str,
    key: &'static str,
    node: &Name,
    values: [(&'static str, usize); N],
) {
    for (value, count) in values {
        metrics::gauge!(name, "node" => label(node), key => value).set(count as f64);
    }
}

fn publish_counts(node: &Name, counts: &Counts, before: &Counts) {
    for ((name, count), (_, before)) in named(counts).into_iter().zip(named(before)) {
        metrics::counter!(name, "node" => label(node)).increment(count.saturating_sub(before));
    }
    for class in Class::ALL {
        let at = class as usize;
        let count = counts.records.evicted[at].saturating_sub(before.records.evicted[at]);
        metrics::counter!(EVICTED, "node" => label(node), "class" => class.name()).increment(count);
    }
}

fn named(counts: &Counts) -> [(&'static str, u64); 8] {
    [
        (CALLS, counts.calls.asked),
        (FORWARDED, counts.calls.forwarded),
        (LEASE_MISSES, counts.calls.lease_misses),
        (DEGRADED_WRITES, counts.calls.degraded),
        (ROLLED_BACK, counts.calls.unconfirmed),
        (CONFLICTS, counts.records.merged),
        (TAKEOVERS, counts.records.taken_over),
        (GIVEN_UP, counts.records.given_up),
    ]
}

fn publish_sent(node: &Name, peer: &Name, sent: &[Sent], before: &[Sent]) {
    for (kind, (sent, before)) in Kind::ALL.into_iter().zip(sent.iter().zip(before)) {
        for (name, count) in [
            (MESSAGES, sent.messages.saturating_sub(before.messages)),
            (BYTES, sent.bytes.saturating_sub(before.bytes)),
        ] {
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
const EPOCH: &str = "steadfast_epoch";
const ROLES: &str = "steadfast_members_by_role";
const SLOTS: &str = "steadfast_slots";
const SUSPECTS: &str = "steadfast_suspects";
const UNSYNCED: &str = "steadfast_unsynced_slots";
const CLOCK_OFFSET: &str = "steadfast_clock_offset_seconds";
const RELAYED: &str = "steadfast_relayed_messages_total";
const GIVEN_UP: &str = "steadfast_lost_slots_total";
const DETECTION: &str = "steadfast_detection_seconds";

const GAUGES: [(&str, Unit, &str); 15] = [
    (COPIES, Unit::Count, "Copies of records that a node holds, as their owner or as a backup"),
    (HELD_RECORDS, Unit::Count, "Sessions that a node holds, for the budget of their class"),
    (HELD_BYTES, Unit::Bytes, "Memory of what a node holds, for the budget of its class"),
    (UNDER_REPLICATED, Unit::Count, "Copies that other nodes should hold and may lack"),
    (DEGRADED, Unit::Count, "Whether there are fewer nodes than a record should have copies"),
    (READY, Unit::Count, "Whether a node has joined, and sees a majority where it needs one"),
    (MEMBERS, Unit::Count, "Nodes that records are placed on"),
    (BASE_MEMBERS, Unit::Count, "Nodes whose majority decides"),
    (QUEUED, Unit::Bytes, "What waits to be sent to a node"),
    (EPOCH, Unit::Count, "The number of the epoch that a node is in"),
    (ROLES, Unit::Count, "Members of the epoch, by role"),
    (SLOTS, Unit::Count, "Slots of a node, by state; given_up: of the service"),
    (SUSPECTS, Unit::Count, "Members that a node does not reach"),
    (UNSYNCED, Unit::Count, "Slots of other holders that are not known to be complete there"),
    (CLOCK_OFFSET, Unit::Seconds, "How far a node's clock is ahead of the service's time"),
];

const COUNTERS: [(&str, Unit, &str); 12] = [
    (CALLS, Unit::Count, "Calls of the application"),
    (FORWARDED, Unit::Count, "Calls of the application that were sent to another node"),
    (LEASE_MISSES, Unit::Count, "Reads at a holder that had no lease, and asked the owner"),
    (DEGRADED_WRITES, Unit::Count, "Writes that fewer nodes hold than configured"),
    (ROLLED_BACK, Unit::Count, "Writes that were not confirmed before their deadline"),
    (CONFLICTS, Unit::Count, "Copies that went apart and were merged"),
    (TAKEOVERS, Unit::Count, "Records that changed their owner"),
    (EVICTED, Unit::Count, "Sessions that a budget ended early"),
    (MESSAGES, Unit::Count, "Messages to a node, by what they are for"),
    (BYTES, Unit::Bytes, "Bytes of messages to a node before encryption, by what they are for"),
    (RELAYED, Unit::Count, "Messages of other nodes that a node passed on"),
    (GIVEN_UP, Unit::Count, "Slots that the service gave up, since no holder was left"),
];

/// The interval at which figures are published.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
