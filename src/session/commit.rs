//! The commit: sends what a request has buffered before its response head.

use std::pin::Pin;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use http::StatusCode;
use steadfast_core::{Event, Outcome, Patch, RequestHint, StoreError};
use tracing::Instrument;

use super::Session;
use super::guard::SessionGuard;
use super::state::{Intent, RecordState, TokenAction, Validity};
use crate::cookie::companion::{self, Affinity};
use crate::error::Error;

/// The effects of the session on the response head.
#[derive(Debug, Default)]
pub(crate) struct ResponseEffects {
    /// True if the handler used the session, so that the response depends on it.
    pub(crate) touched: bool,
    pub(crate) token_action: TokenAction,
    /// The error to answer with, because the commit that the handler promised failed.
    pub(crate) failure: Option<Error>,
    pub(crate) companions: CompanionCookies,
}

/// The cookies to accompany the token from now on: `None` leaves one as it is, an empty text removes it.
#[derive(Debug, Default)]
pub(crate) struct CompanionCookies {
    pub(crate) route: Option<String>,
    pub(crate) seen: Option<String>,
}

/// A commit: finished without waiting, or in progress.
pub(crate) enum Commit {
    Ready(ResponseEffects),
    Pending(CommitFuture),
}

/// A commit in progress. It returns the effects once the store has answered.
pub(crate) type CommitFuture = Pin<Box<dyn Future<Output = ResponseEffects> + Send>>;

impl Session {
    /// Finalizes the session for this response status.
    pub(crate) fn start_commit(&self, status: StatusCode) -> Commit {
        let Some(state) = self.inner.state.try_lock() else {
            // Another task is in the middle of a call, which comes first.
            return self.pending_commit(true, status);
        };
        let mut guard = SessionGuard::new(&self.inner, state);
        if let Some(effects) = guard.effects_without_commit(status) {
            return Commit::Ready(effects);
        }
        let detached = guard.state.intent.is_some();
        drop(guard);
        self.pending_commit(detached, status)
    }

    /// A commit that rotates runs to its end even if the client is gone: the store's answer alone
    /// decides which secret lives.
    fn pending_commit(&self, detached: bool, status: StatusCode) -> Commit {
        let session = self.clone();
        let mut commit: CommitFuture = Box::pin(async move { session.commit(status).await });
        if !detached {
            return Commit::Pending(commit);
        }
        // A store in this process has answered by now, and needs no task.
        if let Some(effects) = commit.as_mut().now_or_never() {
            return Commit::Ready(effects);
        }
        let task = self.inner.layer.tasks.spawn(commit.in_current_span());
        Commit::Pending(Box::pin(async move {
            task.await.unwrap_or_else(|cut| {
                let error = Error::from(StoreError::unavailable(cut));
                ResponseEffects {
                    touched: true,
                    failure: Some(logged(error)),
                    ..ResponseEffects::default()
                }
            })
        }))
    }

    async fn commit(&self, status: StatusCode) -> ResponseEffects {
        let mut guard = SessionGuard::new(&self.inner, self.inner.state.lock().await);
        // Returned from here, so that the future of the commit need not hold these effects.
        if let Some(effects) = guard.effects_without_commit(status) {
            return effects;
        }
        guard.commit().await
    }
}

impl SessionGuard<'_> {
    /// Returns the effects, unless a store call has to come first.
    fn effects_without_commit(&mut self, status: StatusCode) -> Option<ResponseEffects> {
        let is_failure = status.is_server_error() && !self.inner.layer.commit_on_server_error;
        // 408 is what a timeout answers in place of a handler that never returned.
        let is_cut_off = status == StatusCode::REQUEST_TIMEOUT
            || self.inner.is_abandoned.swap(false, Ordering::AcqRel);
        if is_failure || is_cut_off {
            self.state.discard();
        }
        if matches!(self.state.record_state, RecordState::Poisoned) {
            let is_promise = status.as_u16() < 400;
            return Some(self.effects(is_promise.then_some(Error::Poisoned)));
        }
        let is_settled = self.state.pending.is_empty() && self.state.intent.is_none();
        is_settled.then(|| {
            self.touch_later();
            self.effects(None)
        })
    }

    async fn commit(&mut self) -> ResponseEffects {
        let mut patch = Patch::from(std::mem::take(&mut self.state.pending));
        let (done, is_promise) = match self.state.intent.take() {
            // A handler must be able to rely on a rotation, so losing it to another request is answered 409.
            Some(intent) => {
                let is_promise = !matches!(intent, Intent::Cycle);
                // Boxed, because it is large, and most commits do not rotate.
                (Box::pin(self.rotate(intent, &mut patch)).await, is_promise)
            }
            None => (self.send(&mut patch).await.map(drop), false),
        };
        self.state.discard();
        match done {
            Ok(()) => self.effects(None),
            // Another request rotated or ended the session: only its response may set the token.
            Err(Error::Superseded | Error::Ended) if !is_promise => self.effects(None),
            Err(error) => self.effects(Some(logged(error))),
        }
    }

    fn effects(&mut self, failure: Option<Error>) -> ResponseEffects {
        self.state.sent = true;
        let mut token_action = std::mem::take(&mut self.state.token_action);
        let companions = match self.inner.places_sessions() && failure.is_none() {
            true => self.companion_cookies(&mut token_action),
            false => CompanionCookies::default(),
        };
        ResponseEffects { touched: self.state.touched, token_action, failure, companions }
    }

    /// The version changes with the session, and the route when another node serves it.
    fn companion_cookies(&self, token_action: &mut TokenAction) -> CompanionCookies {
        let brought = self.inner.hint();
        if matches!(token_action, TokenAction::Remove) {
            let route = (!brought.routes.is_empty()).then(String::new);
            return CompanionCookies { route, seen: brought.min_version.map(|_| String::new()) };
        }
        let (routes, affinity) = (self.state.routes(), self.inner.layer.affinity);
        let is_moved = !routes.is_empty() && routes != brought.routes;
        if is_moved && affinity == Affinity::Suffix && matches!(token_action, TokenAction::Keep) {
            *token_action = self.resend_token();
        }
        let sends_route = match affinity {
            Affinity::Cookie => is_moved,
            Affinity::Suffix => matches!(token_action, TokenAction::Set(..)),
            Affinity::None => false,
        };
        let seen = self.state.version(brought.min_version);
        CompanionCookies {
            route: sends_route.then(|| companion::route(routes)),
            seen: seen.map(|version| version.to_string()),
        }
    }

    /// The token that the request brought, which its load saw to be current.
    fn resend_token(&self) -> TokenAction {
        let Some(live) = self.state.live() else { return TokenAction::Keep };
        let token = self.inner.credentials.token(&self.inner.layer, live.id);
        token.map_or(TokenAction::Keep, |token| TokenAction::Set(token, Validity::of(&live.record)))
    }

    /// Moves the idle deadline if that is due, in the background after the response. A commit needs none: its patch
    /// moves the deadline along.
    fn touch_later(&self) {
        let Some((id, touch)) = self.touch() else {
            return;
        };
        let client = self.inner.client().clone();
        self.inner.layer.tasks.spawn(async move {
            match client.update(id, &touch, &RequestHint::default()).await {
                Ok(Outcome::Applied(_)) => Event::Renewed.emit(Some(id)),
                // The session ended, or belongs to another user by now: nothing was renewed.
                Ok(_) => {}
                Err(error) => tracing::debug!(target: "steadfast", %error, "touch not confirmed"),
            }
        });
    }
}

/// Logs an error of the commit once, with its causes.
fn logged(error: Error) -> Error {
    error.log("session not committed");
    error
}
