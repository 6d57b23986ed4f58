//! An identity provider for the demonstration and the tests: it signs logout tokens, and posts them.

use std::sync::Arc;

use anyhow::anyhow;
use axum::body::Body;
use axum::extract::{Form, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, StatusCode};
use axum::response::Redirect;
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use steadfast::RecordId;

/// A provider with one key.
#[derive(Clone, Debug)]
pub struct Issuer {
    url: String,
    key: EncodingKey,
    keys: JwkSet,
}

impl Issuer {
    /// The id of its key.
    pub const KEY: &str = "key-1";

    /// The id by which it knows the application.
    pub const CLIENT: &str = "example";

    /// A provider at this address, with a fresh key.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let drawn =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let key = EncodingKey::from_ec_der(drawn.map_err(|_| anyhow!("no randomness"))?.as_ref());
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
        public.common.key_id = Some(Self::KEY.to_owned());
        Ok(Self { url: url.to_owned(), key, keys: JwkSet { keys: vec![public] } })
    }

    /// Its public keys at `/keys`, and `/sign-out` as its users know it, which tells the application at
    /// this address.
    pub fn router(&self, application: &str) -> Router {
        let keys = Json(self.keys.clone());
        Router::new()
            .route("/keys", get(|| async move { keys }))
            .route("/sign-out", post(sign_out))
            .with_state((Arc::new(self.clone()), application.into()))
    }

    /// The claims of a logout token for a user, as they should be.
    pub fn claims(&self, subject: &str) -> Value {
        let now = get_current_timestamp();
        let jti = RecordId::random(&Default::default()).expect("randomness").to_string();
        json!({
            "iss": self.url, "aud": Self::CLIENT, "iat": now, "exp": now + 120, "jti": jti,
            "sub": subject, "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        })
    }

    /// The header of a logout token, as it should be.
    pub fn header() -> Header {
        let kid = Some(Self::KEY.to_owned());
        Header { typ: Some("logout+jwt".to_owned()), kid, ..Header::new(Algorithm::ES256) }
    }

    /// Signs a token.
    ///
    /// # Panics
    ///
    /// When the header is for another kind of key.
    pub fn sign(&self, header: &Header, claims: &impl Serialize) -> String {
        encode(header, claims, &self.key).expect("the key signs")
    }

    /// The public key in JSON.
    pub fn public_key(&self) -> Value {
        json!(self.keys.keys[0])
    }
}

#[derive(Deserialize)]
struct User {
    sub: String,
}

async fn sign_out(
    State((issuer, application)): State<(Arc<Issuer>, Arc<str>)>,
    Form(user): Form<User>,
) -> Result<Redirect, StatusCode> {
    let token = issuer.sign(&Issuer::header(), &issuer.claims(&user.sub));
    let notice = Request::post(format!("{application}/backchannel-logout"))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(format!("logout_token={token}")));
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(notice.expect("an address is an address")).await;
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(Redirect::to(&application)),
        _ => Err(StatusCode::BAD_GATEWAY),
    }
}
