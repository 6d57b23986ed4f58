//! Decides when a node has to read the cutoff again: see [`crate::end_everybody`].

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// This node's knowledge of the cutoff.
#[derive(Debug)]
pub(crate) struct Cutoff {
    pub(crate) interval: Duration,
    reading: Mutex<Reading>,
}

#[derive(Debug, Default)]
struct Reading {
    /// The time at which the latest successful read was sent.
    asked: Option<Instant>,
    has_poller: bool,
}

impl Cutoff {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval: interval.max(SHORTEST), reading: Mutex::default() }
    }

    pub(crate) fn is_due(&self) -> bool {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.asked.is_none_or(|asked| asked.elapsed() >= self.interval)
    }

    /// Records a successful read, and returns true if the node still needs a poller.
    pub(crate) fn answered(&self, asked: Instant) -> bool {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.asked = reading.asked.max(Some(asked));
        !std::mem::replace(&mut reading.has_poller, true)
    }

    /// Records that the poller ended with its layer: a clone of the layer starts another one.
    pub(crate) fn lost_poller(&self) {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).has_poller = false;
    }
}

/// The shortest interval: below it, the reading would cost more than the sessions.
const SHORTEST: Duration = Duration::from_millis(100);
