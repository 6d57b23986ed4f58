//! The shop on several nodes, here three: sessions live in PostgreSQL, and no node keeps any.
//!
//! `DATABASE=postgres://user:password@host/shop cargo run -p example-postgres [ADDRESS]`,
//! `127.0.0.1:3000` by default; Ctrl-C ends it. Several hosts with commas between them are one database
//! that fails over. Here the application makes its tables itself; in production their owner does.
//! A balancer takes the nodes in turn, and the page stops them.

use anyhow::Context;
use example_app::{Policy, Shop, Strategy};
use steadfast::{PostgresStore, SessionLayer};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let database = std::env::var("DATABASE").context("DATABASE is not set")?;
    PostgresStore::builder(&database).migrate().await?;
    let open = async |_| Ok(SessionLayer::new(PostgresStore::builder(&database).build().await?));
    let nodes = &["n1", "n2", "n3"];
    Shop { strategy: STRATEGY, nodes, policy: Policy::RoundRobin }.serve(&address, open).await
}

const STRATEGY: Strategy = Strategy {
    name: "Separate storage",
    summary: "Sessions live in PostgreSQL. Any node serves any request, with one statement for a change.",
    roles: &[],
    beside: Some("PostgreSQL"),
    survives: "No node keeps sessions: every node reads and writes them in PostgreSQL.",
    lost: "It is no longer in PostgreSQL: it expired, or was ended.",
};
