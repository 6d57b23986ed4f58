//! Metrics and spans of store calls and of the change feed. The guide's page of metrics lists them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use metrics::{Gauge, Key, Label, Level, Metadata, Unit, with_recorder};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use steadfast_core::{Change, Deleted, Lookup, Outcome, SessionInfo, StoreError};
use tracing::Span;

/// A kind of store call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Create,
    Load,
    Update,
    Delete,
    List,
    DeleteAll,
}

impl Op {
    const ALL: [Self; 6] =
        [Self::Create, Self::Load, Self::Update, Self::Delete, Self::List, Self::DeleteAll];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Load => "load",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::List => "list",
            Self::DeleteAll => "delete_all",
        }
    }
}

/// The end of a store call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Ok,
    Absent,
    Superseded,
    Conflict,
    Rejected,
    Error,
    Dropped,
}

impl End {
    const ALL: [Self; 7] = [
        Self::Ok,
        Self::Absent,
        Self::Superseded,
        Self::Conflict,
        Self::Rejected,
        Self::Error,
        Self::Dropped,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Absent => "absent",
            Self::Superseded => "superseded",
            Self::Conflict => "conflict",
            Self::Rejected => "rejected",
            Self::Error => "error",
            Self::Dropped => "dropped",
        }
    }
}

/// An answer of a store, by the name that metrics have for it.
pub(crate) trait Answered {
    fn end(&self) -> End;
}

impl Answered for Outcome {
    fn end(&self) -> End {
        match self {
            Self::Applied(_) => End::Ok,
            Self::Gone => End::Absent,
            Self::Superseded => End::Superseded,
            Self::Exists | Self::Conflict => End::Conflict,
            Self::Rejected(_) => End::Rejected,
        }
    }
}

impl Answered for Lookup {
    fn end(&self) -> End {
        match self {
            Self::Found(_) => End::Ok,
            Self::Absent(_) => End::Absent,
            Self::Superseded => End::Superseded,
        }
    }
}

impl Answered for Deleted {
    fn end(&self) -> End {
        match self {
            Self::Ended => End::Ok,
            Self::Gone => End::Absent,
            Self::Superseded => End::Superseded,
        }
    }
}

impl Answered for Vec<SessionInfo> {
    fn end(&self) -> End {
        End::Ok
    }
}

/// The number of sessions that a `delete_all` ended.
impl Answered for u64 {
    fn end(&self) -> End {
        End::Ok
    }
}

/// A store call under way. It counts as dropped unless it is given an end.
#[derive(Debug)]
pub(crate) struct Measure {
    op: Op,
    span: Span,
    since: Instant,
    in_flight: Option<InFlight>,
    end: End,
}

impl Measure {
    pub(crate) fn begin(op: Op, span: Span) -> Self {
        Self { op, span, since: Instant::now(), in_flight: None, end: End::Dropped }
    }

    /// The store did not answer immediately, so the call can be seen under way.
    pub(crate) fn waits(&mut self) {
        self.in_flight = Some(InFlight::new(self.op));
    }

    pub(crate) fn end<T: Answered>(mut self, answer: &Result<T, StoreError>) {
        match answer {
            Ok(answer) => self.end = answer.end(),
            Err(error) => {
                self.end = End::Error;
                self.span.record("reason", error.reason());
                failed(error.reason());
            }
        }
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        self.span.record("outcome", self.end.name());
        let key = &KEYS.seconds[self.op as usize][self.end as usize];
        let seconds = self.since.elapsed().as_secs_f64();
        with_recorder(|recorder| recorder.register_histogram(key, &METADATA).record(seconds));
    }
}

/// Counts a call that failed, or was not made.
pub(crate) fn failed(reason: &'static str) {
    counter!("steadfast_store_errors_total", "reason" => reason).increment(1);
}

/// The reason of a call that was not made, because its breaker is open.
pub(crate) const NOT_MADE: &str = "breaker_open";

/// A call that the store has not answered yet.
struct InFlight(Gauge);

impl InFlight {
    fn new(op: Op) -> Self {
        let key = &KEYS.in_flight[op as usize];
        let gauge = with_recorder(|recorder| recorder.register_gauge(key, &METADATA));
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InFlight")
    }
}

/// The state of a breaker that metrics show. The layers of a process add up.
#[derive(Debug)]
pub(crate) struct ShownBreaker {
    /// The calls that it stands before.
    calls: &'static str,
    is_open: AtomicBool,
}

impl ShownBreaker {
    pub(crate) const fn new(calls: &'static str) -> Self {
        Self { calls, is_open: AtomicBool::new(false) }
    }

