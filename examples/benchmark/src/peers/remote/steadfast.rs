//! Steadfast with the store of a URL.

use ::steadfast::{Session, SessionLayer, connect};

use super::Opening;
use crate::cases::{Case, routes};
use crate::peers::{Peer, Steadfast};

pub(super) fn open(url: String) -> Opening {
    Box::pin(async move {
        let store = connect(&url).await?;
        Ok(routes::<Session>().layer(SessionLayer::new(store)))
    })
}

/// The store does not affect the number of hashed secrets.
pub(super) fn hashes(case: Case) -> u32 {
    Steadfast.hashes(case)
}
