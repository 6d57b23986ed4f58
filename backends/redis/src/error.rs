//! Why a store cannot be set up, and what the errors of a server mean.

use std::error::Error;
use std::path::PathBuf;

use redis::{RedisError, ServerError, Value};
use steadfast_core::StoreError;

/// A store cannot be set up as it was asked to be. A server that does not answer is no such reason: it
/// may answer later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// There is no address to ask.
    #[error("no address of a server is given")]
    NoAddress,
    /// The file with the authorities to believe cannot be read.
    #[error("the file {path:?} with certificates of authorities cannot be read")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no authority to believe.
    #[error("no certificate of an authority was found to verify servers with")]
    NoAuthority,
    /// The certificate to show to servers cannot be read, or its key is that of another one.
    #[error("the file {path:?} with the certificate to show, or its key, cannot be used")]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A cluster has one database only.
    #[error("a cluster has no database {0}, only 0")]
    Database(u32),
    /// A connection that is given has these already.
    #[error(
        "a connection that is given to the store has a user, a database and TLS of its own, and \
             waits for no replicas"
    )]
    GivenConnection,
    /// A Unix socket takes no TLS.
    #[error("a Unix socket takes no TLS")]
    TlsOverUnixSocket,
}

/// Servers cannot serve a store, or do not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// They cannot do what requests will ask of them, until an operator changes something.
    #[error("{missing}: {remedy}")]
    Unfit {
        /// What is missing.
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

    /// Why a command failed, as this user, on keys of this prefix.
    pub(crate) fn of_fault(fault: Fault, command: &str, user: &str, prefix: &str) -> Self {
        let explained = match &fault {
            Fault::Refused(why) => Self::of_refusal(why, command, user, prefix),
            _ => None,
        };
        explained.unwrap_or_else(|| Self::Unavailable(fault.into()))
    }

    /// `None` if the server cannot serve for a while only.
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

/// Why there is no answer, by what is known of the command.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It was not sent.
    Unsent(Box<dyn Error + Send + Sync>),
    /// The connection broke while it was under way.
    Lost(RedisError),
    /// Nothing came back.
    Silent,
    /// The server refused it, and did nothing.
    Refused(ServerError),
    /// It was done, and is on fewer replicas than it should be.
    TooFewCopies { wanted: usize, got: i64 },
}

impl Fault {
    pub(crate) fn unsent(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unsent(cause.into())
    }

    /// An error of the server, or what kept it from being sent.
    pub(crate) fn of(error: RedisError) -> Self {
        match ServerError::try_from(error) {
            Ok(why) => Self::Refused(why),
            Err(error) => Self::unsent(error),
        }
    }

    /// An error of a connection that is not ours: what became of a command that has no answer is not
    /// known, unless the server was not even reached.
    pub(crate) fn given(error: RedisError) -> Self {
        if error.is_connection_refusal() {
            return Self::unsent(error);
        }
        match ServerError::try_from(error) {
            Ok(why) => Self::Refused(why),
            Err(error) => Self::Lost(error),
        }
    }

    /// An error of the server, by its text.
    pub(crate) fn refused(text: &str) -> Self {
        let (code, details) = text.split_once(' ').unwrap_or(("ERR", text));
        let error = redis::make_extension_error(code.to_owned(), Some(details.to_owned()));
        Self::of(error)
    }

    /// An answer, unless it is an error.
    pub(crate) fn unless_refused(answer: Value) -> Result<Value, Self> {
        match answer {
            Value::ServerError(why) => Err(Self::Refused(why)),
            answer => Ok(answer),
        }
    }

    /// Whether what is kept under a key has another type than it should.
    pub(crate) fn is_wrong_type(&self) -> bool {
        self.code() == Some("WRONGTYPE")
    }

    /// The code of the error that the server answered.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(why) => Some(code(why)),
            _ => None,
        }
    }

    /// Whether a script is not understood.
    pub(crate) fn is_about_compiling(&self) -> bool {
        matches!(self, Self::Refused(why) if why.details().is_some_and(|said| said.contains("compil")))
    }

    /// What may be done about it, beside telling the caller. A connection that broke tells nothing of
    /// what it carried; a server that refuses did nothing.
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

/// What the error of a server means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    reach: Reach,
    next: Next,
}

/// Which other calls fail for the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// All of them, for now.
    Server,
    /// Those that take memory, or change anything.
    Writes,
    /// Those about the same key.
    Record,
    /// Those of the same kind, until an operator changes something.
    Service,
}

/// What may be done about a call that was not made, beside telling the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: the same call would be refused again.
    Tell,
    /// The call may be made again, over a new connection: another server may be the primary by now.
    Elsewhere,
    /// The call may be made where the answer says.
    There,
    /// The call may be made a moment later.
    Later,
    /// The call may be made with the script itself in place of its hash.
    InFull,
}

impl Meaning {
    /// An error that no server is known to raise is our fault: whatever it is, the server answers.
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

/// The code of an error. Servers before Redis 7 wrap the one that stopped a script in another one:
/// `ERR Error running script (call to f_…): @user_script:3: @user_script: 3: -OOM command not …`.
fn code(why: &ServerError) -> &str {
    let wrapped = why.details().and_then(|text| text.rsplit_once(": -"));
    match (why.code(), wrapped) {
        ("ERR", Some((_, inner))) => inner.split(' ').next().unwrap_or_default(),
        (code, _) => code,
    }
}

/// Every code with which a server may answer what the store asks, or a connection that it opens.
const CODES: [(&str, Reach, Next); 29] = {
    use Next::{Elsewhere, InFull, Later, Tell, There};
    use Reach::{Record, Server, Service, Writes};
    [
        // The server cannot serve now, or another one has to.
        ("LOADING", Server, Elsewhere),
        ("MASTERDOWN", Server, Elsewhere),
        ("CLUSTERDOWN", Server, Later),
        ("BUSY", Server, Tell),
        ("UNBLOCKED", Server, Tell),
        ("NOMASTERLINK", Server, Tell),
        // It serves reads.
        ("READONLY", Writes, Elsewhere),
        ("OOM", Writes, Tell),
        ("NOREPLICAS", Writes, Tell),
        ("MISCONF", Writes, Tell),
        // The key is elsewhere, or on its way.
        ("MOVED", Service, There),
        ("ASK", Service, There),
        ("TRYAGAIN", Record, Later),
        ("WRONGTYPE", Record, Tell),
        ("BUSYKEY", Record, Tell),
        // An operator has to act, or this crate has a fault.
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

/// Errors without a code of their own, by a part of their text.
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

/// An error of the server. What it says of the arguments of a call is left out: values are among them.
#[derive(Debug, thiserror::Error)]
#[error("the server refuses: {}", said(.0))]
pub(crate) struct Refused(pub(crate) ServerError);

fn said(why: &ServerError) -> String {
    let details = why.details().unwrap_or_default();
    let details = details.split(", with args beginning with").next().unwrap_or_default();
    format!("{} {details}", why.code()).trim_end().to_owned()
}

#[derive(Debug, thiserror::Error)]
#[error("{got} replicas confirmed what {wanted} should have")]
struct TooFewCopies {
    wanted: usize,
    got: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_known_once_and_reaches_what_it_says() {
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
    fn an_error_that_stopped_a_script_is_found_inside_another_one() {
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
    fn what_may_have_been_received_is_sent_again_only_if_that_does_no_harm() {
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
