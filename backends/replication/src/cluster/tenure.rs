//! The slots that a node may serve in one epoch, and the time until it may.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Timing;
use crate::epoch::Epoch;
use crate::member::Boot;
use crate::rules::{Rule, Rules};
use crate::slots::{Slot, SlotSet};

/// The part of an owner in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tenure {
    /// The time when this node learned each epoch after the oldest in which some slot was last
    /// served.
    learned: BTreeMap<u64, Duration>,
    /// The slots whose owner when last served said that it is out.
    withdrawn: SlotSet,
    /// The own slots that can be served once a lease names them.
    ready: SlotSet,
    asked: Option<Asked>,
    lease: Option<Lease>,
    /// The slots that some lease of this epoch named.
    named: SlotSet,
    /// The number of the last request for a lease.
    number: u64,
}

/// The results of the requests for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// The time of the last request for a lease in this epoch.
    pub asked: Option<Duration>,
    /// True if that request was granted.
    pub is_granted: bool,
    /// The time when the lease ends or ended.
    pub until: Option<Duration>,
    /// True if any slot is ready to be served.
    pub is_ready: bool,
    /// True if no request has named some of these slots yet.
    pub has_news: bool,
    /// True if a lease of this epoch named all of these slots.
    pub is_named: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    number: u64,
    at: Duration,
    slots: SlotSet,
    granted: BTreeMap<Boot, SlotSet>,
}

/// Permission to answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lease {
    until: Duration,
    slots: SlotSet,
}

impl Tenure {
    pub(super) fn new(epoch: &Epoch, now: Duration) -> Self {
        Self {
            learned: BTreeMap::from([(epoch.id().number, now)]),
            withdrawn: SlotSet::new(),
            ready: SlotSet::new(),
            asked: None,
            lease: None,
            named: SlotSet::new(),
            number: 0,
        }
    }

    /// Enters the next epoch: a lease ends with its own.
    pub(super) fn follow(&mut self, epoch: &Epoch, now: Duration, rules: Rules) {
        let mut learned = std::mem::take(&mut self.learned);
        learned.retain(|number, _| *number > epoch.oldest_served());
        learned.insert(epoch.id().number, now);
        let lease = self.lease.take().filter(|_| !rules.keep(Rule::L2));
        *self = Self { learned, lease, ..Self::new(epoch, now) };
    }

    /// Notes that the owner of these slots when last served is out.
    pub(super) fn on_withdrawn(&mut self, from: Boot, slots: &SlotSet, epoch: &Epoch) {
        let of_it = |slot: &Slot| epoch.last_served(*slot).owner(*slot) == Some(from);
        self.withdrawn.insert_all(&slots.iter().filter(of_it).collect());
    }

    /// Returns true if no other node of any epoch can still serve a slot.
    pub(super) fn is_clear(
        &self,
        slot: Slot,
        (me, epoch): (Boot, &Epoch),
        now: Duration,
        (timing, rules): (Timing, Rules),
    ) -> bool {
        let wait = if rules.keep(Rule::L1) { timing.wait } else { Duration::ZERO };
        let last = epoch.last_served(slot);
        let mut later = self.learned.range(last.number() + 1..);
        let is_over = |(_, at): (&u64, &Duration)| now.saturating_sub(*at) >= wait;
        if self.withdrawn.contains(slot) || later.next().is_some_and(is_over) {
            return true;
        }
        last.owner(slot) == Some(me)
    }

    /// Says that slots can be served once a lease names them.
    pub(super) fn make_ready(&mut self, slots: &SlotSet) {
        self.ready.insert_all(slots);
    }

    /// Begins to ask for a lease over everything that is ready.
    pub(super) fn ask(&mut self, now: Duration) -> (u64, SlotSet) {
        self.number += 1;
        let (number, slots) = (self.number, self.ready.clone());
        let granted = BTreeMap::new();
        self.asked = Some(Asked { number, at: now, slots: slots.clone(), granted });
        (number, slots)
    }

