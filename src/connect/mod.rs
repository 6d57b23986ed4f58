//! Stores by URL, so that an application's configuration chooses where its sessions live.

#![cfg_attr(
    not(all(
        feature = "memory",
        feature = "postgres",
        feature = "redis",
        feature = "replicated",
        feature = "sticky"
    )),
    allow(
        dead_code,
        unused_variables,
        clippy::needless_pass_by_value,
        clippy::unused_async,
        reason = "a build without some of the stores needs less of this"
    )
)]

mod error;
mod url;

#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "replicated")]
mod replicated;
#[cfg(feature = "sticky")]
mod sticky;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use steadfast_core::{Env, RouteLabel, Store};

pub use error::ConnectError;

use url::Url;

/// Opens the store that a URL names: [`Connect`] with nothing else set.
///
/// # Examples
///
/// ```
/// use steadfast::SessionLayer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), steadfast::ConnectError> {
/// let store = steadfast::connect("memory:?anonymous-records=50000").await?;
/// let sessions = SessionLayer::new(store);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// When the URL names no store, or the store does not respond.
pub async fn connect(url: &str) -> Result<Arc<dyn Store>, ConnectError> {
    Connect::new(url).open().await
}

/// A store to be opened by its URL.
///
/// | URL | store | feature | settings |
/// | --- | --- | --- | --- |
/// | `memory:` | `MemoryStore` | `memory` | `anonymous-records`, `anonymous-bytes`, `authenticated-records`, `authenticated-bytes`: its budgets |
/// | `redis://USER:PASSWORD@HOST:PORT/DATABASE` | `RedisStore` on one server | `redis` | `prefix`: what the names of its keys begin with; `wait`, `wait-ms`: how many replicas confirm the end of a session within what time; `split=yes`: the address hides several servers, each with some of the keys |
/// | `redis+unix://USER:PASSWORD@/PATH` | `RedisStore` on one server, by its Unix socket | `redis` | the same but `split`; `database` |
/// | `redis+sentinel://…@HOST:PORT,HOST:PORT/SERVICE` | `RedisStore` on the primary that these sentinels know | `redis` | the same; `sentinel-user`, `sentinel-password` |
/// | `redis+cluster://…@HOST:PORT,HOST:PORT` | `RedisStore` in a cluster | `redis` | the same as on one server |
/// | `rediss:`, `rediss+sentinel:`, `rediss+cluster:` | the same over TLS | `redis` | the same; `ca`: a PEM file of the authorities to believe, in place of the system's; `cert`, `key`: PEM files of the certificate to show, and of its key |
/// | `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE` | `PostgresStore` | `postgres` | those of `libpq`: `sslmode` (`disable`, `require`, `verify-ca`, `verify-full`), `sslrootcert` (a PEM file of the authorities to believe, in place of the system's), `sslcert`, `sslkey`, `sslnegotiation`, `channel_binding`, `application_name`, `connect_timeout`, `options`, `keepalives` and so on; what changes nothing here is passed over; `schema`, `table`, `migrate` (`yes`, which creates what is missing, or `no`); `connections`, `timeout-ms`, `changes` (`yes`, `no`); `pooler` (`transaction`, `session`): what stands before the server, and `listen`: the URL of the server itself, to hear of changes sooner |
/// | `replicated:` | `ReplicatedStore`, with the name of the [`node`](Connect::node) | `replicated` | `bind`, `advertise`: the address of the cluster port, and under what others reach it; `seeds`: addresses of other nodes, `host:port,host:port`; `secret-file`, and `old-secret-file` while it is replaced: at least 32 random bytes; `cluster`; `copies` (`all`, or how many backups), `acks` (`one`, `all`), `partition` (`fail`, `degrade`), `drain` (`restart`, `leave`): what a drain is for; `anonymous-records`, `anonymous-bytes`, `authenticated-records`, `authenticated-bytes`: the budgets of this node |
/// | `sticky:` | `StickyStore` of the [`node`](Connect::node) | `sticky` | `backup`: the URL of the store behind it; `peers`: the labels of the nodes, `n1,n2`; `recheck-ms`: how long a copy is served after it was checked; `changes` (`yes`, `no`): whether the store's changes are heard before that; `write-behind-ms`: the writes that a crash may lose; `drain-ms`: how long a drain waits for them; `copies-bytes` |
///
/// Settings are the URL's query, `memory:?anonymous-records=1000&anonymous-bytes=1000000`. An unknown
/// one is an error, as is one that is given twice. A value that holds a `%` or a `&` is percent-encoded,
/// also a URL inside a URL; a `+` is a plus.
///
/// `@FILE` stands for the URL in that file, for URLs with passwords. No error and no `Debug` of this
/// module shows more of a URL than its scheme and the names of its settings.
///
/// # Examples
///
/// ```
/// use steadfast::Connect;
/// use steadfast::store::{Env, ManualClock};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), steadfast::ConnectError> {
/// let clock = ManualClock::default();
/// let store = Connect::new("memory:").env(Env::with_clock(clock.clone())).open().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connect {
    url: String,
    env: Env,
    node: Option<RouteLabel>,
}

