//! The application's routes for sessions, as JSON: each handler could be that of a user.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Json;
use axum::routing::{delete, get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use steadfast::{Error, RecordId, Session, SessionInfo, Status};
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;

use crate::app::Mount;
use crate::errors::Failure;
use crate::sign_in::{self, SignIn};

pub(crate) fn router() -> Router<Arc<Mount>> {
    Router::new()
        .route("/ping", get(ping))
        .route("/peek", get(peek))
        .route("/get", get(read))
        .route("/put", post(put))
        .route("/key", delete(remove))
        .route("/incr", post(incr))
        .route("/append", post(append))
        .route("/login", post(login))
        .route("/elevate", post(elevate))
        .route("/reauth", post(reauth))
        .route("/cycle", post(cycle))
        .route("/logout", post(logout))
        .route("/logout-others", post(logout_others))
        .route("/logout-all", post(logout_all))
        .route("/sessions", get(sessions))
        .route("/sessions/{handle}/end", post(end))
        .route("/csrf", get(csrf))
        .route("/protected", post(protected))
}

/// The answer of what has nothing else to say.
pub(crate) fn ok() -> Json<serde_json::Value> {
    Json(json!({ "ok": true }))
}

/// The answer with a value; one that was stored comes out byte for byte.
#[derive(Serialize)]
pub(crate) struct Value<T> {
    pub(crate) value: T,
}

pub(crate) type Answer<T = serde_json::Value> = Result<Json<T>, Failure>;

pub(crate) type Stored = Option<Box<RawValue>>;

async fn ping(State(mount): State<Arc<Mount>>) -> Json<serde_json::Value> {
    Json(json!({ "pong": true, "node": mount.app.node.as_str() }))
}

#[derive(Serialize)]
struct Peek {
    user: Option<String>,
    n: Stored,
    handle: Option<String>,
    status: &'static str,
    created: Option<String>,
    authenticated: Option<String>,
    node: String,
}

async fn peek(State(mount): State<Arc<Mount>>, session: Session) -> Answer<Peek> {
    Ok(Json(Peek {
        user: session.principal().await?.map(|user| user.id().to_owned()),
        n: session.get("n").await?,
        handle: session.handle().await?.map(|handle| handle.to_string()),
        status: name(session.status().await?),
        created: session.created().await?.map(rfc3339),
        authenticated: session.authenticated().await?.map(rfc3339),
        node: mount.app.node.as_str().to_owned(),
    }))
}

/// The key that a request is about.
#[derive(Deserialize)]
struct Key {
    #[serde(default = "n")]
    k: String,
}

pub(crate) fn n() -> String {
    "n".to_owned()
}

async fn read(session: Session, Query(Key { k }): Query<Key>) -> Answer<Value<Stored>> {
    Ok(Json(Value { value: session.get(k).await? }))
}

async fn put(session: Session, Query(Key { k }): Query<Key>, body: Bytes) -> Answer {
    session.insert(k, json_value(&body)?).await?;
    Ok(ok())
}

async fn remove(session: Session, Query(Key { k }): Query<Key>) -> Answer {
    session.discard(&k).await?;
    Ok(ok())
}

async fn incr(session: Session, Query(Key { k }): Query<Key>) -> Answer<Value<i64>> {
    Ok(Json(Value { value: session.increment(k, 1).await? }))
}

async fn append(
    session: Session,
    Query(Key { k }): Query<Key>,
    body: Bytes,
) -> Answer<Value<Vec<Box<RawValue>>>> {
    let item = json_value(&body)?;
    let push = |list: Option<Vec<Box<RawValue>>>| {
        let mut list = list.unwrap_or_default();
        list.push(item.clone());
        list
    };
    Ok(Json(Value { value: session.update(k, push).await? }))
}

#[derive(Deserialize)]
pub(crate) struct User {
    pub(crate) u: String,
}

/// Signs in any name: a real application checks a password here.
async fn login(
    State(mount): State<Arc<Mount>>,
    session: Session,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Answer {
    let SignIn { user, login } = sign_in::read(&parameters, &mount.lifetime)?;
    session.login(login).await?;
    Ok(Json(json!({ "user": user })))
}

async fn elevate(session: Session) -> Answer {
    session.elevate().await?;
    Ok(ok())
}

async fn reauth(session: Session) -> Answer {
    session.reauthenticate().await?;
    Ok(ok())
}

async fn cycle(session: Session) -> Answer {
    session.cycle_id().await?;
    Ok(ok())
}

async fn logout(session: Session) -> Answer {
    session.flush().await?;
    Ok(ok())
}

async fn logout_others(session: Session) -> Answer {
    Ok(Json(json!({ "ended": session.end_others().await? })))
}

async fn logout_all(session: Session) -> Answer {
    session.end_all().await?;
    Ok(ok())
}

async fn sessions(session: Session) -> Answer {
    let this = session.handle().await?;
    let listed = oldest_first(session.list().await?);
    let listed: Vec<_> = listed.iter().map(|info| shown(info, this)).collect();
    Ok(Json(json!({ "sessions": listed })))
}

/// A session as a list shows it.
pub(crate) fn shown(info: &SessionInfo, this: Option<RecordId>) -> serde_json::Value {
    json!({
        "handle": info.id.to_string(),
        "created": rfc3339(info.created),
        "current": Some(info.id) == this,
        "last_used": info.last_used.map(rfc3339),
        "expires": rfc3339(info.deadline),
        "persistent": info.facts.is_persistent() == Some(true),
        "labels": info.facts.labels().collect::<BTreeMap<_, _>>(),
    })
}

async fn end(session: Session, Path(handle): Path<String>) -> Answer {
    session.principal().await?.ok_or(Error::NotSignedIn)?;
    let handle = handle.parse().map_err(|_| Failure::NoSuchSession)?;
    session.end(handle).await?.then(ok).ok_or(Failure::NoSuchSession)
}

async fn csrf(session: Session) -> Answer {
    Ok(Json(json!({ "token": session.csrf_token().await? })))
}

async fn protected(session: Session, headers: HeaderMap) -> Answer {
    let token = headers.get("x-csrf-token").and_then(|token| token.to_str().ok());
    session.verify_csrf(token.unwrap_or_default()).await?;
    Ok(ok())
}

pub(crate) fn oldest_first(mut sessions: Vec<SessionInfo>) -> Vec<SessionInfo> {
    sessions.sort_by_key(|info| (info.created, info.id));
    sessions
}

pub(crate) fn rfc3339(at: UtcDateTime) -> String {
    at.format(&Rfc3339).expect("the calendar ends with the year 9999")
}

fn json_value(body: &[u8]) -> Result<Box<RawValue>, Failure> {
    serde_json::from_slice(body).map_err(Failure::Json)
}

fn name(status: Status) -> &'static str {
    match status {
        Status::New => "new",
        Status::Existing => "existing",
        Status::Expired => "expired",
        Status::Superseded => "superseded",
        Status::Lost => "lost",
        _ => "unknown",
    }
}
