//! Allocations per request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Heap, runtime};
use crate::cases::Case;
use crate::client::Client;
use crate::peers::{self, LONG, Peer};

#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The number of requests per peer and case, each with another session.
    pub requests: usize,
}

/// Allocations and reallocations per request, by peer and case.
pub type Allocations = BTreeMap<String, BTreeMap<Case, f64>>;

pub fn run(plan: &Plan, heap: &dyn Fn() -> Heap) -> anyhow::Result<Allocations> {
    let mut allocations = Allocations::new();
    for peer in peers::ALL {
        for case in Case::ALL {
            let each = runtime().block_on(per_request(plan, peer, case, heap))?;
            allocations.entry(peer.name().to_owned()).or_default().insert(case, each);
        }
    }
    Ok(allocations)
}

async fn per_request(
    plan: &Plan,
    peer: &dyn Peer,
    case: Case,
    heap: &dyn Fn() -> Heap,
) -> anyhow::Result<f64> {
    let client = Client::new(peer.app(LONG)).with_sessions(plan.requests, case.size()).await?;
    if !case.rotates() {
        client.check(case).await?;
        client.serve(case, plan.requests).await?;
    }
    let before = heap().allocations;
    client.serve(case, plan.requests).await?;
    Ok((heap().allocations - before) as f64 / plan.requests as f64)
}
