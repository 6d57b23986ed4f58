//! Parts of streams.

use super::scalars::{boot_or, boot_unless, epoch_id, to_epoch_id};
use super::{Ends, WireError, message, proto};
use crate::message::Message;
use crate::paths::{Content, Covered, Packet};

pub(super) fn encode(packet: &Packet<Message>, ends: Ends) -> proto::Packet {
    let Packet { from, to, epoch, stream, first, covered, content } = packet;
    let (number, message) = match content {
        Some(Content { number, message }) => (*number, Some(message::encode(message))),
        None => (0, None),
    };
    proto::Packet {
        from: boot_unless(*from, ends.from),
        to: boot_unless(*to, ends.to),
        epoch: to_epoch_id(*epoch),
        stream: *stream,
        first: *first,
        covered_stream: covered.stream,
        covered_below: covered.below,
        number,
        message,
    }
}

pub(super) fn decode(packet: proto::Packet, ends: Ends) -> Result<Packet<Message>, WireError> {
    let content = match packet.number {
        0 => None,
        number => {
            let message = message::decode(packet.message.unwrap_or_default())?;
            Some(Content { number, message })
        }
    };
    Ok(Packet {
        content,
        from: boot_or(&packet.from, ends.from)?,
        to: boot_or(&packet.to, ends.to)?,
        epoch: epoch_id(packet.epoch)?,
        stream: packet.stream,
        first: packet.first,
        covered: Covered { stream: packet.covered_stream, below: packet.covered_below },
    })
}
