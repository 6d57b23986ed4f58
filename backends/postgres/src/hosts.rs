//! The hosts of a database, and the search for the primary.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use postgres_types::Type;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::address::{Host, Pooler};
use crate::connection::{
    Connection, Login, Malformed, Row, Socket, Statement, Tls, TlsSettings, certificate_hash,
};
use crate::error::{Failure, Unreachable};

/// The hosts of a database. One of them is the primary.
pub(crate) struct Hosts {
    hosts: Vec<Host>,
    /// The index of the host that was the primary last.
    primary: AtomicUsize,
    terms: Terms,
}

/// The settings of connections to a host.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) login: Login,
    pub(crate) mode: Tls,
    pub(crate) tls: TlsSettings,
    pub(crate) pooler: Option<Pooler>,
    /// The time to open a connection to a host.
    pub(crate) opens_within: Duration,
    /// The time limit of a statement at the server.
    pub(crate) statement_timeout: Duration,
    pub(crate) network: Network,
}

/// The operating system's settings for dead connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// `None` disables keepalive probes.
    pub(crate) keepalive: Option<Keepalive>,
    /// The time that sent data may remain unacknowledged; zero keeps the system's default.
    pub(crate) user_timeout: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self { keepalive: Some(Keepalive::default()), user_timeout: Duration::ZERO }
    }
}

/// The keepalive probes of an idle connection. Zero keeps the system's default for a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// The idle time before the first probe. Default: 60 s.
    pub idle: Duration,
    /// The time between probes. Default: 10 s.
    pub interval: Duration,
    /// The number of probes that may remain unanswered. Default: 3.
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        let (idle, interval) = (Duration::from_secs(60), Duration::from_secs(10));
        Self { idle, interval, count: 3 }
    }
}

impl Hosts {
    pub(crate) fn new(hosts: Vec<Host>, terms: Terms) -> Self {
        Self { hosts, primary: AtomicUsize::new(0), terms }
    }

    /// Connects to the primary. It starts with the last known primary, and tries the next host when
    /// one fails or is slow.
    pub(crate) async fn connect(&self) -> Result<Connection, Unreachable> {
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
                    failures.push((self.hosts[host].to_string(), failure));
                }
                Ok(None) => return Err(Unreachable { hosts: failures }),
                Err(_) => {}
            }
            attempts.extend(hosts.next().map(|host| self.attempt(host)));
        }
    }

    /// Returns the role that logs in.
    pub(crate) fn role(&self) -> &str {
        &self.terms.login.user
    }

    /// Returns true if there is more than one host.
    pub(crate) fn are_several(&self) -> bool {
        self.hosts.len() > 1
    }

    async fn attempt(&self, host: usize) -> (usize, Result<Connection, Failure>) {
        let opened = timeout(self.terms.opens_within, self.open(&self.hosts[host])).await;
        (host, opened.unwrap_or(Err(Failure::Hung)))
    }

    async fn open(&self, host: &Host) -> Result<Connection, Failure> {
        let (socket, certificate) = self.terms.dial(host).await?;
        let keeps_statements = self.terms.pooler != Some(Pooler::Transaction);
        let connection =
            Connection::start(socket, &self.terms.login, certificate, keeps_statements);
        let mut connection = connection.await?;
        let row = self.terms.settle(&mut connection).await?;
        let state = State::of(&row).map_err(|_| Failure::Protocol("an answer of another form"))?;
        match state {
            State { is_pooled: true, .. } => Err(Failure::Pooler),
            State { is_standby: true, .. } => Err(Failure::Standby),
            // A single read-only primary still has the only current data. With several hosts, a
            // read-only primary was probably fenced off after a failover.
            State { is_read_only: true, .. } if self.are_several() => Err(Failure::ReadOnly),
            _ => Ok(connection),
        }
    }
}

