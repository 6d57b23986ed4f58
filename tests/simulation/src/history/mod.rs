//! What clients asked and were told, and whether one server could have told it.

pub mod checks;
pub mod clients;
mod principals;
pub mod reports;
pub mod sides;
mod versions;

use std::time::Duration;

use steadfast_core::{RecordId, Version};

/// All calls of all clients, with what is known of the sessions.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The sessions, in the order in which they were created.
    pub sessions: Vec<Session>,
    /// How many sessions each principal may have.
    pub caps: Vec<usize>,
    /// The calls, in the order in which they began.
    pub calls: Vec<Call>,
    /// Whether nodes end sessions of visitors for their budgets.
    pub evicts: bool,
    /// Since when nothing is broken: what is not answered by then has its effect soon or never.
    pub well_since: Option<Duration>,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The id of its record.
    pub id: RecordId,
    /// Whose it is.
    pub principal: Option<usize>,
    /// How long it lives without a touch.
    pub idle: Duration,
}

/// One call, from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Call {
    /// About which session, or which principal.
    pub subject: Subject,
    /// What was asked.
    pub asked: Asked,
    /// Through which node.
    pub node: usize,
    /// When it began.
    pub begin: Duration,
    /// When it was answered, or given up.
    pub end: Duration,
    /// What its client was told.
    pub told: Told,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A session, by its place in the history.
    Session(usize),
    /// A principal.
    Principal(usize),
}

/// What a client asked for. Secrets and values are numbers, each of which is given once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A new session, with a secret; a login if the session has a principal, in this epoch of it.
    Create {
        /// The first secret.
        secret: u64,
        /// The principal's epoch.
        epoch: Option<u64>,
    },
    /// To put a number under a key.
    Put(Key, i64),
    /// To remove a key.
    Remove(Key),
    /// To remove both keys.
    Clear,
    /// To put a number if another one is there.
    Swap(Key, i64, i64),
    /// To add 1 to the counter.
    Add,
    /// To live until a time.
    Touch(Duration),
    /// To replace a secret by another one.
    Rotate(u64, u64),
    /// To end it.
    Delete,
    /// To see it, with a secret and the version that is carried.
    Load {
        /// What opens it; `None` for a request that opened it before.
        secret: Option<u64>,
        /// The version that the client was told last.
        carried: Option<Version>,
    },
    /// The principal's sessions.
    List,
    /// To end all sessions of the principal, and to refuse logins of an earlier epoch.
    DeleteAll(u64),
}

/// A key with values of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// One.
    A,
    /// The other.
    B,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing, or that it is not known.
    Nothing(String),
    /// It was done.
    Applied {
        /// The version from then on.
        version: Version,
        /// The counter, if it was added to.
        counter: Option<i64>,
        /// The sessions that a cap ended.
        ended: Vec<RecordId>,
    },
    /// The session as it is.
    Found(State),
    /// There is no such session.
    Absent,
    /// The secret was right until a moment ago, or another sign-in began.
    Superseded,
    /// An expectation was not met.
    Conflict,
    /// The id is taken.
    Exists,
    /// The principal's epoch is too low.
    StaleEpoch,
    /// No new sessions are taken.
    Draining,
    /// It was live, and ended.
    Ended,
    /// These sessions are live.
    Listed(Vec<RecordId>),
    /// So many sessions ended.
    Count(u64),
}

/// A session as it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its version.
    pub version: Version,
    /// Its keys; 0 if they are not there.
    pub keys: [i64; 2],
    /// Its counter; 0 if it is not there.
    pub counter: i64,
    /// The secret that opens it.
    pub secret: u64,
}

impl Call {
    /// Whether the client knows what came of it.
    pub fn is_answered(&self) -> bool {
        !matches!(self.told, Told::Nothing(_))
    }

    /// Whether it is known to have changed something.
    pub fn is_applied(&self) -> bool {
        matches!(self.told, Told::Applied { .. } | Told::Ended | Told::Count(_))
    }

    /// Whether the session was live for the client.
    fn saw_life(&self) -> bool {
        matches!(
            self.told,
            Told::Applied { .. } | Told::Found(_) | Told::Superseded | Told::Conflict | Told::Ended
        )
    }

    /// The version that its client was told.
    pub fn version(&self) -> Option<Version> {
        match &self.told {
            Told::Applied { version, .. } => Some(*version),
            Told::Found(state) => Some(state.version),
            _ => None,
        }
    }
}

impl History {
    /// The calls about a session.
    pub fn of_session(&self, session: usize) -> impl Iterator<Item = &Call> + Clone {
        self.calls.iter().filter(move |call| call.subject == Subject::Session(session))
    }

    /// The calls about a principal, not about its sessions.
    pub fn of_principal(&self, principal: usize) -> impl Iterator<Item = &Call> + Clone {
        self.calls.iter().filter(move |call| call.subject == Subject::Principal(principal))
    }

    /// The call that created a session.
    pub fn creation(&self, session: usize) -> Option<&Call> {
        self.of_session(session).find(|call| matches!(call.asked, Asked::Create { .. }))
    }
}
