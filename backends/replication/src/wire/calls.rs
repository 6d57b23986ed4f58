//! Calls, and the answers to them.

use steadfast_core::{
    Absence, Applied, ClientState, Deleted, EndReason, Found, KeyId, LimitError, Lookup, Outcome,
    Record, Rejection, Version,
};

use super::lists::{list_request, listed, to_listed, to_listing};
use super::proto::call::Request as Asked;
use super::proto::lookup::Lookup as Seen;
use super::proto::outcome::Outcome as Came;
use super::proto::rejection::Why;
use super::proto::reply::Reply as Said;
use super::scalars::{boot, boot_bytes, name};
use super::values::{
    by_key, end_reason, end_reason_number, id, id_bytes, id_or_none, id_or_none_bytes, ids,
    ids_bytes, key, length, optional, proof, proof_bytes, required,
};
use super::{WireError, proto};
use crate::call::{CallEffect, CallId, Done, Failure, ListPage, Reply, Request};

impl From<&Request> for Asked {
    fn from(request: &Request) -> Self {
        match request {
            Request::Create { id, record, policy } => Self::Create(proto::Create {
                id: id_bytes(*id),
                record: Some(record.as_ref().into()),
                policy: Some(policy.into()),
            }),
            Request::Load { id, proof, seen } => Self::Load(proto::Load {
                id: id_bytes(*id),
                proof: proof_bytes(proof.as_ref()),
                seen: seen.map(|version| version.0),
            }),
            Request::Update { id, patch } => Self::Update(proto::Update {
                id: id_bytes(*id),
                patch: Some(patch.as_ref().into()),
            }),
            Request::Delete { id, proof, sign_in, reason } => Self::Delete(proto::Delete {
                id: id_bytes(*id),
                proof: proof_bytes(proof.as_ref()),
                sign_in: *sign_in,
                reason: end_reason_number(*reason),
            }),
            Request::End { id, principal, reason, login } => Self::End(proto::End {
                id: id_bytes(*id),
                principal: Some(principal.into()),
                reason: end_reason_number(*reason),
                login: login.map(Into::into),
            }),
            Request::Describe { id, principal } => {
                let (id, principal) = (id_bytes(*id), Some(principal.into()));
                Self::Describe(proto::Describe { id, principal })
            }
            Request::MarkReported { id } => Self::MarkReported(id_bytes(*id)),
            Request::List { principal, request } => Self::List(to_listing(principal, request)),
        }
    }
}

impl TryFrom<Asked> for Request {
    type Error = WireError;

    fn try_from(wire: Asked) -> Result<Self, WireError> {
        Ok(match wire {
            Asked::Create(create) => Self::Create {
                id: id(&create.id)?,
                record: Box::new(required(create.record, "a new record")?),
                policy: required(create.policy, "the terms of a login")?,
            },
            Asked::Load(load) => Self::Load {
                id: id(&load.id)?,
                proof: proof(&load.proof)?,
                seen: load.seen.map(Version),
            },
            Asked::Update(update) => Self::Update {
                id: id(&update.id)?,
                patch: Box::new(required(update.patch, "a patch")?),
            },
            Asked::Delete(delete) => Self::Delete {
                id: id(&delete.id)?,
                proof: proof(&delete.proof)?,
                sign_in: delete.sign_in,
                reason: end_reason(delete.reason),
            },
            Asked::End(end) => Self::End {
                id: id(&end.id)?,
                principal: required(end.principal, PRINCIPAL)?,
                reason: end_reason(end.reason),
                login: optional(end.login)?,
            },
            Asked::Describe(describe) => Self::Describe {
                id: id(&describe.id)?,
                principal: required(describe.principal, PRINCIPAL)?,
            },
            Asked::MarkReported(wire) => Self::MarkReported { id: id(&wire)? },
            Asked::List(listing) => Self::List {
                principal: required(listing.principal, PRINCIPAL)?,
                request: list_request(listing.request)?,
            },
        })
    }
}

