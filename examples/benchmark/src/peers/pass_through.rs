//! A layer that does nothing. It shows the cost of any middleware.

use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use tower::{Layer, Service};

use super::Peer;
use super::floor::NoSession;
use crate::cases::routes;

#[derive(Debug)]
pub struct PassThrough;

impl Peer for PassThrough {
    fn name(&self) -> &'static str {
        "pass-through layer"
    }

    fn app(&self, _: Duration) -> Router {
        routes::<NoSession>().layer(Nothing)
    }

    fn has_sessions(&self) -> bool {
        false
    }
}

#[derive(Clone, Debug)]
struct Nothing;

impl<S> Layer<S> for Nothing {
    type Service = Through<S>;

    fn layer(&self, inner: S) -> Through<S> {
        Through(inner)
    }
}

#[derive(Clone, Debug)]
struct Through<S>(S);

impl<S: Service<R>, R> Service<R> for Through<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.0.call(request)
    }
}
