//! The effects of a membership's steps, and the reasons why a node is not ready.

use std::sync::Arc;

use super::message::{Frame, Refusal};
use crate::cluster::Suspected;
use crate::epoch::{Epoch, EpochId};
use crate::member::{Boot, Name, Role};

/// An effect of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// A frame is to be sent over the link to a boot; without one it is dropped.
    Send(Boot, Frame),
    /// This node is in another epoch from now on.
    Learned(Arc<Epoch>),
    /// This node does not reach a member. It may be repeated.
    Suspected(Boot, Suspected),
    /// A node is not admitted, for the log; the other one is this node, if the boot is its own.
    Refused(Boot, Refusal),
    /// Two services or lineages met of which an operator has to end one, for the log.
    Conflict(EpochId),
    /// This boot has stopped being a member for good: its process has to end.
    Ended(End),
}

/// The reason why a boot has stopped being a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// It left, as it was asked to.
    Left,
    /// Another process took its place, or an operator's call left it out.
    Replaced,
}

/// The reason why a node is not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It knows no service yet.
    #[error("no service is known; these addresses do not answer: {silent:?}")]
    Seeking {
        /// The discovered addresses that did not answer.
        silent: Vec<String>,
    },
    /// It asked to join.
    #[error("it is waiting to be admitted")]
    Joining,
    /// Another process of its name may be there.
    #[error("another process of this name may be running")]
    NameTaken,
    /// It is not admitted.
    #[error("it is not admitted")]
    Refused(#[source] Refusal),
    /// No majority of the voters is reachable.
    #[error("no majority of the voters of epoch {epoch:?} is reachable; missing: {missing:?}")]
    NoMajority {
        /// The epoch that an operator could found from.
        epoch: EpochId,
        /// The names that have to be there for a new lineage; none, if a later epoch is known, or an
        /// address does not answer.
        missing: Vec<Name>,
    },
    /// It is not full.
    #[error("its role is {0:?}")]
    Role(Role),
    /// Its wall clock is off the service's time for too long.
    #[error("its clock differs from the service's time by {millis} ms")]
    Clock {
        /// The offset in milliseconds; negative if the clock is slow.
        millis: i64,
    },
    /// Own slots are not served for too long.
    #[error("{waiting} of its slots wait for copies of these nodes, or for a lease: {missing:?}")]
    Slots {
        /// The number of them.
        waiting: usize,
        /// The nodes whose answers may be missing.
        missing: Vec<Name>,
    },
    /// It had no lease for 5 s. A node at rest has none, and asks for one when it is asked whether it is ready.
    #[error("a majority of the voters granted it no lease for 5 s")]
    NoLease,
    /// Its process has to end.
    #[error("it has stopped being a member")]
    Ended,
}
