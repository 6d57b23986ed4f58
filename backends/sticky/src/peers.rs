//! The labels of other nodes.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use steadfast_core::RouteLabel;

/// The labels of other nodes: those configured, and those that the backup's records name. A
/// client's route is not a source, because clients can send any label.
#[derive(Debug)]
pub(crate) struct Peers {
    set: Vec<RouteLabel>,
    seen: Mutex<BTreeSet<RouteLabel>>,
}

impl Peers {
    pub(crate) fn new(this: &RouteLabel, set: Vec<RouteLabel>) -> Self {
        let others = set.into_iter().filter(|label| label != this);
        Self { set: others.collect(), seen: Mutex::default() }
    }

    pub(crate) fn saw(&self, label: &RouteLabel) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < MOST_SEEN {
            seen.insert(label.clone());
        }
    }

    pub(crate) fn knows(&self, label: &RouteLabel) -> bool {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(label);
        self.set.contains(label) || seen()
    }

    /// Returns the nodes to send sessions to: the configured ones if there are any, else those
    /// seen.
    pub(crate) fn all(&self) -> Vec<RouteLabel> {
        if !self.set.is_empty() {
            return self.set.clone();
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().cloned().collect()
    }
}

/// More nodes than a sticky deployment has.
const MOST_SEEN: usize = 256;
