//! The messages themselves, and what only nodes say to each other.

use std::time::Duration;

use steadfast_core::{Change, EndReason, RecordId, Version};

use super::scalars::{
    end_reason, end_reason_number, id, id_bytes, ids, ids_bytes, label, millis, optional,
    optional_id, required, stamp, stamp_bytes, stamp_or_zero, stamp_or_zero_bytes, stamps,
    stamps_bytes, time,
};
use super::{Frame, WireError, proto};
use crate::engine::message::{Ack, Ballot, Base, Kept, Message, Replica, Status};
use crate::placement::Name;
use crate::record::Stamp;

impl From<&Message> for proto::Kind {
    fn from(message: &Message) -> Self {
        match message {
            Message::Status(status) => Self::Status(status.into()),
            Message::Ask { number, within, request } => Self::Ask(proto::Ask {
                number: *number,
                within: micros(*within),
                request: Some(request.into()),
            }),
            Message::Reply { number, reply } => {
                Self::Reply(proto::Reply { number: *number, said: Some(reply.into()) })
            }
            Message::Replicate { seq, id, prev, change } => Self::Replicate(proto::Replicate {
                seq: *seq,
                id: id_bytes(*id),
                prev: stamp_or_zero_bytes(*prev),
                change: Some(change.into()),
            }),
            Message::Ack { seq, answer } => {
                Self::Ack(proto::Ack { seq: *seq, answer: Some(answer.into()) })
            }
            Message::Confirm(confirmed) => Self::Confirm(stamped(confirmed)),
            Message::Unsettled(ids) => Self::Unsettled(list(ids)),
            Message::Expired(ids) => Self::Expired(list(ids)),
            Message::Evicted(evicted) => Self::Evicted(stamped(evicted)),
            Message::Lease { number, applied } => {
                Self::Lease(proto::Lease { number: *number, applied: *applied })
            }
            Message::Grant { number, alive, data } => {
                Self::Grant(proto::Grant { number: *number, alive: *alive, data: micros(*data) })
            }
            Message::Pull { number, id } => {
                Self::Pull(proto::Pull { number: *number, id: id_bytes(*id) })
            }
            Message::Pulled { number, id, held } => Self::Pulled(proto::Pulled {
                number: *number,
                id: id_bytes(*id),
                held: held.as_ref().map(Into::into),
            }),
            Message::Offer(offered) => Self::Offer(stamped(offered)),
            Message::Safe(ids) => Self::Safe(list(ids)),
            Message::Want(ids) => Self::Want(list(ids)),
            Message::Handover { id, held } => {
                Self::Handover(proto::Handover { id: id_bytes(*id), held: Some(held.into()) })
            }
            Message::Digest { from, to, sum } => Self::Digest(proto::Digest {
                from: id_bytes(*from),
                to: to.map(id_bytes),
                sum: *sum,
            }),
            Message::Stamps { from, to, stamps, is_answer } => Self::Stamps(proto::Stamps {
                from: id_bytes(*from),
                to: to.map(id_bytes),
                stamps: Some(stamped(stamps)),
                is_answer: *is_answer,
            }),
            Message::Snapshot { view, after } => {
                Self::Snapshot(proto::Snapshot { view: *view, after: after.map(id_bytes) })
            }
            Message::Chunk { view, records, next } => Self::Chunk(proto::Chunk {
                view: *view,
                records: records.iter().map(Into::into).collect(),
                next: next.map(id_bytes),
            }),
            Message::Base(ballot) => Self::Base(ballot.into()),
            Message::Changes(changes) => {
                Self::Changes(proto::Changes { changes: changes.iter().map(Into::into).collect() })
            }
        }
    }
}

impl TryFrom<proto::Kind> for Frame {
    type Error = WireError;

