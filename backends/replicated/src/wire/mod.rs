//! Frames: messages as bytes, so that nodes of different versions understand each other.
//!
//! `proto` is the format. Nothing is allocated on the word of a peer: a list is never longer than
//! the bytes that are there for it.

use prost::Message as _;

use crate::engine::Message;

mod hello;
mod proto;

mod calls;
mod messages;
mod records;
mod scalars;

#[cfg(test)]
mod tests;

pub(crate) use hello::Hello;

/// The longest frame: a snapshot's part with one record more than it should have.
pub(crate) const MAX_FRAME: usize = 1 << 20;

/// What the body of a frame carries.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// For the engine.
    Message(Message),
    /// For the membership.
    Gossip(Vec<u8>),
}

/// The body of a frame for the engine.
pub(crate) fn encode(message: &Message) -> Vec<u8> {
    proto::Frame { kind: Some(message.into()) }.encode_to_vec()
}

/// The body of a frame for the membership.
pub(crate) fn encode_gossip(gossip: &[u8]) -> Vec<u8> {
    proto::Frame { kind: Some(proto::Kind::Gossip(gossip.to_vec())) }.encode_to_vec()
}

/// What is in the body of a frame; `None` if it is of a kind that this version does not know.
pub(crate) fn decode(body: &[u8]) -> Result<Option<Frame>, WireError> {
    proto::Frame::decode(body)?.kind.map(Frame::try_from).transpose()
}

/// What a peer sent is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the bytes are no message")]
    Form(#[from] prost::DecodeError),
    #[error("{0} is missing in a message, or is none")]
    Part(&'static str),
}
