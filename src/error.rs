//! The errors of session calls, and the status that answers each.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use steadfast_core::{
    DecodeError, EncodeError, LimitError, PrincipalError, RandomError, Rejection, StoreError,
};

use crate::seal::error::OpenError;
use crate::store_client::BreakerOpen;

/// An error of a session call.
///
/// It is an axum response, that of [`to_response`](Error::to_response). No message holds a secret, a
/// value, or anything of the store's configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed, so it is not confirmed that the call took effect. 503.
    #[error("the session store failed: the operation is not confirmed")]
    Store(#[source] StoreError),
    /// An earlier call of this request failed, so nothing of the request is kept. 503.
    #[error("the session cannot be used, because an earlier call to its store failed")]
    Poisoned,
    /// Other requests kept changing the same key until the deadline. 409.
    #[error("other requests kept changing {key:?}")]
    Contended {
        /// The key.
        key: String,
    },
    /// Another request ended the session. 409.
    #[error("another request ended the session")]
    Ended,
    /// Another request rotated the session's token. 409.
    #[error("another request rotated the session's token")]
    Superseded,
    /// The login was decided before the principal's sessions were revoked. 409.
    #[error("the sign-in is older than the principal's last revocation")]
    Revoked,
    /// The user has the maximum number of sessions, and the layer refuses another one. 409.
    #[error("the user has as many sessions as they may")]
    TooManySessions,
    /// The response head is sent, so a cookie or a commit comes too late. 500.
    #[error("the response head is already sent")]
    TooLate,
    /// The request has no session, and this call does not start one. 401.
    #[error("the request has no session")]
    NoSession,
    /// No user is signed in to the session. 401.
    #[error("nobody is signed in")]
    NotSignedIn,
    /// The request did not bring the session's CSRF token. 403.
    #[error("the CSRF token is missing or wrong")]
    Csrf,
    /// A key or a value is over a limit. 413.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The session as a whole would be over a limit, so nothing of the request is kept. The session
    /// stays as it was, and what fits is kept the next time. 500.
    #[error(
        "the session would be over a limit: the largest value written is {key:?}, {bytes} bytes"
    )]
    TooLarge {
        /// The key whose value is the largest of those that the request writes.
        key: String,
        /// The length of its JSON in bytes.
        bytes: usize,
        /// The limit, and how far the session would be over it.
        source: LimitError,
    },
    /// The value is not an integer, or the sum would not fit in one. 409.
    #[error("the value of {key:?} is not an integer, or the sum is too large for one")]
    NotACounter {
        /// The key.
        key: String,
    },
    /// The layer does not index labels of this name:
    /// see [`SessionLayer::index_labels`](crate::SessionLayer::index_labels). 400.
    #[error("the layer does not index labels of the name {name:?}")]
    NotIndexed {
        /// The name.
        name: String,
    },
    /// The layer was not built to end all sessions in one step:
    /// see [`SessionLayer::end_everybody_within`](crate::SessionLayer::end_everybody_within). 500.
    #[error("the layer is not set up to end everybody's sessions: call end_everybody_within")]
    CannotEndEverybody,
    /// The principal's id has the wrong form. 400.
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    /// The value would not come back from JSON as it is. 500.
    #[error("the value of {key:?} cannot be kept")]
    Encode {
        /// The key.
        key: String,
        /// The cause.
        source: EncodeError,
    },
    /// The stored value has another type. It is left as it is. 500.
    #[error("the value of {key:?} is of another type")]
    Decode {
        /// The key.
        key: String,
        /// The cause.
        source: DecodeError,
    },
    /// The stored value does not open under the layer's [seal keys](crate::SessionLayer#sealed-values). It is
    /// left as it is: a request that has loaded its session sets such a key only after it was removed. 500.
    #[error("the value of {key:?} does not open")]
    NotOpened {
        /// The key of the value.
        key: String,
        /// The cause.
        source: OpenError,
    },
    /// The system has no randomness. 500.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Another session layer around this one has the same cookie name. 500.
    #[error("two different session layers share a cookie name")]
    Nested,
}

impl Error {
    /// Returns the status that answers a request which cannot continue without the session.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Store(_) | Self::Poisoned => StatusCode::SERVICE_UNAVAILABLE,
            Self::Contended { .. }
            | Self::Ended
            | Self::Superseded
            | Self::Revoked
            | Self::TooManySessions
            | Self::NotACounter { .. } => StatusCode::CONFLICT,
            Self::NoSession | Self::NotSignedIn => StatusCode::UNAUTHORIZED,
            Self::Csrf => StatusCode::FORBIDDEN,
            Self::Limit(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Principal(_) | Self::NotIndexed { .. } => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. }
            | Self::CannotEndEverybody
            | Self::TooLate
            | Self::Encode { .. }
            | Self::Decode { .. }
            | Self::NotOpened { .. }
            | Self::Random(_)
            | Self::Nested => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the response to such a request: the status, and the message as plain text. A 503 says when to try
    /// again. A 401 has the challenge that RFC 9110 (15.5.2) requires, of a scheme that browsers ignore.
    pub fn to_response(&self) -> Response<String> {
        let mut response = Response::new(self.to_string());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self.status() {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Session"));
            }
            _ => {}
        }
        response
    }

    /// Logs that a call failed, with its causes: at level `error` if an operator must know about it, otherwise
    /// at `debug`.
    pub(crate) fn log(&self, what: &'static str) {
        let error = self as &(dyn std::error::Error + 'static);
        if self.is_news() {
            tracing::error!(target: "steadfast", error, "{what}");
        } else {
            tracing::debug!(target: "steadfast", error, "{what}");
        }
    }

    /// Returns true if an operator has to know about the error. An open breaker was reported by the failures
    /// that opened it. A key that is missing from the keyring is reported once, not with every request.
    fn is_news(&self) -> bool {
        match self {
            Self::Store(StoreError::UnknownKey(key)) => {
                let mut reported = REPORTED_KEYS.lock().unwrap_or_else(PoisonError::into_inner);
                reported.insert(key.print())
            }
            _ => self.status().is_server_error() && !self.is_by_breaker(),
        }
    }

    fn is_by_breaker(&self) -> bool {
        matches!(self, Self::Store(StoreError::Unavailable(cause)) if cause.is::<BreakerOpen>())
    }
}

/// The keys that records name and this process does not have, and that the log already reported.
static REPORTED_KEYS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Marks a response, among its extensions, as an answer of the layer itself: the commit failed, so that
/// the handler's answer does not hold.
///
/// ```
/// use http::Response;
/// use steadfast::SessionFailure;
///
/// fn was_replaced<B>(response: &Response<B>) -> bool {
///     response.extensions().get::<SessionFailure>().is_some()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct SessionFailure(Arc<Error>);

impl SessionFailure {
    pub(crate) fn new(error: Error) -> Self {
        Self(Arc::new(error))
    }

    /// Returns the error.
    pub fn error(&self) -> &Error {
        &self.0
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Random(error) => Self::Random(error),
            error => Self::Store(error),
        }
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Limit(error) => Self::Limit(error),
            Rejection::NotAnInteger { key } | Rejection::Overflow { key } => {
                Self::NotACounter { key: key.into() }
            }
            Rejection::StaleEpoch => Self::Revoked,
            Rejection::AtCap => Self::TooManySessions,
            rejection => Self::Store(StoreError::unavailable(rejection)),
        }
    }
}