impl Terms {
    /// Opens a socket to a host. Returns it with the hash of the server's certificate.
    async fn dial(&self, host: &Host) -> Result<(Socket, Option<Vec<u8>>), Failure> {
        match host {
            #[cfg(unix)]
            Host::Unix(path, port) => {
                let path = path.join(format!(".s.PGSQL.{port}"));
                Ok((Socket::Unix(tokio::net::UnixStream::connect(path).await?), None))
            }
            Host::Tcp(name, port) => {
                let socket = connect(name, *port).await?;
                self.network.apply(&socket)?;
                if self.mode == Tls::Off {
                    return Ok((Socket::Tcp(socket), None));
                }
                let (settings, mode) = (self.tls.clone(), self.mode);
                let config = spawn_blocking(move || settings.config(mode)).await;
                let config = config.map_err(|error| Failure::Connection(error.into()))?;
                let config = config.map_err(|error| Failure::Connection(error.into()))?;
                let socket = self.tls.protect(socket, name, config).await?;
                let certificate = certificate_hash(&socket);
                Ok((Socket::Tls(Box::new(socket)), certificate))
            }
        }
    }

    /// Queries the state of a server, and applies the settings that the statements rely on.
    /// Settings are not applied on a pooled session.
    async fn settle(&self, connection: &mut Connection) -> Result<Row, Failure> {
        let process = Some(connection.process()).filter(|_| self.pooler.is_none());
        let timeout = self.statement_timeout.as_millis().to_string();
        let rows = match self.pooler {
            Some(Pooler::Transaction) => connection.run(&Statement::once(STATE, &[]), &[]).await,
            _ => {
                let settle =
                    Statement::once(SETTLE, &[("process", Type::INT4), ("timeout", Type::TEXT)]);
                connection.run(&settle, &[("process", &process), ("timeout", &timeout)]).await
            }
        };
        let mut rows = rows.map_err(|failed| failed.failure)?;
        rows.pop().ok_or(Failure::Protocol("an answer without a row"))
    }
}

impl Network {
    fn apply(&self, socket: &TcpStream) -> Result<(), Failure> {
        socket.set_nodelay(true)?;
        let socket = SockRef::from(socket);
        if let Some(Keepalive { idle, interval, count }) = self.keepalive {
            let given = |time: Duration| Some(time).filter(|time| !time.is_zero());
            let mut keepalive = TcpKeepalive::new();
            if let Some(idle) = given(idle) {
                keepalive = keepalive.with_time(idle);
            }
            #[cfg(not(target_os = "openbsd"))]
            {
                if let Some(interval) = given(interval) {
                    keepalive = keepalive.with_interval(interval);
                }
                if count > 0 {
                    keepalive = keepalive.with_retries(count);
                }
            }
            socket.set_tcp_keepalive(&keepalive)?;
        }
        #[cfg(target_os = "linux")]
        if !self.user_timeout.is_zero() {
            socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        }
        Ok(())
    }
}

/// Connects to the addresses of a name. The next address is tried when one fails or is slow.
async fn connect(name: &str, port: u16) -> Result<TcpStream, Failure> {
    let mut addresses = lookup_host((name, port)).await?.collect::<Vec<SocketAddr>>().into_iter();
    let mut attempts: FuturesUnordered<_> =
        addresses.next().map(TcpStream::connect).into_iter().collect();
    let mut last = None;
    loop {
        match timeout(HEAD_START, attempts.next()).await {
            Ok(Some(Ok(socket))) => return Ok(socket),
            Ok(Some(Err(error))) => last = Some(error),
            Ok(None) => {
                let none = || std::io::Error::other("the name has no address");
                return Err(last.unwrap_or_else(none).into());
            }
            Err(_) => {}
        }
        attempts.extend(addresses.next().map(TcpStream::connect));
    }
}

/// The state of a server.
struct State {
    is_standby: bool,
    is_read_only: bool,
    is_pooled: bool,
}

impl State {
    fn of(row: &Row) -> Result<Self, Malformed> {
        let (is_standby, is_read_only) = (row.get(0)?, row.get(1)?);
        Ok(Self { is_standby, is_read_only, is_pooled: row.get(2)? })
    }
}

const STATE: &str =
    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean, false";

/// If the answering process is not the one that the connection was opened to, there is a pooler in
/// between, and settings would leak to other clients.
const SETTLE: &str =
    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean, $1 <> pg_backend_pid() IS TRUE,
    CASE WHEN $1 <> pg_backend_pid() IS NOT TRUE THEN
        set_config('statement_timeout', $2, false)
            || set_config('default_transaction_isolation', 'read committed', false)
    END";

/// The delay before the next host is tried as well.
const HEAD_START: Duration = Duration::from_millis(200);