impl Connect {
    /// Names the store by this URL, or by the URL in the file after an `@`.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::Connect;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert!(Connect::new("memory:").open().await.is_ok());
    /// assert!(Connect::new("@/nowhere/url").open().await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), env: Env::system(), node: None }
    }

    /// Sets the clock and the randomness of the store: the system's by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::store::{Env, ManualClock};
    /// use steadfast::Connect;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let env = Env::with_clock(ManualClock::default());
    /// let store = Connect::new("memory:").env(env).open().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn env(self, env: Env) -> Self {
        Self { env, ..self }
    }

    /// Sets the label by which others know this node, for stores that place sessions on nodes: none by
    /// default.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Connect, SessionStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Connect::new("sticky:").node("n1".parse()?).open().await?;
    /// assert!(store.places_sessions());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn node(self, label: RouteLabel) -> Self {
        Self { node: Some(label), ..self }
    }

    /// Opens the store, and returns once it responds.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::Connect;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Connect::new("memory:?anonymous-records=50000").open().await?;
    /// let error = Connect::new("memory:?records=1").open().await.unwrap_err();
    /// assert!(error.to_string().contains("\"records\""));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the URL names no store, one of its settings is invalid, or the store does not respond.
    pub async fn open(self) -> Result<Arc<dyn Store>, ConnectError> {
        let url = match self.url.strip_prefix('@') {
            Some(file) => &read(file)?,
            None => &self.url,
        };
        let url = Url::parse(url)?;
        // A replicated node has joined its service once it is open. While several nodes start, the number that
        // it can reach may change from moment to moment; that is not a reason to give up.
        let has_joined = url.scheme == "replicated";
        let store = build(url, self.env, self.node).await?;
        if !has_joined {
            store.ready().await.map_err(ConnectError::Unavailable)?;
        }
        Ok(store)
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Url::parse(&self.url);
        f.debug_struct("Connect")
            .field("scheme", &url.as_ref().map_or("?", |url| &url.scheme))
            .field("env", &self.env)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

async fn build(
    url: Url,
    env: Env,
    node: Option<RouteLabel>,
) -> Result<Arc<dyn Store>, ConnectError> {
    match url.scheme.as_str() {
        #[cfg(feature = "memory")]
        "memory" => Ok(Arc::new(memory::open(url, env)?)),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(postgres::open(url, env).await?)),
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+sentinel" | "rediss+sentinel" | "redis+cluster"
        | "rediss+cluster" | "redis+unix" => Ok(Arc::new(redis::open(url, env).await?)),
        #[cfg(feature = "replicated")]
        "replicated" => Ok(Arc::new(replicated::open(url, env, node).await?)),
        #[cfg(feature = "sticky")]
        "sticky" => Ok(Arc::new(sticky::open(url, env, node).await?)),
        scheme => Err(unknown_scheme(scheme)),
    }
}

fn read(file: &str) -> Result<String, ConnectError> {
    let path = PathBuf::from(file);
    match std::fs::read_to_string(&path) {
        Ok(url) => Ok(url.trim().to_owned()),
        Err(source) => Err(ConnectError::File { path, source }),
    }
}

fn unknown_scheme(scheme: &str) -> ConnectError {
    match SCHEMES.iter().find(|(known, _)| *known == scheme) {
        Some((scheme, feature)) => ConnectError::MissingFeature { scheme, feature },
        None => ConnectError::UnknownScheme {
            scheme: scheme.to_owned(),
            known: SCHEMES.iter().map(|(scheme, _)| *scheme).collect(),
        },
    }
}

