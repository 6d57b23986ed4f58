//! A packet on a link.

use crate::epoch::EpochId;
use crate::member::Boot;

/// One numbered message of a stream, or none, and how much of the opposite stream was handled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet<M> {
    /// The boot that sent it, which may not be at the other end of the link that it came over.
    pub from: Boot,
    /// The boot that it is for: another one relays it.
    pub to: Boot,
    /// The epoch of the sender.
    pub epoch: EpochId,
    /// The number of the sender's stream to this receiver: a sender that forgot the receiver begins
    /// another one with a higher number.
    pub stream: u64,
    /// The lowest number that the sender may still send in this stream: lower ones are not awaited.
    pub first: u64,
    /// The messages of the opposite stream that the sender handled.
    pub covered: Covered,
    /// The content, if any.
    pub content: Option<Content<M>>,
}

/// A message with its place in its stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Content<M> {
    /// Numbers of a stream begin at 1, and rise by 1.
    pub number: u64,
    /// The message.
    pub message: M,
}

/// The part of a stream that was handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Covered {
    /// The number of the stream; 0 stands for none.
    pub stream: u64,
    /// The lowest number that was not handled.
    pub below: u64,
}
