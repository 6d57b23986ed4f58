//! Errors of a store, and how far each reaches.

use std::error::Error;

use crate::env::RandomError;
use crate::proof::KeyId;

/// A failed call to a store.
///
/// Each variant documents how far the failure reaches ([`scope`](Self::scope)) and what the caller
/// can do about it. Unless a variant says otherwise, an error means *not confirmed*: the call
/// either took full effect or none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The server cannot be reached. Try again later.
    #[error("the session store is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// No answer came before the deadline. Try again later.
    #[error("the session store did not answer in time")]
    Timeout,
    /// The server answers but accepts no writes: it is full, read-only, or lacks replicas. Reads
    /// work.
    #[error("the session store takes no writes")]
    WritesRefused(#[source] Box<dyn Error + Send + Sync>),
    /// This record is locked or held elsewhere and cannot be served now. Other records can.
    #[error("the session's record is busy")]
    Busy(#[source] Box<dyn Error + Send + Sync>),
    /// The server refuses the call: a privilege, a table or a setting is missing, or its answer is
    /// malformed. An operator has to act; retrying does not help.
    #[error("the session store refuses the call")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// The data stored under the id is not a record. Retrying does not help; deleting the record
    /// does.
    #[error("the session's record is corrupt")]
    Corrupt(#[source] Box<dyn Error + Send + Sync>),
    /// The record was written by a later release, in a format that this release does not know. It
    /// is left unchanged and can be deleted.
    #[error(
        "the session's record has format {found}, and this release knows formats up to {known}"
    )]
    NewerFormat {
        /// The format of the record.
        found: u16,
        /// The latest format that this release knows.
        known: u16,
    },
    /// The record's secret is hashed under a key that this node lacks, so the node can neither
    /// accept nor reject it. Nothing was changed.
    #[error("the session's secret is hashed under {0}, which is not in this node's keyring")]
    UnknownKey(KeyId),
    /// The store does not support the operation in its current configuration.
    #[error("the session store does not support {0}")]
    Unsupported(&'static str),
    /// The source of randomness failed.
    #[error("the session store cannot draw an id")]
    Random(#[from] RandomError),
}

/// The extent of a failure: the other calls that will fail for the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// All calls: the server cannot be reached.
    Server,
    /// All writes. Reads work, and so do calls that free memory.
    Writes,
    /// Calls for this record. Others work.
    Record,
    /// Calls of this kind, until an operator changes something: the fault is in this service or its
    /// configuration.
    Service,
}

impl StoreError {
    /// Creates an `Unavailable` error with its cause.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// Creates a `WritesRefused` error with its cause.
    pub fn writes_refused(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::WritesRefused(cause.into())
    }

    /// Creates a `Busy` error with its cause.
    pub fn busy(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Busy(cause.into())
    }

    /// Creates a `Refused` error with its cause.
    pub fn refused(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Refused(cause.into())
    }

    /// Creates a `Corrupt` error with its cause.
    pub fn corrupt(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Corrupt(cause.into())
    }

    /// Returns how far the failure reaches.
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

    /// Returns the name of the variant in metrics and logs.
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
