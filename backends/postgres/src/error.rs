//! Errors of PostgreSQL, how far each reaches, and which parts may be shown.

use std::error::Error;
use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;
use steadfast_core::StoreError;

use crate::address::AddressError;
use crate::names::NameError;

/// A store cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The address is malformed.
    #[error("invalid database address")]
    Address(#[from] AddressError),
    /// A name is malformed.
    #[error("invalid schema or table name")]
    Name(#[from] NameError),
    /// The number of connections or the timeout is out of range.
    #[error("invalid settings: expected 1 to 1000 connections and a timeout of 1 ms to 60 s")]
    Bounds,
    /// A file with certificates or a key cannot be used.
    #[error("cannot use the certificates of {what}")]
    Certificates {
        /// The path of the file, or `the system`.
        what: String,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// No host is a writable primary.
    #[error("no host of the database can be written to")]
    Unreachable(#[from] Unreachable),
    /// The application's pool gives no connection.
    #[error("the pool gives no connection")]
    Pool(#[source] Failure),
    /// A setting concerns connections, which the application's pool opens itself.
    #[error(
        "the store runs on the application's pool: set hosts, TLS, timeouts to connect and the number \
         of connections on that pool"
    )]
    PoolSettings,
    /// The database has another encoding than UTF8.
    #[error("the database has the encoding {encoding}; create one with UTF8")]
    Encoding {
        /// The encoding of the database.
        encoding: String,
    },
    /// The tables are missing, or belong to an earlier version.
    #[error(
        "the schema {schema:?} has version {found}, but version {wanted} is needed: run the migration"
    )]
    NotMigrated {
        /// The schema.
        schema: String,
        /// The version of the tables; 0 if there are none.
        found: i32,
        /// The lowest version that works.
        wanted: i32,
    },
    /// The role lacks a privilege that requests need.
    #[error("{missing}: {remedy}")]
    Unfit {
        /// The missing privilege.
        missing: String,
        /// The remedy.
        remedy: String,
    },
    /// Nodes of release 0.1 are connected. They would fail after a migration.
    #[error(
        "nodes of release 0.1 are connected to the database: stop them, then run the migration"
    )]
    InUse,
    /// The database refused.
    #[error("the database refused the setup")]
    Refused(#[source] Failure),
}

/// No host could be used.
#[derive(Debug, thiserror::Error)]
#[error("no primary among {}", said(.hosts))]
#[non_exhaustive]
pub struct Unreachable {
    /// Each host, and why it could not be used.
    pub hosts: Vec<(String, Failure)>,
}

impl Unreachable {
    /// Returns true if a host would work if it had fewer connections.
    pub(crate) fn is_full(&self) -> bool {
        self.hosts.iter().any(|(_, failure)| failure.is_full())
    }

    /// Returns true if every host refuses, so that an operator has to act.
    pub(crate) fn is_refusal(&self) -> bool {
        let refuses = |failure: &Failure| failure.class().reach == Reach::Service;
        !self.hosts.is_empty() && self.hosts.iter().all(|(_, failure)| refuses(failure))
    }
}

