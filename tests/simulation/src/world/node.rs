//! One machine, and the process that runs on it.

use std::fmt;
use std::time::Duration;

use steadfast_replication::epoch::Settings;
use steadfast_replication::member::Boot;

use super::Input;
use super::clock::Clock;
use crate::process::{Now, Process, Start};

/// One machine, and the process that runs on it.
// More than eight fields, because a machine has a process, a clock, and inputs that wait for both.
pub struct Node<P: Process> {
    process: Option<P>,
    start: Start,
    /// The number of processes that were started here.
    starts: u64,
    started_at: Duration,
    stalled_until: Duration,
    waiting: Waiting<P>,
    clock: Clock,
    is_slow: bool,
    is_named: bool,
    end: End,
}

/// The end of the last process of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not ended.
    None,
    /// It is asked to end.
    Draining,
    /// It has drained, and may end without a loss.
    Drained,
    /// It exited by itself.
    Itself,
}

/// Inputs that arrived while a process was stopped.
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

    /// Returns the process.
    pub fn process(&self) -> Option<&P> {
        self.process.as_ref()
    }

    /// Returns true if a process runs here.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Returns the boot of the process, or of the last one.
    pub fn boot(&self) -> Boot {
        self.start.boot
    }

    /// Returns its start parameters.
    pub fn configuration(&self) -> &Start {
        &self.start
    }

    /// Returns true if discovery returns it.
    pub fn is_named(&self) -> bool {
        self.is_named || self.is_up()
    }

    /// Returns how its process ended, or is about to.
    pub fn end(&self) -> End {
        self.end
    }

    /// Returns true if it is about to end.
    pub fn is_draining(&self) -> bool {
        self.end != End::None
    }

    /// Returns the start time of its process.
    pub(super) fn started_at(&self) -> Duration {
        self.started_at
    }

    /// Sets the settings for the next process.
    pub(super) fn configure(&mut self, settings: Settings) {
        self.start.settings = settings;
    }

    /// Returns its clocks.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the time that its clocks show.
    pub fn now(&self, time: Duration) -> Now {
        self.clock.at(time)
    }

    /// Returns true if its process is stopped.
    pub fn is_stalled(&self, time: Duration) -> bool {
        time < self.stalled_until
    }

    pub(super) fn clock_mut(&mut self) -> &mut Clock {
        &mut self.clock
    }

    pub(super) fn process_mut(&mut self) -> Option<&mut P> {
        self.process.as_mut()
    }

    /// Starts a process, and returns its boot.
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

    /// Returns true if earlier inputs are still waiting.
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
