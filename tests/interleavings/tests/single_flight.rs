//! The handle of one request in several tasks, in many orders of their steps.

#![allow(missing_docs, clippy::unwrap_used)]

use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderMap, Request, Response, header};
use shuttle::future::{block_on, spawn};
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner};
use steadfast::{MemoryStore, Session, SessionLayer};
use steadfast_core::Store;
use steadfast_core::conformance::faults::{Call, FaultyStore};
use tower::{Layer, ServiceExt, service_fn};

#[test]
fn tasks_that_read_at_once_share_one_load() {
    check(|| async {
        let site = Site::with_a_session().await;
        let pause = site.store.pause_before(Call::Load);
        site.visit(move |session| async move {
            let tasks = [0; 3].map(|_| spawn(read(session.clone())));
            spawn(async move { pause.release() });
            for task in tasks {
                assert_eq!(task.await.unwrap(), Some(1));
            }
        })
        .await;
        assert_eq!(site.store.calls(Call::Load), 1);
    });
}

#[test]
fn a_cancelled_load_is_taken_over() {
    check(|| async {
        let site = Site::with_a_session().await;
        let pause = site.store.pause_before(Call::Load);
        site.visit(move |session| async move {
            let (impatient, patient) = (spawn(read(session.clone())), spawn(read(session)));
            spawn(async move { pause.release() });
            impatient.abort();
            assert_eq!(patient.await.unwrap(), Some(1));
            // Either it was in time, or it is gone; a handle that it still held would delay the commit.
            let _ = impatient.await;
        })
        .await;
        assert!((1..=2).contains(&site.store.calls(Call::Load)));
    });
}

#[test]
fn writes_of_several_tasks_are_all_committed() {
    check(|| async {
        let site = Site::with_a_session().await;
        let pause = site.store.pause_before(Call::Update);
        site.visit(move |session| async move {
            let writes = [KEY, "b", "c"].map(|key| spawn(write(session.clone(), key)));
            let count = spawn(count(session.clone()));
            spawn(async move { pause.release() });
            for task in writes {
                task.await.unwrap();
            }
            assert_eq!(count.await.unwrap(), 1);
        })
        .await;
        site.visit(|session| async move {
            for key in [KEY, "b", "c"] {
                assert_eq!(session.get::<i64>(key).await.unwrap(), Some(2));
            }
        })
        .await;
    });
}

async fn read(session: Session) -> Option<i64> {
    session.get(KEY).await.unwrap()
}

async fn write(session: Session, key: &'static str) {
    session.insert(key, 2).await.unwrap();
}

async fn count(session: Session) -> i64 {
    session.increment("n", 1).await.unwrap()
}

/// Runs a model in many orders. Nothing drives the runtime: its timers and tasks stand still.
fn check<F: Future<Output = ()>>(model: impl Fn() -> F + Send + Sync + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _context = runtime.enter();
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(ORDERS), config).run(move || block_on(model()));
}

const ORDERS: usize = 500;
const KEY: &str = "a";

/// A service, and a client with a session.
struct Site {
    store: FaultyStore,
    layer: SessionLayer,
    cookie: Option<String>,
}

impl Site {
    async fn with_a_session() -> Self {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()) as Arc<dyn Store>);
        let layer = SessionLayer::new(store.clone());
        let mut site = Self { store, layer, cookie: None };
        let response = site.visit(|session| async move { session.insert(KEY, 1).await.unwrap() });
        let line = response.await[header::SET_COOKIE].to_str().unwrap().to_owned();
        site.cookie = line.split(';').next().map(str::to_owned);
        site
    }

    async fn visit<F: Future<Output = ()> + Send>(
        &self,
        handler: impl FnOnce(Session) -> F + Clone + Send,
    ) -> HeaderMap {
        let mut request = Request::builder();
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let service = self.layer.layer(service_fn(move |request: Request<()>| {
            let session = request.extensions().get::<Session>().cloned().unwrap();
            let handled = handler.clone()(session);
            async move {
                handled.await;
                Ok::<_, Infallible>(Response::new(String::new()))
            }
        }));
        service.oneshot(request.body(()).unwrap()).await.unwrap().into_parts().0.headers
    }
}
