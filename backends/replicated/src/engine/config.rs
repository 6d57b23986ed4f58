//! How an engine is set up.

use std::time::Duration;

use steadfast_core::{Budget, Limits};

use super::table::Class;
use crate::record::MAX_SKEW;

/// How many nodes hold a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Copies {
    /// All of them: for up to 10 nodes, since every write goes to every node.
    All,
    /// The owner and this many others. One by default.
    Backups(usize),
}

impl Default for Copies {
    fn default() -> Self {
        Self::Backups(1)
    }
}

/// How many acknowledgements a write waits for, beside the owner's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acks {
    /// One of another node: the write survives any one crash.
    #[default]
    One,
    /// All of the nodes that hold the record: it survives as many crashes as there are backups.
    All,
}

/// What a node does where the acknowledgements of a write cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Partition {
    /// The write is rolled back and the call is an outage; a node that sees less than a majority of
    /// the nodes refuses everything. The default from three nodes up.
    Fail,
    /// Whoever is left serves, and says so in each answer. Both sides of a split go on; afterwards the
    /// copies are merged per key, deletions win, and counters are as their last writer left them.
    /// The default for one node and for two.
    Degrade,
}

/// What the other nodes make of a node that was drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainAs {
    /// It comes back: for 60 s after it is gone, it counts when they decide by majority, so that nodes
    /// can be restarted one after the other.
    #[default]
    Restart,
    /// It leaves: the drain is over when they agreed to decide without it, so that those that stay
    /// survive the loss of one of them at once.
    Leave,
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) copies: Copies,
    pub(crate) acks: Acks,
    /// `None`: by the size of the base.
    pub(crate) partition: Option<Partition>,
    pub(crate) drain_as: DrainAs,
    pub(crate) limits: Limits,
    pub(crate) budgets: Budgets,
    /// Whether others are expected, so that a node does not found a service of its own at once.
    pub(crate) expects_peers: bool,
    #[cfg(test)]
    pub(crate) without: Option<Rule>,
}

impl Config {
    /// Whether a rule is kept: always, but in the simulator's own tests.
    #[cfg_attr(not(test), allow(clippy::unused_self, reason = "only a test breaks rules"))]
    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        #[cfg(test)]
        return self.without != Some(rule);
        #[cfg(not(test))]
        return matches!(rule, _);
    }
}

/// How much a node holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budgets {
    pub(crate) anonymous: Budget,
    pub(crate) authenticated: Budget,
}

impl Budgets {
    pub(super) fn of(self, class: Class) -> Budget {
        match class {
            Class::Anonymous => self.anonymous,
            Class::Authenticated => self.authenticated,
        }
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self { anonymous: Budget::ANONYMOUS, authenticated: Budget::AUTHENTICATED }
    }
}

/// The rules that the simulator must find missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Acknowledge,
    RollBack,
    Lease,
    Grace,
    TakeOver,
}

/// How many nodes may hold everything before that is said to be too much.
pub(crate) const CROWDED_ABOVE: usize = 10;

/// How long an owner waits for acknowledgements.
pub(crate) const ACK_WITHIN: Duration = Duration::from_millis(200);

/// How long a read lease runs from when it was asked for; who grants it counts twice that.
pub(crate) const LEASE: Duration = Duration::from_millis(500);

/// How long ending a session, or replacing its secret, waits for nodes that do not answer.
pub(crate) const END_WITHIN: Duration = Duration::from_secs(2);

/// How often an engine looks around while something is under way.
pub(crate) const BEAT: Duration = Duration::from_millis(25);

/// How often a random peer is compared with.
pub(crate) const DIGEST_EVERY: Duration = Duration::from_secs(3);

/// How long a record stays after every holder was found to have it.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// How long a node that expects others waits for them before it founds a service.
pub(crate) const FOUND_AFTER: Duration = Duration::from_millis(1_500);

/// How long a deleted record is remembered, and how long a node may be alone and keep its copies.
pub(crate) const TOMBSTONE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long after its deadline a holder that is not the owner drops a record, and for how long the
/// owner remembers that it expired: longer than clocks may differ.
pub(crate) const DROP_LATE: Duration = Duration::from_secs(MAX_SKEW.as_secs() + 60);

/// How long a member that restarts stays in the base.
pub(crate) const RESTART_WITHIN: Duration = Duration::from_secs(60);
