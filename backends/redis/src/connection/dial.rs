//! Opening a connection to a server: the socket, TLS, and the login.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::address::{Address, Endpoint};
use crate::error::Fault;

/// The settings of all connections of a store.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) login: RedisConnectionInfo,
    /// `None` for plain TCP. With TLS, there is no fallback to plain TCP.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    /// Opens a connection for any number of callers. Returns it with the future that drives it
    /// until it is closed.
    pub(crate) async fn open(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(MultiplexedConnection, Driver), Fault> {
        self.dial(endpoint, |socket| self.converse(socket)).await
    }

    /// Opens a connection for subscriptions.
    pub(crate) async fn listen(&self, endpoint: &Endpoint) -> Result<PubSub, Fault> {
        let listen = |socket| async { PubSub::new(&self.login, socket).await.map_err(Fault::of) };
        self.dial(endpoint, listen).await
    }

    /// Tries the addresses of a host in turn. The next one is tried when one has failed or after a
    /// short delay. An attempt includes the login, because a hung server may accept connections and
    /// never answer.
    async fn dial<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        endpoint: &Endpoint,
        log_in: impl Fn(Box<dyn Socket>) -> F,
    ) -> Result<T, Fault> {
        let log_in = &log_in;
        let dialling = async {
            match endpoint {
                Endpoint::Tcp(address) => {
                    let found = tokio::net::lookup_host((address.host(), address.port())).await;
                    let found: Vec<_> = found.map_err(Fault::unsent)?.collect();
                    let attempt = |to| async move { log_in(self.tcp(address, to).await?).await };
                    first_of(found.into_iter().map(attempt)).await
                }
                #[cfg(unix)]
                Endpoint::Unix(path) => {
                    let socket = tokio::net::UnixStream::connect(path).await;
                    log_in(Box::new(socket.map_err(Fault::unsent)?)).await
                }
            }
        };
        let dialled = tokio::time::timeout(OPEN_WITHIN, dialling).await;
        dialled.unwrap_or_else(|_| Err(Fault::unsent(Unanswered { is_tls: self.tls.is_some() })))
    }

    async fn tcp(&self, address: &Address, to: SocketAddr) -> Result<Box<dyn Socket>, Fault> {
        let plain = TcpStream::connect(to).await.map_err(Fault::unsent)?;
        prepare(&plain).map_err(Fault::unsent)?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(plain));
        };
        let name = ServerName::try_from(address.host().to_owned()).map_err(Fault::unsent)?;
        let tls = TlsConnector::from(Arc::clone(config)).connect(name, plain).await;
        Ok(Box::new(tls.map_err(|why| Fault::unsent(Broken::by(why, true)))?))
    }

    /// Runs the driver and records why it failed: the driver itself only reports that the
    /// connection broke.
    async fn converse(
        &self,
        socket: Box<dyn Socket>,
    ) -> Result<(MultiplexedConnection, Driver), Fault> {
        let note = Note::default();
        let socket = Noting { socket, note: Arc::clone(&note) };
        let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new()
            .set_pipeline_buffer_size(PIPELINE)
            .set_response_timeout(None);
        let opened = MultiplexedConnection::new_with_config(&nobody, socket, config).await;
        let (mut connection, driver) = opened.map_err(Fault::unsent)?;
        let mut driver = Box::pin(driver) as Driver;
        tokio::select! {
            biased;
            logged_in = self.log_in(&mut connection) => logged_in?,
            () = &mut driver => {
                let noted = note.lock().unwrap_or_else(PoisonError::into_inner).take();
                let broken = Broken::by(noted.unwrap_or_else(closed), self.tls.is_some());
                return Err(Fault::unsent(broken));
            }
        }
        Ok((connection, driver))
    }

    async fn log_in(&self, connection: &mut MultiplexedConnection) -> Result<(), Fault> {
        let mut commands = redis::pipe();
        match (self.login.username(), self.login.password()) {
            (_, None) => {}
            (None, Some(password)) => drop(commands.cmd("AUTH").arg(password)),
            (Some(name), Some(password)) => drop(commands.cmd("AUTH").arg(name).arg(password)),
        }
        if self.login.db() != 0 {
            commands.cmd("SELECT").arg(self.login.db());
        }
        // Sent even if there is nothing to set up: a hung server still accepts connections.
        commands.cmd("PING");
        let answers = connection.send_packed_commands(&commands, 0, commands.len()).await;
        let Ok(mut answers) = answers else {
            // The driver fails along with the connection and knows the reason.
            return std::future::pending().await;
        };
        let pong = answers.pop().unwrap_or_default();
        answers.into_iter().try_for_each(|answer| Fault::unless_refused(answer).map(drop))?;
        match Fault::unless_refused(pong) {
            Err(fault) if fault.code().is_some_and(|code| UNWELCOME.contains(&code)) => Err(fault),
            // A server that cannot save its data rejects `PING` but still serves reads.
            _ => Ok(()),
        }
    }
}

/// Disables write delays, and detects a dead peer within half a minute.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new().with_time(QUIET).with_interval(QUIET / 3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(2 * QUIET))?;
    Ok(())
}

