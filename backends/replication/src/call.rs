//! Calls: requests to the owner of a record, and its replies.

use steadfast_core::{
    Applied, ApplyError, Counters, Deleted, EndReason, KeyId, LoginPolicy, Lookup, Op, Outcome,
    Patch, Principal, Proof, Record, RecordId, SessionInfo, Timestamp, Version,
};

use crate::member::Boot;
use crate::slots::HashKey;

/// Identifies a call: repetitions have the same id, and are applied once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// The process that calls.
    pub caller: Boot,
    /// Rises with each call of it.
    pub number: u64,
}

/// A call.
#[derive(Clone, Debug)]
pub enum Request {
    /// Stores a new record.
    Create {
        /// Its id.
        id: RecordId,
        /// The record to store.
        record: Box<Record>,
        /// The conditions for another session of the principal.
        policy: LoginPolicy,
    },
    /// Looks a record up.
    Load {
        /// Its id.
        id: RecordId,
        /// Shows the secret; `None` for a caller that proved it before.
        proof: Option<Proof>,
        /// The version that the client has seen.
        seen: Option<Version>,
    },
    /// Changes a live record.
    Update {
        /// Its id.
        id: RecordId,
        /// The patch to apply.
        patch: Box<Patch>,
    },
    /// Ends a record.
    Delete {
        /// Its id.
        id: RecordId,
        /// Ends it only for the holder of the secret.
        proof: Option<Proof>,
        /// Ends it only while it is in this sign-in.
        sign_in: Option<u64>,
        /// The reason for the end.
        reason: EndReason,
    },
    /// Ends a record, if it is the principal's.
    End {
        /// Its id.
        id: RecordId,
        /// The principal that it has to belong to.
        principal: Principal,
        /// The reason for the end.
        reason: EndReason,
        /// The login for which it ends at a cap.
        login: Option<CallId>,
    },
    /// Asks what a list shows of a session, if it is the principal's.
    Describe {
        /// Its id.
        id: RecordId,
        /// The principal that it has to belong to.
        principal: Principal,
    },
    /// Notes that the application has been told how a session ended.
    MarkReported {
        /// Its id.
        id: RecordId,
    },
    /// Asks the list of a principal's sessions.
    List {
        /// The principal.
        principal: Principal,
        /// The step.
        request: ListRequest,
    },
}

/// A request to the list of a principal's sessions.
#[derive(Clone, Debug)]
pub enum ListRequest {
    /// Admits a session that is about to be the principal's.
    Admit {
        /// The session.
        id: RecordId,
        /// The time when its principal authenticated.
        authenticated: Timestamp,
        /// Its absolute deadline.
        until: Timestamp,
        /// The conditions.
        policy: LoginPolicy,
    },
    /// The session is the principal's.
    Settle(RecordId),
    /// The session is not the principal's, or not any more.
    Remove(RecordId),
    /// The session has not become the principal's in time.
    Release(RecordId),
    /// Wants the sessions after one, in the order of their ids.
    Page(Option<RecordId>),
    /// Rejects logins below an epoch from now on.
    Raise(u64),
}

impl Request {
    /// The record whose owner answers.
    pub fn record(&self, key: &HashKey) -> RecordId {
        match self {
            Self::Create { id, .. }
            | Self::Load { id, .. }
            | Self::Update { id, .. }
            | Self::Delete { id, .. }
            | Self::End { id, .. }
            | Self::Describe { id, .. }
            | Self::MarkReported { id } => *id,
            Self::List { principal, .. } => key.list_of(principal),
        }
    }

    /// The bytes that it takes, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Create { record, .. } => size_of_record(record),
            Self::Update { patch, .. } => {
                let value =
                    |op: &Op| if let Op::Put(value) = op { value.as_bytes().len() } else { 8 };
                let written = patch.ops().map(|(key, op)| key.len() + value(op));
                let expected = patch.expectations().map(|(key, value)| {
                    key.len() + value.map_or(0, |value| value.as_bytes().len())
                });
                HEAD + written.chain(expected).sum::<usize>()
            }
            Self::Load { .. } | Self::Delete { .. } | Self::MarkReported { .. } => HEAD,
            Self::End { principal, .. }
            | Self::Describe { principal, .. }
            | Self::List { principal, .. } => 64 + principal.id().len(),
        }
    }
}

