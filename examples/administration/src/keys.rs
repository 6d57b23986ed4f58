//! The public keys of an issuer (JWKS).

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Uri;
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The keys of an issuer, fetched when a token names one that is not known, and every hour.
///
/// A client over TLS belongs here when the issuer is not on this machine.
#[derive(Debug)]
pub(crate) struct Keys {
    address: Uri,
    client: Client<HttpConnector, Body>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    keys: JwkSet,
    fetched: Option<Instant>,
}

impl Keys {
    pub(crate) fn at(address: Uri) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let known = Known { keys: JwkSet { keys: Vec::new() }, fetched: None };
        Self { address, client, known: Mutex::new(known) }
    }

    /// The key with this id.
    pub(crate) async fn find(&self, id: &str) -> Option<Jwk> {
        // Held while the keys are fetched, so that many tokens cause one fetch.
        let mut known = self.known.lock().await;
        if known.is_due(id) {
            known.fetched = Some(Instant::now());
            match timeout(PATIENCE, self.fetch()).await {
                Ok(Ok(keys)) => known.keys = keys,
                failed => tracing::warn!(?failed, "the keys of the issuer cannot be fetched"),
            }
        }
        known.keys.find(id).cloned()
    }

    async fn fetch(&self) -> anyhow::Result<JwkSet> {
        let answer = self.client.get(self.address.clone()).await?;
        anyhow::ensure!(answer.status().is_success(), "the issuer answers {}", answer.status());
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        Ok(serde_json::from_slice(&body.map_err(anyhow::Error::from_boxed)?.to_bytes())?)
    }
}

impl Known {
    fn is_due(&self, id: &str) -> bool {
        let wait = if self.keys.find(id).is_some() { HOUR } else { PAUSE };
        self.fetched.is_none_or(|at| at.elapsed() >= wait)
    }
}

/// The pause between two fetches, so that forged tokens with random key ids do not flood the issuer.
const PAUSE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 64 << 10;
