//! Tests of handlers: clients that are signed in, a clock that stands still, and no background work left
//! over.
//!
//! A [`Site`] is an application over a fresh store in memory. Its clients call it without a network, keep
//! their cookies as a browser does, and can be signed in without the application's own form:
//!
//! ```
//! use axum::{Router, routing::get};
//! use steadfast::testing::Site;
//! use steadfast::{SessionLayer, SignedIn};
//!
//! fn app(sessions: SessionLayer) -> Router {
//!     let account = |user: SignedIn| async move { format!("hello {}", user.id()) };
//!     Router::new().route("/account", get(account)).layer(sessions)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // The body of a test:
//! assert_eq!(Site::new(app).signed_in("alice").await.get("/account").await.text(), "hello alice");
//! # }
//! ```
//!
//! A test that needs more prepares the session as a handler would, moves the clock, and waits for what
//! comes after a response:
//!
//! ```
//! # use axum::{Router, routing::get};
//! # use steadfast::{Error, Session, SessionLayer};
//! use std::time::Duration;
//! use steadfast::testing::Site;
//!
//! # fn app(sessions: SessionLayer) -> Router {
//! #     let cart = |session: Session| async move {
//! #         Ok::<_, Error>(session.get::<u32>("items").await?.unwrap_or(0).to_string())
//! #     };
//! #     Router::new().route("/cart", get(cart)).layer(sessions)
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let site = Site::new(app);
//! let alice = site.signed_in("alice").await;
//! alice.session(|session| async move { session.insert("items", 3).await }).await.unwrap();
//! assert_eq!(alice.get("/cart").await.ok().text(), "3");
//! site.settled().await;
//! site.clock().advance(Duration::from_secs(31 * 60));
//! assert_eq!(alice.get("/cart").await.ok().text(), "0", "the session has timed out");
//! # }
//! ```
//!
//! Depend on the feature `testing` where tests are built only, so that no binary has it:
//!
//! ```toml
//! [dev-dependencies]
//! steadfast = { version = "0.1", features = ["testing"] }
//! ```

mod client;
mod jar;

use std::fmt;
use std::sync::Arc;

use steadfast_core::Env;
use steadfast_memory::MemoryStore;

use crate::layer::SessionLayer;
use crate::session::Login;

pub use client::{Client, Reply};
pub use steadfast_core::ManualClock as Clock;

/// An application that tests call, over a store and a clock of their own.
///
/// `S` is any tower service of requests whose body is a [`String`]: a `Router` of axum is one. Clones are
/// the same site.
#[derive(Clone)]
pub struct Site<S> {
    service: S,
    sessions: SessionLayer,
    clock: Clock,
}

impl<S> Site<S> {
    /// The application over a fresh [`MemoryStore`], whose clock stands at 2026-01-01 00:00 UTC until the
    /// test moves it.
    ///
    /// `app` gets the layer, and has to use it as it is: clients sign in through it. For a layer with other
    /// settings, see [`over`](Self::over).
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::Router;
    /// use steadfast::{testing::Site};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let site = Site::new(|sessions| Router::<()>::new().layer(sessions));
    /// let reply = site.visitor().get("/").await;
    /// assert_eq!(reply.status, 404, "the router has no routes");
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(app: impl FnOnce(SessionLayer) -> S) -> Self {
        let clock = Clock::default();
        Self::over(layer(&clock), clock, app)
    }

    /// The application over any layer, and the clock of its store.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::testing::{self, Clock, Site};
    /// use steadfast::{Lifetime, SessionLayer};
    /// # fn app(sessions: SessionLayer) -> axum::Router {
    /// #     axum::Router::new().layer(sessions)
    /// # }
    ///
    /// let clock = Clock::default();
    /// let sessions = testing::layer(&clock).lifetime(Lifetime::OWASP_HIGH_VALUE);
    /// let site = Site::over(sessions, clock, app);
    /// ```
    pub fn over(sessions: SessionLayer, clock: Clock, app: impl FnOnce(SessionLayer) -> S) -> Self {
        Self { service: app(sessions.clone()), sessions, clock }
    }

    /// The clock of the store: [`advance`](Clock::advance) it to have sessions time out.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum::Router;
    /// use steadfast::{testing::Site};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let site = Site::new(|sessions| Router::<()>::new().layer(sessions));
    /// let alice = site.signed_in("alice").await;
    /// site.clock().advance(Duration::from_secs(31 * 60));
    /// assert_eq!(alice.session(|session| async move { session.principal().await }).await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The layer of the application.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::Router;
    /// use steadfast::{testing::Site};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let site = Site::new(|sessions| Router::<()>::new().layer(sessions));
    /// site.signed_in("alice").await;
    /// assert_eq!(site.sessions().sessions().count("alice").await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sessions(&self) -> &SessionLayer {
        &self.sessions
    }

    /// Waits until everything is done that responses left behind: deadlines that are moved, and commits
    /// whose client went away.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::Router;
    /// use steadfast::{testing::Site};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let site = Site::new(|sessions| Router::<()>::new().layer(sessions));
    /// site.signed_in("alice").await;
    /// site.settled().await;
    /// assert!(!site.sessions().has_pending_work());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn settled(&self) {
        self.sessions.join().await;
    }
}

impl<S: Clone> Site<S> {
    /// Returns a client that has never visited the site.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::Router;
    /// use steadfast::{testing::Site};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let site = Site::new(|sessions| Router::<()>::new().layer(sessions));
    /// let visitor = site.visitor();
    /// assert_eq!(visitor.session(|session| async move { session.principal().await }).await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn visitor(&self) -> Client<S> {
        Client::new(self.clone())
    }

    /// Returns a client with a separate session, to which this user is signed in.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::Router;
    /// use steadfast::{testing::Site};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let site = Site::new(|sessions| Router::<()>::new().layer(sessions));
    /// let alice = site.signed_in("alice").await;
    /// let user = alice.session(|session| async move { session.principal().await }).await?;
    /// assert_eq!(user.unwrap().id(), "alice");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When the sign-in fails.
    pub async fn signed_in(&self, login: impl Into<Login>) -> Client<S> {
        let client = self.visitor();
        client.sign_in(login).await;
        client
    }
}

impl<S> fmt::Debug for Site<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}

/// The layer of [`Site::new`], for tests that change its settings: over a fresh [`MemoryStore`] that goes
/// by this clock.
pub fn layer(clock: &Clock) -> SessionLayer {
    let env = Env::with_clock(clock.clone());
    SessionLayer::new(Arc::new(MemoryStore::builder().env(env).build()))
}