    fn try_from(wire: proto::Kind) -> Result<Self, WireError> {
        Ok(Self::Message(match wire {
            proto::Kind::Gossip(gossip) => return Ok(Self::Gossip(gossip)),
            proto::Kind::Status(status) => Message::Status(status.try_into()?),
            proto::Kind::Ask(ask) => Message::Ask {
                number: ask.number,
                within: Duration::from_micros(ask.within),
                request: required(ask.request, "a request")?,
            },
            proto::Kind::Reply(reply) => {
                Message::Reply { number: reply.number, reply: required(reply.said, "a reply")? }
            }
            proto::Kind::Replicate(replicate) => Message::Replicate {
                seq: replicate.seq,
                id: id(&replicate.id)?,
                prev: stamp_or_zero(&replicate.prev)?,
                change: required(replicate.change, "a change")?,
            },
            proto::Kind::Ack(ack) => {
                Message::Ack { seq: ack.seq, answer: required(ack.answer, "an answer")? }
            }
            proto::Kind::Confirm(confirmed) => Message::Confirm(pairs(&confirmed)?),
            proto::Kind::Unsettled(list) => Message::Unsettled(ids(&list.ids)?),
            proto::Kind::Expired(list) => Message::Expired(ids(&list.ids)?),
            proto::Kind::Evicted(evicted) => Message::Evicted(pairs(&evicted)?),
            proto::Kind::Lease(lease) => {
                Message::Lease { number: lease.number, applied: lease.applied }
            }
            proto::Kind::Grant(grant) => Message::Grant {
                number: grant.number,
                alive: grant.alive,
                data: Duration::from_micros(grant.data),
            },
            proto::Kind::Pull(pull) => Message::Pull { number: pull.number, id: id(&pull.id)? },
            proto::Kind::Pulled(pulled) => Message::Pulled {
                number: pulled.number,
                id: id(&pulled.id)?,
                held: optional(pulled.held)?,
            },
            proto::Kind::Offer(offered) => Message::Offer(pairs(&offered)?),
            proto::Kind::Safe(list) => Message::Safe(ids(&list.ids)?),
            proto::Kind::Want(list) => Message::Want(ids(&list.ids)?),
            proto::Kind::Handover(handover) => Message::Handover {
                id: id(&handover.id)?,
                held: required(handover.held, "what is handed over")?,
            },
            proto::Kind::Digest(digest) => Message::Digest {
                from: id(&digest.from)?,
                to: optional_id(digest.to)?,
                sum: digest.sum,
            },
            proto::Kind::Stamps(stamps) => Message::Stamps {
                from: id(&stamps.from)?,
                to: optional_id(stamps.to)?,
                stamps: pairs(&stamps.stamps.unwrap_or_default())?,
                is_answer: stamps.is_answer,
            },
            proto::Kind::Snapshot(snapshot) => {
                Message::Snapshot { view: snapshot.view, after: optional_id(snapshot.after)? }
            }
            proto::Kind::Chunk(chunk) => Message::Chunk {
                view: chunk.view,
                records: all(chunk.records)?,
                next: optional_id(chunk.next)?,
            },
            proto::Kind::Base(ballot) => Message::Base(ballot.try_into()?),
            proto::Kind::Changes(changes) => Message::Changes(all(changes.changes)?),
        }))
    }
}

fn stamped(pairs: &[(RecordId, Stamp)]) -> proto::Stamped {
    proto::Stamped {
        ids: ids_bytes(pairs.iter().map(|(id, _)| id)),
        stamps: stamps_bytes(pairs.iter().map(|(_, stamp)| stamp)),
    }
}

fn pairs(wire: &proto::Stamped) -> Result<Vec<(RecordId, Stamp)>, WireError> {
    let (ids, stamps) = (ids(&wire.ids)?, stamps(&wire.stamps)?);
    let is_even = ids.len() == stamps.len();
    is_even.then(|| ids.into_iter().zip(stamps).collect()).ok_or(WireError::Part("a stamp"))
}

fn list(ids: &[RecordId]) -> proto::Ids {
    proto::Ids { ids: ids_bytes(ids) }
}

