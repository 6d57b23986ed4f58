//! Errors of the setup, and the meaning of server errors.

use std::error::Error;
use std::path::PathBuf;

use redis::{RedisError, ServerError, Value};
use steadfast_core::StoreError;

/// The settings of a store are invalid. An unreachable server is not such an error: it may be
/// reachable later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// No server address was given.
    #[error("no server address was given")]
    NoAddress,
    /// The file with certificate authorities cannot be read.
    #[error("cannot read the certificate authorities in {path:?}")]
    Authorities {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// There are no certificate authorities to trust.
    #[error("no certificate authorities were found to verify servers")]
    NoAuthority,
    /// The client certificate cannot be read, or does not match its key.
    #[error("cannot use the client certificate or key in {path:?}")]
    Identity {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A cluster only has database 0.
    #[error("a cluster has no database {0}, only 0")]
    Database(u32),
    /// Settings that a given connection already has.
    #[error(
        "a user, a password, a database, TLS and replicas to wait for cannot be set for a given \
             connection"
    )]
    GivenConnection,
    /// A Unix socket does not support TLS.
    #[error("a Unix socket does not support TLS")]
    TlsOverUnixSocket,
}

/// The servers cannot serve the store, or do not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The servers cannot serve requests until an operator changes something.
    #[error("{missing}: {remedy}")]
    Unfit {
        /// The missing privilege, setting or feature.
        missing: String,
        /// The remedy.
        remedy: String,
    },
    /// A server does not answer.
    #[error("the server does not answer")]
    Unavailable(#[source] StoreError),
}

impl CheckError {
    pub(crate) fn of(error: StoreError, user: &str, prefix: &str) -> Self {
        let cause = error.source();
        if let Some(Refused(why)) = cause.and_then(|cause| cause.downcast_ref()) {
            return Self::of_refusal(why, "a script", user, prefix)
                .unwrap_or(Self::Unavailable(error));
        }
        match cause.and_then(|cause| cause.downcast_ref::<TooFewCopies>()) {
            Some(few) => Self::unfit(few, "start replicas, or wait for fewer"),
            None => Self::Unavailable(error),
        }
    }

    /// Explains why a command failed for this user, on keys with this prefix.
    pub(crate) fn of_fault(fault: Fault, command: &str, user: &str, prefix: &str) -> Self {
        let explained = match &fault {
            Fault::Refused(why) => Self::of_refusal(why, command, user, prefix),
            _ => None,
        };
        explained.unwrap_or_else(|| Self::Unavailable(fault.into()))
    }

    /// Returns `None` if the failure is temporary.
    fn of_refusal(why: &ServerError, command: &str, user: &str, prefix: &str) -> Option<Self> {
        let text = why.details().unwrap_or_default();
        let says = |part: &str| text.contains(part);
        let meaning = Meaning::of(why);
        Some(match code(why) {
            "READONLY" | "MASTERDOWN" => Self::unfit(
                "the server is a replica",
                "name its primary, or the sentinels with redis+sentinel:",
            ),
            "MOVED" | "ASK" | "CROSSSLOT" => Self::unfit(
                "the server is one node of a cluster",
                "name it with redis+cluster:, or set split=yes if the address stands for all nodes",
            ),
            "CLUSTERDOWN" => Self::unfit("the cluster is not whole", "see its CLUSTER INFO"),
            "NOAUTH" => Self::unfit("the server demands a password", "name a user and a password"),
            "WRONGPASS" => Self::unfit(
                format_args!("the server refuses the user {user:?} or the password"),
                "check both; in a URL, characters such as / ? # % @ are percent-encoded",
            ),
            "OOM" => Self::unfit("the server's memory is full", "raise its maxmemory"),
            "MISCONF" => Self::unfit("the server cannot save its data", "see its log"),
            "NOREPLICAS" => Self::unfit(
                "the server takes no writes without its replicas",
                "start them, or lower its min-replicas-to-write",
            ),
            _ if says("channel") => Self::unfit(
                format_args!("the user {user:?} may not {command} on the channel {prefix}:f"),
                format_args!("grant &{prefix}:*"),
            ),
            _ if says("access at least one of the keys") || says("access one of the keys") => {
                Self::unfit(
                    format_args!("the user {user:?} may not {command} on the keys {prefix}:*"),
                    format_args!("grant ~{prefix}:*"),
                )
            }
            "NOPERM" => Self::may_not(command, user),
            _ if says("can't run this command") => Self::may_not(command, user),
            _ if says("cluster support disabled") => {
                Self::unfit("the server is not part of a cluster", "name it with redis:")
            }
            _ if says("No such master") => Self::unfit(
                "the sentinels know no service of this name",
                "see SENTINEL MASTERS for those they know",
            ),
            _ if says("unknown command") && text.contains("SENTINEL") => {
                Self::unfit("the server is no sentinel", "name it with redis:")
            }
            _ if says("unknown command") || says("Unknown Redis command") => Self::unfit(
                format_args!("the server has no command {command}: {}", said(why)),
                "use Redis 6.2 or later, or name sentinels with redis+sentinel:",
            ),
            _ if says("DB index") || says("SELECT is not allowed") => {
                Self::unfit("the server has no such database", "use 0, or raise its databases")
            }
            _ if meaning.reach == Reach::Server => return None,
            _ => Self::unfit(
                format_args!("the server refuses {command}"),
                format_args!("it says {:?}", said(why)),
            ),
        })
    }

