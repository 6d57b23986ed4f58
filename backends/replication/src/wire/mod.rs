//! Frames as bytes, so that nodes of different versions understand each other.
//!
//! `replication.proto` is the format, and `proto` is generated from it. Decoding allocates a small
//! multiple of the bytes that arrived, and at most 4 MiB for what an epoch repeats, whatever they are: elements of lists are decoded one by one, up
//! to a limit.

mod agreement;
mod changes;
mod datagram;
mod epoch;
mod list;
mod packet;
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod proto;
mod scalars;
mod slots;
#[cfg(test)]
mod tests;

use prost::Message as _;

pub use self::epoch::{MAX_ADDRESS, MAX_ZONE};
use self::proto::frame::Kind;
use crate::member::Boot;
use crate::membership;
use crate::paths::Packet;

/// What one frame of a link carries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// A part of a stream.
    Packet(Packet<Vec<u8>>),
    /// A message about the cluster.
    Datagram(membership::Frame),
}

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

/// The bytes of a frame.
pub fn encode(frame: &Frame, ends: Ends) -> Vec<u8> {
    let kind = match frame {
        Frame::Packet(packet) => Kind::Packet(packet::encode(packet, ends)),
        Frame::Datagram(frame) => Kind::Datagram(datagram::encode(frame, ends.from)),
    };
    proto::Frame { kind: Some(kind) }.encode_to_vec()
}

/// The frame with these bytes; `None` if it is of a kind that this version does not know.
///
/// # Errors
///
/// If the bytes are not a frame.
pub fn decode(bytes: &[u8], ends: Ends) -> Result<Option<Frame>, WireError> {
    match proto::Frame::decode(bytes)?.kind {
        Some(Kind::Packet(packet)) => packet::decode(packet, ends).map(Frame::Packet).map(Some),
        Some(Kind::Datagram(frame)) => Ok(datagram::decode(frame, ends.from)?.map(Frame::Datagram)),
        None => Ok(None),
    }
}
