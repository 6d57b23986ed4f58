//! A client that keeps cookies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

/// A client of several nodes, which a balancer sends to each in turn. Clones share its cookies, as tabs
/// of a browser do.
#[derive(Clone)]
pub struct Client {
    nodes: Vec<Router>,
    next: Arc<Mutex<usize>>,
    jar: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Client {
    pub fn new(nodes: &[Router]) -> Self {
        Self { nodes: nodes.to_vec(), next: Arc::default(), jar: Arc::default() }
    }

    /// Another client with the same cookies, which it does not share from then on.
    pub fn fork(&self) -> Self {
        let jar = self.jar.lock().unwrap().clone();
        Self { jar: Arc::new(Mutex::new(jar)), ..self.clone() }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "").await
    }

    /// Sends a form.
    pub async fn post(&self, path: &str, form: &str) -> Reply {
        self.send("POST", path, form).await
    }

    pub fn has_cookie(&self) -> bool {
        !self.jar.lock().unwrap().is_empty()
    }

    async fn send(&self, method: &str, path: &str, form: &str) -> Reply {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::COOKIE, self.cookies());
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.body(Body::from(form.to_owned())).unwrap();
        let response = self.node().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        self.keep(&head.headers);
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Reply { status: head.status, headers: head.headers, body }
    }

    fn node(&self) -> Router {
        let mut next = self.next.lock().unwrap();
        *next += 1;
        self.nodes[*next % self.nodes.len()].clone()
    }

    fn cookies(&self) -> String {
        let jar = self.jar.lock().unwrap();
        let pairs: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    fn keep(&self, headers: &HeaderMap) {
        let mut jar = self.jar.lock().unwrap();
        for cookie in headers.get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            match pair.split_once('=').unwrap() {
                (name, "") => jar.remove(name),
                (name, value) => jar.insert(name.to_owned(), value.to_owned()),
            };
        }
    }
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    /// Returns the target of a redirect.
    pub fn location(&self) -> &str {
        self.headers.get(header::LOCATION).map_or("", |location| location.to_str().unwrap())
    }

    pub fn sets_a_cookie(&self) -> bool {
        self.headers.contains_key(header::SET_COOKIE)
    }
}
