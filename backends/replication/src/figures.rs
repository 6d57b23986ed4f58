//! Figures of a node.

use crate::budget::Totals;

/// The figures of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Its health.
    pub health: Health,
    /// The members of its epoch; `None` if it is in none.
    pub members: Option<Members>,
    /// Its part in the slots.
    pub slots: Slots,
    /// The records that it holds: sessions, lists, and the ends of sessions.
    pub copies: Copies,
    /// The usage that counts for its budgets.
    pub held: Totals,
    /// Counts of events since it began.
    pub counts: Counts,
    /// The number of other nodes' packets that it has passed on since it began.
    pub relayed: u64,
    /// The number of open calls of this node.
    pub open_calls: usize,
}

/// The health of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// True if it is ready.
    pub is_ready: bool,
    /// True if there are fewer full members than a record should have copies.
    pub is_degraded: bool,
    /// The number of copies of its records that other nodes should hold and may lack.
    pub under_replicated: usize,
    /// The number of slots of other holders that are not known to be complete there.
    pub unsynced: usize,
    /// The number of members that it does not reach.
    pub suspects: usize,
    /// The lead of its wall clock over the service's time, in milliseconds; negative if the clock
    /// is slow.
    pub clock_offset_millis: i64,
}

/// An epoch and its members, by role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The number of the epoch.
    pub epoch: u64,
    /// Those that fill their slots.
    pub joining: usize,
    /// Those that slots are placed on.
    pub full: usize,
    /// Those that hand over what they served.
    pub draining: usize,
    /// Those that are not reached.
    pub aside: usize,
    /// Those whose majority decides, in any role.
    pub voters: usize,
}

/// A node's part in the slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// Own slots of which everything is here: calls need a lease at most.
    pub served: usize,
    /// Own slots that are being taken over.
    pub waiting: usize,
    /// Slots of other owners of which everything is here.
    pub complete: usize,
    /// Slots of other owners, or slots to be, of which something may be missing.
    pub filling: usize,
    /// Slots of the service that were given up and not served since.
    pub given_up: usize,
}

/// The number of records that a node holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// As their owner.
    pub owned: usize,
    /// Held for another owner.
    pub backups: usize,
}

/// Counts of events since a node began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of its own calls.
    pub calls: CallCounts,
    /// Events of the records that it owned.
    pub records: RecordCounts,
}

/// Counts of events of a node's own calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// Calls of the application.
    pub asked: u64,
    /// The number of times that one of them was sent to another node.
    pub forwarded: u64,
    /// Reads at a holder that had no lease, and asked the owner.
    pub lease_misses: u64,
    /// Writes that fewer nodes hold than configured.
    pub degraded: u64,
    /// Writes that were not confirmed before their deadline.
    pub unconfirmed: u64,
}

/// Counts of events of the records that a node owned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Copies that went apart and were merged.
    pub merged: u64,
    /// Records that the node took over from another owner.
    pub taken_over: u64,
    /// Slots that the service gave up.
    pub given_up: u64,
    /// Sessions that a budget ended, by [`Class`](crate::budget::Class).
    pub evicted: [u64; 2],
}
