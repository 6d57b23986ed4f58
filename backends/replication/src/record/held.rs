//! A node's copy of a record.

use std::time::Duration;

use steadfast_core::{EndReason, Ending, Principal, Record, RecordId, Timestamp};

use super::copy::Copy;
use super::list::List;
use super::stamp::Stamp;
use crate::call::Done;

/// The identity of a write of a record: no two writes share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The number of the epoch in which it was written.
    pub epoch: u64,
    /// The first write of a record in an epoch has the number 1.
    pub number: u64,
}

impl Revision {
    /// The next write, in this epoch or a later one.
    #[must_use]
    pub fn next_in(self, epoch: u64) -> Self {
        let number = if self.epoch == epoch { self.number + 1 } else { 1 };
        Self { epoch, number }
    }
}

/// A node's copy of a record: the confirmed part that may be shown, and the tentative part that may
/// not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The state that enough holders have.
    pub confirmed: Option<Entry>,
    /// A later write that is not confirmed.
    pub tentative: Option<Box<Entry>>,
    /// The number of the last epoch in which an owner sent it.
    pub told_in: u64,
}

impl Held {
    /// Its last write, confirmed or not.
    pub fn latest(&self) -> Option<&Entry> {
        self.tentative.as_deref().or(self.confirmed.as_ref())
    }

    /// The end that is to be reported, once it is confirmed.
    pub fn unreported(&self) -> Option<&Tombstone> {
        self.confirmed.as_ref()?.kept.unreported()
    }
}

/// A record after one of its writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The write.
    pub revision: Revision,
    /// The record since that write.
    pub kept: Kept,
    /// The calls whose repetition has to be known.
    pub done: Vec<Done>,
}

impl Entry {
    /// The bytes it takes, about.
    pub fn size(&self) -> usize {
        self.kept.size() + self.done.len() * DONE
    }
}

/// The approximate size of a remembered call.
const DONE: usize = 64;

/// The state of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The session.
    Live(Copy),
    /// That it ended.
    Ended(Tombstone),
    /// The sessions of a principal.
    List(List),
}

/// The remains of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The time of the end.
    pub stamp: Stamp,
    /// The time until which its end is remembered.
    pub until: Timestamp,
    /// The reason of the end.
    pub reason: EndReason,
    /// The report that the application has not acknowledged yet (X3).
    pub unreported: Option<Box<Unreported>>,
}

/// The part of a session's end that the application gets as a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreported {
    /// The user; `None` for a visitor.
    pub principal: Option<Principal>,
    /// The time at which it ended.
    pub at: Timestamp,
}

impl Tombstone {
    /// The time for which the end of a session is remembered: longer than the expected absence of a
    /// node that returns with copies.
    pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

    /// The same end once the application has been told. That of a visitor who was evicted need not be
    /// remembered any more.
    #[must_use]
    pub fn reported(&self, stamp: Stamp, now: Timestamp) -> Self {
        let is_visitor = self.unreported.as_ref().is_some_and(|end| end.principal.is_none());
        let is_over = is_visitor && self.reason == EndReason::Evicted;
        let until = if is_over { now } else { self.until };
        Self { stamp, until, reason: self.reason, unreported: None }
    }

    /// Returns the report for the application, unless it was made.
    pub fn ending(&self, id: RecordId) -> Option<Ending> {
        let Unreported { principal, at } = self.unreported.as_deref()?;
        Some(Ending { id, principal: principal.clone(), reason: self.reason, at: *at })
    }

    fn memory(&self) -> usize {
        let principal =
            |end: &Unreported| end.principal.as_ref().map_or(0, |principal| principal.id().len());
        self.unreported.as_deref().map_or(0, |end| size_of::<Unreported>() + principal(end))
    }
}

impl Kept {
    /// Merges two diverged copies of one record into a write with this stamp; `None` if the other
    /// one adds nothing. Ends win (D1).
    pub fn merged(&self, other: &Self, stamp: Stamp) -> Option<Self> {
        match (self, other) {
            (Self::Live(mine), Self::Live(theirs)) => mine.merged(theirs, stamp).map(Self::Live),
            (Self::Live(_), Self::Ended(end)) => {
                Some(Self::Ended(Tombstone { stamp, ..end.clone() }))
            }
            (Self::List(mine), Self::List(theirs)) => mine.merged(theirs, stamp).map(Self::List),
            _ => None,
        }
    }

    /// The session, unless it ended.
    pub fn live(&self) -> Option<&Copy> {
        match self {
            Self::Live(copy) => Some(copy),
            Self::Ended(_) | Self::List(_) => None,
        }
    }

    /// The list, if it is one.
    pub fn list(&self) -> Option<&List> {
        match self {
            Self::List(list) => Some(list),
            Self::Live(_) | Self::Ended(_) => None,
        }
    }

    /// The end of a session of which the application has not been told.
    pub fn unreported(&self) -> Option<&Tombstone> {
        match self {
            Self::Ended(tombstone) if tombstone.unreported.is_some() => Some(tombstone),
            _ => None,
        }
    }

    /// Returns true if it is the end of a session.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }

    /// The record of the session, unless it ended.
    pub fn record(&self) -> Option<&Record> {
        self.live().map(|copy| &*copy.record)
    }

    /// The time of the write.
    pub fn stamp(&self) -> Stamp {
        match self {
            Self::Live(copy) => copy.stamp,
            Self::Ended(tombstone) => tombstone.stamp,
            Self::List(list) => list.stamp,
        }
    }

    /// The bytes it takes, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Live(copy) => copy.memory(),
            Self::Ended(tombstone) => size_of::<Self>() + tombstone.memory(),
            Self::List(list) => list.memory(),
        }
    }

    /// Returns the time when it ends or is forgotten.
    pub fn deadline(&self) -> Timestamp {
        match self {
            Self::Live(copy) => copy.record.deadline(),
            Self::Ended(tombstone) => tombstone.until,
            Self::List(list) => list.until(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_above_those_before_it() {
        let first = Revision::default().next_in(5);
        assert_eq!(first, Revision { epoch: 5, number: 1 });
        assert!(first.next_in(5) > first);
        assert!(first.next_in(6) > first.next_in(5));
    }
}
