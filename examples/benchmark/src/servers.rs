//! Servers for sessions, started by this process on loopback.

use serde::{Deserialize, Serialize};
use testkit::redis::Monitor;
use testkit::{Postgres, redis::Redis};

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    Redis,
    Postgres,
}

impl Server {
    /// Returns the URL of a store for a server at an address, or for a proxy in front of it.
    pub fn url(self, address: &str) -> String {
        let [name, password] = Redis::ADMINISTRATOR;
        match self {
            Self::Redis => format!("redis://{name}:{password}@{address}"),
            Self::Postgres => format!("postgres://postgres@{address}/postgres?sslmode=disable"),
        }
    }
}

/// One server of each kind. Dropping this stops them.
pub struct Servers {
    redis: Redis,
    postgres: Postgres,
}

impl Servers {
    /// Starts the servers. Blocks the thread, so do not call it within a busy runtime.
    pub fn start() -> Self {
        let counting = "shared_preload_libraries=pg_stat_statements";
        let servers = Self { redis: Redis::start(), postgres: Postgres::start(&[counting]) };
        servers.sql("CREATE EXTENSION pg_stat_statements");
        servers
    }

    pub fn address(&self, server: Server) -> String {
        match server {
            Server::Redis => self.redis.address(),
            Server::Postgres => self.postgres.address(),
        }
    }

    /// Starts to count the commands that the server receives.
    pub fn count(&self, server: Server) -> Count<'_> {
        match server {
            Server::Redis => Count::Commands(&self.redis, self.redis.monitor()),
            Server::Postgres => {
                self.sql("SELECT pg_stat_statements_reset()");
                Count::Statements(self)
            }
        }
    }

    fn sql(&self, sql: &str) -> String {
        self.postgres.sql("postgres", "postgres", sql)
    }
}

/// A count in progress.
pub enum Count<'a> {
    Commands(&'a Redis, Monitor),
    Statements(&'a Servers),
}

impl Count<'_> {
    /// Returns the commands or statements since the start of the count, without those that a script
    /// or a function executes.
    pub fn end(self) -> usize {
        match self {
            Self::Commands(redis, monitor) => redis.seen(monitor).len(),
            Self::Statements(servers) => servers.sql(STATEMENTS).parse().expect("a number"),
        }
    }
}

const STATEMENTS: &str = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
    WHERE toplevel AND query NOT LIKE '%pg_stat_statements%'";
