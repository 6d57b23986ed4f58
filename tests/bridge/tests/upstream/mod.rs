//! What the tests of tower-sessions need in place of its own stores.

use std::time::Duration;

use async_trait::async_trait;
use bridge::Service;
use steadfast::Bridge;
use tower_sessions::SessionStore;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::Result;

/// A bridge over memory, which begins as the store of tower-sessions does.
#[derive(Clone, Debug)]
pub struct MemoryStore(Bridge);

impl Default for MemoryStore {
    fn default() -> Self {
        Self(Bridge::new(steadfast::MemoryStore::new()))
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.0.create(record).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        self.0.save(record).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        self.0.load(id).await
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.0.delete(id).await
    }
}

/// A bridge whose service lives as long as the process.
pub fn bridge_of(service: Service) -> Bridge {
    Box::leak(Box::new(service)).bridge()
}

/// Runs an example of the documentation.
pub fn block_on<F: Future>(example: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(example)
}

/// Enough for a deadline to be a later one.
pub const MILLISECONDS: Duration = Duration::from_millis(2);

/// The tests of a version, which the test has as `tower_sessions`.
macro_rules! tests_of_tower_sessions {
    ($common:literal, $service:literal, $documentation:literal) => {
        /// Of its documentation, over memory.
        mod documentation {
            use crate::upstream::block_on;

            mod names {
                pub use crate::upstream::MemoryStore;
                pub use tower_sessions::*;
            }

            mod examples {
                include!(concat!(env!("OUT_DIR"), $documentation));
            }
        }

        /// Of its layer, over memory.
        mod service {
            use http::{Request, Response};
            use tower::Service;
            use tower_cookies::cookie::SameSite;
            use tower_sessions::{Expiry, Session, SessionManagerLayer, SessionStore, session};

            use crate::upstream::{MILLISECONDS, MemoryStore};

            mod tests {
                include!(concat!(env!("OUT_DIR"), $service));
            }
        }

        #[macro_use]
        mod common {
            include!(concat!(env!("OUT_DIR"), $common));
        }
    };
}

/// Of its routes, over every store.
macro_rules! routes_over {
    ($($store:ident),+) => {
        $(mod $store {
            use tower_sessions::SessionManagerLayer;

            async fn app(max_age: Option<Duration>, domain: Option<String>) -> axum::Router {
                let store = crate::upstream::bridge_of(bridge::Service::$store().await);
                let sessions = SessionManagerLayer::new(store).with_secure(true);
                crate::common::build_app(sessions, max_age, domain)
            }

            route_tests!(app);
        })+
    };
}
