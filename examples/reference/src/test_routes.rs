//! Routes that hold a request, fail it, or answer it oddly, for tests of what the session does then.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{any, get, post};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::value::RawValue;
use steadfast::Session;

use crate::app::Mount;
use crate::errors::Failure;
use crate::routes::{self, Answer, User, Value};

pub(crate) fn router() -> Router<Arc<Mount>> {
    Router::new()
        .route("/gate", any(gate))
        .route("/status/{code}", any(status))
        .route("/panic", post(panic))
        .route("/redirect-login", post(redirect_login))
        .route("/public", get(public))
        .route("/other-cookie", get(other_cookie))
        .route("/same-cookie", get(same_cookie))
        .route("/stream", get(stream))
}

/// The use that a request makes of its session, beside the peculiarity of its route.
#[derive(Deserialize)]
struct Act {
    #[serde(default)]
    mode: Mode,
    #[serde(default = "routes::n")]
    k: String,
    /// JSON, or a text that stands for itself.
    #[serde(default = "one")]
    v: String,
    #[serde(default = "somebody")]
    u: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    None,
    Read,
    Write,
    Incr,
    Cycle,
    Login,
    Flush,
}

impl Act {
    async fn run(self, session: &Session) -> Result<Value<Box<RawValue>>, Failure> {
        let value = match self.mode {
            Mode::None => json(()),
            Mode::Read => session.get(self.k).await?.unwrap_or_else(|| json(())),
            Mode::Write => {
                let value = RawValue::from_string(self.v.clone()).unwrap_or_else(|_| json(self.v));
                session.insert(self.k, &value).await?;
                value
            }
            Mode::Incr => json(session.increment(self.k, 1).await?),
            Mode::Cycle => json(session.cycle_id().await?),
            Mode::Login => {
                session.login(self.u.as_str()).await?;
                json(self.u)
            }
            Mode::Flush => json(session.flush().await?),
        };
        Ok(Value { value })
    }
}

#[derive(Deserialize)]
struct Gate {
    g: String,
    #[serde(default)]
    load: u8,
}

async fn gate(
    State(mount): State<Arc<Mount>>,
    session: Session,
    Query(Gate { g, load }): Query<Gate>,
    Query(act): Query<Act>,
) -> Answer<Value<Box<RawValue>>> {
    if load != 0 {
        session.status().await?;
    }
    mount.app.gates.wait(&g).await;
    Ok(Json(act.run(&session).await?))
}

async fn status(
    State(mount): State<Arc<Mount>>,
    session: Session,
    Path(code): Path<String>,
    Query(act): Query<Act>,
) -> Result<Response, Failure> {
    let status = code.parse().ok().filter(|status: &StatusCode| !status.is_informational());
    let Some(status) = status else {
        return Ok((StatusCode::BAD_REQUEST, "that is no final status").into_response());
    };
    let answer = Json(act.run(&session).await?);
    Ok(match status {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED => {
            status.into_response()
        }
        status if status.is_redirection() => (status, to_peek(&mount), answer).into_response(),
        status => (status, answer).into_response(),
    })
}

async fn panic(session: Session, Query(act): Query<Act>) -> Answer {
    act.run(&session).await?;
    panic!("a test asked for it");
}

async fn redirect_login(
    State(mount): State<Arc<Mount>>,
    session: Session,
    Query(User { u }): Query<User>,
) -> Result<Response, Failure> {
    session.login(u.as_str()).await?;
    Ok((StatusCode::FOUND, to_peek(&mount), Json(Value { value: u })).into_response())
}

async fn public(session: Session, Query(act): Query<Act>) -> Result<impl IntoResponse, Failure> {
    let answer = Json(act.run(&session).await?);
    Ok(([(header::CACHE_CONTROL, "public, max-age=600")], answer))
}

async fn other_cookie(
    session: Session,
    Query(act): Query<Act>,
) -> Result<impl IntoResponse, Failure> {
    act.run(&session).await?;
    Ok(([(header::SET_COOKIE, "theme=dark")], routes::ok()))
}

async fn same_cookie(
    State(mount): State<Arc<Mount>>,
    session: Session,
    Query(act): Query<Act>,
) -> Result<impl IntoResponse, Failure> {
    act.run(&session).await?;
    Ok(([(header::SET_COOKIE, format!("{}=imposter; Path=/", mount.cookie))], routes::ok()))
}

#[derive(Deserialize)]
struct Late {
    #[serde(default)]
    late: u8,
}

async fn stream(session: Session, Query(Late { late }): Query<Late>) -> Response {
    let lines = stream::iter(["one\n", "two\n"].map(str::to_owned));
    let body = match late {
        0 => lines.boxed(),
        _ => lines.chain(stream::once(write_late(session))).boxed(),
    };
    let text = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (text, Body::from_stream(body.map(Ok::<_, Infallible>))).into_response()
}

/// The body is first polled after the head is sent.
async fn write_late(session: Session) -> String {
    match session.insert("late", true).await {
        Ok(()) => "late: buffered\n".to_owned(),
        Err(error) => format!("late: {error}\n"),
    }
}

fn to_peek(mount: &Mount) -> [(header::HeaderName, String); 1] {
    [(header::LOCATION, format!("{}/peek", mount.path))]
}

fn json(value: impl serde::Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(&value).expect("texts and numbers can be encoded")
}

fn one() -> String {
    "1".to_owned()
}

fn somebody() -> String {
    "somebody".to_owned()
}
