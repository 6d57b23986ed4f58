//! Routes by which a balancer and an orchestrator watch a node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use steadfast_core::{Drained, Operate, StoreError};

/// Routes that report whether this node is alive, and whether it takes new clients.
///
/// | route | answers | is for |
/// | --- | --- | --- |
/// | `GET /healthz` | 200 while the process serves; it asks nothing of the store | what restarts a process that hangs |
/// | `GET /readyz` | 200 where a sign-in works now, 503 where the store is away, 404 once the node drains | what sends clients to nodes |
///
/// A store that is away is not a reason to restart a process, so only the second route asks it. It asks by
/// [`Operate::ready`], which the stores of this project answer from memory if they did within a second, and
/// gives it [`WITHIN`](Self::WITHIN). Both answers are kept by no cache, and say nothing of the store.
/// Clones are the same node.
///
/// # Examples
///
/// Merge the routes outside of the session layer, which they do not need:
///
/// ```
/// use std::sync::Arc;
/// use axum::Router;
/// use steadfast::{Health, MemoryStore, SessionLayer};
///
/// # fn routes() -> Router { Router::new() }
/// let store = Arc::new(MemoryStore::new());
/// let health = Health::of(Arc::clone(&store));
/// let app = routes().layer(SessionLayer::new(store)).merge(health.router());
/// ```
///
/// When the process has to stop, [`drain`](Self::drain) it before the server ends, so that a balancer takes it
/// out of rotation without counting an error.
#[derive(Clone, Debug)]
pub struct Health(Arc<Node>);

#[derive(Debug)]
struct Node {
    store: Box<dyn Operate>,
    is_draining: AtomicBool,
}

impl Health {
    /// The time within which the store must report that it is ready: 1 s.
    pub const WITHIN: Duration = Duration::from_secs(1);

    /// Makes the health routes of a node that keeps its sessions in this store.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use steadfast::{Health, MemoryStore};
    ///
    /// let health = Health::of(Arc::new(MemoryStore::new()));
    /// ```
    pub fn of(store: impl Operate) -> Self {
        Self(Arc::new(Node { store: Box::new(store), is_draining: AtomicBool::new(false) }))
    }

    /// Returns a router with the two routes.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use steadfast::{Health, MemoryStore};
    ///
    /// let health = Health::of(Arc::new(MemoryStore::new()));
    /// let app: axum::Router = health.router();
    /// ```
    pub fn router<S>(&self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        Router::new()
            .route("/healthz", get(|| async { answer(StatusCode::OK, "ok") }))
            .route("/readyz", get(ready))
            .with_state(self.clone())
    }

    /// Takes no new clients from now on, and drains the store.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use steadfast::{Health, MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let health = Health::of(Arc::new(MemoryStore::new()));
    /// // On SIGTERM, before the server stops:
    /// health.drain().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Operate::drain`].
    pub async fn drain(&self) -> Result<Drained, StoreError> {
        self.0.is_draining.store(true, Ordering::Relaxed);
        self.0.store.drain().await
    }
}

/// 404 takes this node out of a balancer's rotation without alarm; 503 is an outage.
async fn ready(State(Health(node)): State<Health>) -> impl IntoResponse {
    if node.is_draining.load(Ordering::Relaxed) {
        return answer(StatusCode::NOT_FOUND, "draining").into_response();
    }
    let ready = tokio::time::timeout(Health::WITHIN, node.store.ready()).await;
    match ready.unwrap_or(Err(StoreError::Timeout)) {
        Ok(()) => answer(StatusCode::OK, "ok").into_response(),
        Err(error) => {
            let error = &error as &(dyn std::error::Error + 'static);
            // Asked every few seconds for as long as the outage lasts, which requests report.
            tracing::debug!(target: "steadfast", error, "not ready");
            let away = answer(StatusCode::SERVICE_UNAVAILABLE, "the session store is away");
            ([(RETRY_AFTER, "1")], away).into_response()
        }
    }
}

fn answer(status: StatusCode, text: &'static str) -> impl IntoResponse {
    (status, [(CACHE_CONTROL, "no-store")], text)
}
