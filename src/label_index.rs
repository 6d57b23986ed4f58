//! Finds sessions by label in stores that index sessions by principal only.
//!
//! Before the layer sends a sign-in with an indexed label, it stores a *mark*: a record that no token opens,
//! whose principal stands for the label and whose own label names the session. So every session has its
//! mark, and listing the label's principal finds them all. A mark can exist without such a session, for
//! example after a sign-in that failed: callers check the session itself, and the mark expires with the
//! sign-in that it was written for.

use futures_util::future::try_join_all;
use steadfast_core::{
    Facts, LoginPolicy, Outcome, Principal, RecordId, SessionInfo, StoreError, Timestamp,
};

use crate::error::Error;
use crate::layer_state::LayerState;
use crate::store_client::Purpose;

/// A mark, and the session that it names.
pub(crate) struct Mark {
    pub(crate) id: RecordId,
    pub(crate) session: RecordId,
}

impl LayerState {
    /// Stores the marks of a session before its sign-in is sent; they expire with the sign-in.
    pub(crate) async fn mark(
        &self,
        session: RecordId,
        facts: &Facts,
        until: Timestamp,
    ) -> Result<(), Error> {
        let indexed = facts.labels().filter(|(name, _)| self.indexed.contains(name));
        try_join_all(indexed.map(async |(name, value)| {
            let label = Principal::of_label(&self.realm, name, value);
            let named = Facts::of(None, None, [(SESSION, session.to_string().as_str())])?;
            let now = self.client.store.env().now();
            let (id, mark) = self.closed_record(label, named, now, until)?;
            let terms = LoginPolicy { cap: MARKS, ..LoginPolicy::default() };
            match self.client.create(id, mark, terms).await? {
                Outcome::Applied(_) => Ok(()),
                Outcome::Rejected(rejection) => Err(Error::from(rejection)),
                _ => Err(StoreError::refused("the store did not take a label's record").into()),
            }
        }))
        .await
        .map(drop)
    }

    /// Returns the marks of a label.
    pub(crate) async fn marks(&self, name: &str, value: &str) -> Result<Vec<Mark>, Error> {
        let label = Principal::of_label(&self.realm, name, value);
        let listed = self.client.list(&label, Purpose::End).await?;
        let mark = |info: SessionInfo| {
            let session = info.facts.label(SESSION)?.parse().ok()?;
            Some(Mark { id: info.id, session })
        };
        Ok(listed.into_iter().filter_map(mark).collect())
    }
}

/// The label of a mark that names its session.
const SESSION: &str = "session";

/// The highest number of sessions of one label. Beyond it, the marks of the oldest are dropped.
const MARKS: usize = 1_000_000;
