//! Which host serves: the one that can be written to.

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

/// The hosts of a database, of which one is the primary.
pub(crate) struct Hosts {
    hosts: Vec<Host>,
    /// Which of them served the last time.
    primary: AtomicUsize,
    terms: Terms,
}

/// How each host is connected to.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) login: Login,
    pub(crate) mode: Tls,
    pub(crate) tls: TlsSettings,
    pub(crate) pooler: Option<Pooler>,
    /// How long a host has to let us in.
    pub(crate) opens_within: Duration,
    /// How long a statement may take at the server.
    pub(crate) statement_timeout: Duration,
    pub(crate) network: Network,
}

/// When the system gives up a silent connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    /// `None` never asks.
    pub(crate) keepalive: Option<Keepalive>,
    /// How long what was sent may stay unacknowledged; zero leaves it to the system.
    pub(crate) user_timeout: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self { keepalive: Some(Keepalive::default()), user_timeout: Duration::ZERO }
    }
}

/// How the system asks whether an idle connection lives. Zero leaves a part of it to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long a connection has to be silent before it is asked: 60 s by default.
    pub idle: Duration,
    /// How long until it is asked again: 10 s by default.
    pub interval: Duration,
    /// How many questions may go unanswered: 3 by default.
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

    /// Connects to the primary: to the host that was it before, and to the next ones as soon as that one
    /// fails or takes its time.
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

    /// Who logs in.
    pub(crate) fn role(&self) -> &str {
        &self.terms.login.user
    }

    /// Whether there is another host to turn to.
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
            // A primary that takes no writes still has the last word on what is there. Of several hosts
            // it is one that was fenced off.
            State { is_read_only: true, .. } if self.are_several() => Err(Failure::ReadOnly),
            _ => Ok(connection),
        }
    }
}

impl Terms {
    /// A socket to a host, and the hash of the certificate it showed.
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

    /// Asks for the state of a server, and makes the session what every statement here relies on,
    /// whatever the server's defaults are; but for a session that is not ours to keep.
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

/// Connects to the addresses of a name, to the next one as soon as the one before fails or takes its
/// time.
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

/// What a server says of itself.
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

/// Where the process that answers is not the one that the connection was opened to, there is a pooler in
/// between, and what is set would be left to others.
const SETTLE: &str =
    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean, $1 <> pg_backend_pid() IS TRUE,
    CASE WHEN $1 <> pg_backend_pid() IS NOT TRUE THEN
        set_config('statement_timeout', $2, false)
            || set_config('default_transaction_isolation', 'read committed', false)
    END";

/// How long a host has before the next one is asked as well.
const HEAD_START: Duration = Duration::from_millis(200);
