//! The sockets and clocks that links use; the tests of this crate replace them by a simulated
//! network.

use std::io;
use std::net::SocketAddr;

#[cfg(not(test))]
pub(crate) use self::of_the_system::*;
#[cfg(test)]
pub(crate) use self::simulated::*;

#[cfg(not(test))]
mod of_the_system {
    use std::time::Duration;

    pub(crate) use tokio::net::{TcpListener, TcpStream};

    use super::{SocketAddr, io};

    /// All addresses of a `host:port`.
    pub(crate) async fn look_up(address: &str) -> io::Result<Vec<SocketAddr>> {
        tokio::net::lookup_host(address).await.map(Iterator::collect)
    }

    /// The time since the machine started, which counts suspension: leases rest on it.
    #[cfg(target_os = "linux")]
    pub(crate) fn uptime() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    /// The time since the first call. It counts suspension where the system's steady clock does.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn uptime() -> Duration {
        static STARTED: std::sync::LazyLock<std::time::Instant> =
            std::sync::LazyLock::new(std::time::Instant::now);
        STARTED.elapsed()
    }
}

#[cfg(test)]
mod simulated {
    use std::sync::LazyLock;
    use std::time::Duration;

    use tokio::time::Instant;
    pub(crate) use turmoil::net::{TcpListener, TcpStream};

    use super::{SocketAddr, io};

    #[allow(clippy::unused_async, reason = "the system's is")]
    pub(crate) async fn look_up(address: &str) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        let port = port.parse().map_err(io::Error::other)?;
        Ok(vec![SocketAddr::new(turmoil::lookup(host), port)])
    }

    pub(crate) fn uptime() -> Duration {
        static STARTED: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
        Instant::now().into_std().saturating_duration_since(*STARTED)
    }
}
