//! What nodes say to each other, and what is asked of an engine.

use std::time::Duration;

use sha2::{Digest, Sha256};
use steadfast_core::{
    Admission, Change, Deleted, Deletion, EndReason, KeyId, Lookup, Outcome, Patch, Principal,
    Proof, Record, RecordId, Refusal, SessionInfo, Timestamp, Version,
};

use crate::placement::Name;
use crate::record::{Copy, Delta, Stamp};

/// What one node says to another. Links keep the order; a link that lost something is closed.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// Who the sender is now: on every new link, and when it changes.
    Status(Status),
    /// A call for the owner of its record.
    Ask { number: u64, within: Duration, request: Request },
    /// The answer to an `Ask`.
    Reply { number: u64, reply: Reply },
    /// A change of a record by its owner, after `prev`.
    Replicate { seq: u64, id: RecordId, prev: Stamp, change: Replica },
    /// The answer to a `Replicate`.
    Ack { seq: u64, answer: Ack },
    /// These changes count; whatever else was replicated of these records does not.
    Confirm(Vec<(RecordId, Stamp)>),
    /// The sender keeps changes of these records that nobody confirmed.
    Unsettled(Vec<RecordId>),
    /// Records that the owner saw expire.
    Expired(Vec<RecordId>),
    /// Records that a budget of the owner ended, as they were then.
    Evicted(Vec<(RecordId, Stamp)>),
    /// Asks for a read lease, as a member of the base and as a holder.
    Lease { number: u64, applied: u64 },
    /// A read lease, counted from when it was asked for: whether the sender takes the other one for
    /// alive, and for how long its copies are good.
    Grant { number: u64, alive: bool, data: Duration },
    /// The sender takes a record over, and asks for what is held of it.
    Pull { number: u64, id: RecordId },
    /// The answer to a `Pull`; `None` if the other one is not the owner for all the sender knows.
    Pulled { number: u64, id: RecordId, held: Option<Held> },
    /// What the sender holds of records of the receiver, after its view changed.
    Offer(Vec<(RecordId, Stamp)>),
    /// Offered records that every holder has just so.
    Safe(Vec<RecordId>),
    /// Records that the owner wants to see.
    Want(Vec<RecordId>),
    /// A record for its owner.
    Handover { id: RecordId, held: Held },
    /// The sum of what the sender shares with the receiver, from an id up to another.
    Digest { from: RecordId, to: Option<RecordId>, sum: u64 },
    /// What it is a sum of, where the sums differ; asks for the same, unless it is the answer.
    Stamps { from: RecordId, to: Option<RecordId>, stamps: Vec<(RecordId, Stamp)>, is_answer: bool },
    /// Asks for the next part of a snapshot.
    Snapshot { view: u64, after: Option<RecordId> },
    /// A part of a snapshot; the next one begins after `next`.
    Chunk { view: u64, records: Vec<(RecordId, Kept)>, next: Option<RecordId> },
    /// The agreement on the base.
    Base(Ballot),
    /// What happened, for a node with listeners.
    Changes(Vec<Change>),
}

/// Who a node is, and what it takes the others for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) incarnation: u64,
    /// Whether its snapshot is complete.
    pub(crate) complete: bool,
    pub(crate) draining: bool,
    /// Whether it drains to leave for good.
    pub(crate) leaving: bool,
    pub(crate) base: Option<Base>,
    /// The digest of the placement it computes with.
    pub(crate) view: u64,
    /// Whether nothing is left to repair in that view, for all it knows.
    pub(crate) settled: bool,
    /// The incarnations it takes for dead, for good.
    pub(crate) down: Vec<(Name, u64)>,
    /// Whether somebody listens to changes there.
    pub(crate) listens: bool,
}

/// The members whose majority counts, agreed by a majority of the ones before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Base {
    pub(crate) lineage: u64,
    pub(crate) epoch: u64,
    /// Names and incarnations, sorted.
    pub(crate) members: Vec<(Name, u64)>,
}

/// A round of the agreement on the base after `epoch` (Lamport, "Paxos Made Simple").
#[derive(Clone, Debug)]
pub(crate) enum Ballot {
    Prepare { epoch: u64, ballot: u64 },
    Promise { epoch: u64, ballot: u64, accepted: Option<(u64, Base)> },
    Accept { epoch: u64, ballot: u64, base: Base },
    Accepted { epoch: u64, ballot: u64 },
}

/// What a node keeps under an id.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum Kept {
    #[default]
    Nothing,
    Live(Copy),
    /// It was deleted; remembered until then.
    Dead {
        stamp: Stamp,
        until: Timestamp,
        reason: EndReason,
    },
}

impl Kept {
    pub(crate) fn stamp(&self) -> Stamp {
        match self {
            Self::Nothing => Stamp::ZERO,
            Self::Live(copy) => copy.stamp,
            Self::Dead { stamp, .. } => *stamp,
        }
    }

    pub(crate) fn live(&self) -> Option<&Copy> {
        match self {
            Self::Live(copy) => Some(copy),
            Self::Nothing | Self::Dead { .. } => None,
        }
    }

    /// What brings a holder to the same, confirmed.
    pub(crate) fn replica(&self) -> Option<Replica> {
        match self {
            Self::Nothing => None,
            Self::Live(copy) => Some(Replica::Full(copy.clone(), true)),
            Self::Dead { stamp, until, reason } => {
                Some(Replica::Dead { stamp: *stamp, until: *until, reason: *reason })
            }
        }
    }
}

