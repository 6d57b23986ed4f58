//! How Postgres fails, and what of it may be shown.

use std::error::Error;

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use steadfast_core::StoreError;

use crate::address::AddressError;
use crate::names::NameError;

/// A store cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The address has the wrong form.
    #[error("the address of the database cannot be")]
    Address(#[from] AddressError),
    /// A name has the wrong form.
    #[error("the schema and the table need other names")]
    Name(#[from] NameError),
    /// There cannot be so many connections, or so little time.
    #[error("a store needs 1 to 1000 connections and a timeout of 1 ms to 60 s")]
    Bounds,
    /// No host serves as a primary.
    #[error("no host of the database can be written to")]
    Unreachable(#[from] Unreachable),
    /// The database has another encoding.
    #[error("the database is encoded in {encoding}: create one in UTF8")]
    Encoding {
        /// The encoding it has.
        encoding: String,
    },
    /// The tables are missing, or from an earlier version.
    #[error("the schema {schema:?} is at version {found} and should be at {wanted}: migrate it")]
    NotMigrated {
        /// The schema.
        schema: String,
        /// The version that the tables are at; 0 if there are none.
        found: i32,
        /// The version that they should be at, or a later one.
        wanted: i32,
    },
    /// The database refused.
    #[error("the database refuses to be set up")]
    Refused(#[source] Failure),
}

/// No host could be used: what each of them said.
#[derive(Debug, thiserror::Error)]
#[error("no primary among {}", said(.hosts))]
pub struct Unreachable {
    /// Each host, and why it is of no use.
    pub hosts: Vec<(String, Failure)>,
}

/// A statement failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server says so. What it says beside the message may hold values, and is left out.
    #[error("{message} ({code})")]
    Server {
        /// The SQLSTATE.
        code: String,
        /// The message.
        message: String,
        /// Whether the connection ends with it.
        is_fatal: bool,
    },
    /// The connection does not work, or not any more.
    #[error("the connection failed")]
    Connection(#[source] Box<dyn Error + Send + Sync>),
    /// The server is a standby, or was told to be read-only.
    #[error("it is read-only")]
    ReadOnly,
    /// The server did not answer in time.
    #[error("it does not answer")]
    Hung,
}

impl Failure {
    /// Whether the connection cannot be used any more.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Self::Server { is_fatal, .. } => *is_fatal || self.says_read_only(),
            Self::Connection(_) | Self::ReadOnly | Self::Hung => true,
        }
    }

    /// Whether the server says that it did nothing, and would do it elsewhere or at another time.
    pub(crate) fn did_nothing(&self) -> bool {
        let serialization_or_deadlock = ["40001", "40P01"];
        self.says_read_only() || self.has_code(&serialization_or_deadlock)
    }

    /// Whether the process on the other side is gone, so that nothing of a statement can still happen.
    pub(crate) fn is_death(&self) -> bool {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match self {
            Self::Server { is_fatal, .. } => *is_fatal,
            Self::Connection(error) => match error.downcast_ref() {
                Some(sqlx::Error::Io(error)) => {
                    [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind())
                }
                _ => false,
            },
            Self::ReadOnly | Self::Hung => false,
        }
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.has_code(&["3F000", "42P01"])
    }

    fn says_read_only(&self) -> bool {
        self.has_code(&["25006"])
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        matches!(self, Self::Server { code, .. } if codes.contains(&code.as_str()))
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let server = error.as_database_error();
        match server.and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) {
            Some(server) => Self::Server {
                code: server.code().to_owned(),
                message: server.message().to_owned(),
                is_fatal: matches!(server.severity(), PgSeverity::Fatal | PgSeverity::Panic),
            },
            None => Self::Connection(error.into()),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let is_cancelled = failure.has_code(&["57014"]);
        match failure {
            Failure::Hung => Self::Timeout,
            _ if is_cancelled => Self::Timeout,
            failure => Self::unavailable(failure),
        }
    }
}

fn said(hosts: &[(String, Failure)]) -> String {
    let said = hosts.iter().map(|(host, failure)| match failure {
        Failure::Connection(error) => format!("{host} ({error})"),
        failure => format!("{host} ({failure})"),
    });
    said.collect::<Vec<_>>().join(", ")
}