    /// Notes which slots a voter granted. The lease names those that enough voters granted, and counts from
    /// when it was asked for.
    pub(super) fn on_granted(
        &mut self,
        voter: Boot,
        number: u64,
        slots: SlotSet,
        (quorum, timing): (usize, Timing),
    ) {
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.number == number) else {
            return;
        };
        asked.granted.insert(voter, slots);
        let grants = |slot: &Slot| {
            asked.granted.values().filter(|granted| granted.contains(*slot)).count() >= quorum
        };
        let slots: SlotSet = asked.slots.iter().filter(grants).collect();
        if !slots.is_empty() {
            self.named.insert_all(&slots);
            self.lease = Some(Lease { until: asked.at.saturating_add(timing.lease), slots });
        }
    }

    pub(super) fn state(&self, timing: Timing) -> LeaseState {
        let until = self.lease.as_ref().map(|lease| lease.until);
        let asked = self.asked.as_ref();
        let end = asked.map(|asked| asked.at.saturating_add(timing.lease));
        LeaseState {
            asked: asked.map(|asked| asked.at),
            is_granted: end.is_some() && end == until,
            until,
            is_ready: !self.ready.is_empty(),
            has_news: asked.is_none_or(|asked| !asked.slots.contains_all(&self.ready)),
            is_named: self.named.contains_all(&self.ready),
        }
    }

    /// Returns true if a running lease names the slot.
    pub(super) fn serves(&self, slot: Slot, now: Duration) -> bool {
        self.lease.as_ref().is_some_and(|lease| now < lease.until && lease.slots.contains(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::Change;
    use crate::epoch::tests::{after, boot, grown, next};

    #[test]
    fn a_lease_runs_from_its_request() {
        let mut tenure = ready(&[1]);
        let (number, _) = tenure.ask(ms(100));
        grant(&mut tenure, 0, number, &[1]);
        assert!(!tenure.serves(Slot::at(1), ms(110)), "one of three voters");
        grant(&mut tenure, 0, number, &[1]);
        assert!(!tenure.serves(Slot::at(1), ms(110)), "the same one again");
        grant(&mut tenure, 1, number, &[1]);
        assert!(tenure.serves(Slot::at(1), ms(399)));
        assert!(!tenure.serves(Slot::at(1), ms(400)));
    }

    #[test]
    fn a_lease_names_what_a_majority_granted() {
        let mut tenure = ready(&[1, 2, 3]);
        let (number, _) = tenure.ask(ms(0));
        grant(&mut tenure, 0, number, &[1, 2]);
        grant(&mut tenure, 1, number, &[2, 3]);
        let serves = |tenure: &Tenure| [1, 2, 3].map(|n| tenure.serves(Slot::at(n), ms(10)));
        assert_eq!(serves(&tenure), [false, true, false]);
        grant(&mut tenure, 2, number, &[1, 2]);
        assert_eq!(serves(&tenure), [true, true, false]);
    }

    #[test]
    fn a_grant_of_an_earlier_request_is_ignored() {
        let mut tenure = ready(&[1]);
        let (first, _) = tenure.ask(ms(0));
        grant(&mut tenure, 0, first, &[1]);
        let (_, _) = tenure.ask(ms(200));
        grant(&mut tenure, 1, first, &[1]);
        assert!(!tenure.serves(Slot::at(1), ms(210)));
    }

    #[test]
    fn leases_name_slots_ready_at_the_request() {
        let mut tenure = ready(&[]);
        let (number, _) = tenure.ask(ms(0));
        tenure.make_ready(&slots(&[1]));
        grant(&mut tenure, 0, number, &[1]);
        grant(&mut tenure, 1, number, &[1]);
        assert!(!tenure.serves(Slot::at(1), ms(10)));
    }

    #[test]
    fn the_state_shows_requests_and_grants() {
        let mut tenure = ready(&[1]);
        let state = |tenure: &Tenure| tenure.state(Timing::DEFAULT);
        assert!(state(&tenure).has_news && state(&tenure).asked.is_none());
        let (number, _) = tenure.ask(ms(100));
        assert!(!state(&tenure).has_news && !state(&tenure).is_granted);
        grant(&mut tenure, 0, number, &[1]);
        grant(&mut tenure, 1, number, &[1]);
        assert!(state(&tenure).is_granted && state(&tenure).is_named);
        assert_eq!(state(&tenure).until, Some(ms(400)));
        tenure.make_ready(&slots(&[2]));
        assert!(state(&tenure).has_news && !state(&tenure).is_named);
        tenure.ask(ms(200));
        assert!(!state(&tenure).is_granted);
    }

    #[test]
    fn a_lease_ends_with_its_epoch() {
        let mut tenure = ready(&[1]);
        let (number, _) = tenure.ask(ms(0));
        grant(&mut tenure, 0, number, &[1]);
        grant(&mut tenure, 1, number, &[1]);
        tenure.follow(&grown(4), ms(10), Rules::default());
        assert!(!tenure.serves(Slot::at(1), ms(10)));
    }

    #[test]
    fn the_earlier_owner_withdraws_or_expires() {
        let (epoch, slot, before) = moved();
        let mut tenure = Tenure::new(&epoch, ms(0));
        assert!(!is_clear(&tenure, slot, &epoch, ms(359)));
        assert!(is_clear(&tenure, slot, &epoch, ms(360)));
        let slots = SlotSet::from_iter([slot]);
        tenure.on_withdrawn(epoch.placement().owner(slot).unwrap(), &slots, &epoch);
        assert!(!is_clear(&tenure, slot, &epoch, ms(0)), "another one's word");
        tenure.on_withdrawn(before, &slots, &epoch);
        assert!(is_clear(&tenure, slot, &epoch, ms(0)));
    }

    #[test]
    fn further_epochs_do_not_begin_the_wait_again() {
        let (epoch, slot, _) = moved();
        let mut tenure = Tenure::new(&epoch, ms(0));
        let next = next(&epoch, &[]).unwrap();
        tenure.follow(&next, ms(300), Rules::default());
        assert!(!is_clear(&tenure, slot, &next, ms(359)));
        assert!(is_clear(&tenure, slot, &next, ms(360)));
        let heir = next.placement().owner(slot).unwrap();
        let gone = [Change::SetAside(heir)];
        let moved_again = after(&next, &gone, &SlotSet::from_iter([slot])).unwrap();
        tenure.follow(&moved_again, ms(500), Rules::default());
        assert!(!is_clear(&tenure, slot, &moved_again, ms(859)), "it was served since");
        assert!(is_clear(&tenure, slot, &moved_again, ms(860)));
    }

    #[test]
    fn an_owner_that_follows_itself_does_not_wait() {
        let epoch = grown(1);
        let tenure = Tenure::new(&epoch, ms(0));
        assert!(is_clear(&tenure, Slot::at(1), &epoch, ms(0)));
    }

    /// An epoch that moved a slot, and the slot's owner before.
    fn moved() -> (Epoch, Slot, Boot) {
        let three = grown(3);
        let owner = |slot: &Slot| three.placement().owner(*slot) == Some(boot(2));
        let slot = Slot::all().find(owner).unwrap();
        let change = [Change::SetAside(boot(2))];
        (after(&three, &change, &SlotSet::from_iter([slot])).unwrap(), slot, boot(2))
    }

    /// The state for the owner of the slot.
    fn is_clear(tenure: &Tenure, slot: Slot, epoch: &Epoch, now: Duration) -> bool {
        let owner = epoch.placement().owner(slot).unwrap();
        tenure.is_clear(slot, (owner, epoch), now, (Timing::DEFAULT, Rules::default()))
    }

    fn ready(indices: &[usize]) -> Tenure {
        let mut tenure = Tenure::new(&grown(3), ms(0));
        tenure.make_ready(&slots(indices));
        tenure
    }

    fn grant(tenure: &mut Tenure, voter: usize, number: u64, indices: &[usize]) {
        tenure.on_granted(boot(voter), number, slots(indices), (2, Timing::DEFAULT));
    }

    fn slots(indices: &[usize]) -> SlotSet {
        indices.iter().copied().map(Slot::at).collect()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
