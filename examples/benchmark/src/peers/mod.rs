//! The session layers that are measured.

mod floor;
mod pass_through;

mod axum_session;
mod tower_sessions;
mod tower_sessions_moka;

mod steadfast;

mod remote;

use std::time::Duration;

use anyhow::Context;
use axum::Router;

pub use floor::Floor;
pub use pass_through::PassThrough;
pub use remote::{REMOTE, Remote, remote_named};
pub use steadfast::{Steadfast, hash_a_secret};

use crate::cases::Case;

/// A session layer that is measured. To add one, write a file with this trait and `Visit`, and add
/// a line to [`ALL`].
pub trait Peer: Send + Sync {
    fn name(&self) -> &'static str;

    /// Returns the routes with the layer around them, and an empty store whose sessions expire
    /// after `lifetime` without a request. Called within a runtime that outlives the application.
    fn app(&self, lifetime: Duration) -> Router;

    /// Returns true if the peer has sessions.
    fn has_sessions(&self) -> bool {
        true
    }

    /// Returns the number of secrets that a request of this case hashes.
    fn hashes(&self, case: Case) -> u32 {
        let _ = case;
        0
    }
}

/// All peers, in the order of the tables. The first one is the floor.
pub const ALL: [&dyn Peer; 6] = [
    &Floor,
    &PassThrough,
    &tower_sessions::TowerSessions,
    &tower_sessions_moka::TowerSessionsMoka,
    &axum_session::AxumSession,
    &Steadfast,
];

/// Returns the peers with sessions.
pub fn with_sessions() -> impl Iterator<Item = &'static dyn Peer> {
    ALL.into_iter().filter(|peer| peer.has_sessions())
}

pub fn named(name: &str) -> anyhow::Result<&'static dyn Peer> {
    ALL.into_iter()
        .find(|peer| peer.name() == name)
        .with_context(|| format!("unknown peer {name:?}"))
}

/// Longer than any measurement.
pub const LONG: Duration = Duration::from_secs(24 * 60 * 60);
