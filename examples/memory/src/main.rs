//! The shop on one node: sessions live in this process, within their budgets, and end with it.
//!
//! `cargo run -p example-memory [ADDRESS]`, `127.0.0.1:3000` by default; Ctrl-C ends it. Its page restarts
//! the node, and then shows that every session is gone.

use example_app::{Policy, Shop, Strategy};
use steadfast::{MemoryStore, SessionLayer};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let shop = Shop { strategy: STRATEGY, nodes: &["n1"], policy: Policy::RoundRobin };
    shop.serve(&address, async |_| Ok(SessionLayer::new(MemoryStore::new()))).await
}

const STRATEGY: Strategy = Strategy {
    name: "One node",
    summary: "Sessions live in the memory of the only process. They are fast, and end with it.",
    roles: &["the only copy"],
    beside: None,
    survives: "The process kept running.",
    lost: "It was in the memory of the process that was stopped, and nowhere else. The other strategies \
           keep it.",
};
