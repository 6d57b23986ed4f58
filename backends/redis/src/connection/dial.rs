//! Opens a connection to one address: the socket, TLS, and the login.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Fault;
use crate::address::Address;

/// How every server of a store is spoken to.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) login: RedisConnectionInfo,
    /// `None` is plain TCP. With TLS there is no way back to it.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    /// A connection for any number of callers, and what drives it until it is closed.
    pub(crate) async fn open(
        &self,
        address: &Address,
    ) -> Result<(MultiplexedConnection, Driver), Fault> {
        let opening = async {
            let socket = self.socket(address).await?;
            let config = AsyncConnectionConfig::new().set_pipeline_buffer_size(PIPELINE);
            let opened = MultiplexedConnection::new_with_config(&self.login, socket, config).await;
            let (connection, driver) = opened.map_err(Fault::unsent)?;
            Ok((connection, Box::pin(driver) as Driver))
        };
        in_time(opening).await
    }

    /// A connection that listens.
    pub(crate) async fn listen(&self, address: &Address) -> Result<PubSub, Fault> {
        let opening = async {
            let socket = self.socket(address).await?;
            PubSub::new(&self.login, socket).await.map_err(Fault::unsent)
        };
        in_time(opening).await
    }

    async fn socket(&self, address: &Address) -> Result<Box<dyn Socket>, Fault> {
        let plain = TcpStream::connect((address.host(), address.port())).await;
        let plain = plain.map_err(Fault::unsent)?;
        plain.set_nodelay(true).map_err(Fault::unsent)?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(plain));
        };
        let name = ServerName::try_from(address.host().to_owned()).map_err(Fault::unsent)?;
        let tls = TlsConnector::from(Arc::clone(config)).connect(name, plain).await;
        Ok(Box::new(tls.map_err(Fault::unsent)?))
    }
}

/// Reads and writes for the callers of a connection until it is closed.
pub(crate) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

async fn in_time<T>(opening: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let opened = tokio::time::timeout(OPEN_WITHIN, opening).await;
    opened.unwrap_or_else(|elapsed| Err(Fault::unsent(elapsed)))
}

/// A hung server accepts connections and answers nothing. Below the middleware's deadline, so that
/// there is time to turn to another server.
const OPEN_WITHIN: Duration = Duration::from_millis(500);

/// Commands that wait to be written; more make their callers wait.
const PIPELINE: usize = 1_024;
