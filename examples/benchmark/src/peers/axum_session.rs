//! axum_session without a database. Its sessions are in the process.

use std::fmt::Debug;
use std::time::Duration;

use ::axum_session::{
    DatabasePool, Session, SessionConfig, SessionLayer, SessionNullPool, SessionStore,
};
use axum::Router;
use futures_util::FutureExt;
use serde::Serialize;

use super::Peer;
use crate::cases::{Visit, routes};

#[derive(Debug)]
pub(super) struct AxumSession;

impl Peer for AxumSession {
    fn name(&self) -> &'static str {
        "axum_session 0.22 memory"
    }

    fn app(&self, lifetime: Duration) -> Router {
        let lifetime = time::Duration::try_from(lifetime).expect("a lifetime is short");
        let config = SessionConfig::default()
            .with_lifetime(lifetime)
            .with_memory_lifetime(lifetime)
            .with_purge_update(lifetime);
        let store = SessionStore::<SessionNullPool>::new(None, config);
        let store = store.now_or_never().expect("no database is waited for");
        routes::<Session<SessionNullPool>>().layer(SessionLayer::new(store.expect("no database")))
    }
}

impl<P> Visit for Session<P>
where
    P: DatabasePool + Clone + Debug + Send + Sync + 'static,
{
    async fn get(&self, key: &str) -> Option<i64> {
        Session::get(self, key)
    }

    async fn put<T: Serialize + Send + Sync>(&self, key: &str, value: T) {
        self.set(key, value);
    }

    async fn login(&self, user: String) {
        self.renew();
        self.set("user", user);
    }

    async fn logout(&self) {
        self.destroy();
    }
}
