//! What a node may serve in one epoch, and until when.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Timing;
use crate::epoch::Epoch;
use crate::member::Boot;
use crate::rules::{Rule, Rules};
use crate::slots::{Slot, SlotSet};

/// The part of an owner in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tenure {
    /// When this node learned the epoch.
    since: Duration,
    /// The slots whose owner when last served said that it is out.
    withdrawn: SlotSet,
    /// The own slots that can be served once a lease names them.
    ready: SlotSet,
    asked: Option<Asked>,
    lease: Option<Lease>,
    /// Of the last request for a lease.
    number: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    number: u64,
    at: Duration,
    slots: SlotSet,
    granted: BTreeSet<Boot>,
}

/// Permission to answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lease {
    until: Duration,
    slots: SlotSet,
}

impl Tenure {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            since: now,
            withdrawn: SlotSet::new(),
            ready: SlotSet::new(),
            asked: None,
            lease: None,
            number: 0,
        }
    }

    /// Notes that the owner of these slots when last served is out.
    pub(super) fn on_withdrawn(&mut self, from: Boot, slots: &SlotSet, epoch: &Epoch) {
        let of_it = |slot: &Slot| epoch.last_served(*slot).owner(*slot) == Some(from);
        self.withdrawn.insert_all(&slots.iter().filter(of_it).collect());
    }

    /// Whether no other node can serve a slot any more, whatever epoch it knows.
    pub(super) fn is_clear(
        &self,
        slot: Slot,
        (me, epoch): (Boot, &Epoch),
        now: Duration,
        (timing, rules): (Timing, Rules),
    ) -> bool {
        let wait = if rules.keep(Rule::L1) { timing.wait } else { Duration::ZERO };
        if self.withdrawn.contains(slot) || now.saturating_sub(self.since) >= wait {
            return true;
        }
        match rules.keep(Rule::T1) {
            true => epoch.last_served(slot).owner(slot) == Some(me),
            // The one of this epoch, which may never have served.
            false => epoch.placement().owner(slot) == Some(me),
        }
    }

    /// Says that slots can be served once a lease names them.
    pub(super) fn make_ready(&mut self, slots: &SlotSet) {
        self.ready.insert_all(slots);
    }

    /// Begins to ask for a lease over everything that is ready.
    pub(super) fn ask(&mut self, now: Duration) -> (u64, SlotSet) {
        self.number += 1;
        let (number, slots) = (self.number, self.ready.clone());
        let granted = BTreeSet::new();
        self.asked = Some(Asked { number, at: now, slots: slots.clone(), granted });
        (number, slots)
    }

    /// Notes that a voter granted what was asked for. The lease counts from when it was asked for.
    pub(super) fn on_granted(&mut self, voter: Boot, number: u64, quorum: usize, timing: Timing) {
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.number == number) else {
            return;
        };
        asked.granted.insert(voter);
        if asked.granted.len() >= quorum {
            let until = asked.at.saturating_add(timing.lease);
            self.lease = self.asked.take().map(|asked| Lease { until, slots: asked.slots });
        }
    }

    /// Enters another epoch, and keeps the lease: what rule L2 forbids.
    pub(super) fn follow(&mut self, next: Self) {
        let lease = self.lease.take();
        *self = Self { lease, ..next };
    }

    /// Whether a lease that runs names the slot.
    pub(super) fn serves(&self, slot: Slot, now: Duration) -> bool {
        self.lease.as_ref().is_some_and(|lease| now < lease.until && lease.slots.contains(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::Change;
    use crate::epoch::tests::{boot, grown};

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for() {
        let mut tenure = ready();
        let (number, _) = tenure.ask(ms(100));
        tenure.on_granted(boot(0), number, 2, Timing::DEFAULT);
        assert!(!tenure.serves(slot(), ms(110)), "one of three voters");
        tenure.on_granted(boot(0), number, 2, Timing::DEFAULT);
        assert!(!tenure.serves(slot(), ms(110)), "the same one again");
        tenure.on_granted(boot(1), number, 2, Timing::DEFAULT);
        assert!(tenure.serves(slot(), ms(399)));
        assert!(!tenure.serves(slot(), ms(400)));
    }

    #[test]
    fn a_grant_of_an_earlier_request_counts_for_nothing() {
        let mut tenure = ready();
        let (first, _) = tenure.ask(ms(0));
        tenure.on_granted(boot(0), first, 2, Timing::DEFAULT);
        let (_, _) = tenure.ask(ms(200));
        tenure.on_granted(boot(1), first, 2, Timing::DEFAULT);
        assert!(!tenure.serves(slot(), ms(210)));
    }

    #[test]
    fn a_lease_names_what_was_ready_when_it_was_asked_for() {
        let mut tenure = Tenure::new(ms(0));
        let (number, _) = tenure.ask(ms(0));
        tenure.make_ready(&SlotSet::from_iter([slot()]));
        tenure.on_granted(boot(0), number, 1, Timing::DEFAULT);
        assert!(!tenure.serves(slot(), ms(10)));
    }

    #[test]
    fn the_owner_before_withdraws_or_its_lease_is_waited_for() {
        let (epoch, slot, before) = moved();
        let heir = epoch.placement().owner(slot).unwrap();
        let mut tenure = Tenure::new(ms(0));
        let is_clear = |tenure: &Tenure, now| {
            tenure.is_clear(slot, (heir, &epoch), now, (Timing::DEFAULT, Rules::default()))
        };
        assert!(!is_clear(&tenure, ms(359)));
        assert!(is_clear(&tenure, ms(360)));
        let slots = SlotSet::from_iter([slot]);
        tenure.on_withdrawn(heir, &slots, &epoch);
        assert!(!is_clear(&tenure, ms(0)), "another one's word");
        tenure.on_withdrawn(before, &slots, &epoch);
        assert!(is_clear(&tenure, ms(0)));
    }

    #[test]
    fn an_owner_that_follows_itself_does_not_wait() {
        let epoch = grown(1);
        let tenure = Tenure::new(ms(0));
        let rules = (Timing::DEFAULT, Rules::default());
        assert!(tenure.is_clear(slot(), (boot(0), &epoch), ms(0), rules));
    }

    /// An epoch that moved a slot, and the slot's owner before.
    fn moved() -> (Epoch, Slot, Boot) {
        let three = grown(3);
        let slot = slot();
        let before = three.placement().owner(slot).unwrap();
        let served = SlotSet::from_iter([slot]);
        let change = [Change::SetAside(before)];
        (three.successor(&change, &served, Rules::default()).unwrap(), slot, before)
    }

    fn ready() -> Tenure {
        let mut tenure = Tenure::new(ms(0));
        tenure.make_ready(&SlotSet::from_iter([slot()]));
        tenure
    }

    fn slot() -> Slot {
        Slot::at(5)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
