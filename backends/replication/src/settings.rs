//! The settings that all nodes of a service share.

use std::fmt;

/// The settings that all members share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The number of members that hold a slot.
    pub replication: Replication,
    /// The number of acknowledgements that a write waits for.
    pub acknowledgements: Acknowledgements,
    /// `None`: `Degrade` until an epoch has had three full members, then `Fail`.
    pub policy: Option<PartitionPolicy>,
}

impl Settings {
    /// Returns the number of acknowledgements that a write waits for, besides the owner's own copy,
    /// given the number of holders.
    pub fn acknowledgements(&self, holders: usize) -> usize {
        let others = holders.saturating_sub(1);
        match (self.acknowledgements, self.replication) {
            (Acknowledgements::All, _) => others,
            (Acknowledgements::One, Replication::Full) => others.min((holders / 2).max(1)),
            (Acknowledgements::One, Replication::Backups(_)) => others.min(1),
        }
    }

    /// Returns true if a slot has other holders than its owner, given enough members.
    pub fn has_backups(&self) -> bool {
        self.replication != Replication::Backups(0)
    }
}

/// The number of acknowledgements that a write waits for, besides the owner's own copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Acknowledgements {
    /// One of another holder; with [`Replication::Full`], as many as make a majority of the holders.
    #[default]
    One,
    /// All of the other holders.
    All,
}

impl Acknowledgements {
    /// Its word: `one` or `all`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::All => "all",
        }
    }
}

/// The behaviour when a majority of the voters is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PartitionPolicy {
    /// Calls fail.
    Fail,
    /// Each side goes on, and copies are merged when the sides meet.
    Degrade,
}

impl PartitionPolicy {
    /// Its word: `fail` or `degrade`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Degrade => "degrade",
        }
    }
}

/// The number of members that hold a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Replication {
    /// All full members: for up to 10 of them, since every write goes to each.
    Full,
    /// The owner and this many others.
    Backups(u32),
}

/// `all`, or the number of backups: as in the URL of a store.
impl fmt::Display for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("all"),
            Self::Backups(backups) => backups.fmt(f),
        }
    }
}

impl Default for Replication {
    /// The owner and one other.
    fn default() -> Self {
        Self::Backups(1)
    }
}
