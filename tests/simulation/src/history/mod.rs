//! The calls of clients with their answers, and checks whether a single server could have given
//! these.

pub mod checks;
pub mod clients;
mod principals;
pub mod reports;
pub mod sides;
mod versions;

use std::time::Duration;

use steadfast_core::{RecordId, Version};

/// All calls of all clients, and the facts about their sessions.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The sessions, in order of creation.
    pub sessions: Vec<Session>,
    /// The cap of each principal's sessions.
    pub caps: Vec<usize>,
    /// The calls, in order of their start.
    pub calls: Vec<Call>,
    /// True if nodes end sessions of visitors for their budgets.
    pub evicts: bool,
    /// The time since which nothing is broken. A call that is unanswered by then takes effect soon
    /// or never.
    pub well_since: Option<Duration>,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The id of its record.
    pub id: RecordId,
    /// Its principal.
    pub principal: Option<usize>,
    /// Its idle lifetime.
    pub idle: Duration,
}

/// One call, from its start to its end.
#[derive(Clone, Debug)]
pub struct Call {
    /// The session or the principal that it concerns.
    pub subject: Subject,
    /// The request.
    pub asked: Asked,
    /// The node that received it.
    pub node: usize,
    /// The time at which it started.
    pub begin: Duration,
    /// The time at which it was answered or abandoned.
    pub end: Duration,
    /// The answer that its client got.
    pub told: Told,
}

/// The subject of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A session, by its index in the history.
    Session(usize),
    /// A principal.
    Principal(usize),
}

/// A client's request. Secrets and values are numbers, each of which is used once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Creates a session with a secret. With a principal, it is a login in this epoch of the
    /// principal.
    Create {
        /// The first secret.
        secret: u64,
        /// The principal's epoch.
        epoch: Option<u64>,
    },
    /// Sets a key to a number.
    Put(Key, i64),
    /// Removes a key.
    Remove(Key),
    /// Removes both keys.
    Clear,
    /// Replaces the first number of a key by the second.
    Swap(Key, i64, i64),
    /// Adds 1 to the counter.
    Add,
    /// Extends the life to a time.
    Touch(Duration),
    /// Replaces the first secret by the second.
    Rotate(u64, u64),
    /// Ends the session.
    Delete,
    /// Reads the session, with a secret and the carried version.
    Load {
        /// The secret, or `None` if an earlier request showed it.
        secret: Option<u64>,
        /// The last version that the client saw.
        carried: Option<Version>,
    },
    /// Lists the principal's sessions.
    List,
    /// Ends all sessions of the principal, and refuses logins of an earlier epoch.
    DeleteAll(u64),
}

/// A key with values of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The first key.
    A,
    /// The second key.
    B,
}

/// The answer that a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// No answer, or a failure that leaves the outcome unknown.
    Nothing(String),
    /// The request was applied.
    Applied {
        /// The version from then on.
        version: Version,
        /// The counter, if the request added to it.
        counter: Option<i64>,
        /// The sessions that a cap ended.
        ended: Vec<RecordId>,
    },
    /// The session was found.
    Found(State),
    /// The session does not exist.
    Absent,
    /// The secret was replaced recently, or another sign-in began.
    Superseded,
    /// An expectation was not met.
    Conflict,
    /// The id is in use.
    Exists,
    /// The principal's epoch is too low.
    StaleEpoch,
    /// The node drains, and creates no sessions.
    Draining,
    /// The session was live, and ended.
    Ended,
    /// The live sessions.
    Listed(Vec<RecordId>),
    /// The number of sessions that ended.
    Count(u64),
}

/// A session as an answer showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its version.
    pub version: Version,
    /// Its keys, or 0 where they are missing.
    pub keys: [i64; 2],
    /// Its counter, or 0 if it is missing.
    pub counter: i64,
    /// The secret that opens it.
    pub secret: u64,
}

impl Call {
    /// Returns true if the client knows the outcome.
    pub fn is_answered(&self) -> bool {
        !matches!(self.told, Told::Nothing(_))
    }

    /// Returns true if the request is known to have had an effect.
    pub fn is_applied(&self) -> bool {
        matches!(self.told, Told::Applied { .. } | Told::Ended | Told::Count(_))
    }

    /// Returns true if the client saw a live session.
    fn saw_life(&self) -> bool {
        matches!(
            self.told,
            Told::Applied { .. } | Told::Found(_) | Told::Superseded | Told::Conflict | Told::Ended
        )
    }

    /// Returns the version in the answer.
    pub fn version(&self) -> Option<Version> {
        match &self.told {
            Told::Applied { version, .. } => Some(*version),
            Told::Found(state) => Some(state.version),
            _ => None,
        }
    }
}

impl History {
    /// Returns the calls that concern a session.
    pub fn of_session(&self, session: usize) -> impl Iterator<Item = &Call> + Clone {
        self.calls.iter().filter(move |call| call.subject == Subject::Session(session))
    }

    /// Returns the calls that concern a principal as a whole.
    pub fn of_principal(&self, principal: usize) -> impl Iterator<Item = &Call> + Clone {
        self.calls.iter().filter(move |call| call.subject == Subject::Principal(principal))
    }

    /// Returns the call that created a session.
    pub fn creation(&self, session: usize) -> Option<&Call> {
        self.of_session(session).find(|call| matches!(call.asked, Asked::Create { .. }))
    }
}
