//! The commit: what a request wants kept is sent before its response head.

use std::pin::Pin;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use http::StatusCode;
use steadfast_core::{Event, Outcome, Patch, RequestHint, StoreError};
use tracing::Instrument;

use super::Session;
use super::state::{Intent, Issue, Validity, View};
use super::turn::Turn;
use crate::cookie::carried::{self, Affinity};
use crate::error::Error;

/// The effects of the session on the response head.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// Whether the handler asked for the session, so that the response depends on it.
    pub(crate) touched: bool,
    pub(crate) issue: Issue,
    /// The error to answer with, because the commit that the handler promised failed.
    pub(crate) failure: Option<Error>,
    pub(crate) notes: Notes,
}

/// The cookies to accompany the token from now on: `None` leaves one as it is, an empty text removes it.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) route: Option<String>,
    pub(crate) seen: Option<String>,
}

/// When the head is known.
pub(crate) enum Settled {
    Now(Head),
    Later(Later),
}

/// A head that the store has a say in.
pub(crate) type Later = Pin<Box<dyn Future<Output = Head> + Send>>;

impl Session {
    /// Ends the request's say over the session, given the status its handler answered with.
    pub(crate) fn settle(&self, status: StatusCode) -> Settled {
        let Some(state) = self.inner.state.try_lock() else {
            // Another task is in the middle of a call: its turn comes first.
            return self.settle_later(true, status);
        };
        let mut turn = Turn::new(&self.inner, state);
        if let Some(head) = turn.close(status) {
            return Settled::Now(head);
        }
        let detached = turn.state.intent.is_some();
        drop(turn);
        self.settle_later(detached, status)
    }

    /// A commit that rotates runs to its end even if the client is gone: the store's answer alone
    /// decides which secret lives.
    fn settle_later(&self, detached: bool, status: StatusCode) -> Settled {
        let session = self.clone();
        let mut commit: Later = Box::pin(async move { session.commit(status).await });
        if !detached {
            return Settled::Later(commit);
        }
        // A store in this process has answered by now, and needs no task.
        if let Some(head) = commit.as_mut().now_or_never() {
            return Settled::Now(head);
        }
        let task = self.inner.shared.tasks.spawn(commit.in_current_span());
        Settled::Later(Box::pin(async move {
            task.await.unwrap_or_else(|cut| {
                let error = Error::from(StoreError::unavailable(cut));
                Head { touched: true, failure: Some(logged(error)), ..Head::default() }
            })
        }))
    }

    async fn commit(&self, status: StatusCode) -> Head {
        let mut turn = Turn::new(&self.inner, self.inner.state.lock().await);
        // Returned from here, so that the commit has no room for a head from before it.
        if let Some(head) = turn.close(status) {
            return head;
        }
        turn.commit().await
    }
}

impl Turn<'_> {
    /// The head, unless a store call has to come first.
    fn close(&mut self, status: StatusCode) -> Option<Head> {
        let is_failure = status.is_server_error() && !self.inner.shared.commit_on_server_error;
        // 408 is what a timeout answers in place of a handler that never returned.
        let is_cut_off = status == StatusCode::REQUEST_TIMEOUT
            || self.inner.is_abandoned.swap(false, Ordering::AcqRel);
        if is_failure || is_cut_off {
            self.state.discard();
        }
        if matches!(self.state.view, View::Poisoned) {
            let is_promise = status.as_u16() < 400;
            return Some(self.head(is_promise.then_some(Error::Poisoned)));
        }
        let is_settled = self.state.pending.is_empty() && self.state.intent.is_none();
        is_settled.then(|| {
            self.touch_later();
            self.head(None)
        })
    }

    async fn commit(&mut self) -> Head {
        let mut patch = Patch::from(std::mem::take(&mut self.state.pending));
        let (done, is_promise) = match self.state.intent.take() {
            // A handler must be able to rely on a rotation, so losing it to another request is answered 409.
            Some(intent) => {
                let is_promise = !matches!(intent, Intent::Cycle);
                // In a box of its own, because it is large, and most commits rotate nothing.
                (Box::pin(self.rotate(intent, &mut patch)).await, is_promise)
            }
            None => (self.send(&mut patch).await.map(drop), false),
        };
        self.state.discard();
        match done {
            Ok(()) => self.head(None),
            // Another request rotated or ended the session: that one's response has the only say.
            Err(Error::Superseded | Error::Ended) if !is_promise => self.head(None),
            Err(error) => self.head(Some(logged(error))),
        }
    }

    fn head(&mut self, failure: Option<Error>) -> Head {
        self.state.sent = true;
        let mut issue = std::mem::take(&mut self.state.issue);
        let notes = match self.inner.places_sessions() && failure.is_none() {
            true => self.notes(&mut issue),
            false => Notes::default(),
        };
        Head { touched: self.state.touched, issue, failure, notes }
    }

    /// The version changes with the session, and the route when another node serves it.
    fn notes(&self, issue: &mut Issue) -> Notes {
        let brought = self.inner.hint();
        if matches!(issue, Issue::Remove) {
            let route = (!brought.routes.is_empty()).then(String::new);
            return Notes { route, seen: brought.min_version.map(|_| String::new()) };
        }
        let (routes, affinity) = (self.state.routes(), self.inner.shared.affinity);
        let is_moved = !routes.is_empty() && routes != brought.routes;
        if is_moved && affinity == Affinity::Suffix && matches!(issue, Issue::Keep) {
            *issue = self.presented_again();
        }
        let is_told = match affinity {
            Affinity::Cookie => is_moved,
            Affinity::Suffix => matches!(issue, Issue::Set(..)),
            Affinity::None => false,
        };
        let seen = self.state.version(brought.min_version);
        Notes {
            route: is_told.then(|| carried::route(routes)),
            seen: seen.map(|version| version.to_string()),
        }
    }

    /// The token that the request brought, which its load saw to be current.
    fn presented_again(&self) -> Issue {
        let Some(live) = self.state.live() else { return Issue::Keep };
        let token = self.inner.presented.token(&self.inner.shared, live.id);
        token.map_or(Issue::Keep, |token| Issue::Set(token, Validity::of(&live.record)))
    }

    /// Moves the idle deadline if that is due, in the background after the response. A commit needs none: its patch
    /// moves the deadline along.
    fn touch_later(&self) {
        let Some((id, touch)) = self.touch() else {
            return;
        };
        let calls = self.inner.calls().clone();
        self.inner.shared.tasks.spawn(async move {
            match calls.update(id, &touch, &RequestHint::default()).await {
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