fn size_of_record(record: &Record) -> usize {
    HEAD + record.values.packed_len() + record.facts.as_bytes().len()
}

/// The approximate size of the parts that every session has.
const HEAD: usize = 256;

/// Some sessions of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Those that are the principal's.
    pub settled: Vec<RecordId>,
    /// Those that may be about to become so.
    pub reserved: Vec<RecordId>,
    /// The session after which the next page begins; `None` if this page is the last.
    pub next: Option<RecordId>,
}

/// The answer to a call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers a create or an update.
    Outcome(Outcome),
    /// Answers a load.
    Lookup(Lookup),
    /// Answers a delete.
    Deleted(Deleted),
    /// Answers an admission: the sessions above the cap.
    Admitted(Vec<RecordId>),
    /// Answers an admission: the first of too many sessions above the cap. Once they ended, it has
    /// to be asked for again.
    Crowded(Vec<RecordId>),
    /// Answers an admission: too many others are in progress, so the caller has to repeat it.
    Busy,
    /// Answers a page of a list.
    Page(ListPage),
    /// Answers a description; `None` for a session that is not the principal's.
    Described(Option<SessionInfo>),
    /// Answers other steps of a list, and a report.
    Done,
    /// Answers a list of sessions.
    Listed(Vec<SessionInfo>),
    /// The number of sessions that ended.
    Count(u64),
    /// There is no answer.
    Failed(Failure),
}

impl Reply {
    /// The bytes that it takes, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Outcome(Outcome::Applied(applied)) => HEAD + applied.ended.len() * 16,
            Self::Lookup(Lookup::Found(found)) => size_of_record(&found.record),
            Self::Admitted(ids) | Self::Crowded(ids) => ids.len() * 16,
            Self::Page(page) => (page.settled.len() + page.reserved.len()) * 16,
            Self::Listed(infos) => infos.len() * 64,
            _ => 64,
        }
    }

    /// The answer to a patch that changes nothing.
    pub fn refused(refusal: ApplyError) -> Self {
        match refusal {
            ApplyError::Gone => Self::Outcome(Outcome::Gone),
            ApplyError::Superseded => Self::Outcome(Outcome::Superseded),
            ApplyError::UnknownKey(key) => Self::Failed(Failure::UnknownKey(key)),
            ApplyError::Conflict => Self::Outcome(Outcome::Conflict),
            ApplyError::Rejected(rejection) => Self::Outcome(Outcome::Rejected(rejection)),
        }
    }
}

/// The reason why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It may have been applied, or may still be.
    #[error("no answer came before the deadline")]
    Timeout,
    /// The caller no longer waits for it: it came too late to recognize a repetition.
    #[error("the call came after its caller gave it up")]
    GivenUp,
    /// The record's secret is hashed under a key that the caller does not have.
    #[error("the record's secret is hashed under {0}, which the caller does not have")]
    UnknownKey(KeyId),
}

/// A call that was applied, as the record remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The call.
    pub call: CallId,
    /// The outcome.
    pub effect: CallEffect,
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEffect {
    /// It created or changed the record.
    Applied {
        /// The version after it.
        version: Version,
        /// The counters that it added to, with their new values.
        counters: Counters,
        /// The sessions that a cap ended.
        ended: Vec<RecordId>,
    },
    /// It ended the record.
    Ended,
}

impl CallEffect {
    /// The answer to the call, again.
    pub fn reply(&self) -> Reply {
        match self {
            Self::Ended => Reply::Deleted(Deleted::Ended),
            Self::Applied { version, counters, ended } => {
                let (counters, ended) = (counters.clone(), ended.clone());
                let applied = Applied { counters, ended, ..Applied::at(*version) };
                Reply::Outcome(Outcome::Applied(applied))
            }
        }
    }
}