/// A statement or a connection failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server reported an error. Its details are omitted, because they may contain values.
    #[error("{message} ({code})")]
    Server {
        /// The SQLSTATE.
        code: String,
        /// The message; for errors about data, the meaning of the code instead.
        message: String,
        /// True if the error ends the connection.
        is_fatal: bool,
    },
    /// The connection broke or cannot be opened.
    #[error("the connection failed")]
    Connection(#[source] Box<dyn Error + Send + Sync>),
    /// The server's answer violates the protocol.
    #[error("the server violated the protocol: {0}")]
    Protocol(&'static str),
    /// The server is a standby.
    #[error("the server is a standby")]
    Standby,
    /// The server is read-only.
    #[error("the server is read-only")]
    ReadOnly,
    /// There is a pooler in front of the server that the settings do not mention.
    #[error(
        "a connection pooler answers for it: set `pooler=transaction` (or `pooler=session`), \
         or connect to the server itself"
    )]
    Pooler,
    /// The server did not answer in time.
    #[error("the server does not answer")]
    Hung,
    /// An argument cannot be encoded.
    #[error("an argument cannot be encoded")]
    Argument(#[source] Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// Converts an error of the server.
    pub(crate) fn server(mut fields: ErrorFields<'_>) -> Self {
        let (mut code, mut message, mut severity) = (String::new(), String::new(), String::new());
        while let Ok(Some(field)) = fields.next() {
            let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => code = text(),
                b'M' => message = text(),
                b'V' => severity = text(),
                // Localized. Some poolers send no other severity.
                b'S' if severity.is_empty() => severity = text(),
                _ => {}
            }
        }
        Self::of(code, message, severity == "FATAL" || severity == "PANIC")
    }

    /// Creates an error of the server, without a message that may quote data.
    pub(crate) fn of(code: String, mut message: String, is_fatal: bool) -> Self {
        if let Some((_, meaning)) = ABOUT_DATA.iter().find(|(class, _)| code.starts_with(class)) {
            message = (*meaning).to_owned();
        }
        Self::Server { code, message, is_fatal }
    }

    /// The peer closed the connection.
    pub(crate) fn closed() -> Self {
        io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection").into()
    }

    /// Returns true if the connection cannot be used any more.
    pub(crate) fn ends_connection(&self) -> bool {
        match self {
            Self::Server { is_fatal, .. } => {
                *is_fatal || self.class().cure == Cure::OtherConnection
            }
            Self::Argument(_) => false,
            _ => true,
        }
    }

    /// Returns true if the server itself states that the statement had no effect, before it
    /// confirmed anything.
    ///
    /// An error rolls the statement back, and so does the end of its server process. Class 08 is
    /// excluded: poolers use it to report that they lost a server, and they do not know the fate of
    /// the statement.
    pub(crate) fn is_rollback(&self) -> bool {
        match self {
            Self::Server { code, .. } => !code.starts_with("08") && code != "40003",
            Self::Argument(_) => true,
            _ => false,
        }
    }

    /// Returns true if a statement that had no effect may succeed when it is sent again.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Server { is_fatal, .. } => *is_fatal || self.class().cure != Cure::None,
            Self::Argument(_) => false,
            _ => true,
        }
    }

    /// Returns true if another host has become the primary, or should have.
    pub(crate) fn is_demotion(&self) -> bool {
        self.class().cure == Cure::OtherHost
    }

    /// Returns true if the server has no connection left for this role or database.
    fn is_full(&self) -> bool {
        match self {
            Self::Server { code, message, .. } => {
                code == "53300"
                    // PgBouncer uses one code for all its errors.
                    || code == "08P01" && message.starts_with("no more connections allowed")
            }
            _ => false,
        }
    }

    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Server { code, .. } if code == "3F000" || code == "42P01")
    }

    fn class(&self) -> Class {
        match self {
            Self::Server { code, .. } => Class::of(code),
            Self::Argument(_) | Self::Pooler => Class { reach: Reach::Service, cure: Cure::None },
            Self::Standby | Self::ReadOnly => Class { reach: Reach::Server, cure: Cure::OtherHost },
            // It is only known that this connection does not work: a proxy may have cut it, or the
            // server may be down.
            Self::Connection(_) | Self::Protocol(_) | Self::Hung => {
                Class { reach: Reach::Server, cure: Cure::OtherConnection }
            }
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Connection(error.into())
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        if let Failure::Hung = failure {
            return Self::Timeout;
        }
        match failure.class().reach {
            Reach::Server => Self::unavailable(failure),
            Reach::Call => Self::Timeout,
            Reach::Writes => Self::writes_refused(failure),
            Reach::Record => Self::busy(failure),
            Reach::Service => Self::refused(failure),
        }
    }
}

/// The meaning of an SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    reach: Reach,
    cure: Cure,
}

impl Class {
    /// Returns the entry with the longest matching prefix. An unknown code is treated as a fault of
    /// this service.
    fn of(code: &str) -> Self {
        let fitting = CLASSES.iter().filter(|(prefix, ..)| code.starts_with(prefix));
        let (_, reach, cure) = fitting.max_by_key(|(prefix, ..)| prefix.len()).unwrap_or(&(
            "",
            Reach::Service,
            Cure::None,
        ));
        Self { reach: *reach, cure: *cure }
    }
}

/// The reach of a server error: the scope of the [`StoreError`] that it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The server serves no calls: `Unavailable`.
    Server,
    /// This call took too long: `Timeout`.
    Call,
    /// The server accepts no writes: `WritesRefused`.
    Writes,
    /// The record is locked: `Busy`.
    Record,
    /// An operator has to act: `Refused`.
    Service,
}

