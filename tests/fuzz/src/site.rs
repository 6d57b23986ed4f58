//! A service of one node, and requests to it.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use http::{HeaderValue, Request, Response, StatusCode, header};
use steadfast::body::SessionBody;
use steadfast::store::conformance::faults::{Call, FaultyStore};
use steadfast::store::{Env, ManualClock, SessionStore, Store};
use steadfast::{Error, MemoryStore, Session, SessionLayer};
use time::UtcDateTime;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, ServiceExt, service_fn};

/// A layer over a memory store that counts its calls.
#[derive(Debug)]
pub struct Site {
    /// The clock of the store and of the layer.
    pub clock: ManualClock,
    /// The store.
    pub store: FaultyStore,
    layer: SessionLayer,
}

/// An answer that has arrived.
#[derive(Debug)]
pub struct Reply<T> {
    /// Its status.
    pub status: StatusCode,
    /// Its `Set-Cookie` lines.
    pub set_cookies: Vec<HeaderValue>,
    /// The result of the handler, if it was used.
    pub said: Option<T>,
}

impl Site {
    /// A site whose layer is set up by `change`.
    pub fn new<E>(change: impl FnOnce(SessionLayer) -> Result<SessionLayer, E>) -> Result<Self, E> {
        let clock = ManualClock::default();
        let memory = MemoryStore::builder().env(Env::with_clock(clock.clone())).build();
        let store = FaultyStore::new(Arc::new(memory) as Arc<dyn Store>);
        let layer = change(SessionLayer::new(store.clone()))?;
        Ok(Self { clock, store, layer })
    }

    /// The time.
    pub fn now(&self) -> UtcDateTime {
        self.store.env().now().into()
    }

    /// Counts the loads of the store.
    pub fn loads(&self) -> u64 {
        self.store.calls(Call::Load)
    }

    /// Serves one request with these `Cookie` lines, and what it leaves under way.
    pub fn visit<T, F>(
        &self,
        cookies: &[HeaderValue],
        handler: impl FnOnce(Session) -> F,
    ) -> Reply<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut request = Request::new(());
        for line in cookies {
            request.headers_mut().append(header::COOKIE, line.clone());
        }
        let mut handler = Some(handler);
        let service = self.layer.layer(service_fn(move |request: Request<()>| {
            let session = request.extensions().get::<Session>().cloned();
            let session = session.expect("the layer adds a session");
            let handled = handler.take().expect("one request is served")(session);
            async { Ok::<_, Infallible>(response(handled.await)) }
        }));
        RUNTIME.block_on(async {
            let Ok(response) = service.oneshot(request).await;
            self.settle().await;
            Reply::of(response)
        })
    }

    async fn settle(&self) {
        for _ in 0..MAX_STEPS {
            if !self.layer.has_pending_work() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("a request left work that does not end");
    }
}

impl<T> Reply<T> {
    fn of(response: Response<SessionBody<Option<T>>>) -> Self {
        let (head, body) = response.into_parts();
        let said = body.into_served().flatten();
        let set_cookies = head.headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        Self { status: head.status, set_cookies, said }
    }

    /// The one `Set-Cookie` line of a request that went well.
    #[track_caller]
    pub fn set_cookie(&self) -> &HeaderValue {
        assert!(self.status.is_success(), "{}", self.status);
        let [line] = &self.set_cookies[..] else { panic!("{:?}", self.set_cookies) };
        line
    }
}

fn response<T>(handled: Result<T, Error>) -> Response<Option<T>> {
    match handled {
        Ok(said) => Response::new(Some(said)),
        Err(error) => {
            let mut response = Response::new(None);
            *response.status_mut() = error.status();
            response
        }
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime needs no more than memory")
});

const MAX_STEPS: usize = 100;
