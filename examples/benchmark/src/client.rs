//! Sends requests to an application without a network.

use anyhow::{Context, ensure};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderValue, Request, StatusCode};
use tower::ServiceExt;

use crate::cases::{Case, Size};

/// An application, and visitors with sessions.
#[derive(Clone, Debug)]
pub struct Client {
    app: Router,
    cookies: Vec<HeaderValue>,
}

impl Client {
    /// Wraps the application like a server: without `with_state`, a router applies its layers again
    /// on every request.
    pub fn new(app: Router) -> Self {
        Self { app: app.with_state(()), cookies: Vec::new() }
    }

    /// Adds this number of sessions of this size.
    pub async fn with_sessions(mut self, sessions: usize, size: Size) -> anyhow::Result<Self> {
        let path = size.path();
        for _ in 0..sessions {
            let response = self.call(request(&path, None)).await?;
            self.cookies.push(cookie(&response));
        }
        Ok(self)
    }

    /// Replaces the visitors by those with these cookies.
    pub fn with_cookies(self, cookies: Vec<HeaderValue>) -> Self {
        Self { cookies, ..self }
    }

    pub fn cookies(&self) -> &[HeaderValue] {
        &self.cookies
    }

    /// Returns a warm client with unused sessions for this number of requests of a case.
    pub async fn warm(app: Router, case: Case, requests: usize) -> anyhow::Result<Self> {
        let client = Self::new(app).with_sessions(requests, case.size()).await?;
        if !case.rotates() {
            client.check(case).await?;
        }
        client.serve(case, requests).await?;
        client.without_sessions().with_sessions(requests, case.size()).await
    }

    /// Returns a client of the same application, with the `part`-th of `parts` equal shares of the
    /// sessions.
    pub fn share(&self, part: usize, parts: usize) -> Self {
        let len = self.cookies.len() / parts;
        let cookies = self.cookies[part * len..(part + 1) * len].to_vec();
        Self { app: self.app.clone(), cookies }
    }

    /// Returns a client of the same application without sessions.
    pub fn without_sessions(&self) -> Self {
        Self { app: self.app.clone(), cookies: Vec::new() }
    }

    /// Drops the cookies, which are memory of the client and not of the store.
    pub fn forget(&mut self) {
        self.cookies = Vec::new();
    }

    pub fn sessions(&self) -> usize {
        self.cookies.len()
    }

    /// Sends requests sequentially, each with the next session in turn.
    pub async fn serve(&self, case: Case, requests: usize) -> anyhow::Result<()> {
        let sessions = self.sessions();
        ensure!(
            !case.rotates() || requests <= sessions,
            "a token is valid for one {}",
            case.name()
        );
        for n in 0..requests {
            let cookie = case.has_cookie().then(|| &self.cookies[n % sessions]);
            self.call(request(case.path(), cookie)).await?;
        }
        Ok(())
    }

    /// Checks that the case does what it should. Not measured.
    pub async fn check(&self, case: Case) -> anyhow::Result<()> {
        let cookie = case.has_cookie().then(|| &self.cookies[0]);
        let answer = self.call(request(case.path(), cookie)).await?;
        let text = to_bytes(answer.into_body(), 1_024).await?;
        ensure!(*text == *b"ok", "{} lost its session", case.name());
        Ok(())
    }

    /// Sends one request with the n-th session, counted in turns.
    pub async fn visit_as(&self, n: usize, path: &str) -> anyhow::Result<()> {
        self.call(request(path, self.cookies.get(n % self.sessions()))).await.map(drop)
    }

    /// Sends one request with the first session.
    pub async fn visit(&self, path: &str) -> anyhow::Result<Response> {
        self.call(self.first(path)).await
    }

    pub fn first(&self, path: &str) -> Request<Body> {
        request(path, self.cookies.first())
    }

    pub async fn call(&self, request: Request<Body>) -> anyhow::Result<Response> {
        let response = self.app.clone().oneshot(request).await?;
        ensure!(response.status() == StatusCode::OK, "unexpected status {}", response.status());
        Ok(response)
    }
}

/// Parses the text of a response as a number.
pub async fn number(response: Response) -> anyhow::Result<i64> {
    let text = to_bytes(response.into_body(), 1_024).await?;
    std::str::from_utf8(&text)?.parse().context("the response is not a number")
}

fn request(path: &str, cookie: Option<&HeaderValue>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = path.parse().expect("a path is a URI");
    if let Some(cookie) = cookie {
        request.headers_mut().insert(COOKIE, cookie.clone());
    }
    request
}

/// Returns the cookie that a browser sends back. The floor sets no cookie, so its requests send one
/// of the same length.
fn cookie(response: &Response) -> HeaderValue {
    let lines = response.headers().get_all(SET_COOKIE).iter();
    let pairs = lines.filter_map(|line| line.to_str().ok()?.split(';').next());
    let text = pairs.collect::<Vec<_>>().join("; ");
    let text = if text.is_empty() { format!("id={}", "x".repeat(64)) } else { text };
    HeaderValue::try_from(text).expect("parts of a header's value are a header's value")
}
