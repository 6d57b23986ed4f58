//! The latest session events, for the control port.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use steadfast::SessionEvent;

/// A bounded number of events. Clones share them.
#[derive(Clone)]
pub(crate) struct Reports {
    most: usize,
    events: Arc<Mutex<VecDeque<SessionEvent>>>,
}

impl Reports {
    /// Keeps the latest `most` events; none if it is 0.
    pub(crate) fn new(most: usize) -> Option<Self> {
        (most > 0).then(|| Self { most, events: Arc::default() })
    }

    pub(crate) fn add(&self, event: &SessionEvent) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == self.most {
            events.pop_front();
        }
        events.push_back(event.clone());
    }

    pub(crate) fn all(&self) -> Vec<SessionEvent> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
