//! Ends everybody's sessions in one step: a *cutoff* in the store, which every node reads. A session that
//! began before the cutoff is not served.
//!
//! The cutoff is the sign-in time of a record whose principal stands for everybody, so every store can keep
//! it. A node may rely on what it read for one interval; after that, requests read the cutoff before their
//! session, and fail if they cannot. The node that sets the cutoff waits for one interval after the store
//! confirmed it. From then on, every node knows the cutoff or fails.

use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{Facts, Lifetime, LoginPolicy, Outcome, Principal, StoreError};
use tokio::time::{Instant, sleep};

use crate::cutoff::Cutoff;
use crate::error::Error;
use crate::layer_state::LayerState;
use crate::store_client::Purpose;

impl LayerState {
    /// Returns true if the cutoff has to be read before a session is served.
    pub(crate) fn is_cutoff_due(&self) -> bool {
        self.cutoff.as_ref().is_some_and(|cutoff| cutoff.is_due())
    }

    /// Reads the cutoff, and from then on keeps reading it in the background.
    pub(crate) async fn read_cutoff(self: &Arc<Self>) -> Result<(), StoreError> {
        let Some(cutoff) = &self.cutoff else { return Ok(()) };
        let asked = Instant::now();
        let listed = self.client.list(&self.everybody(), Purpose::Use).await?;
        let latest = listed.iter().filter_map(|info| info.authenticated).max();
        if latest.is_some_and(|latest| self.bounds.raise_cutoff(latest.into())) {
            self.end_watcher.recheck_all(self.client.store.env());
        }
        if cutoff.answered(asked) {
            self.poll_cutoff(Arc::clone(cutoff));
        }
        Ok(())
    }

    /// Stores a cutoff that is later than every present session, and waits until every node knows it.
    pub(crate) async fn raise_cutoff(self: &Arc<Self>) -> Result<(), Error> {
        let Some(cutoff) = &self.cutoff else { return Err(Error::CannotEndEverybody) };
        let now = self.client.store.env().now();
        let (at, until) = (now + CLOCKS_DIFFER, now + Lifetime::MAX);
        let (id, record) = self.closed_record(self.everybody(), Facts::default(), at, until)?;
        let only_latest = LoginPolicy { cap: 1, ..LoginPolicy::default() };
        match self.client.create(id, record, only_latest).await? {
            Outcome::Applied(_) => {}
            Outcome::Rejected(rejection) => return Err(rejection.into()),
            _ => return Err(StoreError::refused("the store did not accept the cutoff").into()),
        }
        self.read_cutoff().await?;
        sleep(cutoff.interval).await;
        Ok(())
    }

    /// Reads the cutoff again and again, for streams that no request refreshes and so that requests need
    /// not wait. Ends with the layer.
    fn poll_cutoff(self: &Arc<Self>, cutoff: Arc<Cutoff>) {
        let layer = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep(cutoff.interval / 2).await;
                let Some(layer) = layer.upgrade() else { return cutoff.lost_poller() };
                // An error is counted and logged as that of any call; the next request tries again.
                let _ = Box::pin(layer.read_cutoff()).await;
            }
        });
    }

    fn everybody(&self) -> Principal {
        Principal::of_label(&self.realm, "", "everybody")
    }
}

/// The tolerated difference of clocks: a sign-in on a node whose clock is ahead must still be before the
/// cutoff.
const CLOCKS_DIFFER: Duration = Duration::from_secs(1);
