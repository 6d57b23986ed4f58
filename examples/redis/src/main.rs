//! The shop on any number of nodes, here three: sessions live in Redis, and survive every node.
//!
//! `cargo run -p example-redis [ADDRESS [URL]]`, `127.0.0.1:3000` and `redis://127.0.0.1:6379` by
//! default; Ctrl-C ends it. A balancer takes the nodes in turn, and the page stops them.

use example_app::{Policy, Shop, Strategy};
use steadfast::SessionLayer;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let url = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let nodes = &["n1", "n2", "n3"];
    let shop = Shop { strategy: STRATEGY, nodes, policy: Policy::RoundRobin };
    shop.serve(&address, async |_| Ok(SessionLayer::new(steadfast::connect(&url).await?))).await
}

const STRATEGY: Strategy = Strategy {
    name: "Separate storage",
    summary: "Sessions live in Redis. Any node serves any request, with one round trip to Redis.",
    roles: &[],
    beside: Some("Redis"),
    survives: "No node keeps sessions: every node reads and writes them in Redis.",
    lost: "It is no longer in Redis: it expired or was ended, or Redis started without its data.",
};