/// What a node holds of a record: what was confirmed, and what was not yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(crate) kept: Kept,
    pub(crate) tentative: Option<Copy>,
}

/// How a change is replicated.
#[derive(Clone, Debug)]
pub(crate) enum Replica {
    Delta(Delta),
    /// The whole record, and whether it was confirmed already.
    Full(Copy, bool),
    Dead {
        stamp: Stamp,
        until: Timestamp,
        reason: EndReason,
    },
}

/// What a holder says to a change.
#[derive(Clone, Debug)]
pub(crate) enum Ack {
    /// It is held.
    Held,
    /// The sender is not the owner, for all the holder knows.
    Refused,
    /// It does not fit what is held.
    Gap(Box<Held>),
}

/// A call, addressed to whoever owns the record.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Create {
        id: RecordId,
        record: Box<Record>,
        admission: Admission,
    },
    Load {
        id: RecordId,
        proof: Option<Proof>,
        seen: Option<Version>,
    },
    Update {
        id: RecordId,
        patch: Box<Patch>,
    },
    Delete {
        id: RecordId,
        proof: Option<Proof>,
        sign_in: Option<u64>,
        reason: EndReason,
    },
    /// Lists a session that is about to become a principal's, on its terms.
    Admit(Box<Login>),
    List {
        principal: Principal,
    },
    DeleteAll {
        principal: Principal,
        except: Option<RecordId>,
        epoch: Option<u64>,
        reason: EndReason,
    },
    /// What a list shows of a session, if it is the principal's.
    Peek {
        id: RecordId,
        principal: Principal,
    },
    /// Ends a session, if it is the principal's.
    End {
        id: RecordId,
        principal: Principal,
        reason: EndReason,
    },
}

/// A session that is about to become a principal's.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) id: RecordId,
    pub(crate) principal: Principal,
    pub(crate) until: Timestamp,
    pub(crate) admission: Admission,
}

impl Request {
    /// Ends a record on these conditions.
    pub(crate) fn delete(id: RecordId, deletion: &Deletion<'_>) -> Self {
        let Deletion { proof, sign_in, reason } = *deletion;
        Self::Delete { id, proof: proof.cloned(), sign_in, reason }
    }

    /// The record whose owner answers.
    pub(crate) fn key(&self) -> RecordId {
        match self {
            Self::Create { id, .. }
            | Self::Load { id, .. }
            | Self::Update { id, .. }
            | Self::Delete { id, .. }
            | Self::Peek { id, .. }
            | Self::End { id, .. } => *id,
            Self::Admit(login) => index_of(&login.principal),
            Self::List { principal } | Self::DeleteAll { principal, .. } => index_of(principal),
        }
    }

    /// Whether a list asks it of one of its sessions.
    pub(crate) fn is_from_list(&self) -> bool {
        matches!(self, Self::Peek { .. } | Self::End { .. })
    }

    /// Whether it may be sent again, since it does nothing the second time: a new session and a new
    /// secret are told by their hash, and who ended something may hear that it was over.
    pub(crate) fn is_repeatable(&self) -> bool {
        match self {
            Self::Update { patch, .. } => patch.rotation().is_some(),
            _ => true,
        }
    }
}

/// The answer to a call.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Outcome(Outcome),
    Lookup(Lookup),
    Ended(Deleted),
    Admitted(Vec<RecordId>),
    BelowFloor,
    Listed(Vec<SessionInfo>),
    Count(u64),
    Peeked(Option<SessionInfo>),
    /// It is not for the other one to answer; nothing happened.
    Refused,
    Failed(Failure),
}

impl Reply {
    /// The answer to a patch that is refused.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Gone => Self::Outcome(Outcome::Gone),
            Refusal::Superseded => Self::Outcome(Outcome::Superseded),
            Refusal::UnknownKey(key) => Self::Failed(Failure::UnknownKey(key)),
            Refusal::Conflict => Self::Outcome(Outcome::Conflict),
            Refusal::Rejected(rejection) => Self::Outcome(Outcome::Rejected(rejection)),
        }
    }
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("less than half of the base is in sight")]
    NoMajority,
    #[error("the write was acknowledged by too few nodes, and rolled back")]
    Unacknowledged,
    #[error("the owner of the record cannot be reached")]
    Unreachable,
    #[error("the record is changing its owner")]
    Moving,
    #[error("the session is ended, but not every node confirmed it")]
    NotConfirmed,
    #[error("no answer came before the deadline")]
    Timeout,
    #[error("the record's secret is hashed under {0}, which the caller does not have")]
    UnknownKey(KeyId),
}

/// The id of the record in which the sessions of a principal are listed: a UUID of version 8, which
/// no session has.
pub(crate) fn index_of(principal: &Principal) -> RecordId {
    let hash = Sha256::new_with_prefix("steadfast index")
        .chain_update(principal.realm().as_str())
        .chain_update([0])
        .chain_update(principal.id())
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = 0x80 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    RecordId::from_bytes(bytes)
}

/// Whether an id names a list of sessions.
pub(crate) fn is_index(id: RecordId) -> bool {
    id.as_bytes()[6] >> 4 == 8 && id.as_bytes()[8] >> 6 == 2
}
