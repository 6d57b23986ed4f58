//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header, get_current_timestamp,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use steadfast::{Error, Sessions};

use crate::keys::Keys;

/// `POST /backchannel-logout`, which the provider calls when a user signs out there.
pub(crate) fn router(backchannel: Backchannel) -> Router {
    Router::new().route("/backchannel-logout", post(log_out)).with_state(backchannel)
}

/// An identity provider, whose logout tokens are believed.
#[derive(Debug)]
pub struct Provider {
    issuer: String,
    client: String,
    keys: Keys,
}

#[derive(Clone)]
pub(crate) struct Backchannel {
    pub(crate) provider: Arc<Provider>,
    pub(crate) users: Sessions,
    pub(crate) used: Sessions,
}

#[derive(Deserialize)]
struct Notice {
    logout_token: String,
}

async fn log_out(
    State(backchannel): State<Backchannel>,
    notice: Result<Form<Notice>, FormRejection>,
) -> Response {
    let ended = match notice {
        Ok(Form(notice)) => backchannel.log_out(&notice.logout_token).await,
        Err(_) => Err(Refused::Form),
    };
    let (status, body) = match ended {
        Ok(()) => (StatusCode::OK, json!({})),
        Err(refused) => (StatusCode::BAD_REQUEST, refused.body()),
    };
    (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

impl Backchannel {
    async fn log_out(&self, token: &str) -> Result<(), Refused> {
        let claims = self.provider.verify(token).await?;
        if self.used.count(&claims.jti).await? > 0 {
            return Err(Refused::Replayed);
        }
        match (&claims.sid, &claims.sub) {
            (Some(sid), _) => self.users.end_labelled("sid", sid).await?,
            // A sign-in that the provider confirmed before, and that is still under way, is rejected.
            (None, Some(sub)) => self.users.end_all(sub, Some(claims.iat)).await?,
            (None, None) => return Err(Refused::Subject),
        };
        // Only now, so that the provider can repeat what failed. Two copies of a token that come at the
        // same time end the same sessions.
        self.used.issue(claims.jti).await?;
        Ok(())
    }
}

impl Provider {
    /// The provider with this issuer, whose keys are at this address, and which knows the application by
    /// this client id.
    pub fn new(issuer: &str, keys: Uri, client: &str) -> Self {
        Self { issuer: issuer.to_owned(), client: client.to_owned(), keys: Keys::at(keys) }
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    async fn verify(&self, token: &str) -> Result<Claims, Refused> {
        let header = decode_header(token).map_err(|_| Refused::Malformed)?;
        // Without it, another kind of token from this issuer could pass for a logout token.
        if !header.typ.is_some_and(|kind| kind.eq_ignore_ascii_case("logout+jwt")) {
            return Err(Refused::Type);
        }
        let id = header.kid.ok_or(Refused::Key)?;
        let key = self.keys.find(&id).await.ok_or(Refused::Key)?;
        let algorithm = algorithm(&key).ok_or(Refused::Key)?;
        let opens = DecodingKey::from_jwk(&key).map_err(|_| Refused::Key)?;
        let claims = decode::<Claims>(token, &opens, &self.validation(algorithm))?.claims;
        claims.check(get_current_timestamp())?;
        Ok(claims)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.client]);
        validation.set_required_spec_claims(&["iss", "aud", "exp"]);
        validation
    }
}

/// The one algorithm that a key is for: never what the token says, or its author could choose.
fn algorithm(key: &Jwk) -> Option<Algorithm> {
    match (&key.algorithm, key.common.key_algorithm) {
        (AlgorithmParameters::RSA(_), None | Some(KeyAlgorithm::RS256)) => Some(Algorithm::RS256),
        (AlgorithmParameters::EllipticCurve(key), None | Some(KeyAlgorithm::ES256))
            if key.curve == EllipticCurve::P256 =>
        {
            Some(Algorithm::ES256)
        }
        _ => None,
    }
}

#[derive(Deserialize)]
struct Claims {
    iat: u64,
    jti: String,
    sub: Option<String>,
    sid: Option<String>,
    #[serde(rename = "events")]
    _events: Events,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
struct Events {
    #[serde(rename = "http://schemas.openid.net/event/backchannel-logout")]
    _logout: Map<String, Value>,
}

impl Claims {
    /// Checks what the signature and the times of the token do not say.
    fn check(&self, now: u64) -> Result<(), Refused> {
        let is_blank = |text: &Option<String>| text.as_deref().is_some_and(str::is_empty);
        match self {
            _ if self.others.contains_key("nonce") => Err(Refused::Nonce),
            // An array is a valid issuer to the decoder, and not to OpenID Connect.
            _ if !self.others.get("iss").is_some_and(Value::is_string) => Err(Refused::Issuer),
            _ if self.iat > now + LEEWAY => Err(Refused::Early),
            _ if self.iat + MAX_AGE < now => Err(Refused::Expired),
            _ if self.jti.is_empty() => Err(Refused::Claims),
            _ if is_blank(&self.sub) || is_blank(&self.sid) => Err(Refused::Subject),
            _ => Ok(()),
        }
    }
}

/// The reason for which a request ends nothing. No text holds anything of the token.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the request is not a form with one logout_token")]
    Form,
    #[error("the token is malformed, or its algorithm is unknown")]
    Malformed,
    #[error("the token is not of the type logout+jwt")]
    Type,
    #[error("the issuer has no such key")]
    Key,
    #[error("the key is not for this algorithm")]
    Algorithm,
    #[error("the signature is wrong")]
    Signature,
    #[error("a claim is missing or has the wrong form")]
    Claims,
    #[error("the token is from another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is from the future")]
    Early,
    #[error("the token has a nonce")]
    Nonce,
    #[error("the token names neither a sub nor a sid")]
    Subject,
    #[error("the token was used before")]
    Replayed,
    #[error("the sessions could not be ended")]
    Sessions(#[from] Error),
}

impl Refused {
    fn body(&self) -> Value {
        if let Self::Sessions(error) = self {
            tracing::error!(error = error as &dyn std::error::Error, "back-channel logout failed");
        }
        json!({ "error": "invalid_request", "error_description": self.to_string() })
    }
}

impl From<jsonwebtoken::errors::Error> for Refused {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidAlgorithm => Self::Algorithm,
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::Early,
            ErrorKind::MissingRequiredClaim(_)
            | ErrorKind::InvalidClaimFormat(_)
            | ErrorKind::Json(_) => Self::Claims,
            _ => Self::Malformed,
        }
    }
}

/// Seconds that the clocks of the provider and of this node may differ.
const LEEWAY: u64 = 30;

/// Seconds after which a token is refused, also if it has not expired.
const MAX_AGE: u64 = 300;

/// The time for which a used token is remembered: longer than it would be accepted.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(MAX_AGE + 4 * LEEWAY);