impl From<&Reply> for Said {
    fn from(reply: &Reply) -> Self {
        match reply {
            Reply::Outcome(outcome) => Self::Outcome(outcome.into()),
            Reply::Lookup(lookup) => Self::Lookup(lookup.into()),
            Reply::Deleted(deleted) => Self::Deleted(proto::Deleted::from(*deleted).into()),
            Reply::Admitted(ended) => Self::Admitted(ids_bytes(ended)),
            Reply::Crowded(above) => Self::Crowded(ids_bytes(above)),
            Reply::Busy => Self::Busy(EMPTY),
            Reply::Page(ListPage { settled, reserved, next }) => Self::Page(proto::SessionPage {
                settled: ids_bytes(settled),
                reserved: ids_bytes(reserved),
                next: id_or_none_bytes(*next),
            }),
            Reply::Described(session) => {
                Self::Described(proto::Described { session: session.as_ref().map(Into::into) })
            }
            Reply::Done => Self::Done(EMPTY),
            Reply::Listed(sessions) => Self::Listed(to_listed(sessions)),
            Reply::Count(count) => Self::Count(*count),
            Reply::Failed(Failure::Timeout) => Self::Failed(proto::Failure::Timeout.into()),
            Reply::Failed(Failure::GivenUp) => Self::Failed(proto::Failure::GivenUp.into()),
            Reply::Failed(Failure::UnknownKey(key)) => Self::UnknownKey(key.into()),
        }
    }
}

impl TryFrom<Said> for Reply {
    type Error = WireError;

    fn try_from(wire: Said) -> Result<Self, WireError> {
        Ok(match wire {
            Said::Outcome(outcome) => Self::Outcome(outcome.try_into()?),
            Said::Lookup(lookup) => Self::Lookup(lookup.try_into()?),
            Said::Deleted(number) => Self::Deleted(match proto::Deleted::try_from(number) {
                Ok(proto::Deleted::Ended) => Deleted::Ended,
                Ok(proto::Deleted::Gone) => Deleted::Gone,
                Ok(proto::Deleted::Superseded) => Deleted::Superseded,
                Ok(proto::Deleted::Unspecified) | Err(_) => {
                    return Err(WireError::Part("the outcome of a deletion"));
                }
            }),
            Said::Admitted(ended) => Self::Admitted(ids(&ended)?),
            Said::Crowded(above) => Self::Crowded(ids(&above)?),
            Said::Busy(_) => Self::Busy,
            Said::Page(page) => Self::Page(ListPage {
                settled: ids(&page.settled)?,
                reserved: ids(&page.reserved)?,
                next: id_or_none(&page.next)?,
            }),
            Said::Described(described) => Self::Described(optional(described.session)?),
            Said::Done(_) => Self::Done,
            Said::Listed(sessions) => Self::Listed(listed(&sessions)?),
            Said::Count(count) => Self::Count(count),
            // A failure of a later version: the call may have been applied.
            Said::Failed(number) => Self::Failed(match proto::Failure::try_from(number) {
                Ok(proto::Failure::GivenUp) => Failure::GivenUp,
                _ => Failure::Timeout,
            }),
            Said::UnknownKey(key) => Self::Failed(Failure::UnknownKey(key.try_into()?)),
        })
    }
}

impl From<Deleted> for proto::Deleted {
    fn from(deleted: Deleted) -> Self {
        match deleted {
            Deleted::Ended => Self::Ended,
            Deleted::Gone => Self::Gone,
            Deleted::Superseded => Self::Superseded,
        }
    }
}

impl From<CallId> for proto::CallId {
    fn from(CallId { caller, number }: CallId) -> Self {
        Self { caller: boot_bytes(caller), number }
    }
}

impl TryFrom<proto::CallId> for CallId {
    type Error = WireError;

    fn try_from(wire: proto::CallId) -> Result<Self, WireError> {
        Ok(Self { caller: boot(&wire.caller)?, number: wire.number })
    }
}

impl From<&Done> for proto::Done {
    fn from(done: &Done) -> Self {
        let Done { call: CallId { caller, number }, effect } = done;
        let applied = match effect {
            CallEffect::Ended => None,
            CallEffect::Applied { version, counters, ended } => Some(proto::Effect {
                version: version.0,
                counters: counters.iter().map(|(key, by)| (key.to_string(), *by)).collect(),
                ended: ids_bytes(ended),
            }),
        };
        Self { caller: boot_bytes(*caller), number: *number, applied }
    }
}

impl TryFrom<proto::Done> for Done {
    type Error = WireError;