/// The possible remedy for a statement that had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cure {
    None,
    /// Send it again.
    Repeat,
    /// Send it on another connection: this one is dead, or its session state is not as expected.
    OtherConnection,
    /// Send it to the host that is the primary now.
    OtherHost,
}

/// All classes of SQLSTATE, and the codes that differ from their class.
const CLASSES: &[(&str, Reach, Cure)] = {
    use Cure::{None, OtherConnection, OtherHost, Repeat};
    use Reach::{Call, Record, Server, Service, Writes};
    &[
        // Success, warnings and "no data": not errors.
        ("00", Service, None),
        ("01", Service, None),
        ("02", Service, None),
        ("03", Service, None),
        // Connection exception: poolers use it to report that they lost a server.
        ("08", Server, OtherConnection),
        ("09", Service, None),
        // Feature not supported. This includes "cached plan must not change result type" after a
        // migration.
        ("0A", Service, OtherConnection),
        ("0B", Service, None),
        ("0F", Service, None),
        ("0L", Service, None),
        ("0P", Service, None),
        ("0Z", Service, None),
        ("10", Service, None),
        ("20", Service, None),
        ("21", Service, None),
        // Data exception, integrity constraint violation: our statements cannot cause these.
        ("22", Service, None),
        ("23", Service, None),
        ("24", Service, None),
        // Invalid transaction state: this connection was left in a transaction.
        ("25", Service, OtherConnection),
        // Read-only: this host is a former primary, or a disk is full.
        ("25006", Writes, OtherHost),
        // `transaction_timeout`, since PostgreSQL 17.
        ("25P04", Call, None),
        // Invalid statement name: a pooler or the server has lost a prepared statement.
        ("26", Service, OtherConnection),
        ("27", Service, None),
        // Invalid authorization: a password was changed, or a role may not log in.
        ("28", Service, None),
        ("2B", Service, None),
        ("2D", Service, None),
        ("2F", Service, None),
        ("34", Service, None),
        ("38", Service, None),
        ("39", Service, None),
        ("3B", Service, None),
        // Invalid catalog or schema name.
        ("3D", Service, None),
        ("3F", Service, None),
        // Transaction rollback: serialization failures and deadlocks that persist.
        ("40", Record, Repeat),
        ("40002", Service, None),
        // The fate of the statement is unknown.
        ("40003", Server, None),
        // Access rule violation: a privilege, a table or a function is missing.
        ("42", Service, None),
        // Duplicate prepared statement: it belongs to another client of a pooler.
        ("42P05", Service, OtherConnection),
        ("44", Service, None),
        // Insufficient resources.
        ("53", Server, None),
        ("53100", Writes, None),
        // Too many connections.
        ("53300", Server, OtherConnection),
        ("53400", Service, None),
        // Program limit exceeded: transaction ids have run out until a vacuum.
        ("54", Writes, None),
        ("54001", Service, None),
        ("54011", Service, None),
        ("54023", Service, None),
        // Object not in prerequisite state.
        ("55", Service, None),
        // A lock was not available within `lock_timeout`.
        ("55P03", Record, None),
        // Operator intervention: shutdown, restart, `pg_terminate_backend`, `idle_session_timeout`.
        ("57", Server, OtherConnection),
        // `statement_timeout`, or `pg_cancel_backend`.
        ("57014", Call, None),
        ("57P04", Service, OtherConnection),
        // System error: a disk fails.
        ("58", Server, None),
        ("58P01", Service, None),
        ("58P02", Service, None),
        ("58P03", Service, None),
        // Snapshot too old.
        ("72", Service, Repeat),
        ("F0", Service, None),
        ("HV", Service, None),
        ("P0", Service, None),
        // Internal error: corrupted data or indexes.
        ("XX", Service, None),
    ]
};

/// Classes whose messages may quote data, with the text to show instead.
const ABOUT_DATA: [(&str, &str); 2] =
    [("22", "invalid data"), ("23", "a constraint of the table is violated")];

fn said(hosts: &[(String, Failure)]) -> String {
    let said = hosts.iter().map(|(host, failure)| match failure {
        Failure::Connection(error) => format!("{host} ({error})"),
        failure => format!("{host} ({failure})"),
    });
    said.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
