//! Rehoming: sessions that move to other nodes with their clients' next requests.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use steadfast_core::{RecordId, RouteLabel};

/// The target nodes of sessions that are being moved away.
///
/// A session moves by its route alone: the answer to its next request names the other node, which
/// takes the session over when the client arrives there. If the client returns with the new route,
/// the load balancer cannot reach the other node, and the session stays.
#[derive(Debug, Default)]
pub(crate) struct Rehoming(Mutex<HashMap<RecordId, RouteLabel>>);

impl Rehoming {
    /// Assigns these sessions to these nodes in turn, and cancels all earlier assignments.
    pub(crate) fn assign(&self, ids: &[RecordId], nodes: &[RouteLabel]) {
        let pairs = ids.iter().copied().zip(nodes.iter().cloned().cycle());
        *self.lock() = pairs.collect();
    }

    /// Returns the target of a session, given the route that its client carries.
    pub(crate) fn target(&self, id: RecordId, carried: Option<&RouteLabel>) -> Option<RouteLabel> {
        let mut nodes = self.lock();
        let node = nodes.get(&id)?.clone();
        if carried == Some(&node) {
            nodes.remove(&id);
            return None;
        }
        Some(node)
    }

    /// Cancels the move of a session that another node owns now.
    pub(crate) fn forget(&self, id: RecordId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RecordId, RouteLabel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
