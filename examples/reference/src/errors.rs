//! The failures of requests: a status, and the reason as `{"error": "…"}`.

use std::any::Any;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;
use steadfast::Error;

use crate::page;

/// A handler did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A session call failed, and knows its status.
    Session(Error),
    /// The body is not JSON.
    Json(serde_json::Error),
    /// A parameter has the wrong form.
    Parameter { name: String, wants: &'static str },
    /// A handle is none of the user's sessions.
    NoSuchSession,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Session(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            // The client itself has stored the value here.
            Self::Session(error @ Error::Decode { .. }) => {
                (StatusCode::CONFLICT, error.to_string()).into_response()
            }
            Self::Session(error) => error.into_response(),
            Self::Json(error) => {
                (StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")).into_response()
            }
            Self::Parameter { name, wants } => {
                (StatusCode::BAD_REQUEST, format!("{name} wants {wants}")).into_response()
            }
            Self::NoSuchSession => {
                (StatusCode::NOT_FOUND, "you have no such session").into_response()
            }
        }
    }
}

/// Gives every error its body, whether a handler, an extractor, the router or the session layer
/// answered it.
pub(crate) async fn answer(request: Request, next: Next) -> Response {
    let way_back = page::way_back(&request);
    let response = next.run(request).await;
    if response.status().as_u16() < 400 || has_own_body(&response) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, LONGEST_REASON).await.unwrap_or_default();
    let reason = match String::from_utf8_lossy(&text).into_owned() {
        empty if empty.is_empty() => usual_reason(parts.status).to_owned(),
        reason => reason,
    };
    let body = match way_back {
        Some(way_back) => page::error(&reason, way_back).into_response(),
        None => Json(json!({ "error": reason })).into_response(),
    };
    let (own, body) = body.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(own.headers);
    Response::from_parts(parts, body)
}

/// A handler that panics is a bug of its own; the message is for the log alone.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

fn has_own_body(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| !kind.as_bytes().starts_with(b"text/plain"))
}

/// The reason for a status without text.
fn usual_reason(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => "the request comes from another site",
        status => status.canonical_reason().unwrap_or("it failed"),
    }
}

const LONGEST_REASON: usize = 1 << 12;
