//! What the links take from the system; in the tests of this crate, from a simulated network.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

#[cfg(not(test))]
pub(crate) use self::of_the_system::*;
#[cfg(test)]
pub(crate) use self::simulated::*;

/// Microseconds since 1970, whatever the clock of the application says: who starts later has more.
pub(crate) fn incarnation() -> u64 {
    u64::try_from(since_epoch().as_micros()).unwrap_or(0)
}

#[cfg(not(test))]
mod of_the_system {
    use std::time::{SystemTime, UNIX_EPOCH};

    pub(crate) use tokio::net::{TcpListener, TcpStream};

    use super::{Duration, SocketAddr, io};

    /// All addresses of a `host:port`.
    pub(crate) async fn look_up(address: &str) -> io::Result<Vec<SocketAddr>> {
        tokio::net::lookup_host(address).await.map(Iterator::collect)
    }

    pub(super) fn since_epoch() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

#[cfg(test)]
mod simulated {
    use std::time::{SystemTime, UNIX_EPOCH};

    pub(crate) use turmoil::net::{TcpListener, TcpStream};

    use super::{Duration, SocketAddr, io};

    #[allow(clippy::unused_async, reason = "the system's is")]
    pub(crate) async fn look_up(address: &str) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        let port = port.parse().map_err(io::Error::other)?;
        Ok(vec![SocketAddr::new(turmoil::lookup(host), port)])
    }

    /// Tests without a network are no simulations.
    pub(super) fn since_epoch() -> Duration {
        let real = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        turmoil::since_epoch().unwrap_or_else(real)
    }
}
