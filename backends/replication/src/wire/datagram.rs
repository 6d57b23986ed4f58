//! Messages about the membership.

use std::sync::Arc;

use super::agreement::{self, accept, to_accept};
use super::proto::datagram::Message as Kind;
use super::proto::refusal::Why;
use super::scalars::{
    ballot, boot, boot_bytes, boot_or, boot_unless, epoch_id, name, required, to_ballot,
    to_epoch_id,
};
use super::{WireError, changes, epoch, proto};
use crate::cluster::Ballot;
use crate::epoch::{Epoch, EpochId};
use crate::member::{Boot, Versions};
use crate::membership::{Described, Frame, Hello, Message, Refusal};

/// The frame as its sender, at one end of the link, writes it.
pub(super) fn encode(frame: &Frame, sender: Boot) -> proto::Datagram {
    let Frame { from, epoch, message } = frame;
    proto::Datagram {
        from: boot_unless(*from, sender),
        epoch: epoch.and_then(to_epoch_id),
        message: Some(kind(message, sender)),
    }
}

fn kind(message: &Message, sender: Boot) -> Kind {
    match message {
        Message::Cluster(message) => agreement::encode(message),
        Message::Known => Kind::Known(EMPTY),
        Message::Hello { hello, asks } => Kind::Hello(to_hello(hello, *asks)),
        Message::Ask(wanted) => Kind::Ask(changes::encode(wanted)),
        Message::Wait => Kind::Wait(EMPTY),
        Message::Refused(refusal) => Kind::Refused(to_refusal(refusal)),
        Message::Suspect(boot) => Kind::Suspect(boot_bytes(*boot)),
        Message::Trust(boot) => Kind::Trust(boot_bytes(*boot)),
        Message::Ping => Kind::Ping(EMPTY),
        Message::Pong => Kind::Pong(EMPTY),
        Message::Relay { to, frame } => {
            let frame = Some(encode(frame, sender).into());
            Kind::Relay(proto::Relay { to: boot_bytes(*to), frame }.into())
        }
        Message::Surrender(epoch, ballot) => Kind::Surrender(succession(*epoch, *ballot)),
        Message::Surrendered(epoch, ballot, accepted) => {
            let accepted = accepted.as_ref().map(|(ballot, epoch)| to_accept(*ballot, epoch));
            Kind::Surrendered(proto::Succession { accepted, ..succession(*epoch, *ballot) })
        }
        Message::Found(epoch, ballot, first) => {
            let first = Some(epoch::encode(first));
            Kind::Found(proto::Succession { first, ..succession(*epoch, *ballot) })
        }
        Message::Founded(epoch, ballot) => Kind::Founded(succession(*epoch, *ballot)),
        Message::Declined(epoch, ballot) => Kind::Declined(succession(*epoch, *ballot)),
    }
}

fn succession(epoch: EpochId, ballot: Ballot) -> proto::Succession {
    let (epoch, ballot) = (to_epoch_id(epoch), Some(to_ballot(ballot)));
    proto::Succession { epoch, ballot, ..proto::Succession::default() }
}

pub(super) fn to_hello(hello: &Hello, asks: bool) -> proto::Hello {
    let Hello { member, listed_in, in_sight, lowest: (name, boot), is_waiting, is_lost } = hello;
    let (name, boot) = (name.as_str().to_owned(), boot_bytes(*boot));
    proto::Hello {
        candidate: Some(changes::to_candidate(member)),
        listed_in: listed_in.and_then(to_epoch_id),
        in_sight: in_sight.and_then(to_epoch_id),
        lowest: Some(proto::Node { name, boot, zone: None }),
        is_waiting: *is_waiting,
        is_lost: *is_lost,
        asks,
    }
}

fn to_refusal(refusal: &Refusal) -> proto::Refusal {
    let why = match refusal {
        Refusal::Settings { node, service } => {
            let [node, service] = [node, service].map(|of| Some(epoch::to_settings(&of.0)));
            Why::Settings(proto::RefusedSettings { node, service })
        }
        Refusal::Protocol { node: Versions { lowest, highest }, service } => {
            let (lowest, highest, service) = (*lowest, *highest, *service);
            Why::Protocol(proto::RefusedProtocol { lowest, highest, service })
        }
        Refusal::Replaced => Why::Replaced(EMPTY),
    };
    proto::Refusal { why: Some(why) }
}