fn all<P, T>(parts: Vec<P>) -> Result<Vec<T>, WireError>
where
    T: TryFrom<P, Error = WireError>,
{
    parts.into_iter().map(T::try_from).collect()
}

fn micros(span: Duration) -> u64 {
    span.as_micros().try_into().unwrap_or(u64::MAX)
}

impl From<&Replica> for proto::Replica {
    fn from(replica: &Replica) -> Self {
        match replica {
            Replica::Delta(delta) => Self::Delta(delta.into()),
            Replica::Full(copy, is_confirmed) => {
                Self::Full(proto::Full { copy: Some(copy.into()), is_confirmed: *is_confirmed })
            }
            Replica::Dead { stamp, until, reason } => Self::Dead(proto::Dead {
                stamp: stamp_bytes(*stamp),
                until: millis(*until),
                reason: end_reason_number(*reason),
            }),
        }
    }
}

impl TryFrom<proto::Replica> for Replica {
    type Error = WireError;

    fn try_from(wire: proto::Replica) -> Result<Self, WireError> {
        Ok(match wire {
            proto::Replica::Delta(delta) => Self::Delta(delta.try_into()?),
            proto::Replica::Full(full) => {
                Self::Full(required(full.copy, "a copy")?, full.is_confirmed)
            }
            proto::Replica::Dead(dead) => Self::Dead {
                stamp: stamp(&dead.stamp)?,
                until: time(dead.until)?,
                reason: end_reason(dead.reason),
            },
        })
    }
}

impl From<&Ack> for proto::Answer {
    fn from(answer: &Ack) -> Self {
        match answer {
            Ack::Held => Self::Held(()),
            Ack::Refused => Self::Refused(()),
            Ack::Gap(held) => Self::Gap(Box::new(held.as_ref().into())),
        }
    }
}

impl TryFrom<proto::Answer> for Ack {
    type Error = WireError;

    fn try_from(wire: proto::Answer) -> Result<Self, WireError> {
        Ok(match wire {
            proto::Answer::Held(()) => Self::Held,
            proto::Answer::Refused(()) => Self::Refused,
            proto::Answer::Gap(held) => Self::Gap(Box::new((*held).try_into()?)),
        })
    }
}

impl From<&(RecordId, Kept)> for proto::Part {
    fn from((id, kept): &(RecordId, Kept)) -> Self {
        Self { id: id_bytes(*id), kept: Some(kept.into()) }
    }
}

impl TryFrom<proto::Part> for (RecordId, Kept) {
    type Error = WireError;

    fn try_from(wire: proto::Part) -> Result<Self, WireError> {
        Ok((id(&wire.id)?, required(wire.kept, "what is kept")?))
    }
}

impl From<&Change> for proto::Change {
    fn from(change: &Change) -> Self {
        let patched = |id, version: Version| {
            proto::Changed::Patched(proto::Patched { id: id_bytes(id), version: version.0 })
        };
        let (changed, reason) = match *change {
            Change::Patched(id, version) | Change::SignedIn(id, version) => {
                (patched(id, version), EndReason::Logout)
            }
            Change::Ended(id, reason) => (proto::Changed::Ended(id_bytes(id)), reason),
            Change::Missed | Change::Down => (proto::Changed::Missed(()), EndReason::Logout),
        };
        let is_sign_in = matches!(change, Change::SignedIn(..));
        Self { changed: Some(changed), is_sign_in, reason: end_reason_number(reason) }
    }
}

impl TryFrom<proto::Change> for Change {
    type Error = WireError;

    fn try_from(wire: proto::Change) -> Result<Self, WireError> {
        Ok(match wire.changed.ok_or(WireError::Part("a change"))? {
            proto::Changed::Patched(patched) => {
                let (id, version) = (id(&patched.id)?, Version(patched.version));
                if wire.is_sign_in {
                    Self::SignedIn(id, version)
                } else {
                    Self::Patched(id, version)
                }
            }
            proto::Changed::Ended(bytes) => Self::Ended(id(&bytes)?, end_reason(wire.reason)),
            proto::Changed::Missed(()) => Self::Missed,
        })
    }
}

