//! One machine, and the process that runs on it.

use std::fmt;
use std::time::Duration;

use steadfast_replication::epoch::Settings;
use steadfast_replication::member::Boot;

use super::Input;
use super::clock::Clock;
use crate::process::{Now, Process, Start};

/// One machine, and the process that runs on it.
// More than eight fields: a machine has a process, a clock, and what waits for both.
pub struct Node<P: Process> {
    process: Option<P>,
    start: Start,
    /// How often a process was started here.
    starts: u64,
    started_at: Duration,
    stalled_until: Duration,
    waiting: Waiting<P>,
    clock: Clock,
    is_slow: bool,
    is_named: bool,
    end: End,
}

/// How the last process of a machine came to its end, or is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It did not.
    None,
    /// It is asked to.
    Draining,
    /// It may end: nothing is lost with it.
    Drained,
    /// It ended itself.
    Itself,
}

/// What happened while a process stood still.
pub(super) struct Waiting<P: Process> {
    pub(super) inputs: Vec<Input<P>>,
    pub(super) missed_tick: bool,
}

impl<P: Process> Node<P> {
    pub(super) fn new(start: Start, clock: Clock, is_named: bool) -> Self {
        Self {
            process: None,
            start,
            starts: 0,
            started_at: Duration::ZERO,
            stalled_until: Duration::ZERO,
            waiting: Waiting::default(),
            clock,
            is_slow: false,
            is_named,
            end: End::None,
        }
    }

    /// Its process.
    pub fn process(&self) -> Option<&P> {
        self.process.as_ref()
    }

    /// Whether a process runs here.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// The boot of the process, or of the last one.
    pub fn boot(&self) -> Boot {
        self.start.boot
    }

    /// How it is started.
    pub fn configuration(&self) -> &Start {
        &self.start
    }

    /// Whether discovery names it.
    pub fn is_named(&self) -> bool {
        self.is_named || self.is_up()
    }

    /// How its process ended, or is about to.
    pub fn end(&self) -> End {
        self.end
    }

    /// Whether it is about to end.
    pub fn is_draining(&self) -> bool {
        self.end != End::None
    }

    /// When its process began.
    pub(super) fn started_at(&self) -> Duration {
        self.started_at
    }

    /// The settings with which the next process begins.
    pub(super) fn configure(&mut self, settings: Settings) {
        self.start.settings = settings;
    }

    /// Its clocks.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What its clocks show.
    pub fn now(&self, time: Duration) -> Now {
        self.clock.at(time)
    }

    /// Whether its process stands still.
    pub fn is_stalled(&self, time: Duration) -> bool {
        time < self.stalled_until
    }

    pub(super) fn clock_mut(&mut self) -> &mut Clock {
        &mut self.clock
    }

    pub(super) fn process_mut(&mut self) -> Option<&mut P> {
        self.process.as_mut()
    }

    /// Starts a process, and returns which one it is.
    pub(super) fn start(&mut self, time: Duration, boot: [u8; 16], seed: u64) -> u64 {
        self.start.boot = Boot::new(boot);
        self.start.seed = seed;
        self.starts += 1;
        self.started_at = time;
        self.stalled_until = Duration::ZERO;
        self.end = End::None;
        self.process = Some(P::start(&self.start, self.clock.at(time)));
        self.starts
    }

    pub(super) fn is_start(&self, start: u64) -> bool {
        self.is_up() && self.starts == start
    }

    pub(super) fn starts(&self) -> u64 {
        self.starts
    }

    pub(super) fn stop(&mut self) {
        self.process = None;
        self.waiting = Waiting::default();
        self.is_slow = false;
    }

    pub(super) fn drain(&mut self) {
        self.end = End::Draining;
    }

    pub(super) fn ends(&mut self, end: End) {
        self.end = end;
    }

    pub(super) fn stall(&mut self, until: Duration) {
        self.stalled_until = self.stalled_until.max(until);
    }

    pub(super) fn set_slow(&mut self, is_slow: bool) {
        self.is_slow = is_slow;
    }

    pub(super) fn is_slow(&self) -> bool {
        self.is_slow
    }

    pub(super) fn missed_tick(&mut self) {
        self.waiting.missed_tick = true;
    }

    /// Whether inputs wait that came before any other.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.inputs.is_empty()
    }

    pub(super) fn wait_with(&mut self, input: Input<P>) {
        self.waiting.inputs.push(input);
    }

    pub(super) fn take_waiting(&mut self) -> Waiting<P> {
        std::mem::take(&mut self.waiting)
    }
}

impl<P: Process> Default for Waiting<P> {
    fn default() -> Self {
        Self { inputs: Vec::new(), missed_tick: false }
    }
}

impl<P: Process> fmt::Debug for Node<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.start.name.as_str(), self.start.boot)
    }
}
