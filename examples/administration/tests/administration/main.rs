//! Tests of the views of administrators, the identity provider and the audit log.

#![allow(missing_docs, clippy::unwrap_used)]

mod admin;
mod audit;
mod backchannel;

use std::sync::Arc;

use axum::Router;
use axum::http::Request;
use axum::http::header::COOKIE;
use example_administration::audit::Audit;
use example_administration::issuer::Issuer;
use example_administration::{Provider, Realms, router};
use steadfast::testing::{self, Client, Clock, Site};
use steadfast::{Login, SessionEvent, SessionStore};
use tokio::sync::mpsc::UnboundedReceiver;

/// A node of the application, whose clients sign in as administrators.
struct Node {
    realms: Realms,
    site: Site<Router>,
    queue: UnboundedReceiver<SessionEvent>,
}

impl Node {
    fn alone() -> Self {
        let clock = Clock::default();
        let store = Arc::clone(testing::layer(&clock).store());
        Self::over(store, clock, "http://127.0.0.1:9")
    }

    fn over(store: Arc<dyn SessionStore>, clock: Clock, issuer: &str) -> Self {
        let (audit, queue) = Audit::new();
        let realms = Realms::over(store, &audit).unwrap();
        let keys = format!("{issuer}/keys").parse().unwrap();
        let provider = Provider::new(issuer, keys, Issuer::CLIENT);
        let app = router(&realms, provider, "open sesame");
        let site = Site::over(realms.administrators.clone(), clock, |_| app);
        Self { realms, site, queue }
    }

    async fn administrator(&self) -> Client<Router> {
        self.site.signed_in("root").await
    }

    /// Signs a user in, and returns the cookie.
    async fn user(&self, login: impl Into<Login>) -> String {
        let issued = self.realms.users.sessions().issue(login).await.unwrap();
        issued.cookie().to_str().unwrap().to_owned()
    }

    /// Returns true if the application serves a user's cookie as a session.
    async fn serves(&self, cookie: &str) -> bool {
        let request = Request::get("/").header(COOKIE, cookie).body(String::new()).unwrap();
        self.site.visitor().send(request).await.ok().text().contains("signed in as")
    }
}

/// The CSRF token of a page.
fn csrf(page: &str) -> &str {
    page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap()
}
