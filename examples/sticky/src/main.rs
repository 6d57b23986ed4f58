//! The shop on three nodes, with a balancer that sends a client to the node of its session.
//!
//! `cargo run -p example-sticky [ADDRESS]`, `127.0.0.1:3000` by default; Ctrl-C ends it. The page stops and
//! starts nodes; a line of standard input drains one: `drain n1`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use example_app::{Policy, Shop, Strategy};
use steadfast::store::{Operate, RouteLabel};
use steadfast::{MemoryStore, SessionLayer, StickyStore};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    // The backup, which outlives each node. With nodes in separate processes, this is a database.
    let backup = Arc::new(MemoryStore::new());
    let stores = Stores::default();
    let open = async |label: &'static str| {
        let builder = StickyStore::builder(parse(label)).peers(NODES.map(parse));
        let store = builder.backup(backup.clone()).build();
        stores.lock().expect("no thread panics with it").insert(label, store.clone());
        Ok(SessionLayer::new(store))
    };
    let shop = Shop { strategy: STRATEGY, nodes: &NODES, policy: Policy::Sticky };
    tokio::spawn(drain_on_orders(Arc::clone(&stores)));
    shop.serve(&address, open).await
}

/// The store of each node that has started.
type Stores = Arc<Mutex<BTreeMap<&'static str, StickyStore>>>;

fn parse(label: &str) -> RouteLabel {
    label.parse().expect("a plain label")
}

/// Drains the nodes that the lines of standard input name.
async fn drain_on_orders(stores: Stores) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let label = line.trim().strip_prefix("drain ").unwrap_or_default();
        let store = stores.lock().expect("no thread panics with it").get(label).cloned();
        match store {
            Some(store) => println!("{label} drained: {:?}", store.drain().await),
            None => println!("drain n1, n2 or n3"),
        }
    }
}

const NODES: [&str; 3] = ["n1", "n2", "n3"];

const STRATEGY: Strategy = Strategy {
    name: "Sticky sessions",
    summary: "The balancer sends you to the node that has your session. A backup store outlives that node.",
    roles: &["working copy"],
    beside: Some("the backup store"),
    survives: "The backup store had every change before it was confirmed, and this node took the session \
               over from there.",
    lost: "It is not in the backup store: it expired, or was ended.",
};
