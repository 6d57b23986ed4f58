//! Serves until the process has to stop, and then stops within a stated time.

use std::time::Duration;

use axum::Router;
use steadfast::SessionLayer;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Serves until `stop` resolves. Then open streams end, and responses under way may take
/// [`PATIENCE`]; what outlives its request is waited for last.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    sessions: SessionLayer,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    println!("listening on http://{}", listener.local_addr()?);
    let (tell, told) = oneshot::channel();
    let closing = sessions.clone();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        stop.await;
        // Without this, one open stream would keep the server waiting for ever.
        closing.close();
        let _ = tell.send(());
    });
    let patience = async {
        let _ = told.await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        served = server => served?,
        () = patience => {}
    }
    sessions.join().await;
    Ok(())
}

/// Resolves at Ctrl-C.
pub async fn ctrl_c() {
    tokio::signal::ctrl_c().await.expect("a process can listen for Ctrl-C");
}

/// The time that responses may take after the process has to stop: 10 s.
pub const PATIENCE: Duration = Duration::from_secs(10);