/// The frame that came from one end of a link; `None` if its message is of a kind that this version does
/// not know.
pub(super) fn decode(datagram: proto::Datagram, sender: Boot) -> Result<Option<Frame>, WireError> {
    let proto::Datagram { from, epoch, message: kind } = datagram;
    let Some(kind) = kind else {
        return Ok(None);
    };
    let epoch = epoch.map(|id| epoch_id(Some(id))).transpose()?;
    let from = boot_or(&from, sender)?;
    Ok(message(kind, sender)?.map(|message| Frame { from, epoch, message }))
}

fn message(kind: Kind, sender: Boot) -> Result<Option<Message>, WireError> {
    Ok(Some(match kind {
        Kind::Known(_) => Message::Known,
        Kind::Hello(of) => Message::Hello { asks: of.asks, hello: hello(of)?.into() },
        Kind::Ask(wanted) => Message::Ask(changes::decode(&wanted)?),
        Kind::Wait(_) => Message::Wait,
        Kind::Refused(of) => return Ok(refusal(of)?.map(Message::Refused)),
        Kind::Suspect(of) => Message::Suspect(boot(&of)?),
        Kind::Trust(of) => Message::Trust(boot(&of)?),
        Kind::Ping(_) => Message::Ping,
        Kind::Pong(_) => Message::Pong,
        Kind::Relay(of) => return relayed(*of, sender),
        Kind::Surrender(of) => Message::Surrender(epoch_id(of.epoch)?, ballot(of.ballot)?),
        Kind::Surrendered(of) => {
            let accepted = of.accepted.map(accept).transpose()?;
            Message::Surrendered(epoch_id(of.epoch)?, ballot(of.ballot)?, accepted)
        }
        Kind::Found(of) => {
            let first = first_epoch(of.first)?;
            Message::Found(epoch_id(of.epoch)?, ballot(of.ballot)?, first)
        }
        Kind::Founded(of) => Message::Founded(epoch_id(of.epoch)?, ballot(of.ballot)?),
        Kind::Declined(of) => Message::Declined(epoch_id(of.epoch)?, ballot(of.ballot)?),
        kind => return Ok(agreement::decode(kind)?.map(Message::Cluster)),
    }))
}

fn first_epoch(first: Option<proto::Epoch>) -> Result<Arc<Epoch>, WireError> {
    epoch::decode(required(first, "the first epoch")?).map(Arc::new)
}

fn relayed(relay: proto::Relay, sender: Boot) -> Result<Option<Message>, WireError> {
    let (to, inner) = (boot(&relay.to)?, required(relay.frame, "a relayed frame")?);
    // One hop: a frame inside a frame inside a frame has no sender that could want it.
    if matches!(inner.message, Some(Kind::Relay(_))) {
        return Err(WireError::Part("a relayed frame"));
    }
    let inner = decode(*inner, sender)?;
    Ok(inner.map(|frame| Message::Relay { to, frame: Box::new(frame) }))
}

pub(super) fn hello(hello: proto::Hello) -> Result<Hello, WireError> {
    let lowest = required(hello.lowest, "the lowest node")?;
    let id = |id: Option<_>| id.map(|id| epoch_id(Some(id))).transpose();
    Ok(Hello {
        member: changes::candidate(hello.candidate)?,
        listed_in: id(hello.listed_in)?,
        in_sight: id(hello.in_sight)?,
        lowest: (name(&lowest.name)?, boot(&lowest.boot)?),
        is_waiting: hello.is_waiting,
        is_lost: hello.is_lost,
    })
}

fn refusal(refusal: proto::Refusal) -> Result<Option<Refusal>, WireError> {
    refusal.why.map(why).transpose()
}

fn why(why: Why) -> Result<Refusal, WireError> {
    Ok(match why {
        Why::Settings(proto::RefusedSettings { node, service }) => Refusal::Settings {
            node: Described(epoch::settings(node)?),
            service: Described(epoch::settings(service)?),
        },
        Why::Protocol(proto::RefusedProtocol { lowest, highest, service }) => {
            Refusal::Protocol { node: Versions { lowest, highest }, service }
        }
        Why::Replaced(_) => Refusal::Replaced,
    })
}

const EMPTY: proto::Empty = proto::Empty {};