/// Returns the first attempt that succeeds. Each attempt starts after a short delay, or as soon as
/// the previous one has failed.
async fn first_of<T>(
    attempts: impl ExactSizeIterator<Item = impl Future<Output = Result<T, Fault>>>,
) -> Result<T, Fault> {
    let (mut attempts, mut running) = (attempts, FuturesUnordered::new());
    let mut fault = None;
    loop {
        running.extend(attempts.next());
        let is_last = attempts.len() == 0;
        loop {
            tokio::select! {
                ended = running.next() => match ended {
                    Some(Ok(opened)) => return Ok(opened),
                    // An error from a server says more than the silence of another one.
                    Some(Err(why)) => {
                        if !matches!(fault, Some(Fault::Refused(_))) {
                            fault = Some(why);
                        }
                        if !is_last {
                            break;
                        }
                    }
                    None => return Err(fault.unwrap_or_else(|| Fault::unsent(NoAddress))),
                },
                () = tokio::time::sleep(NEXT_AFTER), if !is_last => break,
            }
        }
    }
}

/// Drives a connection until it is closed.
pub(crate) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// The reason why reading from a socket failed.
type Note = Arc<Mutex<Option<io::Error>>>;

/// A socket that records why reading failed.
struct Noting {
    socket: Box<dyn Socket>,
    note: Note,
}

impl AsyncRead for Noting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.socket).poll_read(context, into);
        if let Poll::Ready(Err(error)) = &read {
            let mut note = self.note.lock().unwrap_or_else(PoisonError::into_inner);
            note.get_or_insert_with(|| io::Error::new(error.kind(), error.to_string()));
        }
        read
    }
}

impl AsyncWrite for Noting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the server closed the new connection")
}

/// A connection that broke before it was used, with a hint at the likely cause.
#[derive(Debug, thiserror::Error)]
#[error("{hint}")]
struct Broken {
    #[source]
    why: io::Error,
    hint: &'static str,
}

impl Broken {
    fn by(why: io::Error, is_tls: bool) -> Self {
        use rustls::{AlertDescription, Error};
        let cause = why.get_ref().map(|cause| (cause.downcast_ref(), cause.to_string()));
        let hint = match cause {
            Some((Some(Error::InvalidMessage(_)), _)) => {
                "the server does not speak TLS: use redis:"
            }
            Some((Some(Error::InvalidCertificate(_)), _)) => {
                "the server's certificate is not accepted: name its authority with ca, and the server \
                 as the certificate does"
            }
            Some((Some(Error::AlertReceived(AlertDescription::CertificateRequired)), _)) => {
                DEMANDS_CERTIFICATE
            }
            Some((None, text)) if text.contains("CertificateRequired") => DEMANDS_CERTIFICATE,
            _ if is_tls => CLOSED_WITH_TLS,
            _ => CLOSED_WITHOUT_TLS,
        };
        Self { why, hint }
    }
}

const DEMANDS_CERTIFICATE: &str =
    "the server demands a certificate: name one with cert, and its key with key";

const CLOSED_WITH_TLS: &str =
    "the server ended the new connection: it may demand a certificate (cert, key)";

const CLOSED_WITHOUT_TLS: &str =
    "the server ended the new connection: it may demand TLS (rediss:), or have too many clients";

#[derive(Debug, thiserror::Error)]
#[error("the server does not answer on the new connection{}", if *.is_tls { UNLESS_TLS } else { "" })]
struct Unanswered {
    is_tls: bool,
}

const UNLESS_TLS: &str = ": the server may not speak TLS (redis:)";

#[derive(Debug, thiserror::Error)]
#[error("the name of the host has no address")]
struct NoAddress;

/// The codes with which a server rejects a connection.
const UNWELCOME: [&str; 3] = ["NOAUTH", "DENIED", "ERR"];

/// The time to open a connection: a hung server accepts connections and never answers. It is below
/// the middleware's timeout, so that there is time to try another server.
const OPEN_WITHIN: Duration = Duration::from_millis(1_000);

/// The delay before the next address of the same host is tried as well.
const NEXT_AFTER: Duration = Duration::from_millis(100);

/// The idle time of a connection after which the operating system probes the peer.
const QUIET: Duration = Duration::from_secs(15);

/// The number of commands that may wait to be written. Further callers wait.
const PIPELINE: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hung_address_delays_the_next_one_briefly() {
        let start = tokio::time::Instant::now();
        let attempts =
            [None, Some(Err("refused")), Some(Ok(3))].into_iter().map(|end| async move {
                match end {
                    Some(end) => end.map_err(Fault::unsent),
                    None => std::future::pending().await,
                }
            });
        assert_eq!(first_of(attempts).await.unwrap(), 3);
        assert_eq!(start.elapsed(), NEXT_AFTER, "and one that is refused for none");
    }

    #[tokio::test]
    async fn an_end_of_all_attempts_has_a_reason() {
        let attempts = (0..3).map(|_| async { Err::<(), _>(Fault::unsent("refused")) });
        assert!(matches!(first_of(attempts).await, Err(Fault::Unsent(_))));
        let none: [std::future::Ready<Result<(), Fault>>; 0] = [];
        assert!(matches!(first_of(none.into_iter()).await, Err(Fault::Unsent(_))));
    }
}
