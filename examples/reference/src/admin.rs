//! The administration handle, over the control port. An application protects such routes with its own
//! check that an administrator asks.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Json;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use steadfast::{RecordId, Sessions};

use crate::app::Mount;
use crate::routes::{Answer, User, oldest_first, shown};
use crate::sign_in::{self, SignIn};

/// The routes, for the sessions of a mount.
pub(crate) fn router(mount: Arc<Mount>) -> Router {
    Router::new()
        .route("/admin/issue", post(issue))
        .route("/admin/sessions", get(list))
        .route("/admin/end", post(end))
        .route("/admin/end-all", post(end_all))
        .route("/admin/end-label", post(end_label))
        .with_state(mount)
}

/// Takes the parameters of `/login`.
async fn issue(
    State(mount): State<Arc<Mount>>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Answer {
    let SignIn { login, .. } = sign_in::read(&parameters, &mount.lifetime)?;
    let issued = sessions(&mount).issue(login).await?;
    let cookie = issued.cookie();
    Ok(Json(json!({ "cookie": cookie.to_str().expect("a cookie is visible ASCII") })))
}

async fn list(State(mount): State<Arc<Mount>>, Query(User { u }): Query<User>) -> Answer {
    let listed = oldest_first(sessions(&mount).list(&u).await?);
    let listed: Vec<_> = listed.iter().map(|info| shown(info, None)).collect();
    Ok(Json(json!({ "sessions": listed })))
}

#[derive(Deserialize)]
struct Handle {
    handle: RecordId,
}

async fn end(State(mount): State<Arc<Mount>>, Query(Handle { handle }): Query<Handle>) -> Answer {
    let is_ended = sessions(&mount).end(handle).await?;
    Ok(ended(is_ended.into()))
}

#[derive(Deserialize)]
struct EndAll {
    u: String,
    epoch: Option<u64>,
}

async fn end_all(
    State(mount): State<Arc<Mount>>,
    Query(EndAll { u, epoch }): Query<EndAll>,
) -> Answer {
    Ok(ended(sessions(&mount).end_all(&u, epoch).await?))
}

#[derive(Deserialize)]
struct Label {
    name: String,
    value: String,
}

async fn end_label(
    State(mount): State<Arc<Mount>>,
    Query(Label { name, value }): Query<Label>,
) -> Answer {
    Ok(ended(sessions(&mount).end_labelled(&name, &value).await?))
}

fn sessions(mount: &Mount) -> Sessions {
    mount.layer.sessions()
}

fn ended(count: u64) -> Json<serde_json::Value> {
    Json(json!({ "ended": count }))
}
