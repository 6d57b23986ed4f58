//! A node: the shop, over a store that shares its sessions with the other nodes.

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
    let app = example_app::router_on(name).layer(sessions.clone());

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
