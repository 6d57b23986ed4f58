//! A server with tower-sessions and the routes of the reference server, within the limits of
//! tower-sessions: a user is a value in the session, an increment is a read and a write, and a node
//! that ends hands nothing over.

mod routes;

use std::io::Write;

use anyhow::{Context, bail};
use axum::Router;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower_sessions::SessionManagerLayer;
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{Client, ClientLike, Config};
use tower_sessions_sqlx_store::PostgresStore;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let app = app(&options.store, &options.node).await?;
    let listener = TcpListener::bind(&options.listen).await?;
    writeln!(std::io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let ended = async move { drop(terminate.recv().await) };
    Ok(axum::serve(listener, app).with_graceful_shutdown(ended).await?)
}

/// Returns the routes over the store of a URL.
async fn app(store: &str, node: &str) -> anyhow::Result<Router> {
    let routes = routes::routes(node);
    if store.starts_with("redis:") {
        let client = Client::new(Config::from_url(store)?, None, None, None);
        client.init().await?;
        return Ok(
            routes.layer(SessionManagerLayer::new(RedisStore::new(client)).with_name(COOKIE))
        );
    }
    if store.starts_with("postgres:") {
        let store = PostgresStore::new(sqlx::PgPool::connect(store).await?);
        // All nodes start together, and creating the same schema concurrently is an error there.
        let mut migrated = store.migrate().await;
        for _ in 0..20 {
            if migrated.is_ok() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            migrated = store.migrate().await;
        }
        migrated?;
        return Ok(routes.layer(SessionManagerLayer::new(store).with_name(COOKIE)));
    }
    bail!("invalid value {store:?} for --store: expected redis://… or postgres://…")
}

/// The options of the reference server that this one supports.
struct Options {
    listen: String,
    store: String,
    node: String,
}

impl Options {
    fn parse(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self {
            listen: "127.0.0.1:8080".to_owned(),
            store: String::new(),
            node: "n1".to_owned(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--listen" => options.listen = value,
                "--store" => options.store = value,
                "--node" => options.node = value,
                _ => bail!("unknown option {name:?}: there are --listen, --store and --node"),
            }
        }
        Ok(options)
    }
}

/// The name of the reference server's cookie.
const COOKIE: &str = "__Host-id";
