//! The traffic of a request between the process and its server, and the statements that the server
//! counts.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use serde::{Deserialize, Serialize};
use testkit::postgres::{Proxy, Traffic};

use super::connected_runtime;
use crate::cases::Case;
use crate::client::Client;
use crate::peers::{REMOTE, Remote};
use crate::servers::Servers;

#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The number of requests per peer and case, each with another session.
    pub requests: usize,
}

/// The traffic of one request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Wire {
    /// The number of times the process sent something after a response.
    pub round_trips: f64,
    /// Redis commands, or PostgreSQL statements.
    pub commands: f64,
    /// Bytes to the server.
    pub sent: f64,
    /// Bytes from the server.
    pub received: f64,
}

/// By peer and case.
pub type Wires = BTreeMap<String, BTreeMap<Case, Wire>>;

pub fn run(plan: &Plan) -> anyhow::Result<Wires> {
    let servers = Servers::start();
    let of = |peer: &Remote| {
        let wires = connected_runtime().block_on(wires(plan, peer, &servers))?;
        Ok((peer.name.to_owned(), wires))
    };
    REMOTE.iter().map(of).collect()
}

async fn wires(
    plan: &Plan,
    peer: &Remote,
    servers: &Servers,
) -> anyhow::Result<BTreeMap<Case, Wire>> {
    let proxy = Proxy::start(&servers.address(peer.server)).await;
    let app = peer.app(proxy.address()).await?;
    let mut wires = BTreeMap::new();
    for case in Case::REMOTE {
        wires.insert(case, wire(plan, peer, servers, &proxy, &app, case).await?);
    }
    Ok(wires)
}

async fn wire(
    plan: &Plan,
    peer: &Remote,
    servers: &Servers,
    proxy: &Proxy,
    app: &Router,
    case: Case,
) -> anyhow::Result<Wire> {
    let client = Client::warm(app.clone(), case, plan.requests).await?;
    let before = once_quiet(proxy).await?;
    let count = servers.count(peer.server);
    client.serve(case, plan.requests).await?;
    let after = once_quiet(proxy).await?;
    let each = |count: u64| count as f64 / plan.requests as f64;
    Ok(Wire {
        round_trips: each(after.round_trips - before.round_trips),
        commands: each(count.end() as u64),
        sent: each(after.sent - before.sent),
        received: each(after.received - before.received),
    })
}

/// Returns the traffic so far, once the pool has finished its background work.
async fn once_quiet(proxy: &Proxy) -> anyhow::Result<Traffic> {
    let mut traffic = proxy.traffic();
    for _ in 0..MOST_LOOKS {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = proxy.traffic();
        if now == traffic {
            return Ok(now);
        }
        traffic = now;
    }
    anyhow::bail!("the connections to the server did not become idle")
}

/// Ten seconds.
const MOST_LOOKS: usize = 200;
