//! How PostgreSQL fails, how far that reaches, and what of it may be shown.

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
    /// The address has the wrong form.
    #[error("invalid database address")]
    Address(#[from] AddressError),
    /// A name has the wrong form.
    #[error("invalid schema or table name")]
    Name(#[from] NameError),
    /// There cannot be so many connections, or so little time.
    #[error("a store needs 1 to 1000 connections and a timeout of 1 ms to 60 s")]
    Bounds,
    /// A file with certificates or a key cannot be used.
    #[error("cannot use the certificates of {what}")]
    Certificates {
        /// The file, or `the system`.
        what: String,
        /// Why it cannot be used.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
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
    /// Requests would be refused.
    #[error("{missing}: {remedy}")]
    Unfit {
        /// Whom the database refuses what.
        missing: String,
        /// The remedy.
        remedy: String,
    },
    /// Nodes of release 0.1 use the database, and could not go on after a migration.
    #[error("nodes of release 0.1 are connected to the database: stop them, then migrate it")]
    InUse,
    /// The database refused.
    #[error("the database refuses to be set up")]
    Refused(#[source] Failure),
}

/// No host could be used: what each of them said.
#[derive(Debug, thiserror::Error)]
#[error("no primary among {}", said(.hosts))]
#[non_exhaustive]
pub struct Unreachable {
    /// Each host, and why it is of no use.
    pub hosts: Vec<(String, Failure)>,
}

impl Unreachable {
    /// Whether a host would serve if it had fewer connections.
    pub(crate) fn is_full(&self) -> bool {
        self.hosts.iter().any(|(_, failure)| failure.is_full())
    }

    /// Whether every host refuses, so that an operator has to act.
    pub(crate) fn is_refusal(&self) -> bool {
        let refuses = |failure: &Failure| failure.class().reach == Reach::Service;
        !self.hosts.is_empty() && self.hosts.iter().all(|(_, failure)| refuses(failure))
    }
}

/// A statement or a connection failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server reports an error. Its details may hold values, and are left out.
    #[error("{message} ({code})")]
    Server {
        /// The SQLSTATE.
        code: String,
        /// The message; for errors about data, the code's meaning.
        message: String,
        /// Whether the connection ends with it.
        is_fatal: bool,
    },
    /// The connection does not work, or not any more.
    #[error("the connection failed")]
    Connection(#[source] Box<dyn Error + Send + Sync>),
    /// The server's answer does not follow the protocol.
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(&'static str),
    /// The server is a standby.
    #[error("it is a standby")]
    Standby,
    /// The server is read-only.
    #[error("it is read-only")]
    ReadOnly,
    /// A connection pooler stands before the server, and the address does not say so.
    #[error(
        "a connection pooler answers for it: set `pooler=transaction` (or `pooler=session`), \
         or connect to the server itself"
    )]
    Pooler,
    /// The server did not answer in time.
    #[error("it does not answer")]
    Hung,
    /// An argument cannot be encoded.
    #[error("an argument cannot be encoded")]
    Argument(#[source] Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// An error as the server words it.
    pub(crate) fn server(mut fields: ErrorFields<'_>) -> Self {
        let (mut code, mut message, mut severity) = (String::new(), String::new(), String::new());
        while let Ok(Some(field)) = fields.next() {
            let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => code = text(),
                b'M' => message = text(),
                b'V' => severity = text(),
                // Localized; some poolers send no other.
                b'S' if severity.is_empty() => severity = text(),
                _ => {}
            }
        }
        if let Some((_, meaning)) = ABOUT_DATA.iter().find(|(class, _)| code.starts_with(class)) {
            message = (*meaning).to_owned();
        }
        Self::Server { code, message, is_fatal: severity == "FATAL" || severity == "PANIC" }
    }

    /// The other side ended the connection.
    pub(crate) fn closed() -> Self {
        io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection").into()
    }

    /// Whether the connection cannot be used any more.
    pub(crate) fn ends_connection(&self) -> bool {
        match self {
            Self::Server { is_fatal, .. } => {
                *is_fatal || self.class().cure == Cure::OtherConnection
            }
            Self::Argument(_) => false,
            _ => true,
        }
    }

    /// Whether this is the server's word, given before it confirmed anything, that the statement had no
    /// effect.
    ///
    /// An error rolls the statement back; so does the end of the process that ran it. Poolers answer for
    /// a server that they lost with class 08, and know nothing of the statement.
    pub(crate) fn is_rollback(&self) -> bool {
        match self {
            Self::Server { code, .. } => !code.starts_with("08") && code != "40003",
            Self::Argument(_) => true,
            _ => false,
        }
    }

    /// Whether a statement that had no effect may have one when it is sent again.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Server { is_fatal, .. } => *is_fatal || self.class().cure != Cure::None,
            Self::Argument(_) => false,
            _ => true,
        }
    }

    /// Whether another host has become the primary, or should have.
    pub(crate) fn is_demotion(&self) -> bool {
        self.class().cure == Cure::OtherHost
    }

    /// Whether the server has no connection left for this role or database.
    fn is_full(&self) -> bool {
        match self {
            Self::Server { code, message, .. } => {
                code == "53300"
                    // PgBouncer's, which has one code for everything.
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
            // Of this connection nothing more is known than that it does not work: a proxy may have cut
            // it, or the server may be gone.
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

/// What an SQLSTATE says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    reach: Reach,
    cure: Cure,
}

impl Class {
    /// The entry with the longest prefix of a code. A code that no server of ours has is our own fault.
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

/// How far an error of the server reaches: the scope of the [`StoreError`] that it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The server serves nobody: `Unavailable`.
    Server,
    /// This call took too long: `Timeout`.
    Call,
    /// The server takes no writes: `WritesRefused`.
    Writes,
    /// Something else holds the record: `Busy`.
    Record,
    /// An operator has to act: `Refused`.
    Service,
}

/// What can help a statement that had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cure {
    None,
    /// To send it again.
    Repeat,
    /// To send it over another connection: this one is dead, or not in the state we left it in.
    OtherConnection,
    /// To send it to the host that is the primary now.
    OtherHost,
}

/// Every class of SQLSTATE, and the codes that differ from their class.
const CLASSES: &[(&str, Reach, Cure)] = {
    use Cure::{None, OtherConnection, OtherHost, Repeat};
    use Reach::{Call, Record, Server, Service, Writes};
    &[
        // No errors.
        ("00", Service, None),
        ("01", Service, None),
        ("02", Service, None),
        ("03", Service, None),
        // Connection exception: what poolers say of a server that they lost.
        ("08", Server, OtherConnection),
        ("09", Service, None),
        // Feature not supported. Also "cached plan must not change result type", after a migration.
        ("0A", Service, OtherConnection),
        ("0B", Service, None),
        ("0F", Service, None),
        ("0L", Service, None),
        ("0P", Service, None),
        ("0Z", Service, None),
        ("10", Service, None),
        ("20", Service, None),
        ("21", Service, None),
        // Data exception, integrity constraint violation: statements of ours cause none.
        ("22", Service, None),
        ("23", Service, None),
        ("24", Service, None),
        // Invalid transaction state: something left this connection in a transaction.
        ("25", Service, OtherConnection),
        // Read-only: this was the primary, or a disk is full.
        ("25006", Writes, OtherHost),
        // `transaction_timeout`, since PostgreSQL 17.
        ("25P04", Call, None),
        // Invalid statement name: something between us and the server forgot what was prepared.
        ("26", Service, OtherConnection),
        ("27", Service, None),
        // Invalid authorization: a password was changed, a role lost its login.
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
        // Transaction rollback: serialization failures and deadlocks, over and over.
        ("40", Record, Repeat),
        ("40002", Service, None),
        // Whether the statement took effect is not known.
        ("40003", Server, None),
        // Access rule violation: a privilege, a table or a function is missing.
        ("42", Service, None),
        // Duplicate prepared statement: another client's, over a pooler.
        ("42P05", Service, OtherConnection),
        ("44", Service, None),
        // Insufficient resources.
        ("53", Server, None),
        ("53100", Writes, None),
        // Too many connections.
        ("53300", Server, OtherConnection),
        ("53400", Service, None),
        // Program limit exceeded: no transaction ids left, until somebody vacuums.
        ("54", Writes, None),
        ("54001", Service, None),
        ("54011", Service, None),
        ("54023", Service, None),
        // Object not in prerequisite state.
        ("55", Service, None),
        // A lock was not to be had within `lock_timeout`.
        ("55P03", Record, None),
        // Operator intervention: shutdown, restart, `pg_terminate_backend`, `idle_session_timeout`.
        ("57", Server, OtherConnection),
        // `statement_timeout`, or `pg_cancel_backend`.
        ("57014", Call, None),
        ("57P04", Service, OtherConnection),
        // System error: a disk that fails.
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

/// Classes whose messages may quote what is stored, and what to say instead.
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
