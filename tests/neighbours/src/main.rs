//! A node of a service, over the store whose URL it is given.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use steadfast::{CookieProfile, Error, Keyring, Lifetime, Realm, Session, SessionLayer};
use steadfast_core::{
    Facts, LoginPolicy, Lookup, Principal, Record, RequestHint, SessionStore, Store, StoreError,
    Token, Values,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let url = std::env::args().nth(1).ok_or("usage: node URL")?;
    let store = steadfast::connect(&url).await?;
    let layer = SessionLayer::new(Arc::clone(&store)).cookie(CookieProfile::dev().name(COOKIE))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, router().layer(layer).with_state(store)).await?;
    Ok(())
}

fn router() -> Router<Arc<dyn Store>> {
    Router::new()
        .route("/format", get(async || Json(Record::FORMAT)))
        .route("/begin", post(begin))
        .route("/peek", get(peek))
        .route("/incr", post(incr))
        .route("/login", post(login))
        .route("/elevate", post(elevate))
        .route("/cycle", post(cycle))
        .route("/logout", post(logout))
        .route("/sessions", get(sessions))
        .route("/sessions/{handle}/end", post(end))
}

#[derive(Deserialize)]
struct Beginning {
    u: String,
    facts: String,
}

/// Begins a session that says something of itself.
async fn begin(
    State(store): State<Arc<dyn Store>>,
    Query(Beginning { u, facts }): Query<Beginning>,
) -> Result<Response, Failure> {
    let token = Token::generate(store.mint()?, store.env()).map_err(StoreError::refused)?;
    let record = record(&*store, &token, &u, &facts);
    store.create(token.id(), record, LoginPolicy::default()).await?;
    let cookie = format!("{COOKIE}={}; Path=/; HttpOnly", *token.encode());
    Ok(([(header::SET_COOKIE, cookie)], Json(json!({}))).into_response())
}

fn record(store: &dyn SessionStore, token: &Token, user: &str, facts: &str) -> Record {
    let realm = Realm::default();
    let (now, lifetime) = (store.env().now(), Lifetime::default());
    let hash = Keyring::unkeyed().hash(&realm, token.secret());
    let record =
        Record::new(hash, now, lifetime.idle_deadline(now), lifetime.absolute_deadline(now));
    Record {
        values: Values::from_iter([("n", &b"0"[..])]),
        authenticated: Some(now),
        principal: Some(Principal::new(realm, user).expect("users have short names")),
        sign_in: 1,
        facts: Facts::new(facts.as_bytes()).expect("the facts are few"),
        ..record
    }
}

async fn peek(State(store): State<Arc<dyn Store>>, session: Session) -> Answer {
    let handle = session.handle().await?;
    let facts = match handle {
        Some(id) => match store.load(id, None, &RequestHint::default()).await? {
            Lookup::Found(found) => {
                Some(String::from_utf8_lossy(found.record.facts.as_bytes()).into_owned())
            }
            _ => None,
        },
        None => None,
    };
    let user = session.principal().await?.map(|user| user.id().to_owned());
    let n: Option<i64> = session.get("n").await?;
    let handle = handle.map(|handle| handle.to_string());
    Ok(Json(json!({ "user": user, "n": n, "facts": facts, "handle": handle })))
}

async fn incr(session: Session) -> Answer {
    Ok(Json(json!({ "value": session.increment("n", 1).await? })))
}

#[derive(Deserialize)]
struct User {
    u: String,
}

async fn login(session: Session, Query(User { u }): Query<User>) -> Answer {
    session.login(u.as_str()).await?;
    Ok(Json(json!({})))
}

async fn elevate(session: Session) -> Answer {
    session.elevate().await?;
    Ok(Json(json!({})))
}

async fn cycle(session: Session) -> Answer {
    session.cycle_id().await?;
    Ok(Json(json!({})))
}

async fn logout(session: Session) -> Answer {
    session.flush().await?;
    Ok(Json(json!({})))
}

async fn sessions(session: Session) -> Answer {
    let list = session.list().await?;
    Ok(Json(list.iter().map(|info| info.id.to_string()).collect()))
}

async fn end(session: Session, Path(handle): Path<String>) -> Answer {
    let handle = handle.parse().map_err(|_| Failure::Handle)?;
    Ok(Json(json!(session.end(handle).await?)))
}

type Answer = Result<Json<Value>, Failure>;

enum Failure {
    Session(Error),
    Store(StoreError),
    Handle,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Session(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Session(error) => error.into_response(),
            Self::Store(error) => {
                (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
            }
            Self::Handle => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

const COOKIE: &str = "id";
