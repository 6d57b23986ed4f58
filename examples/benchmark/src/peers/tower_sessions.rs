//! tower-sessions with its own memory store.

use std::time::Duration;

use axum::Router;
use serde::Serialize;
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer};

use super::Peer;
use crate::cases::{Visit, routes};

#[derive(Debug)]
pub(super) struct TowerSessions;

impl Peer for TowerSessions {
    fn name(&self) -> &'static str {
        "tower-sessions 0.15 memory"
    }

    fn app(&self, lifetime: Duration) -> Router {
        let lifetime = time::Duration::try_from(lifetime).expect("a lifetime is short");
        let layer = SessionManagerLayer::new(MemoryStore::default())
            .with_expiry(Expiry::OnInactivity(lifetime));
        routes::<Session>().layer(layer)
    }
}

impl Visit for Session {
    async fn get(&self, key: &str) -> Option<i64> {
        Session::get(self, key).await.expect("the store answers")
    }

    async fn put<T: Serialize + Send + Sync>(&self, key: &str, value: T) {
        self.insert(key, value).await.expect("the store answers");
    }

    async fn login(&self, user: String) {
        self.cycle_id().await.expect("the store answers");
        self.insert("user", user).await.expect("the store answers");
    }

    async fn logout(&self) {
        self.flush().await.expect("the store answers");
    }
}
