//! The response future: waits for the handler, then for the commit.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;

use crate::body::ServedBody;
use crate::error::Error;
use crate::layer_state::LayerState;
use crate::response;
use crate::session::{Commit, CommitFuture, Session};

pin_project! {
    /// The future of a response; made by [`SessionService`](crate::service::SessionService).
    pub struct ResponseFuture<F, ResBody> {
        #[pin]
        step: Step<F, ResBody>,
        session: Option<Session>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<F, ResBody> {
        /// The handler is at work.
        Inner { #[pin] inner: F },
        /// The handler's answer waits for the store's.
        Commit { commit: CommitFuture, response: Option<Response<ResBody>> },
        /// The layer is wired wrongly, and the handler was not called.
        Refused { layer: Arc<LayerState> },
    }
}

impl<F, ResBody> ResponseFuture<F, ResBody> {
    pub(crate) fn new(inner: F, session: Session) -> Self {
        Self { step: Step::Inner { inner }, session: Some(session) }
    }

    pub(crate) fn without_session(inner: F) -> Self {
        Self { step: Step::Inner { inner }, session: None }
    }

    pub(crate) fn refused(layer: Arc<LayerState>) -> Self {
        Self { step: Step::Refused { layer }, session: None }
    }
}

impl<F, ResBody> fmt::Debug for ResponseFuture<F, ResBody> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("session", &self.session).finish_non_exhaustive()
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F, ResBody>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ResBody: ServedBody,
{
    type Output = Result<Response<ResBody::Body>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.step.as_mut().project() {
                StepProjection::Inner { inner } => {
                    let response = ready!(inner.poll(context))?;
                    let Some(session) = this.session else {
                        return Poll::Ready(Ok(response.map(ResBody::served)));
                    };
                    match session.start_commit(response.status()) {
                        Commit::Ready(effects) => {
                            let response = response::apply(effects, session, response);
                            session.outlive_request();
                            return Poll::Ready(Ok(response));
                        }
                        Commit::Pending(commit) => {
                            this.step.set(Step::Commit { commit, response: Some(response) });
                        }
                    }
                }
                StepProjection::Commit { commit, response } => {
                    let effects = ready!(commit.as_mut().poll(context));
                    let response = response.take().expect("polled after completion");
                    let session = this.session.as_ref().expect("only a session commits");
                    let response = response::apply(effects, session, response);
                    session.outlive_request();
                    return Poll::Ready(Ok(response));
                }
                StepProjection::Refused { layer } => {
                    let (nothing, ()) = Response::new(()).into_parts();
                    let answer = response::failure::<ResBody>(Error::Nested, layer, nothing);
                    return Poll::Ready(Ok(answer));
                }
            }
        }
    }
}
