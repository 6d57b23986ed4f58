//! The handlers, which are the same for every peer, and the requests for them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{FromRequestParts, Path};
use axum::routing::get;
use axum::{Extension, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// No cookie, and a handler without a session.
    Anon,
    /// A live cookie, and a handler without a session.
    Untouched,
    /// Reads one key.
    Read,
    /// Reads a counter and writes it.
    Write,
    /// Increments the counter with the peer's best operation, atomic if it has one.
    Count,
    /// Replaces the session's token, and writes one key.
    Login,
    /// Has no cookie. Starts a session with a token, and writes one key.
    FirstLogin,
    /// Has no cookie. Writes one key.
    New,
    /// Ends the session.
    Logout,
    /// `Read`, in a session of 4 KB.
    #[serde(rename = "read-4k")]
    Read4k,
    /// `Write`, in a session of 4 KB.
    #[serde(rename = "write-4k")]
    Write4k,
}

impl Case {
    /// The cases that are measured in memory.
    pub const ALL: [Self; 9] = [
        Self::Anon,
        Self::Untouched,
        Self::Read,
        Self::Write,
        Self::Count,
        Self::Login,
        Self::New,
        Self::Read4k,
        Self::Write4k,
    ];

    /// The cases that are measured with sessions on a server.
    pub const REMOTE: [Self; 9] = [
        Self::Anon,
        Self::Untouched,
        Self::Read,
        Self::Count,
        Self::Write,
        Self::Login,
        Self::FirstLogin,
        Self::New,
        Self::Logout,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Anon => "anon",
            Self::Untouched => "untouched",
            Self::Read => "read",
            Self::Write => "write",
            Self::Count => "count",
            Self::Login => "login",
            Self::FirstLogin => "first-login",
            Self::New => "new",
            Self::Logout => "logout",
            Self::Read4k => "read-4k",
            Self::Write4k => "write-4k",
        }
    }

    pub fn path(self) -> &'static str {
        match self {
            Self::Anon | Self::Untouched => "/plain",
            Self::Read | Self::Read4k => "/read",
            Self::Write | Self::Write4k => "/write",
            Self::Count => "/count",
            Self::Login | Self::FirstLogin => "/login",
            Self::New => "/new",
            Self::Logout => "/logout",
        }
    }

    /// Returns true if its requests send the cookie of a session.
    pub fn has_cookie(self) -> bool {
        !matches!(self, Self::Anon | Self::FirstLogin | Self::New)
    }

    /// Returns true if a cookie is valid for one request only.
    pub fn rotates(self) -> bool {
        matches!(self, Self::Login | Self::Logout)
    }

    /// Returns the size of its sessions.
    pub fn size(self) -> Size {
        match self {
            Self::Read4k | Self::Write4k => Size::LARGE,
            _ => Size::SMALL,
        }
    }
}

/// The contents of a session: a counter `n`, and strings before it in the order of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// The number of keys, including the counter.
    pub keys: usize,
    /// The length of each string.
    pub bytes: usize,
}

impl Size {
    /// 3 keys, about 100 bytes.
    pub const SMALL: Self = Self { keys: 3, bytes: 42 };
    /// 20 keys, 4 KB.
    pub const LARGE: Self = Self { keys: 20, bytes: 208 };

    pub fn path(self) -> String {
        format!("/seed/{}/{}", self.keys, self.bytes)
    }
}

/// The operations that the handlers use, which every peer has.
pub trait Visit: FromRequestParts<()> + Send + Sync + 'static {
    fn get(&self, key: &str) -> impl Future<Output = Option<i64>> + Send;

    fn put<T: Serialize + Send + Sync>(
        &self,
        key: &str,
        value: T,
    ) -> impl Future<Output = ()> + Send;

    fn login(&self, user: String) -> impl Future<Output = ()> + Send;

    fn logout(&self) -> impl Future<Output = ()> + Send;

    /// Adds one to a counter. By default, reads and writes it.
    fn count(&self, key: &str) -> impl Future<Output = i64> + Send {
        async move {
            let n = self.get(key).await.unwrap_or_default() + 1;
            self.put(key, n).await;
            n
        }
    }
}

/// Returns the routes of all cases. The caller adds the session layer.
pub fn routes<S: Visit>() -> Router {
    Router::new()
        .route("/plain", get(plain))
        .route("/read", get(read::<S>))
        .route("/write", get(write::<S>))
        .route("/count", get(count::<S>))
        .route("/login", get(login::<S>))
        .route("/new", get(new::<S>))
        .route("/logout", get(logout::<S>))
        .route("/seed/{keys}/{bytes}", get(seed::<S>))
        .route("/overlap/put/{key}", get(overlapping_put::<S>))
        .route("/overlap/count", get(overlapping_count::<S>))
        .route("/has/{key}", get(has::<S>))
}

async fn plain() -> &'static str {
    "ok"
}

async fn read<S: Visit>(session: S) -> &'static str {
    answer(session.get("n").await.is_some())
}

async fn write<S: Visit>(session: S) -> &'static str {
    let n = session.get("n").await;
    session.put("n", n.unwrap_or_default() + 1).await;
    answer(n.is_some())
}

async fn count<S: Visit>(session: S) -> &'static str {
    answer(session.count("n").await > 1)
}

async fn login<S: Visit>(session: S) -> &'static str {
    static USERS: AtomicU64 = AtomicU64::new(0);
    session.login(format!("user-{}", USERS.fetch_add(1, Ordering::Relaxed))).await;
    session.put("n", 1).await;
    "ok"
}

async fn new<S: Visit>(session: S) -> &'static str {
    session.put("n", 1).await;
    "ok"
}

async fn logout<S: Visit>(session: S) -> &'static str {
    session.logout().await;
    "ok"
}

async fn seed<S: Visit>(session: S, Path((keys, bytes)): Path<(usize, usize)>) -> &'static str {
    session.put("n", 1).await;
    for key in 1..keys {
        session.put(&format!("k{key:02}"), "x".repeat(bytes)).await;
    }
    "ok"
}

/// Lets every request read the session before the first one writes.
async fn overlapping_put<S: Visit>(
    session: S,
    Path(key): Path<String>,
    Extension(all_have_read): Extension<Arc<Barrier>>,
) -> &'static str {
    session.get("n").await;
    all_have_read.wait().await;
    session.put(&key, 1).await;
    "ok"
}

async fn overlapping_count<S: Visit>(
    session: S,
    Extension(all_have_read): Extension<Arc<Barrier>>,
) -> &'static str {
    session.get("n").await;
    all_have_read.wait().await;
    session.count("n").await;
    "ok"
}

/// Returns the number of a key, or 0 if it is missing.
async fn has<S: Visit>(session: S, Path(key): Path<String>) -> String {
    session.get(&key).await.unwrap_or_default().to_string()
}

/// The answer tells whether the session was found. Otherwise the case would measure nothing.
fn answer(found: bool) -> &'static str {
    if found { "ok" } else { "lost" }
}
