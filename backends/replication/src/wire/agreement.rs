//! Messages about epochs, their successors and leases.

use std::sync::Arc;

use super::proto::datagram::Message as Kind;
use super::scalars::{ballot, boots, boots_bytes, required, to_ballot};
use super::{WireError, epoch, proto, slots};
use crate::cluster::{Ballot, Message, Promise};
use crate::epoch::Epoch;
use crate::slots::SlotSet;

pub(super) fn encode(message: &Message) -> Kind {
    match message {
        Message::Epoch(epoch) => Kind::Learned(epoch::encode(epoch)),
        Message::Fetch => Kind::Fetch(proto::Empty {}),
        Message::Prepare(ballot) => Kind::Prepare(to_ballot(*ballot)),
        Message::Promise(promise) => Kind::Promise(to_promise(promise)),
        Message::Nack(ballot) => Kind::Nack(to_ballot(*ballot)),
        Message::Accept(ballot, epoch) => Kind::Accept(to_accept(*ballot, epoch)),
        Message::Accepted(ballot) => Kind::Accepted(to_ballot(*ballot)),
        Message::AskLease { number, slots } => Kind::AskLease(numbered(*number, slots)),
        Message::Lease { number, slots } => Kind::Lease(numbered(*number, slots)),
        Message::Withdrawn(slots) => Kind::Withdrawn(slots::encode(slots)),
    }
}

fn to_promise(promise: &Promise) -> proto::Promise {
    let Promise { ballot, accepted, served, heard } = promise;
    proto::Promise {
        ballot: Some(to_ballot(*ballot)),
        accepted: accepted.as_ref().map(|(ballot, epoch)| to_accept(*ballot, epoch)),
        served: Some(slots::encode(served)),
        heard: boots_bytes(heard),
    }
}

pub(super) fn to_accept(ballot: Ballot, epoch: &Epoch) -> proto::Accept {
    proto::Accept { ballot: Some(to_ballot(ballot)), epoch: Some(epoch::encode(epoch)) }
}

fn numbered(number: u64, slots: &SlotSet) -> proto::Slots {
    proto::Slots { number, ..slots::encode(slots) }
}

/// The message; `None` if it is not about agreement.
pub(super) fn decode(kind: Kind) -> Result<Option<Message>, WireError> {
    Ok(Some(match kind {
        Kind::Learned(epoch) => Message::Epoch(Arc::new(epoch::decode(epoch)?)),
        Kind::Fetch(proto::Empty {}) => Message::Fetch,
        Kind::Prepare(of) => Message::Prepare(ballot(Some(of))?),
        Kind::Promise(of) => Message::Promise(promise(of)?),
        Kind::Nack(of) => Message::Nack(ballot(Some(of))?),
        Kind::Accept(of) => {
            let (ballot, epoch) = accept(of)?;
            Message::Accept(ballot, epoch)
        }
        Kind::Accepted(of) => Message::Accepted(ballot(Some(of))?),
        Kind::AskLease(of) => Message::AskLease { number: of.number, slots: slots::decode(&of)? },
        Kind::Lease(of) => Message::Lease { number: of.number, slots: slots::decode(&of)? },
        Kind::Withdrawn(of) => Message::Withdrawn(slots::decode(&of)?),
        _ => return Ok(None),
    }))
}

fn promise(promise: proto::Promise) -> Result<Promise, WireError> {
    let proto::Promise { ballot: of, accepted, served, heard } = promise;
    let served = slots::decode(&required(served, "the slots of a promise")?)?;
    let accepted = accepted.map(accept).transpose()?;
    Ok(Promise { ballot: ballot(of)?, accepted, served, heard: boots(&heard)? })
}

pub(super) fn accept(accept: proto::Accept) -> Result<(Ballot, Arc<Epoch>), WireError> {
    let epoch = required(accept.epoch, "an epoch")?;
    Ok((ballot(accept.ballot)?, Arc::new(epoch::decode(epoch)?)))
}