/// Every scheme, and the feature that adds its store.
const SCHEMES: &[(&str, &str)] = &[
    ("memory", "memory"),
    ("postgres", "postgres"),
    ("postgresql", "postgres"),
    ("redis", "redis"),
    ("rediss", "redis"),
    ("redis+sentinel", "redis"),
    ("rediss+sentinel", "redis"),
    ("redis+cluster", "redis"),
    ("redis+unix", "redis"),
    ("rediss+cluster", "redis"),
    ("replicated", "replicated"),
    ("sticky", "sticky"),
];

#[cfg(all(test, feature = "memory"))]
mod tests {
    use steadfast_core::{Clock, ManualClock, SessionStore};

    use super::*;

    #[tokio::test]
    async fn a_memory_store_needs_only_its_scheme() {
        for url in ["memory:", "MEMORY:", "memory://", "memory:?", "memory:?&"] {
            assert!(connect(url).await.is_ok(), "{url}");
        }
    }

    #[tokio::test]
    async fn the_store_uses_the_environment_it_is_given() {
        let clock = ManualClock::default();
        let opening = Connect::new("memory:").env(Env::with_clock(clock.clone()));
        assert_eq!(opening.open().await.unwrap().env().now(), clock.now());
    }

    #[tokio::test]
    async fn an_unknown_scheme_is_named_beside_known_ones() {
        let said = error("cassandra://host").await;
        assert!(
            said.starts_with(r#"unknown scheme "cassandra"; expected one of memory, "#),
            "{said}"
        );
    }

    #[tokio::test]
    async fn an_unknown_setting_is_named_beside_known_ones() {
        assert_eq!(
            error("memory:?records=1").await,
            "the store \"memory\" has no setting \"records\"; expected one of anonymous-records, \
             anonymous-bytes, authenticated-records, authenticated-bytes"
        );
    }

    #[tokio::test]
    async fn an_invalid_setting_is_named_with_its_form() {
        for value in ["0", "-1", "many", "", "1%20", "99999999999999999999"] {
            let said = error(&format!("memory:?anonymous-records={value}")).await;
            assert_eq!(
                said,
                r#"invalid value for "anonymous-records": expected a whole number from 1"#
            );
        }
        let twice = error("memory:?anonymous-bytes=1&anonymous-bytes=1").await;
        assert_eq!(twice, r#"the setting "anonymous-bytes" is given twice"#);
    }

    #[tokio::test]
    async fn a_text_without_a_scheme_is_refused() {
        for url in ["", "memory", ":", "?a=b", "1up:", "a b:", "//host", "@"] {
            assert!(connect(url).await.is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_file_holds_the_url() {
        let path = std::env::temp_dir().join(format!("steadfast-url-{}", std::process::id()));
        std::fs::write(&path, "memory:?authenticated-records=7\n").unwrap();
        let opened = connect(&format!("@{}", path.display())).await;
        std::fs::remove_file(&path).unwrap();
        assert!(opened.is_ok());
        assert!(error("@/nowhere/url").await.contains("/nowhere/url"));
    }

    #[tokio::test]
    async fn no_secret_of_a_url_is_shown() {
        for url in [
            "redis://user:hunter2@127.0.0.1:1/0",
            "memory://user:hunter2@host",
            "memory:?backup=redis://user:hunter2@host",
            "memory:?anonymous-records=hunter2",
            "memory:?a=1&hunter2@host",
            "memory:?a=1&hunter2",
            "memory:?a=%ffhunter2",
            "//user:hunter2@host",
            "postgres://user:hunter2@127.0.0.1:0/db",
            "postgres://user:hunter2@127.0.0.1:1/db",
            "postgres://user:hunter2@127.0.0.1:1/db?sslmode=prefer",
            "postgresql://user:hunter2@/db",
        ] {
            let shown = format!("{:?} {:?}", Connect::new(url), connect(url).await.unwrap_err());
            assert!(!shown.contains("hunter2") && !shown.contains("user"), "{shown}");
        }
    }

    async fn error(url: &str) -> String {
        connect(url).await.map(drop).expect_err("the URL is refused").to_string()
    }
}
