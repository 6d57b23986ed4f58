//! CPU time, as a ratio to the floor within one interleaved run, because no absolute time is stable
//! on a shared machine.

use std::collections::BTreeMap;
use std::hint::black_box;

use cpu_time::ThreadTime;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::{median, pin, runtime};
use crate::cases::{Case, Size};
use crate::client::Client;
use crate::peers::{self, LONG, Peer};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The number of rounds.
    pub rounds: usize,
    /// The number of requests per peer and round.
    pub requests: usize,
    /// The number of sessions in each store.
    pub sessions: usize,
}

/// Ratios to the floor, by peer and case.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Times {
    pub over_floor: BTreeMap<String, BTreeMap<Case, f64>>,
    /// One SHA-256 of a secret, as a fraction of the floor's `anon` request.
    pub hash: f64,
}

pub fn run(plan: &Plan) -> anyhow::Result<Times> {
    pin(0);
    let runtime = runtime();
    let mut times = Times::default();
    for case in Case::ALL {
        let ratios = ratios(plan, case, &runtime)?;
        for (peer, ratio) in peers::ALL.iter().zip(ratios) {
            times.over_floor.entry(peer.name().to_owned()).or_default().insert(case, ratio);
        }
    }
    times.hash = hash(plan, &runtime)?;
    Ok(times)
}

/// Returns, for each peer, the median over all rounds of its ratio to the floor of the same round.
fn ratios(plan: &Plan, case: Case, runtime: &Runtime) -> anyhow::Result<Vec<f64>> {
    let sessions = if case.rotates() { plan.requests } else { plan.sessions };
    let mut clients = Vec::new();
    for peer in peers::ALL {
        clients.push(runtime.block_on(client(peer, case, sessions))?);
    }
    let mut ratios = vec![Vec::new(); clients.len()];
    for _ in 0..plan.rounds {
        let mut floor = 1.0;
        for (n, client) in clients.iter_mut().enumerate() {
            if case.rotates() {
                *client = runtime.block_on(client_again(client, case, sessions))?;
            }
            let spent = spent(runtime, client, case, plan.requests)?;
            if n == 0 {
                floor = spent;
            }
            ratios[n].push(spent / floor);
        }
    }
    Ok(ratios.into_iter().map(median).collect())
}

async fn client(peer: &dyn Peer, case: Case, sessions: usize) -> anyhow::Result<Client> {
    let client = Client::new(peer.app(LONG)).with_sessions(sessions, case.size()).await?;
    if !case.rotates() {
        client.check(case).await?;
        client.serve(case, sessions).await?;
    }
    Ok(client)
}

/// Returns a client of the same application, with unused tokens.
async fn client_again(client: &Client, case: Case, sessions: usize) -> anyhow::Result<Client> {
    client.without_sessions().with_sessions(sessions, case.size()).await
}

/// Returns the CPU seconds of this thread.
fn spent(runtime: &Runtime, client: &Client, case: Case, requests: usize) -> anyhow::Result<f64> {
    let start = ThreadTime::now();
    runtime.block_on(client.serve(case, requests))?;
    Ok(start.elapsed().as_secs_f64())
}

fn hash(plan: &Plan, runtime: &Runtime) -> anyhow::Result<f64> {
    let floor = Client::new(peers::Floor.app(LONG));
    let floor = runtime.block_on(floor.with_sessions(1, Size::SMALL))?;
    let hash = peers::hash_a_secret();
    let mut shares = Vec::new();
    for _ in 0..plan.rounds {
        let request = spent(runtime, &floor, Case::Anon, plan.requests)?;
        let start = ThreadTime::now();
        for _ in 0..plan.requests {
            black_box(hash());
        }
        shares.push(start.elapsed().as_secs_f64() / request);
    }
    Ok(median(shares))
}