    fn try_from(wire: proto::Done) -> Result<Self, WireError> {
        let effect = match wire.applied {
            None => CallEffect::Ended,
            Some(proto::Effect { version, counters, ended }) => CallEffect::Applied {
                version: Version(version),
                counters: by_key(counters, Ok)?,
                ended: ids(&ended)?,
            },
        };
        Ok(Self { call: CallId { caller: boot(&wire.caller)?, number: wire.number }, effect })
    }
}

impl From<&Outcome> for proto::Outcome {
    fn from(outcome: &Outcome) -> Self {
        let came = match outcome {
            Outcome::Applied(applied) => Came::Applied(applied.into()),
            Outcome::Exists => Came::Exists(EMPTY),
            Outcome::Gone => Came::Gone(EMPTY),
            Outcome::Superseded => Came::Superseded(EMPTY),
            Outcome::Conflict => Came::Conflict(EMPTY),
            Outcome::Rejected(rejection) => Came::Rejected(rejection.into()),
        };
        Self { outcome: Some(came) }
    }
}

impl TryFrom<proto::Outcome> for Outcome {
    type Error = WireError;

    fn try_from(wire: proto::Outcome) -> Result<Self, WireError> {
        Ok(match wire.outcome.ok_or(WireError::Part("an outcome"))? {
            Came::Applied(applied) => Self::Applied(applied.try_into()?),
            Came::Exists(_) => Self::Exists,
            Came::Gone(_) => Self::Gone,
            Came::Superseded(_) => Self::Superseded,
            Came::Conflict(_) => Self::Conflict,
            Came::Rejected(rejection) => Self::Rejected(rejection.try_into()?),
        })
    }
}

impl From<&Applied> for proto::Applied {
    fn from(applied: &Applied) -> Self {
        let counters = applied.counters.iter();
        Self {
            version: applied.version.0,
            counters: counters.map(|(key, value)| (key.to_string(), *value)).collect(),
            ended: ids_bytes(&applied.ended),
            client_state: Some((&applied.client_state).into()),
            degraded: applied.degraded,
        }
    }
}

impl TryFrom<proto::Applied> for Applied {
    type Error = WireError;

    fn try_from(wire: proto::Applied) -> Result<Self, WireError> {
        Ok(Self {
            version: Version(wire.version),
            counters: by_key(wire.counters, Ok)?,
            ended: ids(&wire.ended)?,
            client_state: required(wire.client_state, CLIENT_STATE)?,
            degraded: wire.degraded,
        })
    }
}

impl From<&ClientState> for proto::ClientState {
    fn from(client_state: &ClientState) -> Self {
        Self {
            routes: client_state.routes.iter().map(|label| label.as_str().into()).collect(),
            version: client_state.version.map(|version| version.0),
        }
    }
}

impl TryFrom<proto::ClientState> for ClientState {
    type Error = WireError;

    fn try_from(wire: proto::ClientState) -> Result<Self, WireError> {
        let routes = wire.routes.iter().map(|text| name(text));
        Ok(Self { routes: routes.collect::<Result<_, _>>()?, version: wire.version.map(Version) })
    }
}

impl From<&Rejection> for proto::Rejection {
    fn from(rejection: &Rejection) -> Self {
        let why = match rejection {
            Rejection::Limit(limit) => Why::Limit((*limit).into()),
            Rejection::NotAnInteger { key } => Why::NotAnInteger(key.to_string()),
            Rejection::Overflow { key } => Why::Overflow(key.to_string()),
            Rejection::StaleEpoch => Why::StaleEpoch(EMPTY),
            Rejection::AtCap => Why::AtCap(EMPTY),
            _ => Why::Draining(EMPTY),
        };
        Self { why: Some(why) }
    }
}

impl TryFrom<proto::Rejection> for Rejection {
    type Error = WireError;

    fn try_from(wire: proto::Rejection) -> Result<Self, WireError> {
        Ok(match wire.why.ok_or(WireError::Part("a rejection"))? {
            Why::Limit(limit) => Self::Limit(limit.try_into()?),
            Why::NotAnInteger(name) => Self::NotAnInteger { key: key(name)? },
            Why::Overflow(name) => Self::Overflow { key: key(name)? },
            Why::StaleEpoch(_) => Self::StaleEpoch,
            Why::AtCap(_) => Self::AtCap,
            Why::Draining(_) => Self::Draining,
        })
    }
}

