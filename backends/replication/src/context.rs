//! The context of one step: the parts of an engine that its components share.

use std::time::Duration;

use steadfast_core::{Limits, RecordId, Timestamp};

use crate::epoch::Epoch;
use crate::member::{Boot, Name, Role};
use crate::outbox::Outbox;
use crate::placement::{Placement, Table};
use crate::replicas::Replicas;
use crate::rules::Rules;
use crate::settings::PartitionPolicy;
use crate::slots::{Slot, SlotSet};

/// The current time.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By a monotonic clock that counts suspension: it decides everything but deadlines of records.
    pub mono: Duration,
    /// By the wall clock.
    pub wall: Timestamp,
}

/// The epoch as this node looks at it, computed once.
#[derive(Debug)]
pub struct View {
    /// This node.
    pub me: Boot,
    /// The epoch.
    pub epoch: std::sync::Arc<Epoch>,
    table: Table,
    /// The holders if the members that join were full.
    future: Table,
    /// The slots that this node holds, or is going to.
    followed: SlotSet,
}

impl View {
    /// The view of a node.
    pub fn new(me: Boot, epoch: std::sync::Arc<Epoch>) -> Self {
        let table = epoch.placement().table();
        let is_joining = epoch.members().iter().any(|member| member.role == Role::Joining);
        let future = if is_joining { future(&epoch).table() } else { table.clone() };
        let is_mine =
            |slot: &Slot| table.holders(*slot).contains(&me) || future.holders(*slot).contains(&me);
        let followed = Slot::all().filter(is_mine).collect();
        Self { me, epoch, table, future, followed }
    }

    /// The number of the epoch.
    pub fn number(&self) -> u64 {
        self.epoch.id().number
    }

    /// The owner of a slot.
    pub fn owner(&self, slot: Slot) -> Option<Boot> {
        self.table.owner(slot)
    }

    /// Returns true if this node owns a slot.
    pub fn owns(&self, slot: Slot) -> bool {
        self.owner(slot) == Some(self.me)
    }

    /// The holders of a slot, the owner first.
    pub fn holders(&self, slot: Slot) -> &[Boot] {
        self.table.holders(slot)
    }

    /// The other nodes that get the changes of a slot: its holders, and those to be.
    pub fn followers(&self, slot: Slot) -> Vec<Boot> {
        let holders = self.table.holders(slot);
        let joining = self.future.holders(slot).iter().filter(|boot| !holders.contains(boot));
        holders.iter().chain(joining).copied().filter(|boot| *boot != self.me).collect()
    }

    /// Returns true if this node holds a slot, or will hold it.
    pub fn follows(&self, slot: Slot) -> bool {
        self.followed.contains(slot)
    }

    /// The slots that this node holds, or is going to.
    pub fn followed(&self) -> &SlotSet {
        &self.followed
    }

    /// Returns the number of acknowledgements that a write waits for, besides the owner's own copy
    /// (P2).
    pub fn acknowledgements(&self, slot: Slot) -> usize {
        let holders = self.table.holders(slot).len();
        let wanted = self.epoch.settings().acknowledgements(holders);
        match self.epoch.policy() {
            PartitionPolicy::Fail if self.epoch.settings().has_backups() => wanted.max(1),
            _ => wanted,
        }
    }

    /// The names of the first two holders, for clients to carry.
    pub fn routes(&self, slot: Slot) -> Vec<Name> {
        let member = |boot: &Boot| self.epoch.member(*boot);
        let holders = self.table.holders(slot).iter().take(2);
        holders.filter_map(member).map(|member| member.name.clone()).collect()
    }
}

fn future(epoch: &Epoch) -> Placement {
    let mut members = epoch.members().to_vec();
    for member in members.iter_mut().filter(|member| member.role == Role::Joining) {
        member.role = Role::Full;
    }
    Placement::new(*epoch.key(), &members, epoch.settings().replication)
}

/// The parts of an engine that a component may change in one step.
#[derive(Debug)]
pub struct Context<'c> {
    /// The current time.
    pub now: Now,
    /// The epoch.
    pub view: &'c View,
    /// The records that this node holds.
    pub replicas: &'c mut Replicas,
    /// The messages to send.
    pub out: &'c mut Outbox,
    /// The limits of a record.
    pub limits: &'c Limits,
    /// The rules in force.
    pub rules: Rules,
    /// True if sessions that end without a request are kept until they are reported.
    pub keeps_endings: bool,
}

impl Context<'_> {
    /// The slot of a record.
    pub fn slot_of(&self, id: RecordId) -> Slot {
        self.replicas.slot_of(id)
    }
}