    fn may_not(command: &str, user: &str) -> Self {
        Self::unfit(
            format_args!("the user {user:?} may not call {command}"),
            format_args!("grant +{}, or all that users.acl has", command.to_lowercase()),
        )
    }

    fn unfit(missing: impl std::fmt::Display, remedy: impl std::fmt::Display) -> Self {
        Self::Unfit { missing: missing.to_string(), remedy: remedy.to_string() }
    }
}

/// The reason for a missing answer, with what is known about the fate of the command.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The command was not sent.
    Unsent(Box<dyn Error + Send + Sync>),
    /// The connection broke while the command was in progress.
    Lost(RedisError),
    /// No answer arrived in time.
    Silent,
    /// The server refused the command and did nothing.
    Refused(ServerError),
    /// The command was executed, but too few replicas confirmed it.
    TooFewCopies { wanted: usize, got: i64 },
}

impl Fault {
    pub(crate) fn unsent(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unsent(cause.into())
    }

    /// Converts an error of the driver.
    pub(crate) fn of(error: RedisError) -> Self {
        match ServerError::try_from(error) {
            Ok(why) => Self::Refused(why),
            Err(error) => Self::unsent(error),
        }
    }

    /// Converts an error of a given connection. The fate of a command without an answer is unknown,
    /// unless the server was not reached at all.
    pub(crate) fn given(error: RedisError) -> Self {
        if error.is_connection_refusal() {
            return Self::unsent(error);
        }
        match ServerError::try_from(error) {
            Ok(why) => Self::Refused(why),
            Err(error) => Self::Lost(error),
        }
    }

    /// Creates a refusal from the text of a server error.
    pub(crate) fn refused(text: &str) -> Self {
        let (code, details) = text.split_once(' ').unwrap_or(("ERR", text));
        let error = redis::make_extension_error(code.to_owned(), Some(details.to_owned()));
        Self::of(error)
    }

    /// Returns an answer unless it is an error.
    pub(crate) fn unless_refused(answer: Value) -> Result<Value, Self> {
        match answer {
            Value::ServerError(why) => Err(Self::Refused(why)),
            answer => Ok(answer),
        }
    }

    /// Returns true if the key has the wrong type.
    pub(crate) fn is_wrong_type(&self) -> bool {
        self.code() == Some("WRONGTYPE")
    }

    /// Returns the code of the server error.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(why) => Some(code(why)),
            _ => None,
        }
    }

    /// Returns true if the server cannot compile a script.
    pub(crate) fn is_about_compiling(&self) -> bool {
        matches!(self, Self::Refused(why) if why.details().is_some_and(|said| said.contains("compil")))
    }

    /// Returns the possible reaction, besides reporting the error. After a broken connection, the
    /// fate of the command is unknown. After a refusal, it is known that nothing happened.
    pub(crate) fn next(&self, is_repeatable: bool) -> Next {
        match self {
            Self::Refused(why) => Meaning::of(why).next,
            Self::Lost(_) if is_repeatable => Next::Elsewhere,
            Self::Unsent(_) | Self::Lost(_) | Self::Silent | Self::TooFewCopies { .. } => {
                Next::Tell
            }
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unsent(cause) => Self::Unavailable(cause),
            Fault::Lost(cause) => Self::unavailable(cause),
            Fault::Silent => Self::Timeout,
            Fault::Refused(why) => match Meaning::of(&why).reach {
                Reach::Server => Self::unavailable(Refused(why)),
                Reach::Writes => Self::writes_refused(Refused(why)),
                Reach::Record => Self::busy(Refused(why)),
                Reach::Service => Self::refused(Refused(why)),
            },
            Fault::TooFewCopies { wanted, got } => {
                Self::writes_refused(TooFewCopies { wanted, got })
            }
        }
    }
}