    /// Shows what the breaker says, and looks again: another thread may have shown something newer.
    pub(crate) fn follow(&self, is_open: impl Fn() -> bool) {
        loop {
            let shown = is_open();
            self.show(shown);
            if shown == is_open() {
                return;
            }
        }
    }

    fn show(&self, is_open: bool) {
        let was_open = self.is_open.swap(is_open, Ordering::AcqRel);
        let change = f64::from(u8::from(is_open)) - f64::from(u8::from(was_open));
        gauge!("steadfast_breaker_open", "calls" => self.calls).increment(change);
    }
}

impl Drop for ShownBreaker {
    fn drop(&mut self) {
        if *self.is_open.get_mut() {
            self.show(false);
        }
    }
}

/// A feed of changes that a layer listens to, as metrics show it. The layers of a process add up.
#[derive(Debug)]
pub(crate) struct ShownFeed {
    is_up: bool,
    /// True once the feed was complete: connecting for the first time is not a gap.
    was_up: bool,
}

impl ShownFeed {
    /// A feed that tells everything unless it says otherwise.
    pub(crate) fn new() -> Self {
        describe();
        feeds(true).increment(1);
        Self { is_up: true, was_up: false }
    }

    pub(crate) fn hear(&mut self, change: Change) {
        match change {
            Change::Down => self.turn(false),
            Change::Missed => {
                if self.was_up || self.is_up {
                    counter!("steadfast_watch_feed_gaps_total").increment(1);
                }
                self.was_up = true;
                self.turn(true);
            }
            Change::Patched(..) | Change::SignedIn(..) | Change::Ended(..) => {}
        }
    }

    fn turn(&mut self, is_up: bool) {
        if is_up != self.is_up {
            feeds(self.is_up).decrement(1);
            feeds(is_up).increment(1);
            self.is_up = is_up;
        }
    }
}

impl Drop for ShownFeed {
    fn drop(&mut self) {
        feeds(self.is_up).decrement(1);
    }
}

fn feeds(is_up: bool) -> Gauge {
    match is_up {
        true => gauge!("steadfast_watch_feeds", "state" => "up"),
        false => gauge!("steadfast_watch_feeds", "state" => "down"),
    }
}

/// A wait for the end of a session, as metrics show it.
#[derive(Debug)]
pub(crate) struct ShownWait;

impl ShownWait {
    pub(crate) fn new() -> Self {
        waits().increment(1);
        Self
    }
}

impl Drop for ShownWait {
    fn drop(&mut self) {
        waits().decrement(1);
    }
}

fn waits() -> Gauge {
    gauge!("steadfast_watch_waits")
}

/// Made once: a key with labels is an allocation, and every call needs one.
struct Keys {
    seconds: [[Key; End::ALL.len()]; Op::ALL.len()],
    in_flight: [Key; Op::ALL.len()],
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    describe();
    let op = |op: Op| Label::new("op", op.name());
    let seconds = |called: Op| {
        End::ALL.map(|end| {
            let labels = vec![op(called), Label::new("outcome", end.name())];
            Key::from_parts("steadfast_store_seconds", labels)
        })
    };
    let in_flight =
        |called: Op| Key::from_parts("steadfast_store_calls_in_flight", vec![op(called)]);
    Keys { seconds: Op::ALL.map(seconds), in_flight: Op::ALL.map(in_flight) }
});

fn describe() {
    describe_histogram!(
        "steadfast_store_seconds",
        Unit::Seconds,
        "Time of the store calls of requests, by how they ended"
    );
    describe_gauge!("steadfast_store_calls_in_flight", "Store calls that wait for an answer");
    describe_counter!("steadfast_store_errors_total", "Store calls that failed, by the reason");
    describe_gauge!("steadfast_breaker_open", "Breakers that spare requests the wait for a store");
    describe_gauge!("steadfast_watch_feeds", "Feeds of changes that this process listens to");
    describe_counter!(
        "steadfast_watch_feed_gaps_total",
        "How often a feed that this process listens to may have missed changes"
    );
    describe_gauge!("steadfast_watch_waits", "Streams and tasks that wait for a session to end");
}

static METADATA: Metadata<'static> = Metadata::new("steadfast", Level::INFO, Some(module_path!()));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_timed_under_its_own_names() {
        for op in Op::ALL {
            for end in End::ALL {
                let key = &KEYS.seconds[op as usize][end as usize];
                let values: Vec<_> = key.labels().map(Label::value).collect();
                assert_eq!(values, [op.name(), end.name()]);
            }
            let mut labels = KEYS.in_flight[op as usize].labels();
            assert_eq!(labels.next().map(Label::value), Some(op.name()));
        }
    }
}
