//! The shop on three nodes, with a balancer that sends a client to the node of its session.
//!
//! `cargo run -p example-sticky [ADDRESS]`, `127.0.0.1:3000` by default; Ctrl-C ends it. Each line of
//! standard input is a command: `kill n1`, `start n1`, `drain n1`.

mod node;

use std::sync::Arc;

use example_balancer::{Balancer, Policy};
use steadfast::MemoryStore;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::node::Node;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    // The backup, which outlives each node. With nodes in separate processes, this is a database.
    let backup = Arc::new(MemoryStore::new());
    let mut nodes = Vec::new();
    for label in ["n1", "n2", "n3"] {
        nodes.push(Node::new(label, backup.clone()).await?);
    }
    let addresses = nodes.iter().map(|node| (node.label.to_owned(), node.address));
    let balancer = Balancer::new(Policy::Sticky, addresses);
    let stop = async move {
        tokio::select! {
            () = example_app::ctrl_c() => {}
            () = obey(&mut nodes) => {}
        }
        // Streams end by themselves now, or the balancer would wait for them.
        nodes.iter().for_each(Node::close);
    };
    balancer.serve(&address, stop).await
}

/// Does what the lines of standard input say, also when there are no more.
async fn obey(nodes: &mut [Node]) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        node::obey(nodes, &line).await;
    }
    std::future::pending::<()>().await;
}