/// The meaning of a server error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    reach: Reach,
    next: Next,
}

/// The other calls that fail for the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// All calls, for now.
    Server,
    /// Calls that take memory or change anything.
    Writes,
    /// Calls for the same key.
    Record,
    /// Calls of the same kind, until an operator changes something.
    Service,
}

/// The possible reaction to a call that was not executed, besides reporting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// None: the same call would be refused again.
    Tell,
    /// Repeat the call on a new connection: another server may be the primary now.
    Elsewhere,
    /// Repeat the call on the server that the answer names.
    There,
    /// Repeat the call a little later.
    Later,
    /// Repeat the call with the full script instead of its hash.
    InFull,
}

impl Meaning {
    /// Classifies an error. An unknown code is treated as a fault of this service, because the
    /// server does answer.
    fn of(why: &ServerError) -> Self {
        let unknown = Self { reach: Reach::Service, next: Next::Tell };
        let of_text = || {
            let text = why.details().unwrap_or_default();
            let found = TEXTS.iter().find(|(part, ..)| text.contains(part));
            found.map(|(_, reach, next)| Self { reach: *reach, next: *next })
        };
        let code = code(why);
        let found = CODES.iter().find(|(known, ..)| *known == code);
        match found {
            Some((_, reach, next)) => Self { reach: *reach, next: *next },
            None => of_text().unwrap_or(unknown),
        }
    }
}

/// Returns the code of an error. Servers before Redis 7 wrap the error that stopped a script in
/// another one: `ERR Error running script (call to f_…): @user_script:3: @user_script: 3: -OOM
/// command not …`.
fn code(why: &ServerError) -> &str {
    let wrapped = why.details().and_then(|text| text.rsplit_once(": -"));
    match (why.code(), wrapped) {
        ("ERR", Some((_, inner))) => inner.split(' ').next().unwrap_or_default(),
        (code, _) => code,
    }
}

/// All codes that a server may return to the store's commands or to a new connection.
const CODES: [(&str, Reach, Next); 29] = {
    use Next::{Elsewhere, InFull, Later, Tell, There};
    use Reach::{Record, Server, Service, Writes};
    [
        // Temporary failures of the server, or of its role.
        ("LOADING", Server, Elsewhere),
        ("MASTERDOWN", Server, Elsewhere),
        ("CLUSTERDOWN", Server, Later),
        ("BUSY", Server, Tell),
        ("UNBLOCKED", Server, Tell),
        ("NOMASTERLINK", Server, Tell),
        // Reads still work.
        ("READONLY", Writes, Elsewhere),
        ("OOM", Writes, Tell),
        ("NOREPLICAS", Writes, Tell),
        ("MISCONF", Writes, Tell),
        // The key is on another server, or is being migrated.
        ("MOVED", Service, There),
        ("ASK", Service, There),
        ("TRYAGAIN", Record, Later),
        ("WRONGTYPE", Record, Tell),
        ("BUSYKEY", Record, Tell),
        // An operator must act, or this crate has a bug.
        ("NOSCRIPT", Service, InFull),
        ("CROSSSLOT", Service, Tell),
        ("NOAUTH", Service, Tell),
        ("WRONGPASS", Service, Tell),
        ("NOPERM", Service, Tell),
        ("DENIED", Service, Tell),
        ("NOPROTO", Service, Tell),
        ("EXECABORT", Service, Tell),
        ("UNKILLABLE", Service, Tell),
        ("NOTBUSY", Service, Tell),
        ("BUSYGROUP", Service, Tell),
        ("NOGROUP", Service, Tell),
        ("NOSUB", Service, Tell),
        ("IDONTKNOW", Service, Tell),
    ]
};

