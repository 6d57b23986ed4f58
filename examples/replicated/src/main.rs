//! The shop on three nodes that hold its sessions together, behind a balancer that takes them in turn.
//!
//! `cargo run -p example-replicated [ADDRESS]`, `127.0.0.1:3000` by default; Ctrl-C ends it. Each node is
//! a process of its own, and this program as well: `example-replicated node NAME ADDRESS STORE`.

mod node;
mod service;

use std::env;
use std::future::pending;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["node", name, address, store] => node::run(name, address, store, pending()).await,
        ["node", name, address, store, service::STARTED] => {
            node::run(name, address, store, service::ended()).await
        }
        [] => service::run("127.0.0.1:3000").await,
        [address] => service::run(address).await,
        _ => anyhow::bail!("usage: example-replicated [ADDRESS] | node NAME ADDRESS STORE"),
    }
}
