//! The servers that store sessions for some strategies.

use std::time::Duration;

use anyhow::{Context, anyhow};
use testkit::Postgres;
use testkit::redis::{Redis, RedisWithSentinels};

use crate::strategy::Server;

/// A running server. It ends with this value, and with this program.
pub(super) enum Running {
    /// Redis.
    Redis(Redis),
    /// PostgreSQL.
    Postgres(Postgres),
    /// Redis, a replica, and sentinels that replace the one by the other.
    RedisWithReplica(RedisWithSentinels),
    /// PostgreSQL, and a standby that this program makes the primary.
    PostgresWithStandby([Postgres; 2]),
}

impl Running {
    /// Starts a server with an empty store, and a replica that follows it, if it is to have one.
    ///
    /// # Errors
    ///
    /// If it is not installed, or does not start.
    pub(super) async fn start(server: Server, has_replica: bool) -> anyhow::Result<Self> {
        let package = match server {
            Server::Redis => "redis-server",
            Server::Postgres => "postgresql",
        };
        let starting = tokio::task::spawn_blocking(move || match (server, has_replica) {
            (Server::Redis, false) => Self::Redis(Redis::start()),
            (Server::Redis, true) => Self::RedisWithReplica(RedisWithSentinels::start()),
            (Server::Postgres, false) => Self::Postgres(Postgres::start(&[])),
            (Server::Postgres, true) => {
                let primary = Postgres::start(&[]);
                let standby = primary.standby();
                Self::PostgresWithStandby([primary, standby])
            }
        });
        // A server that cannot start panics there, after printing the reason.
        let started = starting.await.map_err(|_| anyhow!("a server did not start"));
        started.with_context(|| format!("is the Debian package {package} installed?"))
    }

    /// The URL of a store on it.
    pub(super) fn url(&self) -> String {
        let postgres =
            |hosts: &str| format!("postgres://postgres@{hosts}/postgres?sslmode=disable");
        match self {
            Self::Redis(redis) => redis.url(),
            Self::RedisWithReplica(redis) => redis.url(),
            Self::Postgres(server) => postgres(&server.address()),
            Self::PostgresWithStandby(both) => {
                postgres(&both.each_ref().map(Postgres::address).join(","))
            }
        }
    }

    /// The URL for the baseline, which keeps its sessions under other names in Redis.
    pub(super) fn url_with_all_rights(&self) -> String {
        let [name, password] = Redis::ADMINISTRATOR;
        match self {
            Self::Redis(redis) => format!("redis://{name}:{password}@{}", redis.address()),
            _ => self.url(),
        }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Redis(redis) => redis.address(),
            Self::RedisWithReplica(redis) => redis.servers[redis.primary()].address(),
            Self::Postgres(postgres) | Self::PostgresWithStandby([postgres, _]) => {
                postgres.address()
            }
        }
    }

    /// Kills the primary, and lets the replica take over. Sentinels promote the replica of Redis.
    /// For PostgreSQL, this program promotes the standby after a second, like common failover
    /// tools.
    pub(super) async fn fail_over(&mut self) -> anyhow::Result<()> {
        tokio::task::block_in_place(|| match self {
            Self::RedisWithReplica(redis) => {
                let primary = redis.primary();
                redis.servers[primary].kill();
            }
            Self::PostgresWithStandby([primary, _]) => primary.kill(),
            Self::Redis(_) | Self::Postgres(_) => {}
        });
        if let Self::PostgresWithStandby([_, standby]) = self {
            tokio::time::sleep(NOTICING).await;
            tokio::task::block_in_place(|| standby.promote());
        }
        Ok(())
    }

    /// Stops the server without closing its connections.
    pub(super) fn pause(&self) {
        tokio::task::block_in_place(|| match self {
            Self::Redis(redis) => redis.pause(),
            Self::Postgres(postgres) | Self::PostgresWithStandby([postgres, _]) => postgres.pause(),
            Self::RedisWithReplica(redis) => redis.servers[redis.primary()].pause(),
        });
    }

    /// Ends a pause.
    pub(super) fn resume(&self) {
        tokio::task::block_in_place(|| match self {
            Self::Redis(redis) => redis.resume(),
            Self::Postgres(postgres) | Self::PostgresWithStandby([postgres, _]) => {
                postgres.resume();
            }
            Self::RedisWithReplica(redis) => redis.servers[redis.primary()].resume(),
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
            Self::Redis(_) | Self::RedisWithReplica(_) => "Redis",
            Self::Postgres(_) | Self::PostgresWithStandby(_) => "PostgreSQL",
        })
    }
}

/// The time after which a PostgreSQL failover tool notices the loss.
const NOTICING: Duration = Duration::from_secs(1);