/// Errors without a code, by a part of their text.
const TEXTS: [(&str, Reach, Next); 4] = {
    use Next::{Elsewhere, Tell};
    use Reach::{Record, Server};
    [
        ("max number of clients", Server, Tell),
        ("max number of clients + cluster", Server, Tell),
        ("closing connection", Server, Elsewhere),
        ("Script killed by user", Record, Tell),
    ]
};

/// A server error, without the parts that may quote arguments of the call: these include values.
#[derive(Debug, thiserror::Error)]
#[error("the server returned an error: {}", said(.0))]
pub(crate) struct Refused(pub(crate) ServerError);

fn said(why: &ServerError) -> String {
    let details = why.details().unwrap_or_default();
    let details = details.split(", with args beginning with").next().unwrap_or_default();
    format!("{} {details}", why.code()).trim_end().to_owned()
}

#[derive(Debug, thiserror::Error)]
#[error("only {got} of {wanted} replicas confirmed the write")]
struct TooFewCopies {
    wanted: usize,
    got: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_one_entry() {
        for (n, (known, reach, next)) in CODES.iter().enumerate() {
            assert!(CODES[..n].iter().all(|(other, ..)| other != known), "{known} twice");
            let fault = Fault::Refused(error(&format!("-{known} for a reason\r\n")));
            assert_eq!(fault.code(), Some(*known));
            assert_eq!(fault.next(false), *next, "{known}");
            let scope = StoreError::from(fault).scope();
            assert_eq!(scope, scope_of(*reach), "{known}");
        }
        for (text, reach, _) in TEXTS {
            let error = StoreError::from(Fault::Refused(error(&format!("-ERR {text}\r\n"))));
            assert_eq!(error.scope(), scope_of(reach), "{text}");
        }
    }

    #[test]
    fn an_unknown_error_says_that_the_server_answers() {
        for text in ["-ERR unknown command 'X'\r\n", "-NOVELTY of a later server\r\n"] {
            let fault = Fault::Refused(error(text));
            assert_eq!(fault.next(true), Next::Tell);
            assert!(matches!(StoreError::from(fault), StoreError::Refused(_)), "{text}");
        }
    }

    #[test]
    fn a_wrapped_script_error_is_unwrapped() {
        let text = "-ERR Error running script (call to f_0a): @user_script:3: @user_script: 3: \
                    -OOM command not allowed when used memory > 'maxmemory'.\r\n";
        assert!(matches!(
            StoreError::from(Fault::Refused(error(text))),
            StoreError::WritesRefused(_)
        ));
    }

    #[test]
    fn no_error_shows_an_argument() {
        let text =
            "-ERR unknown command 'HSET', with args beginning with: 'k' 'vcard' 'hunter2'\r\n";
        assert_eq!(said(&error(text)), "ERR unknown command 'HSET'");
    }

    #[test]
    fn a_lost_call_is_repeated_only_if_safe() {
        let lost = || Fault::Lost(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
        assert_eq!(lost().next(true), Next::Elsewhere);
        for fault in [lost(), Fault::Silent, Fault::unsent("nobody listens")] {
            assert_eq!(fault.next(false), Next::Tell);
            assert_eq!(scope_of(Reach::Server), StoreError::from(fault).scope());
        }
        assert_eq!(Fault::Silent.next(true), Next::Tell);
        let few = Fault::TooFewCopies { wanted: 1, got: 0 };
        assert_eq!(few.next(true), Next::Tell);
        assert!(matches!(StoreError::from(few), StoreError::WritesRefused(_)));
    }

    fn scope_of(reach: Reach) -> steadfast_core::Scope {
        match reach {
            Reach::Server => steadfast_core::Scope::Server,
            Reach::Writes => steadfast_core::Scope::Writes,
            Reach::Record => steadfast_core::Scope::Record,
            Reach::Service => steadfast_core::Scope::Service,
        }
    }

    fn error(wire: &str) -> ServerError {
        match redis::parse_redis_value(wire.as_bytes()) {
            Ok(Value::ServerError(error)) => error,
            other => panic!("{wire}: {other:?}"),
        }
    }
}
