//! Frames as bytes, so that nodes of different versions understand each other.
//!
//! `replication.proto` is the format, and `proto` is generated from it. Decoding allocates a small
//! multiple of the bytes that arrived, and at most 4 MiB for what an epoch repeats, whatever they are: elements of lists are decoded one by one, up
//! to a limit.

mod agreement;
mod calls;
mod changes;
mod datagram;
mod epoch;
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
    #[error("the bytes are no message")]
    Form(#[from] prost::DecodeError),
    /// A part is missing, or has a value that it cannot have.
    #[error("{0} is missing in a message, or is invalid")]
    Part(&'static str),
    /// A list is longer than it may be.
    #[error("a list has more than {0} elements")]
    TooMany(usize),
}

/// The bytes of a frame that carries a packet.
pub fn encode(packet: &Packet, ends: Ends) -> Vec<u8> {
    let kind = match packet {
        Packet::Stream(packet) => Kind::Packet(packet::encode(packet, ends)),
        Packet::Cluster(frame) => Kind::Datagram(datagram::encode(frame, ends.from)),
    };
    proto::Frame { kind: Some(kind) }.encode_to_vec()
}

/// The packet in a frame with these bytes; `None` if it is of a kind that this version does not know.
///
/// # Errors
///
/// If the bytes are not a frame.
pub fn decode(bytes: &[u8], ends: Ends) -> Result<Option<Packet>, WireError> {
    match proto::Frame::decode(bytes)?.kind {
        Some(Kind::Packet(packet)) => packet::decode(packet, ends).map(Packet::Stream).map(Some),
        Some(Kind::Datagram(frame)) => Ok(datagram::decode(frame, ends.from)?.map(Packet::Cluster)),
        None => Ok(None),
    }
}
