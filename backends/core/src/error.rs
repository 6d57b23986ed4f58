//! How a store fails, and what else will fail with it.

use std::error::Error;

use crate::env::RandomError;
use crate::proof::KeyId;

/// A store did not do what it was asked.
///
/// Each variant says how far the failure reaches ([`scope`](Self::scope)) and what the caller can do
/// about it. Unless its documentation says otherwise, an error means *not confirmed*: the call either
/// took full effect or none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The server cannot be reached. Try again later.
    #[error("the session store is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// No answer came before the deadline. Try again later.
    #[error("the session store did not answer in time")]
    Timeout,
    /// The server answers, and takes no writes: it is full, read-only, or lacks replicas. Reads work.
    #[error("the session store takes no writes")]
    WritesRefused(#[source] Box<dyn Error + Send + Sync>),
    /// This record cannot be served now, because something else holds it. Other records can.
    #[error("the session's record is busy")]
    Busy(#[source] Box<dyn Error + Send + Sync>),
    /// The server refuses what this service asks of it: a privilege, a table or a setting is missing,
    /// or its answer makes no sense. An operator has to act; trying again changes nothing.
    #[error("the session store refuses the call")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// What is kept under the id is not a record. Trying again changes nothing; deleting it does.
    #[error("the session's record is corrupt")]
    Corrupt(#[source] Box<dyn Error + Send + Sync>),
    /// The record was written by a later release, in a format this one does not know. It is left as
    /// it is, and can be deleted.
    #[error(
        "the session's record has format {found}, and this release knows formats up to {known}"
    )]
    NewerFormat {
        /// The record's format.
        found: u16,
        /// The latest format that this release knows.
        known: u16,
    },
    /// The record's secret is hashed under a key that this node does not have, so the node can
    /// neither accept nor refuse it. Nothing was changed.
    #[error("the session's secret is hashed under {0}, which is not in this node's keyring")]
    UnknownKey(KeyId),
    /// The store cannot do this, as it is configured.
    #[error("the session store does not support {0}")]
    Unsupported(&'static str),
    /// There is no randomness to be had.
    #[error("the session store cannot draw an id")]
    Random(#[from] RandomError),
}

/// How far a failure reaches: which other calls will fail for the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// Every call: the server cannot be reached.
    Server,
    /// Every write. Reads work, and so does what frees memory.
    Writes,
    /// Calls about this record. Others work.
    Record,
    /// Calls of this kind, until an operator changes something: the fault is on our side.
    Service,
}

impl StoreError {
    /// An outage with its cause.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// A server that takes no writes, with its reason.
    pub fn writes_refused(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::WritesRefused(cause.into())
    }

    /// A record that something else holds, with what says so.
    pub fn busy(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Busy(cause.into())
    }

    /// A call that the server refuses, with its reason.
    pub fn refused(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Refused(cause.into())
    }

    /// A corrupt record with the reason.
    pub fn corrupt(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Corrupt(cause.into())
    }

    /// How far the failure reaches.
    pub const fn scope(&self) -> Scope {
        match self {
            Self::Unavailable(_) | Self::Timeout => Scope::Server,
            Self::WritesRefused(_) => Scope::Writes,
            Self::Busy(_) | Self::Corrupt(_) | Self::NewerFormat { .. } => Scope::Record,
            Self::Refused(_) | Self::UnknownKey(_) | Self::Unsupported(_) | Self::Random(_) => {
                Scope::Service
            }
        }
    }

    /// The name of the variant, as metrics and logs have it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Timeout => "timeout",
            Self::WritesRefused(_) => "writes_refused",
            Self::Busy(_) => "busy",
            Self::Refused(_) => "refused",
            Self::Corrupt(_) => "corrupt",
            Self::NewerFormat { .. } => "newer_format",
            Self::UnknownKey(_) => "unknown_key",
            Self::Unsupported(_) => "unsupported",
            Self::Random(_) => "random",
        }
    }
}
