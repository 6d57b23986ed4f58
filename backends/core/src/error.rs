//! How a store fails.

use std::error::Error;

use crate::env::RandomError;

/// A store did not do what it was asked, by what the caller can do about it.
///
/// `Unavailable` and `Timeout` mean *not confirmed*: the call happened whole or not at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The authority cannot be reached, or refuses to serve. Try again later.
    #[error("the session store is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// No answer came before the deadline. Try again later.
    #[error("the session store did not answer in time")]
    Timeout,
    /// What is kept under the id is no record. Trying again changes nothing; deleting it does.
    #[error("the session's record is corrupt")]
    Corrupt(#[source] Box<dyn Error + Send + Sync>),
    /// The store cannot do this, as it is configured.
    #[error("the session store does not support {0}")]
    Unsupported(&'static str),
    /// There is no randomness to be had.
    #[error("the session store cannot draw an id")]
    Random(#[from] RandomError),
}

impl StoreError {
    /// An outage with its cause.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// A corrupt record with the reason.
    pub fn corrupt(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Corrupt(cause.into())
    }

    /// Whether it says something of the store's health rather than of this call.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout)
    }
}
