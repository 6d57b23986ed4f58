//! What a node says of itself in numbers.

use crate::budget::Totals;

/// How a node is, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Whether it is well.
    pub health: Health,
    /// The members of its epoch; `None` if it is in none.
    pub members: Option<Members>,
    /// Its part in the slots.
    pub slots: Slots,
    /// The records that it holds: sessions, lists, and the ends of sessions.
    pub copies: Copies,
    /// What counts for its budgets.
    pub held: Totals,
    /// What happened since it began.
    pub counts: Counts,
    /// How many packets of other nodes it passed on since it began.
    pub relayed: u64,
    /// How many calls of this node are open.
    pub open_calls: usize,
}

/// Whether a node is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether it is ready.
    pub is_ready: bool,
    /// Whether there are fewer full members than a record should have copies.
    pub is_degraded: bool,
    /// How many copies of its records other nodes should hold and may lack.
    pub under_replicated: usize,
    /// How many slots of other holders are not known to be complete there.
    pub unsynced: usize,
    /// How many members it does not reach.
    pub suspects: usize,
    /// How far its wall clock is ahead of the service's time, in milliseconds; negative if it is slow.
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

/// How many records a node holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// As their owner.
    pub owned: usize,
    /// For another owner.
    pub backups: usize,
}

/// What happened since a node began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// To its own calls.
    pub calls: CallCounts,
    /// To the records that it owned.
    pub records: RecordCounts,
}

/// What happened to a node's own calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// Calls of the application.
    pub asked: u64,
    /// How often one of them was sent to another node.
    pub forwarded: u64,
    /// Reads at a holder that had no lease, and asked the owner.
    pub lease_misses: u64,
    /// Writes that fewer nodes hold than configured.
    pub degraded: u64,
    /// Writes that were not confirmed before their deadline.
    pub unconfirmed: u64,
}

/// What happened to the records that a node owned.
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
