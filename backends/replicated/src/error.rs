//! Errors of opening a store.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use steadfast_core::StoreError;

/// A store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no secret.
    #[error("the cluster port needs a secret")]
    NoSecret,
    /// The secret is too short to protect anything.
    #[error("a secret of {len} bytes is too short: use at least {} random bytes", MIN_SECRET)]
    ShortSecret {
        /// Its length in bytes.
        len: usize,
    },
    /// Others could reach the port, and TLS is turned off.
    #[error("plaintext is only allowed on loopback, and {address} is not a loopback address")]
    Exposed {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// Every address of the host is bound to, and none of them advertised: all nodes would be found,
    /// and named, alike.
    #[error("other nodes do not reach {address}: set `advertise`")]
    Nowhere {
        /// The address that is bound to.
        address: SocketAddr,
    },
    /// The port cannot be opened.
    #[error("the cluster port cannot be opened")]
    Bind(#[source] io::Error),
    /// The credentials cannot be made.
    #[error("the credentials of the node cannot be made")]
    Tls(#[source] Box<dyn Error + Send + Sync>),
    /// There is no randomness to be had.
    #[error("the node cannot be set up")]
    Store(#[source] StoreError),
    /// No service was joined in time.
    #[error("no service was joined within {within:?}{why}")]
    NotJoined {
        /// The time that the node waited.
        within: Duration,
        /// The reason that it is in none.
        why: String,
    },
    /// A setting is over a bound of what nodes send each other.
    #[error("{value} {what} are over the limit of {limit}")]
    Limit {
        /// The name of the setting.
        what: &'static str,
        /// Its value.
        value: usize,
        /// The most that is allowed.
        limit: usize,
    },
}

impl OpenError {
    pub(crate) fn tls(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Tls(Box::new(cause))
    }
}

/// The least number of bytes of a secret.
pub(crate) const MIN_SECRET: usize = 32;
