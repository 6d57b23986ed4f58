//! Gives a session a new id without losing what other requests saved.
//!
//! 1. `cycle_id` *parks* the record: it replaces the secret by one that only this process knows. From then
//!    on the old id opens nothing, and a save under it fails.
//! 2. The save at the end of the request stores the record, with the request's changes, under a new id,
//!    and under the old one a note that names the new record.
//! 3. It deletes the parked record. If that record is already gone, another request signed out or an
//!    administrator ended the session, so the new record ends too.
//!
//! A sign-out with the old id ends the parked record, or follows the note.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use steadfast_core::{
    Deletion, EndReason, LoginPolicy, Lookup, Patch, RawJson, Record, RecordId, Rotation,
    Timestamp, Token,
};
use tokio::task::AbortHandle;

use super::Bridge;
use super::id::Id;
use super::loaded::{self, Data, Loaded};
use super::sessions::{applied, to_the_end};
use crate::error::Error;

/// A record whose id is being replaced.
pub(super) struct Parked {
    old: Id,
    /// Opens the record, and never leaves the process.
    token: Token,
    /// The task that ends the record if the request fails.
    cleanup: OnceLock<AbortHandle>,
}

impl Bridge {
    /// Parks a record. A missing record is no error yet: whether the request fails depends on whether it
    /// signs a user in, which `succeed` decides.
    pub(super) async fn park(&self, old: Id) -> Result<(), Error> {
        let opened = old.token();
        let token = Token::generate(opened.id(), self.state.client.store.env())?;
        let hash = self.hash(&token);
        let mut patch = Patch::new();
        patch.rotate(self.prove(&opened), Rotation { hash, authentication: None });
        let parked = Arc::new(Parked { old, token, cleanup: OnceLock::new() });
        let bridge = self.clone();
        to_the_end(async move {
            match bridge.update(parked.token.id(), &patch).await {
                Err(Error::Ended | Error::Superseded) => Ok(()),
                Err(error) => Err(error),
                Ok(()) => {
                    bridge.state.memory.parked.insert(parked.token.id(), Arc::clone(&parked));
                    let cleanup = tokio::spawn(bridge.abandon_later(Arc::clone(&parked)));
                    let _ = parked.cleanup.set(cleanup.abort_handle());
                    Ok(())
                }
            }
        })
        .await
    }

    /// Stores a parked session under a new id.
    pub(super) async fn succeed(
        &self,
        loaded: &Loaded,
        data: &Data,
        expiry: Timestamp,
    ) -> Result<(Id, Loaded), Error> {
        let user = self.signed_in(loaded, data);
        match (self.state.memory.parked.take(&loaded.record), user) {
            (Some(parked), user) => {
                let changes = loaded.changes(data)?;
                let (bridge, sign_in) = (self.clone(), loaded.sign_in);
                to_the_end(
                    async move { bridge.replace(&parked, sign_in, changes, user, expiry).await },
                )
                .await
            }
            // Another request cycled the id first. This request's data may be stale, but the user has
            // proved their identity and gets a separate session.
            (None, Some(_)) => self.begin(data, expiry).await,
            (None, None) => Err(Error::Ended),
        }
    }

    /// Ends a session whose id another request replaces, or has replaced.
    pub(super) async fn end_successor(&self, old: Id) -> Result<(), Error> {
        self.state.client.delete(old.token().id(), &Deletion::LOGOUT).await?;
        let Lookup::Found(note) = self.look_up(old.successor(), None).await? else {
            return Ok(());
        };
        let successor = note.record.values.get(SUCCESSOR).map(RawJson::copied);
        if let Some(Ok(id)) = successor.map(|json| json.decode::<RecordId>()) {
            self.state.client.delete(id, &Deletion::LOGOUT).await?;
        }
        Ok(())
    }

    async fn replace(
        &self,
        parked: &Parked,
        sign_in: u64,
        mut changes: Patch,
        user: Option<String>,
        expiry: Timestamp,
    ) -> Result<(Id, Loaded), Error> {
        let proof = self.prove(&parked.token);
        let Lookup::Found(found) = self.look_up(parked.token.id(), Some(&proof)).await? else {
            return Err(Error::Ended);
        };
        if found.record.sign_in != sign_in {
            return Err(Error::Superseded);
        }
        loaded::end_by_deadline(&mut changes);
        let record = self.successor_of(&found.record, user.as_deref())?;
        let (id, created) = self.store(record, changes, expiry).await?;
        // A sign-out with an id from before the sign-in must not end the user's new session.
        if user.is_none() {
            self.note_successor(parked.old, created.record).await?;
        }
        let deletion =
            Deletion { proof: Some(&proof), ..Deletion::for_reason(EndReason::Superseded) };
        match self.state.client.delete(parked.token.id(), &deletion).await {
            Ok(deleted) if deleted.is_ended() => {
                if let Some(cleanup) = parked.cleanup.get() {
                    cleanup.abort();
                }
                Ok((id, created))
            }
            ended => {
                self.state.client.delete(created.record, &Deletion::LOGOUT).await?;
                Err(ended.map_or_else(Error::from, |_| Error::Ended))
            }
        }
    }

    fn successor_of(&self, record: &Record, user: Option<&str>) -> Result<Record, Error> {
        let mut next = record.clone();
        (next.replaced, next.owner) = (None, None);
        next.version = next.version.next();
        if let Some(user) = user {
            next.principal = Some(self.principal(user)?);
            next.authenticated = Some(self.now());
            next.absolute_deadline = self.now() + self.state.absolute;
            next.sign_in += 1;
        }
        Ok(next)
    }

    async fn note_successor(&self, old: Id, new: RecordId) -> Result<(), Error> {
        let (now, token) = (self.now(), old.marked().token());
        let hash = self.hash(&token);
        let mut note = Record::new(hash, now, now + PARKED, now + PARKED);
        let new = RawJson::encode(&new)
            .map_err(|source| Error::Encode { key: SUCCESSOR.to_owned(), source })?;
        note.values = [(SUCCESSOR, new.as_bytes())].into_iter().collect();
        applied(self.state.client.create(old.successor(), note, LoginPolicy::default()).await?)
    }

    /// Ends a parked record that got no new id because its request failed.
    async fn abandon_later(self, parked: Arc<Parked>) {
        tokio::time::sleep(PARKED).await;
        self.state.memory.parked.take(&parked.token.id());
        let proof = self.prove(&parked.token);
        let deletion = Deletion { proof: Some(&proof), ..Deletion::LOGOUT };
        if let Err(error) = self.state.client.delete(parked.token.id(), &deletion).await {
            tracing::debug!(target: "steadfast", %error, "failed to end an abandoned session");
        }
    }
}

/// The longest time from `cycle_id` to the end of its request, and the time for which an old id leads to its
/// successor.
const PARKED: Duration = Duration::from_secs(300);

/// The key of the new record in a note.
const SUCCESSOR: &str = "steadfast.successor";
