//! A client of a site, and what it is answered.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use pin_project_lite::pin_project;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tower_layer::Layer;
use tower_service::Service;

use super::Site;
use super::jar::Jar;
use crate::session::{Login, Session};

/// A client of a [`Site`]. It handles cookies as a browser does, or keeps its token in a header if the layer is
/// [`header_only`](crate::SessionLayer::header_only). Clones share the cookies, like tabs of one browser.
///
/// It keeps every cookie by its name, until it is removed, and sends it with every request: attributes
/// such as `Path`, `Secure` and `Max-Age` are for browsers to heed.
#[derive(Clone)]
pub struct Client<S> {
    site: Site<S>,
    jar: Arc<Mutex<Jar>>,
}

impl<S> Client<S> {
    pub(super) fn new(site: Site<S>) -> Self {
        let jar = Jar::new(site.sessions.header_of_all_tokens().cloned());
        Self { site, jar: Arc::new(Mutex::new(jar)) }
    }

    /// Signs a user in, without the application's own form: with a fresh token, as
    /// [`Session::login`] does.
    ///
    /// # Panics
    ///
    /// When the sign-in fails.
    pub async fn sign_in(&self, login: impl Into<Login>) {
        let login = login.into();
        let signed_in = self.session(|session| async move { session.login(login).await });
        signed_in.await.expect("a client can sign in");
    }

    /// Runs `handler` with the client's session, and commits the session.
    ///
    /// # Panics
    ///
    /// When the commit fails.
    pub async fn session<T, F>(&self, handler: impl FnOnce(Session) -> F) -> T
    where
        F: Future<Output = T>,
    {
        let (tell, told) = oneshot::channel();
        let serve = |session| async move { drop(tell.send(handler(session).await)) };
        let request = self.jar().fill(Request::new(()));
        let service = self.site.sessions.layer(Visit(Some(serve)));
        let Ok(response) = once_ready(service, request).await;
        assert!(response.status().is_success(), "the session is not committed: {response:?}");
        self.jar().keep(response.headers());
        told.await.expect("a handler that returned said what it came to")
    }

    fn jar(&self) -> MutexGuard<'_, Jar> {
        self.jar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S, B> Client<S>
where
    S: Service<Request<String>, Response = Response<B>, Error: fmt::Debug> + Clone,
    B: Body<Error: fmt::Debug>,
{
    /// Sends `GET`.
    ///
    /// # Panics
    ///
    /// When the path is not a URI, and as [`send`](Self::send).
    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(String::new()).expect("a path")).await
    }

    /// Sends `POST` without a body.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    pub async fn post(&self, path: &str) -> Reply {
        self.send(Request::post(path).body(String::new()).expect("a path")).await
    }

    /// Sends `POST` with a form, which is encoded already: `user=alice&age=7`.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    pub async fn post_form(&self, path: &str, form: &str) -> Reply {
        let request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(form.to_owned()).expect("a path")).await
    }

    /// Sends `POST` with JSON.
    ///
    /// # Panics
    ///
    /// When the value is not JSON, and as [`get`](Self::get).
    pub async fn post_json(&self, path: &str, json: &(impl Serialize + ?Sized)) -> Reply {
        let json = serde_json::to_string(json).expect("the value is JSON");
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        self.send(request.body(json).expect("a path")).await
    }

    /// Sends any request, with the cookies of this client, and reads the answer to its end.
    ///
    /// # Panics
    ///
    /// When the service or the body fails.
    pub async fn send(&self, request: Request<String>) -> Reply {
        let (head, body) = self.open(request).await.into_parts();
        let body = body.collect().await.expect("the body can be read").to_bytes();
        Reply { status: head.status, headers: head.headers, body }
    }

    /// Sends any request, with the cookies of this client, and leaves the body to the test: for event
    /// streams.
    ///
    /// # Panics
    ///
    /// When the service fails.
    pub async fn open(&self, request: Request<String>) -> Response<B> {
        let request = self.jar().fill(request);
        let response = once_ready(self.site.service.clone(), request).await;
        let response = response.expect("the service answers");
        self.jar().keep(response.headers());
        response
    }
}

impl<S> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("site", &self.site).finish_non_exhaustive()
    }
}

/// An answer that was read to its end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The same, if its status is below 400.
    ///
    /// # Panics
    ///
    /// When it is not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.as_u16() < 400, "{self:?}");
        self
    }

    /// The body as text.
    ///
    /// # Panics
    ///
    /// When it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is not JSON of that type.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).expect("the body is JSON of that type")
    }
}

/// A service of one request, which hands its session to a handler.
struct Visit<H>(Option<H>);

impl<H, F> Service<Request<()>> for Visit<H>
where
    H: FnOnce(Session) -> F,
    F: Future<Output = ()>,
{
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Served<F>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<()>) -> Self::Future {
        let session = request.extensions_mut().remove().expect("the layer adds a session");
        let handler = self.0.take().expect("there is one request");
        Served { handler: handler(session) }
    }
}

pin_project! {
    /// An answer without a body, once the handler is through.
    struct Served<F> {
        #[pin]
        handler: F,
    }
}

impl<F: Future<Output = ()>> Future for Served<F> {
    type Output = Result<Response<String>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().handler.poll(context).map(|()| Ok(Response::new(String::new())))
    }
}

async fn once_ready<S, R>(mut service: S, request: Request<R>) -> Result<S::Response, S::Error>
where
    S: Service<Request<R>>,
{
    poll_fn(|context| service.poll_ready(context)).await?;
    service.call(request).await
}