impl From<&Status> for proto::Status {
    fn from(status: &Status) -> Self {
        Self {
            incarnation: status.incarnation,
            complete: status.complete,
            draining: status.draining,
            leaving: status.leaving,
            base: status.base.as_ref().map(Into::into),
            view: status.view,
            settled: status.settled,
            down: status.down.iter().map(Into::into).collect(),
            listens: status.listens,
        }
    }
}

impl TryFrom<proto::Status> for Status {
    type Error = WireError;

    fn try_from(wire: proto::Status) -> Result<Self, WireError> {
        Ok(Self {
            incarnation: wire.incarnation,
            complete: wire.complete,
            draining: wire.draining,
            leaving: wire.leaving,
            base: optional(wire.base)?,
            view: wire.view,
            settled: wire.settled,
            down: all(wire.down)?,
            listens: wire.listens,
        })
    }
}

impl From<&Base> for proto::Base {
    fn from(base: &Base) -> Self {
        let members = base.members.iter().map(Into::into).collect();
        Self { lineage: base.lineage, epoch: base.epoch, members }
    }
}

impl TryFrom<proto::Base> for Base {
    type Error = WireError;

    fn try_from(wire: proto::Base) -> Result<Self, WireError> {
        Ok(Self { lineage: wire.lineage, epoch: wire.epoch, members: all(wire.members)? })
    }
}

impl From<&(Name, u64)> for proto::Member {
    fn from((name, incarnation): &(Name, u64)) -> Self {
        Self { name: name.as_str().into(), incarnation: *incarnation }
    }
}

impl TryFrom<proto::Member> for (Name, u64) {
    type Error = WireError;

    fn try_from(wire: proto::Member) -> Result<Self, WireError> {
        Ok((label(&wire.name)?, wire.incarnation))
    }
}

impl From<&Ballot> for proto::Ballot {
    fn from(ballot: &Ballot) -> Self {
        let (epoch, ballot, step) = match ballot {
            Ballot::Prepare { epoch, ballot } => (epoch, ballot, proto::Step::Prepare(())),
            Ballot::Promise { epoch, ballot, accepted } => {
                let accepted = accepted.as_ref().map(Into::into);
                (epoch, ballot, proto::Step::Promise(proto::Promise { accepted }))
            }
            Ballot::Accept { epoch, ballot, base } => {
                (epoch, ballot, proto::Step::Accept(base.into()))
            }
            Ballot::Accepted { epoch, ballot } => (epoch, ballot, proto::Step::Accepted(())),
        };
        Self { epoch: *epoch, ballot: *ballot, step: Some(step) }
    }
}

impl TryFrom<proto::Ballot> for Ballot {
    type Error = WireError;

    fn try_from(wire: proto::Ballot) -> Result<Self, WireError> {
        let proto::Ballot { epoch, ballot, step } = wire;
        Ok(match step.ok_or(WireError::Part("a step of a ballot"))? {
            proto::Step::Prepare(()) => Self::Prepare { epoch, ballot },
            proto::Step::Promise(promise) => {
                Self::Promise { epoch, ballot, accepted: optional(promise.accepted)? }
            }
            proto::Step::Accept(base) => Self::Accept { epoch, ballot, base: base.try_into()? },
            proto::Step::Accepted(()) => Self::Accepted { epoch, ballot },
        })
    }
}

impl From<&(u64, Base)> for proto::Bid {
    fn from((ballot, base): &(u64, Base)) -> Self {
        Self { ballot: *ballot, base: Some(base.into()) }
    }
}

impl TryFrom<proto::Bid> for (u64, Base) {
    type Error = WireError;

    fn try_from(wire: proto::Bid) -> Result<Self, WireError> {
        Ok((wire.ballot, required(wire.base, "a base")?))
    }
}