/// A limit of a kind that this version does not know is one of the record.
impl From<LimitError> for proto::Limit {
    fn from(error: LimitError) -> Self {
        use proto::Limited;
        let (limited, is, limit) = match error {
            LimitError::Key { len } => (Limited::Key, len, 0),
            LimitError::Keys { keys, limit } => (Limited::Keys, keys, limit),
            LimitError::Value { len, limit } => (Limited::Value, len, limit),
            LimitError::Record { len, limit } => (Limited::Record, len, limit),
            LimitError::Depth { depth, limit } => (Limited::Depth, depth, limit),
            LimitError::Facts { len, limit } => (Limited::Facts, len, limit),
            _ => (Limited::Record, 0, 0),
        };
        Self { limited: limited.into(), is: is as u64, limit: limit as u64 }
    }
}

impl TryFrom<proto::Limit> for LimitError {
    type Error = WireError;

    fn try_from(wire: proto::Limit) -> Result<Self, WireError> {
        use proto::Limited;
        let (is, limit) = (length(wire.is)?, length(wire.limit)?);
        Ok(match wire.limited() {
            Limited::Key => Self::Key { len: is },
            Limited::Keys => Self::Keys { keys: is, limit },
            Limited::Value => Self::Value { len: is, limit },
            Limited::Record => Self::Record { len: is, limit },
            Limited::Depth => Self::Depth { depth: is, limit },
            Limited::Facts => Self::Facts { len: is, limit },
        })
    }
}

impl From<&Lookup> for proto::Lookup {
    fn from(lookup: &Lookup) -> Self {
        let seen = match lookup {
            Lookup::Found(found) => Seen::Found(found.into()),
            Lookup::Superseded => Seen::Superseded(EMPTY),
            Lookup::Absent(absence) => Seen::Absent(proto::Absence::from(*absence).into()),
        };
        Self { lookup: Some(seen) }
    }
}

impl TryFrom<proto::Lookup> for Lookup {
    type Error = WireError;

    fn try_from(wire: proto::Lookup) -> Result<Self, WireError> {
        Ok(match wire.lookup.ok_or(WireError::Part("what was found"))? {
            Seen::Found(found) => Self::Found(found.try_into()?),
            Seen::Superseded(_) => Self::Superseded,
            // It is advice: one that this version does not know says nothing.
            Seen::Absent(number) => {
                Self::Absent(proto::Absence::try_from(number).unwrap_or_default().into())
            }
        })
    }
}

impl From<&Found> for proto::Found {
    fn from(found: &Found) -> Self {
        Self {
            id: id_bytes(found.id),
            record: Some(found.record.as_ref().into()),
            client_state: Some((&found.client_state).into()),
        }
    }
}

impl TryFrom<proto::Found> for Found {
    type Error = WireError;

    fn try_from(wire: proto::Found) -> Result<Self, WireError> {
        let record: Record = required(wire.record, "a found record")?;
        Ok(Self {
            id: id(&wire.id)?,
            record: record.into(),
            client_state: required(wire.client_state, CLIENT_STATE)?,
        })
    }
}

impl From<&KeyId> for proto::KeyId {
    fn from(key: &KeyId) -> Self {
        Self { print: key.print(), name: key.name().to_owned() }
    }
}

impl TryFrom<proto::KeyId> for KeyId {
    type Error = WireError;

    fn try_from(wire: proto::KeyId) -> Result<Self, WireError> {
        Self::from_parts(wire.print, &wire.name).ok_or(WireError::Part("a key of a hash"))
    }
}

/// Enums that say the same on the wire. The value without a number on the wire is the one after
/// `or`.
macro_rules! same {
    ($($ours:ident $(or $other:ident)? { $($variant:ident),* })*) => {
        $(impl From<$ours> for proto::$ours {
            fn from(ours: $ours) -> Self {
                match ours {
                    $($ours::$variant => Self::$variant,)*
                    $(_ => Self::$other,)?
                }
            }
        }

        impl From<proto::$ours> for $ours {
            fn from(wire: proto::$ours) -> Self {
                match wire { $(proto::$ours::$variant => Self::$variant),* }
            }
        })*
    };
}

same! {
    Absence { Unknown, Expired, Lost }
    EndReason or Logout { Logout, Expired, Cap, Evicted, Admin, Superseded, Shutdown }
}

const PRINCIPAL: &str = "a principal";
const CLIENT_STATE: &str = "what a client carries";
const EMPTY: proto::Empty = proto::Empty {};
