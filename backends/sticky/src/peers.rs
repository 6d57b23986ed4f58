//! The other nodes, by their labels.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use steadfast_core::RouteLabel;

/// The labels of other nodes: those that were set, and those that the backup's records name. What a
/// client carries is no source, because clients write what they like.
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

    /// Those to send sessions to: the ones that were set, if any were.
    pub(crate) fn all(&self) -> Vec<RouteLabel> {
        if !self.set.is_empty() {
            return self.set.clone();
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().cloned().collect()
    }
}

/// More nodes than a balancer of this kind has.
const MOST_SEEN: usize = 256;
