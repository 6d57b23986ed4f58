//! Calls, and the answers to them.

use steadfast_core::{
    Absence, Applied, Carry, Deleted, EndReason, Found, KeyId, LimitError, Lookup, Outcome, Record,
    Rejection, SessionInfo, Version,
};

use super::records::facts;
use super::scalars::{
    by_key, end_reason, end_reason_number, id, id_bytes, ids, ids_bytes, key, label, length,
    millis, optional, optional_id, optional_time, proof, proof_bytes, required, time,
};
use super::{WireError, proto};
use crate::engine::Failure;
use crate::engine::message::{Login, Reply, Request};

impl From<&Request> for proto::Request {
    fn from(request: &Request) -> Self {
        match request {
            Request::Create { id, record, admission } => Self::Create(proto::Create {
                id: id_bytes(*id),
                record: Some(record.as_ref().into()),
                admission: Some(admission.into()),
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
            Request::Admit(login) => Self::Admit(login.as_ref().into()),
            Request::List { principal } => Self::List(principal.into()),
            Request::DeleteAll { principal, except, epoch, reason } => {
                Self::DeleteAll(proto::DeleteAll {
                    principal: Some(principal.into()),
                    except: except.map(id_bytes),
                    epoch: *epoch,
                    reason: end_reason_number(*reason),
                })
            }
            Request::Peek { id, principal } => Self::Peek(proto::Listed {
                id: id_bytes(*id),
                principal: Some(principal.into()),
                reason: 0,
            }),
            Request::End { id, principal, reason } => Self::End(proto::Listed {
                id: id_bytes(*id),
                principal: Some(principal.into()),
                reason: end_reason_number(*reason),
            }),
        }
    }
}

impl TryFrom<proto::Request> for Request {
    type Error = WireError;

    fn try_from(wire: proto::Request) -> Result<Self, WireError> {
        Ok(match wire {
            proto::Request::Create(create) => Self::Create {
                id: id(&create.id)?,
                record: Box::new(required(create.record, "a new record")?),
                admission: required(create.admission, ADMISSION)?,
            },
            proto::Request::Load(load) => Self::Load {
                id: id(&load.id)?,
                proof: proof(&load.proof)?,
                seen: load.seen.map(Version),
            },
            proto::Request::Update(update) => Self::Update {
                id: id(&update.id)?,
                patch: Box::new(required(update.patch, "a patch")?),
            },
            proto::Request::Delete(delete) => Self::Delete {
                id: id(&delete.id)?,
                proof: proof(&delete.proof)?,
                sign_in: delete.sign_in,
                reason: end_reason(delete.reason),
            },
            proto::Request::Admit(login) => Self::Admit(Box::new(login.try_into()?)),
            proto::Request::List(principal) => Self::List { principal: principal.try_into()? },
            proto::Request::DeleteAll(all) => Self::DeleteAll {
                principal: required(all.principal, PRINCIPAL)?,
                except: optional_id(all.except)?,
                epoch: all.epoch,
                reason: end_reason(all.reason),
            },
            proto::Request::Peek(listed) => Self::Peek {
                id: id(&listed.id)?,
                principal: required(listed.principal, PRINCIPAL)?,
            },
            proto::Request::End(listed) => Self::End {
                id: id(&listed.id)?,
                principal: required(listed.principal, PRINCIPAL)?,
                reason: end_reason(listed.reason),
            },
        })
    }
}

impl From<&Login> for proto::Login {
    fn from(login: &Login) -> Self {
        Self {
            id: id_bytes(login.id),
            principal: Some((&login.principal).into()),
            until: millis(login.until),
            admission: Some((&login.admission).into()),
        }
    }
}

impl TryFrom<proto::Login> for Login {
    type Error = WireError;

    fn try_from(wire: proto::Login) -> Result<Self, WireError> {
        Ok(Self {
            id: id(&wire.id)?,
            principal: required(wire.principal, PRINCIPAL)?,
            until: time(wire.until)?,
            admission: required(wire.admission, ADMISSION)?,
        })
    }
}

impl From<&Reply> for proto::Said {
    fn from(reply: &Reply) -> Self {
        match reply {
            Reply::Outcome(outcome) => Self::Outcome(outcome.into()),
            Reply::Lookup(lookup) => Self::Lookup(lookup.into()),
            Reply::Ended(Deleted::Superseded) => Self::Superseded(()),
            Reply::Ended(deleted) => Self::Ended(deleted.is_ended()),
            Reply::Admitted(ended) => Self::Admitted(ids_bytes(ended)),
            Reply::BelowFloor => Self::BelowFloor(()),
            Reply::Listed(sessions) => {
                let sessions = sessions.iter().map(Into::into).collect();
                Self::Listed(proto::Sessions { sessions })
            }
            Reply::Count(count) => Self::Count(*count),
            Reply::Peeked(session) => {
                Self::Peeked(proto::Peeked { session: session.as_ref().map(Into::into) })
            }
            Reply::Refused => Self::Refused(()),
            Reply::Failed(Failure::UnknownKey(key)) => Self::UnknownKey(key.into()),
            Reply::Failed(failure) => Self::Failed(proto::Failure::from(*failure).into()),
        }
    }
}

impl TryFrom<proto::Said> for Reply {
    type Error = WireError;

    fn try_from(wire: proto::Said) -> Result<Self, WireError> {
        Ok(match wire {
            proto::Said::Outcome(outcome) => Self::Outcome(outcome.try_into()?),
            proto::Said::Lookup(lookup) => Self::Lookup(lookup.try_into()?),
            proto::Said::Ended(true) => Self::Ended(Deleted::Ended),
            proto::Said::Ended(false) => Self::Ended(Deleted::Gone),
            proto::Said::Superseded(()) => Self::Ended(Deleted::Superseded),
            proto::Said::Admitted(ended) => Self::Admitted(ids(&ended)?),
            proto::Said::BelowFloor(()) => Self::BelowFloor,
            proto::Said::Listed(proto::Sessions { sessions }) => {
                let sessions = sessions.into_iter().map(SessionInfo::try_from);
                Self::Listed(sessions.collect::<Result<_, _>>()?)
            }
            proto::Said::Count(count) => Self::Count(count),
            proto::Said::Peeked(peeked) => Self::Peeked(optional(peeked.session)?),
            proto::Said::Refused(()) => Self::Refused,
            proto::Said::Failed(number) => {
                let failure = proto::Failure::try_from(number);
                Self::Failed(failure.map_err(|_| WireError::Part("a failure"))?.into())
            }
            proto::Said::UnknownKey(key) => Self::Failed(Failure::UnknownKey(key.try_into()?)),
        })
    }
}

impl From<&Outcome> for proto::Outcome {
    fn from(outcome: &Outcome) -> Self {
        let came = match outcome {
            Outcome::Applied(applied) => proto::Came::Applied(applied.into()),
            Outcome::Exists => proto::Came::Exists(()),
            Outcome::Gone => proto::Came::Gone(()),
            Outcome::Superseded => proto::Came::Superseded(()),
            Outcome::Conflict => proto::Came::Conflict(()),
            Outcome::Rejected(rejection) => proto::Came::Rejected(rejection.into()),
        };
        Self { came: Some(came) }
    }
}

impl TryFrom<proto::Outcome> for Outcome {
    type Error = WireError;

    fn try_from(wire: proto::Outcome) -> Result<Self, WireError> {
        Ok(match wire.came.ok_or(WireError::Part("an outcome"))? {
            proto::Came::Applied(applied) => Self::Applied(applied.try_into()?),
            proto::Came::Exists(()) => Self::Exists,
            proto::Came::Gone(()) => Self::Gone,
            proto::Came::Superseded(()) => Self::Superseded,
            proto::Came::Conflict(()) => Self::Conflict,
            proto::Came::Rejected(rejection) => Self::Rejected(rejection.try_into()?),
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
            carry: Some((&applied.carry).into()),
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
            carry: required(wire.carry, CARRY)?,
            degraded: wire.degraded,
        })
    }
}

impl From<&Carry> for proto::Carry {
    fn from(carry: &Carry) -> Self {
        Self {
            routes: carry.routes.iter().map(|label| label.as_str().into()).collect(),
            version: carry.version.map(|version| version.0),
        }
    }
}

impl TryFrom<proto::Carry> for Carry {
    type Error = WireError;

    fn try_from(wire: proto::Carry) -> Result<Self, WireError> {
        let routes = wire.routes.iter().map(|text| label(text));
        Ok(Self { routes: routes.collect::<Result<_, _>>()?, version: wire.version.map(Version) })
    }
}

impl From<&Rejection> for proto::Rejection {
    fn from(rejection: &Rejection) -> Self {
        let why = match rejection {
            Rejection::Limit(limit) => proto::Why::Limit((*limit).into()),
            Rejection::NotAnInteger { key } => proto::Why::NotAnInteger(key.to_string()),
            Rejection::Overflow { key } => proto::Why::Overflow(key.to_string()),
            Rejection::BelowFloor => proto::Why::BelowFloor(()),
            _ => proto::Why::Draining(()),
        };
        Self { why: Some(why) }
    }
}

impl TryFrom<proto::Rejection> for Rejection {
    type Error = WireError;

    fn try_from(wire: proto::Rejection) -> Result<Self, WireError> {
        Ok(match wire.why.ok_or(WireError::Part("a rejection"))? {
            proto::Why::Limit(limit) => Self::Limit(limit.try_into()?),
            proto::Why::NotAnInteger(name) => Self::NotAnInteger { key: key(name)? },
            proto::Why::Overflow(name) => Self::Overflow { key: key(name)? },
            proto::Why::BelowFloor(()) => Self::BelowFloor,
            proto::Why::Draining(()) => Self::Draining,
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
            Lookup::Found(found) => proto::Seen::Found(Box::new(found.into())),
            Lookup::Superseded => proto::Seen::Superseded(()),
            Lookup::Absent(absence) => proto::Seen::Absent(proto::Absence::from(*absence).into()),
        };
        Self { seen: Some(seen) }
    }
}

impl TryFrom<proto::Lookup> for Lookup {
    type Error = WireError;

    fn try_from(wire: proto::Lookup) -> Result<Self, WireError> {
        Ok(match wire.seen.ok_or(WireError::Part("what was found"))? {
            proto::Seen::Found(found) => Self::Found((*found).try_into()?),
            proto::Seen::Superseded(()) => Self::Superseded,
            // It is advice: one that this version does not know says nothing.
            proto::Seen::Absent(number) => {
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
            carry: Some((&found.carry).into()),
        }
    }
}

impl TryFrom<proto::Found> for Found {
    type Error = WireError;

    fn try_from(wire: proto::Found) -> Result<Self, WireError> {
        let record: Record = required(wire.record, "a found record")?;
        Ok(Self { id: id(&wire.id)?, record: record.into(), carry: required(wire.carry, CARRY)? })
    }
}

impl From<&SessionInfo> for proto::Session {
    fn from(session: &SessionInfo) -> Self {
        Self {
            id: id_bytes(session.id),
            created: millis(session.created.into()),
            authenticated: session.authenticated.map(|at| millis(at.into())),
            deadline: millis(session.deadline.into()),
            idle_deadline: Some(millis(session.idle_deadline.into())),
            facts: session.facts.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<proto::Session> for SessionInfo {
    type Error = WireError;

    fn try_from(wire: proto::Session) -> Result<Self, WireError> {
        let (created, deadline) = (time(wire.created)?, time(wire.deadline)?);
        let idle_deadline = optional_time(wire.idle_deadline)?.unwrap_or(deadline);
        let info = Self::new(id(&wire.id)?, created, optional_time(wire.authenticated)?, deadline);
        Ok(info.with_facts(idle_deadline, facts(wire.facts)?))
    }
}

impl From<&KeyId> for proto::HashKey {
    fn from(key: &KeyId) -> Self {
        Self { print: key.print(), name: key.name().to_owned() }
    }
}

impl TryFrom<proto::HashKey> for KeyId {
    type Error = WireError;

    fn try_from(wire: proto::HashKey) -> Result<Self, WireError> {
        Self::from_parts(wire.print, &wire.name).ok_or(WireError::Part("a key of a hash"))
    }
}

/// Enums that say the same on the wire. What the wire has no number for is the one after `or`.
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
    Failure or NotConfirmed {
        NoMajority, Unacknowledged, Unreachable, Moving, NotConfirmed, Timeout
    }
}

const PRINCIPAL: &str = "a principal";
const ADMISSION: &str = "the terms of a login";
const CARRY: &str = "what a client carries";
