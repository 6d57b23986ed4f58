//! The application: what its routes share, and how they are put together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use steadfast::store::{Drained, Operate, RouteLabel, Store};
use steadfast::{Lifetime, Realm, SessionLayer, StoreError};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::csrf::CsrfLayer;

use crate::gates::Gates;
use crate::options::Options;
use crate::reports::Reports;
use crate::{errors, live, page, routes, test_routes};

/// The state that all routes share.
pub(crate) struct App {
    pub(crate) node: RouteLabel,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) gates: Gates,
    pub(crate) reports: Option<Reports>,
    is_draining: AtomicBool,
}

impl App {
    /// Over a store, with the metrics of the process.
    pub(crate) fn new(options: &Options, store: Arc<dyn Store>, metrics: PrometheusHandle) -> Self {
        Self {
            node: options.node.clone(),
            store,
            metrics,
            gates: Gates::default(),
            reports: Reports::new(options.report_events),
            is_draining: false.into(),
        }
    }

    /// Takes no new clients from now on, and returns when every session is safe elsewhere or can
    /// never be.
    pub(crate) async fn drain(&self) -> Result<Drained, StoreError> {
        self.is_draining.store(true, Ordering::Relaxed);
        self.store.drain().await
    }
}

/// The session routes as they are mounted at one path, with a realm and a cookie of their own.
pub(crate) struct Mount {
    pub(crate) app: Arc<App>,
    /// Empty, or a path without its final slash.
    pub(crate) path: &'static str,
    pub(crate) cookie: String,
    /// The settings with which the layer begins.
    pub(crate) lifetime: Lifetime,
    pub(crate) layer: SessionLayer,
}

/// The application at `/`, and the same once more at `/b`.
pub(crate) fn mounts(options: &Options, app: &Arc<App>) -> anyhow::Result<[Arc<Mount>; 2]> {
    let mount = |path, word, realm| {
        let mut layer = SessionLayer::new(Arc::clone(&app.store))
            .realm(realm)
            .cookie(options.profile.cookie(word))?
            .affinity(options.affinity)
            .lifetime(options.lifetime)
            .keyring(options.keys.hash.clone())
            .max_per_principal(options.max_per_principal.get())
            .at_cap(options.at_cap)
            .index_labels(INDEXED)?;
        if let Some(keys) = &options.keys.seal {
            layer = layer.seal(keys.clone());
        }
        if let Some(idle) = options.visitor_idle {
            layer = layer.visitor_idle(idle).context("--visitor-idle cannot be")?;
        }
        if let Some(reports) = app.reports.clone() {
            layer = layer.on_event(move |event| reports.add(event));
        }
        let cookie = options.profile.cookie_name(word);
        let lifetime = options.lifetime;
        anyhow::Ok(Arc::new(Mount { app: Arc::clone(app), path, cookie, lifetime, layer }))
    };
    let [first, second] = PATHS;
    Ok([mount(first, "id", Realm::default())?, mount(second, "b", Realm::new("b")?)?])
}

/// Everything that is served, the routes for tests only if they are wanted.
pub(crate) fn router(app: &Arc<App>, mounts: &[Arc<Mount>; 2], with_test_routes: bool) -> Router {
    let mut all = routes::router().merge(live::router()).merge(page::router());
    if with_test_routes {
        all = all.merge(test_routes::router());
    }
    let [first, second] = mounts;
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(app))
        .merge(mounted(first, all.clone()))
        .nest(second.path, mounted(second, all))
        .nest(&format!("{}/", second.path), mounted(second, page::router()))
        .layer(CatchPanicLayer::custom(errors::panicked))
        .layer(from_fn(errors::answer))
}

/// Routes with the sessions of a mount. Refused cross-site requests do not reach them.
fn mounted(mount: &Arc<Mount>, routes: Router<Arc<Mount>>) -> Router {
    routes
        .layer(from_fn_with_state(Arc::clone(mount), page::forms))
        .layer(mount.layer.clone())
        .layer(CsrfLayer::new())
        .with_state(Arc::clone(mount))
}

async fn healthz() -> Json<serde_json::Value> {
    routes::ok()
}

/// 404 takes this node out of a balancer's rotation without alarm; 503 is an outage.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    if app.is_draining.load(Ordering::Relaxed) {
        return (StatusCode::NOT_FOUND, "draining").into_response();
    }
    match tokio::time::timeout(READY_WITHIN, app.store.ready()).await {
        Ok(Ok(())) => routes::ok().into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the session store does not answer").into_response(),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render())
}

/// The place at which the session routes are mounted.
pub(crate) const PATHS: [&str; 2] = ["", "/b"];

/// The labels by which an administrator ends sessions.
const INDEXED: [&str; 2] = ["sid", "device"];

const READY_WITHIN: Duration = Duration::from_secs(1);
