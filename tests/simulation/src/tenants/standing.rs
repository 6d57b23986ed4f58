//! A member's knowledge of the cluster beyond its epoch: its lease, and the nodes that may still
//! serve.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use steadfast_replication::epoch::Epoch;
use steadfast_replication::member::Boot;
use steadfast_replication::slots::{Slot, SlotSet};
use steadfast_replication::tenant;

/// The lease of a member, and the slots that no other member can still serve.
#[derive(Debug)]
pub(super) struct Standing {
    me: Boot,
    epoch: Arc<Epoch>,
    /// When this member learned each epoch.
    learned: BTreeMap<u64, Duration>,
    withdrawn: SlotSet,
    ready: SlotSet,
    named: SlotSet,
    until: Duration,
    suspected: Option<Boot>,
}

impl Standing {
    pub(super) fn new(me: Boot, epoch: Arc<Epoch>, now: Duration) -> Self {
        Self {
            me,
            learned: BTreeMap::from([(epoch.id().number, now)]),
            epoch,
            withdrawn: SlotSet::new(),
            ready: SlotSet::new(),
            named: SlotSet::new(),
            until: Duration::ZERO,
            suspected: None,
        }
    }

    /// Enters an epoch: a lease ends with its own (L2).
    pub(super) fn enter(&mut self, epoch: Arc<Epoch>, now: Duration) {
        let mut learned = std::mem::take(&mut self.learned);
        learned.insert(epoch.id().number, now);
        *self = Self { learned, suspected: self.suspected, ..Self::new(self.me, epoch, now) };
    }

    pub(super) fn suspect(&mut self, suspected: Option<Boot>) {
        self.suspected = suspected;
    }

    pub(super) fn on_withdrawn(&mut self, from: Boot, slots: &SlotSet) {
        let of_it = |slot: &Slot| self.epoch.last_served(*slot).owner(*slot) == Some(from);
        self.withdrawn.insert_all(&slots.iter().filter(of_it).collect());
    }

    pub(super) fn make_ready(&mut self, slots: &SlotSet) {
        self.ready.insert_all(slots);
    }

    pub(super) fn ready(&self) -> &SlotSet {
        &self.ready
    }

    /// Whether slots are ready that its lease does not name, or its lease ends soon.
    pub(super) fn wants_lease(&self, now: Duration) -> bool {
        !self.named.contains_all(&self.ready) || self.until.saturating_sub(now) < LEASE / 3
    }

    /// Takes a lease of everything that is ready.
    pub(super) fn take_lease(&mut self, asked: Duration) {
        (self.named, self.until) = (self.ready.clone(), asked + LEASE);
    }
}

impl tenant::Standing for Standing {
    fn serves(&self, slot: Slot, now: Duration) -> bool {
        now < self.until && self.named.contains(slot)
    }

    fn is_clear(&self, slot: Slot, now: Duration) -> bool {
        let last = self.epoch.last_served(slot);
        let later = self.learned.range(last.number() + 1..).next();
        let is_over = later.is_some_and(|(_, at)| now.saturating_sub(*at) >= LEASE * 6 / 5);
        self.withdrawn.contains(slot) || is_over || last.owner(slot) == Some(self.me)
    }

    fn suspects(&self, boot: Boot) -> bool {
        self.suspected == Some(boot)
    }

    fn is_lost(&self, _: Boot, _: Duration) -> bool {
        false
    }

    fn lease_left(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }
}

const LEASE: Duration = Duration::from_millis(300);
