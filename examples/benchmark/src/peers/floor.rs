//! Bare axum, the floor of all comparisons.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::Serialize;

use super::Peer;
use crate::cases::{Visit, routes};

#[derive(Debug)]
pub struct Floor;

impl Peer for Floor {
    fn name(&self) -> &'static str {
        "axum"
    }

    fn app(&self, _: Duration) -> Router {
        routes::<NoSession>()
    }

    fn has_sessions(&self) -> bool {
        false
    }
}

/// Stores nothing and reads 1 everywhere, so that the handlers are the same.
#[derive(Debug)]
pub(super) struct NoSession;

impl<S: Sync> FromRequestParts<S> for NoSession {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

impl Visit for NoSession {
    async fn get(&self, _: &str) -> Option<i64> {
        Some(1)
    }

    async fn put<T: Serialize + Send + Sync>(&self, _: &str, _: T) {}

    async fn login(&self, _: String) {}

    async fn logout(&self) {}
}
