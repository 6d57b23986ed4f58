//! Tests of the contract, for authors of stores.

pub mod faults;

use std::sync::Arc;

use async_trait::async_trait;

use crate::env::Env;
use crate::operate::Store;
use crate::token::RecordId;

/// The store under test: opens a fresh, empty service whenever the kit asks for one.
#[async_trait]
pub trait Subject: Send + Sync + 'static {
    /// Opens the nodes of one new service, at least one, which share their sessions and nothing
    /// with any service opened before.
    ///
    /// Every node is built with `env`: its clock stands still until a check moves it.
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>>;

    /// Makes what is kept under `id` unreadable, in the service that was opened last, and says
    /// whether it did.
    ///
    /// A store that keeps bytes overwrites them with junk. One that keeps [`Record`](crate::Record)s
    /// cannot hold a corrupt one; it leaves the default, and the check of that bullet then verifies
    /// nothing.
    async fn corrupt(&self, id: RecordId) -> bool {
        let _ = id;
        false
    }
}
