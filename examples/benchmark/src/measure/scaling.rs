//! The gain from a second thread. Each thread serves its own sessions on its own core.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{median, pin, runtime};
use crate::cases::{Case, Size};
use crate::client::Client;
use crate::peers::{self, LONG};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub rounds: usize,
    /// The number of requests per thread and round.
    pub requests: usize,
    /// The number of sessions in each store.
    pub sessions: usize,
}

pub const CASES: [Case; 3] = [Case::Untouched, Case::Read, Case::Write];

/// Throughput on two threads divided by that on one, by peer and case.
pub type Scaling = BTreeMap<String, BTreeMap<Case, f64>>;

pub fn run(plan: &Plan) -> anyhow::Result<Scaling> {
    let runtime = runtime();
    let mut scaling = Scaling::new();
    for case in CASES {
        let mut clients = Vec::new();
        for peer in peers::ALL {
            let client = async { Client::new(peer.app(LONG)) };
            let client = async { client.await.with_sessions(plan.sessions, Size::SMALL).await };
            clients.push(runtime.block_on(client)?);
        }
        for (peer, gains) in peers::ALL.iter().zip(gains(plan, case, &clients)?) {
            scaling.entry(peer.name().to_owned()).or_default().insert(case, median(gains));
        }
    }
    Ok(scaling)
}

/// Runs the rounds of all peers, interleaved.
fn gains(plan: &Plan, case: Case, clients: &[Client]) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut gains = vec![Vec::new(); clients.len()];
    for _ in 0..plan.rounds {
        for (client, gains) in clients.iter().zip(&mut gains) {
            let one = elapsed(plan, case, &[client.share(0, 2)])?;
            let two = elapsed(plan, case, &[client.share(0, 2), client.share(1, 2)])?;
            gains.push(2.0 * one.as_secs_f64() / two.as_secs_f64());
        }
    }
    Ok(gains)
}

/// Returns the time until each client has sent its requests, on one thread each.
fn elapsed(plan: &Plan, case: Case, clients: &[Client]) -> anyhow::Result<Duration> {
    let ready = Barrier::new(clients.len());
    let serve = |core, client: &Client| {
        pin(core);
        let runtime = runtime();
        ready.wait();
        let start = Instant::now();
        runtime.block_on(client.serve(case, plan.requests))?;
        anyhow::Ok(start.elapsed())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(core, client)| scope.spawn(move || serve(core, client)))
            .collect();
        let times = threads.into_iter().map(|thread| thread.join().expect("no thread panics"));
        Ok(times.collect::<anyhow::Result<Vec<_>>>()?.into_iter().max().unwrap_or_default())
    })
}
