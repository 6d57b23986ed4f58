//! A node: the shop, over a store that shares its sessions with the other nodes.

use steadfast::store::Operate;
use steadfast::{Connect, SessionLayer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serves until SIGTERM, then hands its sessions on.
pub(crate) async fn run(name: &str, address: &str, store: &str) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let store = Connect::new(store).node(name.parse()?).open().await?;
    let sessions = SessionLayer::new(store.clone());
    let app = example_app::router_on(name).layer(sessions.clone());

    let listener = TcpListener::bind(address).await?;
    let terminated = async move { terminate.recv().await.unwrap_or_default() };
    example_app::serve(listener, app, sessions, terminated).await?;
    store.drain().await?;
    Ok(())
}
