//! Ends everybody's sessions in one step: a *floor* in the store, which every node reads. No session that
//! began before it counts.
//!
//! The floor is the sign-in time of a record whose principal stands for everybody, so every store can keep
//! it. A node may rely on what it read for one interval; after that, requests read the floor before their
//! session, and fail if they cannot. The node that raises the floor waits for one interval after the store
//! confirmed it. From then on, every node knows the floor or fails.

use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{Facts, Lifetime, LoginPolicy, Outcome, Principal, StoreError};
use tokio::time::{Instant, sleep};

use crate::calls::Purpose;
use crate::config::Shared;
use crate::error::Error;
use crate::floor::Floor;

impl Shared {
    /// Whether the floor has to be read before a session is served.
    pub(crate) fn is_floor_due(&self) -> bool {
        self.floor.as_ref().is_some_and(|floor| floor.is_due())
    }

    /// Reads the floor, and from then on keeps reading it in the background.
    pub(crate) async fn read_floor(self: &Arc<Self>) -> Result<(), StoreError> {
        let Some(floor) = &self.floor else { return Ok(()) };
        let asked = Instant::now();
        let listed = self.calls.list(&self.everybody(), Purpose::Use).await?;
        let latest = listed.iter().filter_map(|info| info.authenticated).max();
        if latest.is_some_and(|latest| self.bounds.raise_floor(latest.into())) {
            self.watch.look_again(self.calls.store.env());
        }
        if floor.answered(asked) {
            self.poll_floor(Arc::clone(floor));
        }
        Ok(())
    }

    /// Has the store keep a floor that is above every session of now, and waits until every node knows.
    pub(crate) async fn raise_floor(self: &Arc<Self>) -> Result<(), Error> {
        let Some(floor) = &self.floor else { return Err(Error::CannotEndEverybody) };
        let now = self.calls.store.env().now();
        let (at, until) = (now + CLOCKS_DIFFER, now + Lifetime::MAX);
        let (id, record) = self.closed_record(self.everybody(), Facts::default(), at, until)?;
        let only_latest = LoginPolicy { cap: 1, ..LoginPolicy::default() };
        match self.calls.create(id, record, only_latest).await? {
            Outcome::Applied(_) => {}
            Outcome::Rejected(rejection) => return Err(rejection.into()),
            _ => return Err(StoreError::refused("the store did not take the floor").into()),
        }
        self.read_floor().await?;
        sleep(floor.interval).await;
        Ok(())
    }

    /// Reads the floor again and again, for streams that no request refreshes and so that requests need
    /// not wait. Ends with the layer.
    fn poll_floor(self: &Arc<Self>, floor: Arc<Floor>) {
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep(floor.interval / 2).await;
                let Some(shared) = shared.upgrade() else { return floor.lost_poller() };
                // An error is counted and logged as that of any call; the next request tries again.
                let _ = Box::pin(shared.read_floor()).await;
            }
        });
    }

    fn everybody(&self) -> Principal {
        Principal::of_label(&self.realm, "", "everybody")
    }
}

/// How far the clocks of nodes may differ: a sign-in on a node whose clock is ahead still counts as earlier.
const CLOCKS_DIFFER: Duration = Duration::from_secs(1);
