//! The innermost layer: tells the session layer whether a handler returned.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Request;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::session::Session;

/// Marks where handlers begin, for stacks in which a layer gives up on them.
///
/// Buffered writes of a handler that never returned are dropped. [`SessionLayer`](crate::SessionLayer)
/// recognises such a handler by the answer in its place, if that is 408, or 500 and above. With any
/// other status, it assumes that the handler returned. With this layer further in than the one that gives
/// up, the status does not matter. The same holds for a layer that catches panics, where
/// [`commit_on_server_error`](crate::SessionLayer::commit_on_server_error) is on.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use axum::{Router, middleware::{from_fn, Next}, extract::Request, response::IntoResponse};
/// # use axum::{response::Response, routing::get};
/// use steadfast::{HandlerLayer, MemoryStore, SessionLayer};
///
/// async fn give_up(request: Request, next: Next) -> Response {
///     let answer = tokio::time::timeout(Duration::from_secs(5), next.run(request)).await;
///     answer.unwrap_or_else(|_| "still at work, look again later".into_response())
/// }
///
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello" }))
///     .layer(HandlerLayer)
///     .layer(from_fn(give_up))
///     .layer(SessionLayer::new(MemoryStore::new()));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HandlerLayer;

impl<S> Layer<S> for HandlerLayer {
    type Service = HandlerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HandlerService { inner }
    }
}

/// Watches over handlers; made by [`HandlerLayer`].
#[derive(Clone, Debug)]
pub struct HandlerService<S> {
    inner: S,
}

impl<S, ReqBody> Service<Request<ReqBody>> for HandlerService<S>
where
    S: Service<Request<ReqBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = HandlerFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let session = request.extensions().get::<Session>().cloned();
        HandlerFuture { inner: self.inner.call(request), at_work: AtWork(session) }
    }
}

pin_project! {
    /// The future of a handler; made by [`HandlerService`].
    pub struct HandlerFuture<F> {
        #[pin]
        inner: F,
        at_work: AtWork,
    }
}

impl<F: Future> Future for HandlerFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(context));
        this.at_work.0 = None;
        Poll::Ready(answer)
    }
}

impl<F> fmt::Debug for HandlerFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerFuture").finish_non_exhaustive()
    }
}

/// The session of a handler that has not returned.
struct AtWork(Option<Session>);

impl Drop for AtWork {
    fn drop(&mut self) {
        if let Some(session) = &self.0 {
            session.abandon();
        }
    }
}
