//! Sessions that are to move to other nodes with their clients' next requests.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use steadfast_core::{RecordId, RouteLabel};

/// Where each session is to go that this node wants to be rid of.
///
/// A session moves by its route alone: the answer to its next request names the other node, which takes
/// it over when the client comes there. One that comes back with the new route has a balancer that
/// cannot reach the other node, so it stays.
#[derive(Debug, Default)]
pub(crate) struct Shed(Mutex<HashMap<RecordId, RouteLabel>>);

impl Shed {
    /// Sends these sessions to these nodes, in turn, and no others any more.
    pub(crate) fn assign(&self, ids: &[RecordId], nodes: &[RouteLabel]) {
        let pairs = ids.iter().copied().zip(nodes.iter().cloned().cycle());
        *self.lock() = pairs.collect();
    }

    /// Where a session is to go whose client carries this route.
    pub(crate) fn target(&self, id: RecordId, carried: Option<&RouteLabel>) -> Option<RouteLabel> {
        let mut nodes = self.lock();
        let node = nodes.get(&id)?.clone();
        if carried == Some(&node) {
            nodes.remove(&id);
            return None;
        }
        Some(node)
    }

    /// The session is not this node's any more.
    pub(crate) fn forget(&self, id: RecordId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RecordId, RouteLabel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
