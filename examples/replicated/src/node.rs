//! A node: the shop, over a store that shares its sessions with the other nodes.

use example_app::Strategy;
use steadfast::store::Operate;
use steadfast::{Connect, SessionLayer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Serves until SIGTERM, then hands its sessions on; or until `service_ended`, when no node is left to
/// take them.
pub(crate) async fn run(
    name: &str,
    address: &str,
    store: &str,
    service_ended: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let store = Connect::new(store).node(name.parse()?).open().await?;
    let sessions = SessionLayer::new(store.clone());
    let app = example_app::router(STRATEGY, name, sessions.clone());

    let listener = TcpListener::bind(address).await?;
    let (tell, hands_on) = oneshot::channel();
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => drop(tell.send(true)),
            () = service_ended => drop(tell.send(false)),
        }
    };
    example_app::serve(listener, app, sessions, stop).await?;
    if hands_on.await == Ok(true) {
        store.drain().await?;
    }
    Ok(())
}

const STRATEGY: Strategy = Strategy {
    name: "Session clustering",
    summary: "Each session has an owner and a backup among the nodes, and any node serves it.",
    roles: &["owner", "backup"],
    beside: None,
    survives: "Two nodes had every change before it was confirmed. If one of them stops, the other goes on, \
               and gets a new backup.",
    lost: "All nodes that held it were stopped before another one had a copy. A new copy takes a few \
           seconds.",
};
