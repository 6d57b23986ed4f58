//! The routes that the comparison uses.

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_sessions::Session;

/// Returns the routes of a node with a label.
pub(crate) fn routes(node: &str) -> Router {
    Router::new()
        .route("/ping", get(ping))
        .route("/readyz", get(async || "ready"))
        .route("/peek", get(peek))
        .route("/get", get(read))
        .route("/put", post(put))
        .route("/incr", post(incr))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .with_state(node.to_owned())
}

type Answer = Result<Json<Value>, Refused>;

async fn ping(State(node): State<String>) -> Json<Value> {
    Json(json!({ "pong": true, "node": node }))
}

async fn peek(State(node): State<String>, session: Session) -> Answer {
    let user: Option<String> = session.get("user").await?;
    let n: Option<Value> = session.get("n").await?;
    Ok(Json(json!({ "user": user, "n": n, "node": node })))
}

/// The key of a request.
#[derive(Deserialize)]
struct Key {
    #[serde(default = "n")]
    k: String,
}

fn n() -> String {
    "n".to_owned()
}

async fn read(session: Session, Query(Key { k }): Query<Key>) -> Answer {
    let value: Option<Value> = session.get(&k).await?;
    Ok(Json(json!({ "value": value })))
}

/// The body is JSON without a content type, as for the reference.
async fn put(session: Session, Query(Key { k }): Query<Key>, body: Bytes) -> Response {
    let Ok(value) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    insert(&session, &k, value).await.into_response()
}

async fn insert(session: &Session, key: &str, value: Value) -> Answer {
    session.insert(key, value).await?;
    Ok(Json(json!({ "ok": true })))
}

/// Increments are not atomic here, so two concurrent ones can count as one.
async fn incr(session: Session, Query(Key { k }): Query<Key>) -> Answer {
    let value = session.get::<i64>(&k).await?.unwrap_or(0) + 1;
    session.insert(&k, value).await?;
    Ok(Json(json!({ "value": value })))
}

#[derive(Deserialize)]
struct User {
    u: String,
}

async fn login(session: Session, Query(User { u }): Query<User>) -> Answer {
    session.cycle_id().await?;
    session.insert("user", &u).await?;
    Ok(Json(json!({ "user": u })))
}

async fn logout(session: Session) -> Answer {
    if session.get::<String>("user").await?.is_none() {
        return Err(Refused(StatusCode::UNAUTHORIZED));
    }
    session.flush().await?;
    Ok(Json(json!({ "ok": true })))
}

/// A failed request.
struct Refused(StatusCode);

impl From<tower_sessions::session::Error> for Refused {
    fn from(_: tower_sessions::session::Error) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}
