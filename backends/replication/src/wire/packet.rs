//! Parts of streams.

use std::time::Duration;

use super::scalars::{boot_or, boot_unless, epoch_id, to_epoch_id, to_nanos};
use super::{Ends, WireError, proto};
use crate::paths::{Content, Covered, Packet};

pub(super) fn encode(packet: &Packet<Vec<u8>>, ends: Ends) -> proto::Packet {
    let Packet { from, to, epoch, stream, first, covered, sent_at, content } = packet;
    let (number, message) = match content {
        Some(Content { number, message }) => (*number, message.clone()),
        None => (0, Vec::new()),
    };
    proto::Packet {
        from: boot_unless(*from, ends.from),
        to: boot_unless(*to, ends.to),
        epoch: to_epoch_id(*epoch),
        stream: *stream,
        first: *first,
        covered_stream: covered.stream,
        covered_below: covered.below,
        sent_at: to_nanos(*sent_at),
        number,
        message,
    }
}

pub(super) fn decode(packet: proto::Packet, ends: Ends) -> Result<Packet<Vec<u8>>, WireError> {
    let (number, message) = (packet.number, packet.message);
    Ok(Packet {
        from: boot_or(&packet.from, ends.from)?,
        to: boot_or(&packet.to, ends.to)?,
        epoch: epoch_id(packet.epoch)?,
        stream: packet.stream,
        first: packet.first,
        covered: Covered { stream: packet.covered_stream, below: packet.covered_below },
        sent_at: Duration::from_nanos(packet.sent_at),
        content: (number > 0).then_some(Content { number, message }),
    })
}
