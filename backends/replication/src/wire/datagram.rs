//! Messages about the cluster.

use std::sync::Arc;

use super::proto::datagram::Message as Kind;
use super::scalars::{ballot, boot_or, boot_unless, epoch_id, required, to_ballot, to_epoch_id};
use super::{Ends, WireError, epoch, proto, slots};
use crate::cluster::{Ballot, Frame, Message, Promise};
use crate::epoch::Epoch;
use crate::slots::SlotSet;

pub(super) fn encode(frame: &Frame, ends: Ends) -> proto::Datagram {
    let Frame { from, epoch, message } = frame;
    let from = boot_unless(*from, ends.from);
    proto::Datagram { from, epoch: to_epoch_id(*epoch), message: Some(kind(message)) }
}

fn kind(message: &Message) -> Kind {
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
    let Promise { ballot, accepted, served } = promise;
    proto::Promise {
        ballot: Some(to_ballot(*ballot)),
        accepted: accepted.as_ref().map(|(ballot, epoch)| to_accept(*ballot, epoch)),
        served: Some(slots::encode(served)),
    }
}

fn to_accept(ballot: Ballot, epoch: &Epoch) -> proto::Accept {
    proto::Accept { ballot: Some(to_ballot(ballot)), epoch: Some(epoch::encode(epoch)) }
}

fn numbered(number: u64, slots: &SlotSet) -> proto::Slots {
    proto::Slots { number, ..slots::encode(slots) }
}

/// The frame; `None` if its message is of a kind that this version does not know.
pub(super) fn decode(datagram: proto::Datagram, ends: Ends) -> Result<Option<Frame>, WireError> {
    let Some(kind) = datagram.message else {
        return Ok(None);
    };
    let from = boot_or(&datagram.from, ends.from)?;
    let (epoch, message) = (epoch_id(datagram.epoch)?, message(kind)?);
    Ok(Some(Frame { from, epoch, message }))
}

fn message(kind: Kind) -> Result<Message, WireError> {
    Ok(match kind {
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
    })
}

fn promise(promise: proto::Promise) -> Result<Promise, WireError> {
    let proto::Promise { ballot: of, accepted, served } = promise;
    let served = slots::decode(&required(served, "the slots of a promise")?)?;
    let accepted = accepted.map(accept).transpose()?;
    Ok(Promise { ballot: ballot(of)?, accepted, served })
}

fn accept(accept: proto::Accept) -> Result<(Ballot, Arc<Epoch>), WireError> {
    let epoch = required(accept.epoch, "an epoch")?;
    Ok((ballot(accept.ballot)?, Arc::new(epoch::decode(epoch)?)))
}
