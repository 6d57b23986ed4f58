//! Changes of a session, for connections that outlive their request.

use std::time::Duration;

use steadfast_core::{EndReason, Version};
use tokio::time::sleep;

use super::Session;
use crate::error::Error;
use crate::watch::{Followed, Following, Loaded, Standing};

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
    following: Option<Following>,
}

impl SessionChanges {
    pub(super) fn new(session: Session) -> Self {
        Self { session, seen: None, following: None }
    }

    /// Waits until the session changes or is over. Several changes may come as one. After the end, every
    /// call says so again.
    ///
    /// It may be dropped and called again, for example in a `select!`: no change is lost.
    ///
    /// # Errors
    ///
    /// [`Error::NoSession`] when there is no session to follow, or when this is the first call that loads
    /// it and the store cannot be asked. Later on, an outage is waited for.
    pub async fn next(&mut self) -> Result<SessionChange, Error> {
        loop {
            let loaded = match self.session.standing().await? {
                Standing::Live(loaded) => loaded,
                Standing::Over(reason) => return Ok(SessionChange::Ended(reason)),
            };
            if self.seen.replace(loaded.version).is_some_and(|seen| seen != loaded.version) {
                return Ok(SessionChange::Changed);
            }
            let Some(following) = self.follow(loaded) else {
                return Ok(SessionChange::Ended(EndReason::Shutdown));
            };
            if let Followed::Over(reason) = following.after(loaded.version).await {
                return Ok(SessionChange::Ended(reason));
            }
            if !self.session.look_again().await {
                // The store is away, or a copy of it is behind.
                sleep(RETRY).await;
            }
        }
    }

    fn follow(&mut self, loaded: Loaded) -> Option<&mut Following> {
        if self.following.is_none() {
            let shared = &self.session.inner.shared;
            self.following = shared.watch.follow(&shared.calls, &shared.bounds, loaded);
        }
        self.following.as_mut()
    }
}

/// After which time a change that could not be loaded is looked for again.
const RETRY: Duration = Duration::from_secs(1);
