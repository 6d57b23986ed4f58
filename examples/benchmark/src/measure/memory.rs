//! The memory of a session, and the memory that is freed after all of them expired.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::{Heap, runtime};
use crate::cases::{Case, Size};
use crate::client::Client;
use crate::peers;

#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    pub peer: String,
    pub sessions: usize,
    /// The lifetime of a session. It is longer than the creation of all sessions takes.
    pub lifetime: Duration,
}

/// Allocated bytes per session.
#[derive(Debug, Serialize, Deserialize)]
pub struct Memory {
    pub sessions: usize,
    pub live: f64,
    /// After all of them expired, and a request was served for every tenth.
    pub expired: f64,
}

pub fn run(plan: &Plan, heap: &dyn Fn() -> Heap) -> anyhow::Result<Memory> {
    let peer = peers::named(&plan.peer)?;
    runtime().block_on(async {
        let client = Client::new(peer.app(plan.lifetime));
        // Memory that is allocated only once, or by the first request, does not belong to a
        // session.
        let client = client.with_sessions(1, Size::SMALL).await?;
        let before = heap().live;
        let start = Instant::now();
        let mut full = client.with_sessions(plan.sessions, Size::SMALL).await?;
        ensure!(start.elapsed() < plan.lifetime, "sessions expired while others were created");
        full.forget();
        let live = heap().live - before;

        tokio::time::sleep(plan.lifetime + Duration::from_secs(1)).await;
        let visitor = full.with_sessions(1, Size::SMALL).await?;
        for _ in 0..TURNS {
            visitor.serve(Case::Read, plan.sessions / 10 / TURNS).await?;
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        let expired = heap().live - before;
        let each = |bytes: i64| bytes as f64 / plan.sessions as f64;
        Ok(Memory { sessions: plan.sessions, live: each(live), expired: each(expired) })
    })
}

/// The number of batches of requests, because a cache cleans up at its own intervals.
const TURNS: usize = 5;
