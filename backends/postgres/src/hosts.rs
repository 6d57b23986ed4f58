//! Which host serves: the one that can be written to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Row};
use tokio::time::timeout;

use crate::error::{Failure, Unreachable};

/// The hosts of a database, of which one is the primary.
pub(crate) struct Hosts {
    hosts: Vec<(String, PgConnectOptions)>,
    /// Which of them served the last time.
    primary: AtomicUsize,
    /// How long a statement may take at the server.
    statement_timeout: Duration,
}

impl Hosts {
    pub(crate) fn new(hosts: Vec<(String, PgConnectOptions)>, statement_timeout: Duration) -> Self {
        Self { hosts, primary: AtomicUsize::new(0), statement_timeout }
    }

    /// Connects to the primary: to the host that was it before, and to the next ones as soon as that one
    /// fails or takes its time.
    pub(crate) async fn connect(&self) -> Result<PgConnection, Unreachable> {
        let (first, count) = (self.primary.load(Ordering::Relaxed), self.hosts.len());
        let mut hosts = (first..first + count).map(|host| host % count);
        let mut attempts: FuturesUnordered<_> =
            hosts.next().into_iter().map(|host| self.attempt(host)).collect();
        let mut failures = Vec::new();
        loop {
            match timeout(HEAD_START, attempts.next()).await {
                Ok(Some((host, Ok(connection)))) => {
                    self.primary.store(host, Ordering::Relaxed);
                    return Ok(connection);
                }
                Ok(Some((host, Err(failure)))) => {
                    failures.push((self.hosts[host].0.clone(), failure));
                }
                Ok(None) => return Err(Unreachable { hosts: failures }),
                Err(_) => {}
            }
            attempts.extend(hosts.next().map(|host| self.attempt(host)));
        }
    }

    /// How to connect to the host that served the last time.
    pub(crate) fn primary(&self) -> &PgConnectOptions {
        &self.hosts[self.primary.load(Ordering::Relaxed)].1
    }

    async fn attempt(&self, host: usize) -> (usize, Result<PgConnection, Failure>) {
        let opened = timeout(OPENS_WITHIN, self.open(&self.hosts[host].1)).await;
        (host, opened.unwrap_or(Err(Failure::Hung)))
    }

    async fn open(&self, options: &PgConnectOptions) -> Result<PgConnection, Failure> {
        let mut connection = PgConnection::connect_with(options).await?;
        let millis = self.statement_timeout.as_millis().to_string();
        let row = sqlx::query(SETTLE).bind(millis).fetch_one(&mut connection).await?;
        match row.try_get(0)? {
            true => Err(Failure::ReadOnly),
            false => Ok(connection),
        }
    }
}

/// Asks what a standby, or a primary that was told to be read-only, says to; and makes the connection
/// what every statement here relies on, whatever the server's defaults are.
const SETTLE: &str =
    "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
    set_config('statement_timeout', $1, false),
    set_config('default_transaction_isolation', 'read committed', false)";

/// How long a host has before the next one is asked as well.
const HEAD_START: Duration = Duration::from_millis(200);

/// How long a host has to let somebody in. Loads give up after a second.
const OPENS_WITHIN: Duration = Duration::from_secs(2);
