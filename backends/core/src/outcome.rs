//! Requests to end sessions, and the answers of a store to changes.

use serde::{Serialize, Serializer};

use crate::proof::Proof;
use crate::rejection::Rejection;
use crate::route::RouteLabel;
use crate::token::RecordId;
use crate::version::Version;
use crate::writes::Counters;

/// The conditions and the reason of a deletion.
#[derive(Clone, Copy, Debug)]
pub struct Deletion<'a> {
    /// Requires a proof of the secret.
    pub proof: Option<&'a Proof>,
    /// Requires the record to be in this sign-in.
    pub sign_in: Option<u64>,
    /// The reason that [`Change::Ended`](crate::Change::Ended) reports.
    pub reason: EndReason,
}

impl Deletion<'_> {
    /// A sign-out without conditions.
    pub const LOGOUT: Deletion<'static> = Deletion::for_reason(EndReason::Logout);

    /// Creates a deletion without conditions.
    pub const fn for_reason(reason: EndReason) -> Self {
        Self { proof: None, sign_in: None, reason }
    }
}

/// The answer to a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The record was live, and is now gone from every node.
    Ended,
    /// No live record has this id, or the proof is wrong.
    Gone,
    /// The proof was right until a moment ago, or the record is in another sign-in. The record is
    /// unchanged.
    Superseded,
}

impl Deleted {
    /// Returns true if the record was live and ended.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Ended)
    }
}

/// The sessions of a principal to end, and the reason.
#[derive(Clone, Copy, Debug)]
pub struct Revocation {
    /// The session to keep, if any.
    pub except: Option<RecordId>,
    /// The new minimum epoch of later logins.
    pub epoch: Option<u64>,
    /// The reason that [`Change::Ended`](crate::Change::Ended) reports.
    pub reason: EndReason,
}

impl Revocation {
    /// A sign-out of all sessions, without a minimum epoch.
    pub const LOGOUT: Self = Self::for_reason(EndReason::Logout);

    /// Ends all sessions, without a minimum epoch.
    pub const fn for_reason(reason: EndReason) -> Self {
        Self { except: None, epoch: None, reason }
    }
}

/// The reason why a session ended. Serialized as its [`name`](Self::name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The user signed out, in this session or from another one.
    Logout,
    /// A deadline passed.
    Expired,
    /// The principal exceeded the session cap.
    Cap,
    /// A budget needed the memory.
    Evicted,
    /// An administrator ended the session.
    Admin,
    /// Another principal signed in to the session. The record lives on as a different session.
    Superseded,
    /// The process is stopping; the session itself lives on.
    Shutdown,
}

impl EndReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Logout,
        Self::Expired,
        Self::Cap,
        Self::Evicted,
        Self::Admin,
        Self::Superseded,
        Self::Shutdown,
    ];

    /// Returns the name in change feeds, logs and event streams.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Expired => "expired",
            Self::Cap => "cap",
            Self::Evicted => "evicted",
            Self::Admin => "admin",
            Self::Superseded => "superseded",
            Self::Shutdown => "shutdown",
        }
    }

    /// Returns the reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl Serialize for EndReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The answer to a create or an update.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The change was applied and is durable to the extent that the store promises.
    Applied(Applied),
    /// Create: another record has this id.
    Exists,
    /// Update: there is no such live record, or the proof is wrong.
    Gone,
    /// Update: the proof was right until a moment ago, or the record is in another sign-in than the
    /// patch requires.
    Superseded,
    /// Update: a required value or fence differs.
    Conflict,
    /// The change is invalid; no part of it was applied.
    Rejected(Rejection),
}

/// The effects of an applied change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The new version of the record.
    pub version: Version,
    /// The counters that were added to, with their new values.
    pub counters: Counters,
    /// The sessions that a cap ended.
    pub ended: Vec<RecordId>,
    /// The hints that the client should carry from now on.
    pub client_state: ClientState,
    /// True if fewer copies than configured hold the record.
    pub degraded: bool,
}

impl Applied {
    /// Creates the effects of a change that only sets the version.
    pub fn at(version: Version) -> Self {
        Self {
            version,
            counters: Counters::new(),
            ended: Vec::new(),
            client_state: ClientState::default(),
            degraded: false,
        }
    }
}

/// The hints that a client should carry from now on, in cookies without a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientState {
    /// The route labels of the nodes that hold the record, preferred first.
    pub routes: Vec<RouteLabel>,
    /// The version to ask for.
    pub version: Option<Version>,
}
