//! Replacements of tower-sessions' own stores, for its tests.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bridge::Service;
use steadfast::Bridge;
use tokio::sync::OnceCell;
use tower_sessions::SessionStore;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::Result;

/// A bridge that is opened when it is first used: the store of tower-sessions begins with `default`, which
/// cannot wait.
#[derive(Clone, Debug, Default)]
pub struct Opened<K>(Arc<OnceCell<Bridge>>, PhantomData<K>);

/// A kind of store.
pub trait Kind: Send + Sync + std::fmt::Debug + 'static {
    fn open() -> impl Future<Output = Service> + Send;
}

impl<K: Kind> Opened<K> {
    async fn bridge(&self) -> &Bridge {
        self.0.get_or_init(|| async { bridge_of(K::open().await) }).await
    }
}

#[async_trait]
impl<K: Kind> SessionStore for Opened<K> {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.bridge().await.create(record).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        self.bridge().await.save(record).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        self.bridge().await.load(id).await
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.bridge().await.delete(id).await
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

/// The tests of a version, which the test has as `tower_sessions`: those of its routes and of its layer over
/// each of the stores, and its documentation over memory.
macro_rules! tests_of_tower_sessions {
    ($common:literal, $service:literal, $documentation:literal, over: $($store:ident),+) => {
        mod documentation {
            use crate::upstream::block_on;

            mod names {
                pub use crate::memory::service::MemoryStore;
                pub use tower_sessions::*;
            }

            mod examples {
                include!(concat!(env!("OUT_DIR"), $documentation));
            }
        }

        #[macro_use]
        mod common {
            include!(concat!(env!("OUT_DIR"), $common));
        }

        $(mod $store {
            pub(crate) mod service {
                use http::{Request, Response};
                use tower::Service;
                use tower_cookies::cookie::SameSite;
                use tower_sessions::{Expiry, Session, SessionManagerLayer, SessionStore, session};

                use crate::upstream::{Kind, MILLISECONDS, Opened};

                pub type MemoryStore = Opened<Opens>;

                #[derive(Clone, Debug, Default)]
                pub struct Opens;

                impl Kind for Opens {
                    async fn open() -> bridge::Service {
                        bridge::Service::$store().await
                    }
                }

                mod tests {
                    include!(concat!(env!("OUT_DIR"), $service));
                }
            }

            mod routes {
                use tower_sessions::SessionManagerLayer;

                async fn app(max_age: Option<Duration>, domain: Option<String>) -> axum::Router {
                    let store = crate::upstream::bridge_of(bridge::Service::$store().await);
                    let sessions = SessionManagerLayer::new(store).with_secure(true);
                    crate::common::build_app(sessions, max_age, domain)
                }

                route_tests!(app);
            }
        })+
    };
}
