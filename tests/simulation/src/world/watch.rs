//! Checks of the nodes after every event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use steadfast_core::RecordId;

use super::Node;
use crate::process::{KnownEpoch, Measure, Process};

/// The events: their digest and, if requested, their descriptions.
#[derive(Debug, Default)]
pub struct Trace {
    digest: u64,
    events: u64,
    lines: Option<VecDeque<String>>,
}

impl Trace {
    /// Returns a digest of every event and its time.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Returns the number of events.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Returns the last descriptions, if they are kept.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().flatten().map(String::as_str)
    }

    fn add(&mut self, number: u64) {
        self.digest = (self.digest ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
}

/// Checks for violations.
#[derive(Debug, Default)]
pub(super) struct Watch {
    trace: Trace,
    /// Records that at most one node may serve at any moment.
    records: Vec<RecordId>,
    next: usize,
    /// True if separated sides may each serve.
    may_split: bool,
    /// The digest of each epoch, and the time at which a node first learned it.
    epochs: BTreeMap<([u8; 16], u64), (u64, Duration)>,
    known: BTreeMap<usize, KnownEpoch>,
    violation: Option<String>,
    most: Measure,
}

/// The largest size of a packet.
const FRAME: usize = 1 << 20;
/// The most that a node may send to another one in a step.
const STEP: Measure = Measure { bytes: 4 << 20, records: 8 * 512 };

/// The number of lines and characters of a trace that are kept.
const KEPT: usize = 400_000;
const WIDTH: usize = 400;

impl Watch {
    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }

    pub(super) fn keep(&mut self) {
        self.trace.lines = Some(VecDeque::new());
    }

    pub(super) fn allow_splits(&mut self) {
        self.may_split = true;
    }

    pub(super) fn add(&mut self, id: RecordId) {
        self.records.push(id);
    }

    pub(super) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Records an event: its description, if requested, and its digest.
    pub(super) fn note(
        &mut self,
        time: Duration,
        words: impl FnOnce() -> String,
        (kind, a, b): (&'static str, usize, usize),
    ) {
        self.trace.events += 1;
        self.trace.add(time.as_nanos() as u64);
        self.trace.add(kind.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte)));
        self.trace.add((a as u64) << 32 | b as u64);
        if let Some(lines) = &mut self.trace.lines {
            if lines.len() == KEPT {
                lines.pop_front();
            }
            let words: String = words().chars().take(WIDTH).collect();
            lines.push_back(format!("{:.6} {words}", time.as_secs_f64()));
        }
    }

    /// Checks a node after it handled an input, and for one record all other nodes.
    pub(super) fn look<P: Process>(&mut self, time: Duration, nodes: &[Node<P>], at: usize) {
        self.look_at_epoch(time, nodes, at);
        let Some(id) = self.records.get(self.next).copied() else {
            return;
        };
        self.next = (self.next + 1) % self.records.len();
        let serves = |node: &&Node<P>| {
            node.process().is_some_and(|process| process.serves(node.now(time), id))
        };
        let serving: Vec<_> = nodes.iter().filter(serves).collect();
        let lineage = |node: &&Node<P>| Some(node.process()?.epoch()?.lineage);
        let sides: BTreeSet<_> = serving.iter().map(lineage).collect();
        let most = if self.may_split { sides.len() } else { 1 };
        if serving.len() > most {
            self.violated(time, &format!("C14: {serving:?} serve {id}"));
        }
    }

    fn look_at_epoch<P: Process>(&mut self, time: Duration, nodes: &[Node<P>], at: usize) {
        let Some(epoch) = nodes[at].process().and_then(Process::epoch) else {
            self.known.remove(&at);
            return;
        };
        if self.known.get(&at) == Some(&epoch) {
            return;
        }
        let KnownEpoch { lineage, number, digest } = epoch;
        self.note(time, || format!("{at} knows epoch {number} {digest:x}"), ("epoch", at, 0));
        self.trace.add(number);
        let (known, _) = *self.epochs.entry((lineage, number)).or_insert((digest, time));
        if known != digest {
            self.violated(time, &format!("C13: two epochs have the number {number}"));
        }
        self.known.insert(at, epoch);
    }

    /// Checks a process that speaks as a member of an epoch. A process that began after the epoch
    /// has no part in it, because it forgot what the process before it knew (C16).
    pub(super) fn spoke<P: Process>(
        &mut self,
        time: Duration,
        node: &Node<P>,
        (lineage, number): ([u8; 16], u64),
    ) {
        let learned = self.epochs.get(&(lineage, number)).map(|(_, at)| *at);
        if learned.is_some_and(|at| at < node.started_at()) {
            let what = format!("C16: {node:?} speaks for epoch {number}, which is older than it");
            self.violated(time, &what);
        }
    }

    /// Checks the amount that a node sent to another one in a step, and its largest packet.
    pub(super) fn sent<P: Process>(
        &mut self,
        time: Duration,
        node: &Node<P>,
        (packet, step): (Measure, Measure),
    ) {
        self.most.bytes = self.most.bytes.max(step.bytes);
        self.most.records = self.most.records.max(step.records);
        if packet.bytes > FRAME || step.bytes > STEP.bytes || step.records > STEP.records {
            let what =
                format!("{node:?} sends {step:?} to another in a step, and {packet:?} in one");
            self.violated(time, &what);
        }
    }

    /// Returns the most that a node sent to another one in a step.
    pub(super) fn most(&self) -> Measure {
        self.most
    }

    fn violated(&mut self, time: Duration, what: &str) {
        self.note(time, || what.to_owned(), ("violation", 0, 0));
        self.violation.get_or_insert(format!("{what}, at {time:?}"));
    }
}
