//! The extractor for axum.

use std::convert::Infallible;

use axum_core::body::Body;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use crate::error::Error;
use crate::session::{Session, SignedIn};

/// Takes the session of the innermost layer.
impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or(MissingLayer)
    }
}

/// Takes the session of the innermost layer, or `None` where there is no layer: for handlers that also
/// serve routes without sessions.
impl<S: Send + Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

/// Takes the session of the innermost layer if its user is signed in.
impl<S: Send + Sync> FromRequestParts<S> for SignedIn {
    type Rejection = SignedInRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let session = parts.extensions.get::<Session>().ok_or(MissingLayer)?;
        Ok(session.signed_in().await?)
    }
}

/// Takes the session of the innermost layer if its user is signed in, or `None` for a visitor, and where
/// there is no layer. An outage is an error here as well: it does not turn a user into a visitor.
impl<S: Send + Sync> OptionalFromRequestParts<S> for SignedIn {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        let Some(session) = parts.extensions.get::<Session>() else { return Ok(None) };
        match session.signed_in().await {
            Ok(user) => Ok(Some(user)),
            Err(Error::NotSignedIn) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A handler takes a [`SignedIn`], and there is none.
///
/// A visitor gets 401, with the challenge that RFC 9110 (15.5.2) requires. Other errors are answered as
/// everywhere: 503 while the store is away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignedInRejection {
    /// No [`SessionLayer`](crate::SessionLayer) is around the handler: 500.
    #[error(transparent)]
    MissingLayer(#[from] MissingLayer),
    /// [`Error::NotSignedIn`] for a visitor, or why it is not known.
    #[error(transparent)]
    Session(#[from] Error),
}

impl IntoResponse for SignedInRejection {
    fn into_response(self) -> Response {
        match self {
            Self::MissingLayer(missing) => missing.into_response(),
            Self::Session(error) => error.into_response(),
        }
    }
}

/// A handler takes a [`Session`], but no [`SessionLayer`](crate::SessionLayer) is around it: 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this route has no session layer: add a SessionLayer to its router")]
pub struct MissingLayer;

impl IntoResponse for MissingLayer {
    fn into_response(self) -> Response {
        tracing::error!(target: "steadfast", "{self}");
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

/// Logs the error, and answers with [`Error::to_response`].
impl IntoResponse for Error {
    fn into_response(self) -> Response<Body> {
        self.log("session call failed");
        self.to_response().map(Body::new)
    }
}
