//! A node: the shop, over a store that knows the node's label.

use std::net::SocketAddr;
use std::sync::Arc;

use steadfast::store::{Operate, Store};
use steadfast::{SessionLayer, StickyStore};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

pub(crate) struct Node {
    pub(crate) label: &'static str,
    pub(crate) address: SocketAddr,
    backup: Arc<dyn Store>,
    store: StickyStore,
    sessions: SessionLayer,
    server: AbortHandle,
}

impl Node {
    pub(crate) async fn new(label: &'static str, backup: Arc<dyn Store>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let store = store(label, &backup);
        let sessions = SessionLayer::new(store.clone());
        let server = serve(label, sessions.clone(), listener);
        Ok(Self { label, address, backup, store, sessions, server })
    }

    /// Has its streams end.
    pub(crate) fn close(&self) {
        self.sessions.close();
    }

    /// Ends it, and returns when nothing listens any more.
    async fn kill(&mut self) {
        self.server.abort();
        while !self.server.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// A node that starts again has no copies of before.
    async fn start(&mut self) -> std::io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.server.abort();
        self.store = store(self.label, &self.backup);
        self.sessions = SessionLayer::new(self.store.clone());
        self.server = serve(self.label, self.sessions.clone(), listener);
        Ok(())
    }
}

/// Does what a line says.
pub(crate) async fn obey(nodes: &mut [Node], line: &str) {
    let (order, label) = line.trim().split_once(' ').unwrap_or((line, ""));
    let Some(node) = nodes.iter_mut().find(|node| node.label == label) else {
        return println!("kill, start or drain n1, n2 or n3");
    };
    match order {
        "kill" => {
            node.kill().await;
            println!("{label} is gone");
        }
        "start" => println!("{label} starts: {:?}", node.start().await),
        "drain" => println!("{label} drained: {:?}", node.store.drain().await),
        _ => println!("kill, start or drain"),
    }
}

fn store(label: &str, backup: &Arc<dyn Store>) -> StickyStore {
    let parse = |label: &str| label.parse().expect("a plain label");
    let builder = StickyStore::builder(parse(label)).peers(["n1", "n2", "n3"].map(parse));
    builder.backup(Arc::clone(backup)).build()
}

fn serve(label: &str, sessions: SessionLayer, listener: TcpListener) -> AbortHandle {
    let app = example_app::router_on(label).layer(sessions);
    tokio::spawn(axum::serve(listener, app).into_future()).abort_handle()
}
