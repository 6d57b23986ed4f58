//! Changes of a session, for connections that outlive their request.

use std::time::Duration;

use steadfast_core::{EndReason, Version};
use tokio::time::sleep;

use super::Session;
use crate::end_watcher::{EndStatus, LoadedSession, SessionUpdate, Subscription};
use crate::error::Error;

/// A change of a session that a stream follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionChange {
    /// Its values, or what it says of itself, changed. Reads see it.
    Changed,
    /// It is over.
    Ended(EndReason),
}

/// The changes of a session, until it is over. [`Session::changes`] makes one.
#[derive(Debug)]
pub struct SessionChanges {
    session: Session,
    /// The version of the last reported change.
    seen: Option<Version>,
    subscription: Option<Subscription>,
}

impl SessionChanges {
    pub(super) fn new(session: Session) -> Self {
        Self { session, seen: None, subscription: None }
    }

    /// Waits until the session changes or ends. Several changes may come as one. After the end, every call
    /// reports the end again.
    ///
    /// It may be dropped and called again, for example in a `select!`: no change is lost.
    ///
    /// # Errors
    ///
    /// [`Error::NoSession`] when there is no session to follow, or when this is the first call that loads
    /// it and the store cannot be asked. Later calls wait until an outage is over.
    pub async fn next(&mut self) -> Result<SessionChange, Error> {
        loop {
            let loaded = match self.session.end_status().await? {
                EndStatus::Live(loaded) => loaded,
                EndStatus::Ended(reason) => return Ok(SessionChange::Ended(reason)),
            };
            if self.seen.replace(loaded.version).is_some_and(|seen| seen != loaded.version) {
                return Ok(SessionChange::Changed);
            }
            let Some(subscription) = self.subscribe(loaded) else {
                return Ok(SessionChange::Ended(EndReason::Shutdown));
            };
            if let SessionUpdate::Ended(reason) = subscription.after(loaded.version).await {
                return Ok(SessionChange::Ended(reason));
            }
            if !self.session.reload_for_stream().await {
                // The store is unreachable, or its copy lags.
                sleep(RETRY).await;
            }
        }
    }

    fn subscribe(&mut self, loaded: LoadedSession) -> Option<&mut Subscription> {
        if self.subscription.is_none() {
            let layer = &self.session.inner.layer;
            self.subscription = layer.end_watcher.subscribe(&layer.client, &layer.bounds, loaded);
        }
        self.subscription.as_mut()
    }
}

/// The pause before a change that could not be loaded is tried again.
const RETRY: Duration = Duration::from_secs(1);
