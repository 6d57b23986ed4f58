//! Stopping and starting nodes over HTTP, at the balancer: the node that serves the page cannot answer
//! for its own end.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use serde::Deserialize;
use tower_http::csrf::CsrfLayer;

use crate::Balancer;
use crate::switch::Switch;

/// `POST /nodes/{label}/stop` and `/nodes/{label}/start`. Both lead to the page, which compares the
/// session that the form names with the one that is there afterwards.
pub(crate) fn routes() -> Router<Arc<Balancer>> {
    Router::new()
        .route("/nodes/{label}/stop", post(stop))
        .route("/nodes/{label}/start", post(start))
        .layer(CsrfLayer::new())
}

/// Stops a node. The last one that runs starts again immediately, or no page could start it.
async fn stop(
    State(balancer): State<Arc<Balancer>>,
    Path(label): Path<String>,
    Form(before): Form<Before>,
) -> Response {
    let Some(switch) = balancer.switch(&label) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    switch.turn(false).await;
    if !balancer.switches().any(Switch::is_up) {
        switch.turn(true).await;
    }
    Redirect::to(&format!("/?stopped={label}{}", before.query())).into_response()
}

async fn start(State(balancer): State<Arc<Balancer>>, Path(label): Path<String>) -> Response {
    let Some(switch) = balancer.switch(&label) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    switch.turn(true).await;
    Redirect::to(&format!("/?started={label}")).into_response()
}

/// The form of the page.
#[derive(Deserialize)]
struct Before {
    /// The handle of the session, which opens nothing.
    #[serde(default)]
    session: String,
}

impl Before {
    fn query(&self) -> String {
        let is_handle = |c: char| c.is_ascii_alphanumeric() || c == '-';
        match !self.session.is_empty() && self.session.chars().all(is_handle) {
            true => format!("&session={}", self.session),
            false => String::new(),
        }
    }
}
