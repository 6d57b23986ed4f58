//! A site to visit: one layer over a memory store that can be made to fail, and browsers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use steadfast::store::conformance::faults::{Call, FaultyStore};
use steadfast::store::{Env, ManualClock, Operate, SessionStore, Store};
use steadfast::{CookieProfile, Error, MemoryStore, RecordId, Session, SessionLayer};
use steadfast_memory::{Budget, MemoryStoreBuilder};
use time::UtcDateTime;
use tower::{Layer, ServiceExt, service_fn};

/// A service of one node: its store, its clock, and its layer.
#[derive(Clone)]
pub struct Site {
    pub store: FaultyStore,
    pub clock: ManualClock,
    pub layer: SessionLayer,
}

impl Site {
    pub fn new() -> Self {
        Self::over(|memory| memory)
    }

    fn over(set_up: impl FnOnce(MemoryStoreBuilder) -> MemoryStoreBuilder) -> Self {
        let clock = ManualClock::default();
        let memory = MemoryStore::builder().env(Env::with_clock(clock.clone()));
        let store = FaultyStore::new(Arc::new(set_up(memory).build()) as Arc<dyn Store>);
        let layer = SessionLayer::new(store.clone());
        Self { store, clock, layer }
    }

    /// A site with room for this many visitors, and any number of users.
    pub fn with_budget(visitors: u64) -> Self {
        let budget = Budget { records: visitors, bytes: 1 << 30 };
        Self::over(|memory| memory.anonymous(budget))
    }

    pub fn with(change: impl FnOnce(SessionLayer) -> SessionLayer) -> Self {
        let Self { store, clock, layer } = Self::new();
        Self { store, clock, layer: change(layer) }
    }

    /// A browser that has never been here.
    pub fn browser(&self) -> Browser {
        Browser { site: self.clone(), jar: Arc::default() }
    }

    /// A browser whose session holds `seed = 1`.
    pub async fn visitor(&self) -> Browser {
        let browser = self.browser();
        browser.visit(|session| async move { session.insert("seed", 1).await }).await.ok();
        browser
    }

    /// A browser with a signed-in user.
    pub async fn member(&self, user: &'static str) -> Browser {
        let browser = self.visitor().await;
        browser.visit(move |session| async move { session.login(user).await }).await.ok();
        browser
    }

    /// Counts the calls of each kind that the store has had: load, create, update, delete.
    pub fn calls(&self) -> [u64; 4] {
        [Call::Load, Call::Create, Call::Update, Call::Delete].map(|call| self.store.calls(call))
    }

    /// Counts the calls that `visit` makes: load, create, update, delete.
    pub async fn cost(&self, visit: impl Future<Output = Reply>) -> [u64; 4] {
        let before = self.calls();
        visit.await;
        let after = self.calls();
        std::array::from_fn(|i| after[i] - before[i])
    }

    pub fn now(&self) -> UtcDateTime {
        self.store.env().now().into()
    }

    /// Returns the number of stored records.
    pub async fn records(&self) -> u64 {
        self.store.stats().await.unwrap().records
    }
}

