//! The server that some strategies keep sessions on.

use anyhow::{Context, anyhow};
use testkit::{Postgres, redis::Redis};

use crate::strategy::Server;

/// A running server. It ends with this value, and with this program.
pub(super) enum Running {
    /// Redis.
    Redis(Redis),
    /// PostgreSQL.
    Postgres(Postgres),
}

impl Running {
    /// Starts a server with an empty store.
    ///
    /// # Errors
    ///
    /// If it is not installed, or does not start.
    pub(super) async fn start(server: Server) -> anyhow::Result<Self> {
        let package = match server {
            Server::Redis => "redis-server",
            Server::Postgres => "postgresql",
        };
        let starting = tokio::task::spawn_blocking(move || match server {
            Server::Redis => Self::Redis(Redis::start()),
            Server::Postgres => Self::Postgres(Postgres::start(&[])),
        });
        // What cannot start panics there, and has printed why.
        let started = starting.await.map_err(|_| anyhow!("a server did not start"));
        started.with_context(|| format!("is the Debian package {package} installed?"))
    }

    /// The URL of a store on it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Redis(redis) => redis.url(),
            Self::Postgres(postgres) => {
                format!("postgres://postgres@{}/postgres?sslmode=disable", postgres.address())
            }
        }
    }

    /// Has it do nothing, and keep its connections.
    pub(super) fn pause(&self) {
        tokio::task::block_in_place(|| match self {
            Self::Redis(redis) => redis.pause(),
            Self::Postgres(postgres) => postgres.pause(),
        });
    }

    /// Ends a pause.
    pub(super) fn resume(&self) {
        tokio::task::block_in_place(|| match self {
            Self::Redis(redis) => redis.resume(),
            Self::Postgres(postgres) => postgres.resume(),
        });
    }

    /// Ends it.
    pub(super) async fn end(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Redis(_) => "Redis",
            Self::Postgres(_) => "PostgreSQL",
        })
    }
}
