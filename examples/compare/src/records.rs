//! The records of all requests, from which the figures of the report come.

use std::fmt::Write;
use std::time::Duration;

use crate::fault::Fault;

/// A request, or a loss that one revealed.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The part of the run that it belongs to.
    pub phase: Phase,
    /// The moment at which it was to be sent, since the start of its phase.
    pub planned: Duration,
    /// The time from then to the end of its answer.
    pub took: Duration,
    /// The request.
    pub action: Action,
    /// The oracle's verdict on the answer.
    pub outcome: Outcome,
    /// The number of the node that answered, from 0.
    pub node: Option<u8>,
    /// The place of that node among those that the visitor's route names, if it has one.
    pub place: Option<Place>,
}

/// A node's relation to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The session lives there.
    Owner,
    /// It has a copy, or the session would move there first.
    Copy,
    /// Neither.
    Elsewhere,
}

/// A part of a contestant's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everyone signs in.
    Arrive,
    /// Load without a fault.
    Calm,
    /// Several requests of one session at the same time.
    Together,
    /// Load during a fault.
    Fault(Fault),
}

/// The action of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads the session.
    Read,
    /// Writes the next number.
    Write,
    /// Adds one to a counter.
    Increment,
    /// Signs in for the first time, or after a sign-out.
    SignIn,
    /// Signs in because the session was gone.
    ForcedSignIn,
    /// Signs out.
    SignOut,
    /// Reads with the cookie of a session that was signed out.
    Replay,
    /// Reads after the load of a phase, once per session.
    Audit,
    /// Not a request: the moment at which a session turned out to be gone. `Stale` if it held an
    /// acknowledged value.
    Loss,
}

/// The verdict on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As one server would have answered.
    Good,
    /// An older value than was acknowledged.
    Stale,
    /// Signed out, though the session was not ended.
    Missing,
    /// Signed in, though the session was ended.
    Revived,
    /// Another status than 200.
    Refused,
    /// No answer.
    Unanswered,
    /// An answer to a request that began in an earlier session of the visitor: not judged.
    Overtaken,
}

impl Record {
    /// True for what a person sees as an error page.
    pub fn is_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Refused | Outcome::Unanswered)
    }

    /// True for everything but losses.
    pub fn is_request(&self) -> bool {
        self.action != Action::Loss
    }
}

impl Phase {
    /// The name in files.
    pub fn id(self) -> &'static str {
        match self {
            Self::Arrive => "arrive",
            Self::Calm => "calm",
            Self::Together => "together",
            Self::Fault(fault) => fault.id(),
        }
    }
}

impl Action {
    fn id(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Increment => "increment",
            Self::SignIn => "sign-in",
            Self::ForcedSignIn => "forced-sign-in",
            Self::SignOut => "sign-out",
            Self::Replay => "replay",
            Self::Audit => "audit",
            Self::Loss => "loss",
        }
    }
}

impl Place {
    fn id(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Copy => "copy",
            Self::Elsewhere => "elsewhere",
        }
    }
}

impl Outcome {
    fn id(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Stale => "stale",
            Self::Missing => "missing",
            Self::Revived => "revived",
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
            Self::Overtaken => "overtaken",
        }
    }
}

/// The head of the file of all records.
pub const CSV_HEAD: &str = "strategy,phase,planned_ms,took_ms,action,outcome,node,place\n";

/// Records as lines of that file.
pub fn csv(strategy: &str, records: &[Record]) -> String {
    let mut lines = String::new();
    for record in records {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
        let node = record.node.map(|node| format!("n{}", node + 1)).unwrap_or_default();
        let place = record.place.map(Place::id).unwrap_or_default();
        let _ = writeln!(
            lines,
            "{strategy},{},{:.1},{:.2},{},{},{node},{place}",
            record.phase.id(),
            milliseconds(record.planned),
            milliseconds(record.took),
            record.action.id(),
            record.outcome.id(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line() {
        let (planned, took) = (Duration::from_millis(1_500), Duration::from_micros(2_250));
        let (phase, action, outcome) = (Phase::Calm, Action::Read, Outcome::Stale);
        let (node, place) = (Some(1), Some(Place::Copy));
        let record = Record { phase, planned, took, action, outcome, node, place };
        assert_eq!(csv("redis", &[record]), "redis,calm,1500.0,2.25,read,stale,n2,copy\n");
        let fields = |line: &str| line.split(',').count();
        assert_eq!(fields(CSV_HEAD), fields(&csv("redis", &[record])));
    }
}
