//! Who is measured.

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

/// Somebody who is measured. For one more: a file with this and `Visit`, and a line in [`ALL`].
pub trait Peer: Send + Sync {
    fn name(&self) -> &'static str;

    /// The routes with the layer around them, and a fresh store whose sessions end after `lifetime`
    /// without a request. Called within a runtime, which outlives the application.
    fn app(&self, lifetime: Duration) -> Router;

    /// Whether there are sessions at all.
    fn has_sessions(&self) -> bool {
        true
    }

    /// How many secrets a request of this case hashes.
    fn hashes(&self, case: Case) -> u32 {
        let _ = case;
        0
    }
}

/// Everybody, in the order of the tables. The first is the floor.
pub const ALL: [&dyn Peer; 6] = [
    &Floor,
    &PassThrough,
    &tower_sessions::TowerSessions,
    &tower_sessions_moka::TowerSessionsMoka,
    &axum_session::AxumSession,
    &Steadfast,
];

/// Those who have sessions.
pub fn with_sessions() -> impl Iterator<Item = &'static dyn Peer> {
    ALL.into_iter().filter(|peer| peer.has_sessions())
}

pub fn named(name: &str) -> anyhow::Result<&'static dyn Peer> {
    ALL.into_iter().find(|peer| peer.name() == name).with_context(|| format!("no peer {name:?}"))
}

/// Long enough for every session to outlive its measurement.
pub const LONG: Duration = Duration::from_secs(24 * 60 * 60);
