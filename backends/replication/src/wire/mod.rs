//! Frames as bytes, so that nodes of different versions understand each other.
//!
//! `replication.proto` is the format, and `proto` is generated from it. Decoding any bytes
//! allocates a small multiple of their number, and at most 4 MiB for the repetitions of an epoch:
//! elements of lists are decoded one by one, up to a limit.

mod agreement;
mod calls;
mod changes;
mod datagram;
mod epoch;
mod greeting;
mod list;
mod lists;
mod message;
mod packet;
mod pages;
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod proto;
mod records;
mod scalars;
mod slots;
mod values;
#[cfg(test)]
mod tests;

use prost::Message as _;

pub use self::epoch::{MAX_ADDRESS, MAX_ZONE};
pub use self::greeting::{EDITION, Greeting, MAX_KNOWN};
use self::proto::frame::Kind;
use crate::engine::Packet;
use crate::member::Boot;

/// The boots at the ends of a link, in the direction of a frame. A frame does not name them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The sender.
    pub from: Boot,
    /// The receiver.
    pub to: Boot,
}

/// The bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// They are not in the encoding of Protocol Buffers.
    #[error("the bytes are not a message")]
    Form(#[from] prost::DecodeError),
    /// A part is missing, or has a value that it cannot have.
    #[error("{0} is missing in a message, or is invalid")]
    Part(&'static str),
    /// A list is longer than it may be.
    #[error("a list has more than {0} elements")]
    TooMany(usize),
}

/// The body of a frame.
// Nearly all frames carry packets, so a box for them would cost more than it saves.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Frame {
    /// A packet of the engine.
    Packet(Packet),
    /// A packet of the failure detector.
    Gossip(Vec<u8>),
}

/// The bytes of a frame that carries a packet.
pub fn encode(packet: &Packet, ends: Ends) -> Vec<u8> {
    let kind = match packet {
        Packet::Stream(packet) => Kind::Packet(packet::encode(packet, ends)),
        Packet::Cluster(frame) => Kind::Datagram(datagram::encode(frame, ends.from)),
    };
    proto::Frame { kind: Some(kind) }.encode_to_vec()
}

/// The bytes of a frame that carries gossip of the failure detector.
pub fn encode_gossip(gossip: Vec<u8>) -> Vec<u8> {
    proto::Frame { kind: Some(Kind::Gossip(gossip)) }.encode_to_vec()
}

/// Decodes a frame; `None` if this version does not know its kind.
///
/// # Errors
///
/// If the bytes are not a frame.
pub fn decode(bytes: &[u8], ends: Ends) -> Result<Option<Frame>, WireError> {
    let packet = match proto::Frame::decode(bytes)?.kind {
        Some(Kind::Packet(packet)) => Some(Packet::Stream(packet::decode(packet, ends)?)),
        Some(Kind::Datagram(frame)) => datagram::decode(frame, ends.from)?.map(Packet::Cluster),
        Some(Kind::Gossip(gossip)) => return Ok(Some(Frame::Gossip(gossip))),
        None => None,
    };
    Ok(packet.map(Frame::Packet))
}
