//! A visitor with a browser, whose rules decide what a response sets and what a request brings.

use std::sync::{Arc, Mutex};

use browser::{Cookie, Jar, Request, Url};
use testkit::client::{exchange, request};
use testkit::{Reply, Server};
use time::UtcDateTime;

/// Clones share the jar, as tabs do.
#[derive(Clone)]
pub(crate) struct Visitor {
    address: String,
    site: String,
    around: Option<Url>,
    jar: Arc<Mutex<Jar>>,
}

impl Visitor {
    /// A browser that sees the server at an origin such as `https://shop.example`.
    pub(crate) fn at(server: &Server, origin: &str) -> Self {
        let (address, site) = (server.address.clone(), origin.to_owned());
        Self { address, site, around: None, jar: Arc::default() }
    }

    /// The same browser, which sees the server inside of a page of this origin.
    pub(crate) fn embedded_in(&self, page: &str) -> Self {
        Self { around: Some(url(page, "/")), ..self.clone() }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path).await
    }

    pub(crate) async fn post(&self, path: &str) -> Reply {
        self.send("POST", path).await
    }

    /// Sends a request, and has the browser judge every `Set-Cookie` of the answer.
    pub(crate) async fn send(&self, method: &str, path: &str) -> Reply {
        let visit = self.visit(method, path);
        let cookies = self.jar.lock().unwrap().cookie_header(&visit, UtcDateTime::now());
        let cookies = String::from_utf8(cookies.unwrap_or_default()).unwrap();
        let headers = [("cookie", cookies.as_str())];
        let headers = &headers[..usize::from(!cookies.is_empty())];
        let reply = exchange(&self.address, request(method, path, headers, "")).await;
        for line in reply.set_cookies() {
            let kept = self.jar.lock().unwrap().receive(&visit, line, UtcDateTime::now());
            kept.unwrap_or_else(|ignored| panic!("a browser ignores {line:?}: {ignored:?}"));
        }
        reply
    }

    pub(crate) async fn user(&self) -> Option<String> {
        self.get("/peek").await.ok().json()["user"].as_str().map(str::to_owned)
    }

    /// Returns the cookies that the browser keeps.
    pub(crate) fn cookies(&self) -> Vec<Cookie> {
        self.jar.lock().unwrap().cookies(UtcDateTime::now()).cloned().collect()
    }

    /// Returns the cookies that a script of the site sees.
    pub(crate) fn seen_by_scripts(&self) -> Option<Vec<u8>> {
        let script = self.visit("GET", "/").by_script();
        self.jar.lock().unwrap().cookie_header(&script, UtcDateTime::now())
    }

    /// Returns the cookies sent with a form from a page of another site.
    pub(crate) fn sent_when_forged(&self, page: &str) -> Option<Vec<u8>> {
        let forged = self.visit("POST", "/logout").linked_from(&url(page, "/"));
        self.jar.lock().unwrap().cookie_header(&forged, UtcDateTime::now())
    }

    fn visit(&self, method: &str, path: &str) -> Request {
        let visit = Request::new(url(&self.site, path));
        let visit = match &self.around {
            Some(page) => visit.embedded_in(page),
            None => visit,
        };
        if method == "GET" { visit } else { visit.unsafe_method() }
    }
}

fn url(origin: &str, path: &str) -> Url {
    format!("{origin}{path}").parse().unwrap()
}
