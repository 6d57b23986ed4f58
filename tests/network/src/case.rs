//! One fault at one byte of one call.

use std::fmt;
use std::time::Duration;

use testkit::faults::{Action, Direction};

use crate::deployment::Target;
use crate::scene::Operation;

/// One fault at one byte of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Case {
    pub target: Target,
    pub situation: Situation,
    pub operation: Operation,
    pub failure: Failure,
    /// The number of the conversation. It is 0 for a call, which has only one.
    pub conversation: usize,
    pub direction: Direction,
    /// The number of bytes that pass in this direction before the fault.
    pub after: u64,
}

/// The state of the connection before a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Situation {
    /// A connection that has made such calls before.
    Warm,
    /// No connection: the call is the first one of its store.
    Cold,
    /// A connection that ended a moment ago, while no call was in progress.
    Idle,
}

/// A failure of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    Reset,
    Close,
    HalfClose,
    Swallow,
    /// Delays the rest by a fraction of the timeout.
    Delay,
    /// Delays the rest beyond the timeout.
    Late,
    /// The client sees a reset. The server receives what the client had sent, and the end, late.
    Strand,
}

impl Failure {
    pub const ALL: [Self; 7] = [
        Self::Reset,
        Self::Close,
        Self::HalfClose,
        Self::Swallow,
        Self::Delay,
        Self::Late,
        Self::Strand,
    ];

    pub fn action(self, operation: Operation) -> Action {
        match self {
            Self::Reset => Action::Reset,
            Self::Close => Action::Close,
            Self::HalfClose => Action::HalfClose,
            Self::Swallow => Action::Swallow,
            Self::Delay => Action::Delay(SOON),
            Self::Late => Action::Delay(operation.deadline() + SOON),
            Self::Strand => Action::Strand(SOON),
        }
    }

    /// Returns true if bytes may reach the server after the caller has its answer.
    pub fn is_late(self) -> bool {
        matches!(self, Self::Delay | Self::Late | Self::Strand)
    }
}

impl Situation {
    pub const ALL: [Self; 3] = [Self::Warm, Self::Cold, Self::Idle];
}

impl Failure {
    /// Returns true if every byte finally arrives over the same connection.
    pub fn is_mere_delay(self) -> bool {
        matches!(self, Self::Delay | Self::Late)
    }
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
            Self::Idle => "idle",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "reset",
            Self::Close => "close",
            Self::HalfClose => "half-close",
            Self::Swallow => "swallow",
            Self::Delay => "delay",
            Self::Late => "delay past the deadline",
            Self::Strand => "reset, late at the server",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, situation, operation, failure, conversation, direction, after } = self;
        write!(f, "{target}, {situation}, {operation}: {failure} after {after} bytes ")?;
        write!(f, "{} in conversation {conversation}", way(*direction))
    }
}

/// Returns a direction in words.
pub fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::ToServer => "to the server",
        Direction::ToClient => "to the client",
    }
}

/// Long for a network, short for a timeout.
const SOON: Duration = Duration::from_millis(200);