/// A browser that handles one cookie. Clones are tabs: they share the cookies.
#[derive(Clone)]
pub struct Browser {
    site: Site,
    pub jar: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Browser {
    /// The public name of its session.
    pub async fn id(&self) -> RecordId {
        let reply = self.request(|session| async move {
            Ok::<_, Error>(session.handle().await?.unwrap().to_string())
        });
        reply.await.ok().body.parse().unwrap()
    }

    /// Sends a request that `handler` serves, and keeps the cookies of the answer.
    pub fn visit<H, F, R>(&self, handler: H) -> impl Future<Output = Reply> + Send + use<H, F, R>
    where
        H: Fn(Session) -> F + Clone + Send + 'static,
        F: Future<Output = R> + Send + 'static,
        R: Answer,
    {
        let (browser, request) = (self.clone(), self.request(handler));
        async move {
            let reply = request.await;
            browser.keep(&reply);
            reply
        }
    }

    /// Sends a request, and leaves the cookies alone: the answer is still under way.
    pub fn request<H, F, R>(&self, handler: H) -> impl Future<Output = Reply> + Send + use<H, F, R>
    where
        H: Fn(Session) -> F + Clone + Send + 'static,
        F: Future<Output = R> + Send + 'static,
        R: Answer,
    {
        self.request_with(&[], handler)
    }

    /// Sends a request with more headers.
    pub fn request_with<H, F, R>(
        &self,
        headers: &[(&str, &str)],
        handler: H,
    ) -> impl Future<Output = Reply> + Send + use<H, F, R>
    where
        H: Fn(Session) -> F + Clone + Send + 'static,
        F: Future<Output = R> + Send + 'static,
        R: Answer,
    {
        let service = self.site.layer.layer(service_fn(move |request: Request<()>| {
            let handler = handler.clone();
            async move {
                let session = request.extensions().get::<Session>().cloned();
                let session = session.expect("the layer adds a session");
                Ok::<_, std::convert::Infallible>(handler(session).await.answer())
            }
        }));
        let mut request = Request::builder();
        if let Some(cookies) = self.cookies() {
            request = request.header(header::COOKIE, cookies);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        async move { Reply::read(service.oneshot(request).await.unwrap()).await }
    }

    /// Keeps the cookies of an answer, as it arrives.
    pub fn keep(&self, reply: &Reply) {
        let mut jar = self.jar.lock().unwrap();
        for line in reply.set_cookies() {
            let (name, rest) = line.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if line.contains("Max-Age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// The same browser, sent to another node.
    pub fn at(&self, site: &Site) -> Self {
        Self { site: site.clone(), jar: Arc::clone(&self.jar) }
    }

    /// The browser as it is now, with a jar of its own.
    pub fn fork(&self) -> Self {
        let jar = self.jar.lock().unwrap().clone();
        Self { site: self.site.clone(), jar: Arc::new(Mutex::new(jar)) }
    }

    pub fn token(&self) -> Option<String> {
        let jar = self.jar.lock().unwrap();
        jar.get("__Host-id").or_else(|| jar.get("id-dev")).cloned()
    }

    pub fn cookie(&self, name: &str) -> Option<String> {
        self.jar.lock().unwrap().get(name).cloned()
    }

    pub fn set_cookie(&self, name: &str, value: &str) {
        self.jar.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }

    pub fn set_token(&self, token: &str) {
        self.jar.lock().unwrap().insert("__Host-id".to_owned(), token.to_owned());
    }

    /// Returns the user whom the site sees in this browser.
    pub async fn user(&self) -> Option<String> {
        let reply = self.request(|session| async move {
            let user = session.principal().await?;
            Ok::<_, Error>(user.map_or_else(String::new, |user| user.id().to_owned()))
        });
        Some(reply.await.ok().body).filter(|user| !user.is_empty())
    }

    /// The value under a key, as the site sees this browser.
    pub async fn value(&self, key: &'static str) -> Option<i64> {
        let reply = self.request(move |session| async move {
            let value = session.get::<i64>(key).await?;
            Ok::<_, Error>(value.map(|value| value.to_string()).unwrap_or_default())
        });
        reply.await.ok().body.parse().ok()
    }

    fn cookies(&self) -> Option<String> {
        let jar = self.jar.lock().unwrap();
        let pairs: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

/// An answer that has arrived.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    pub async fn read(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Self { status: parts.status, headers: parts.headers, body }
    }

    /// Asserts a status below 400.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.as_u16() < 400, "{self:?}");
        self
    }

    pub fn set_cookies(&self) -> Vec<&str> {
        let lines = self.headers.get_all(header::SET_COOKIE).iter();
        lines.map(|line| line.to_str().unwrap()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// The result of the handlers of these tests.
pub trait Answer: Send {
    fn answer(self) -> Response;
}

impl Answer for Result<(), Error> {
    fn answer(self) -> Response {
        self.map(|()| Body::empty()).map(Body::into_response).into_response()
    }
}

impl Answer for Result<String, Error> {
    fn answer(self) -> Response {
        self.into_response()
    }
}

impl Answer for Response {
    fn answer(self) -> Response {
        self
    }
}

impl Answer for StatusCode {
    fn answer(self) -> Response {
        self.into_response()
    }
}

/// A profile for tests that want another cookie than the default.
pub fn cookie(profile: CookieProfile) -> impl FnOnce(SessionLayer) -> SessionLayer {
    move |layer| layer.cookie(profile).unwrap()
}
