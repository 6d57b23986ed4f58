//! One boot's vote on the successor of an epoch, and its say in the leases of that epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::epoch::Epoch;
use crate::member::Boot;
use crate::rules::{Rule, Rules};
use crate::slots::{Slot, SlotSet};

/// The order of the attempts to choose an epoch. No two proposers share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Rises with each attempt.
    pub number: u32,
    /// The node that proposes.
    pub proposer: Boot,
}

/// The state that a voter reports with its promise to take part in no lower ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    /// The ballot that it takes part in.
    pub ballot: Ballot,
    /// The proposal that it accepted last.
    pub accepted: Option<(Ballot, Arc<Epoch>)>,
    /// The slots that it knows to be served, in the epoch whose successor is chosen.
    pub served: SlotSet,
    /// The boots that it heard from within 60 s. Slots are not given up for lack of their copies (G1).
    pub heard: BTreeSet<Boot>,
}

/// An acceptor of single-decree Paxos that grants leases, too: what is served in an epoch, and what
/// follows it, have to be decided by the same votes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Voter {
    promised: Option<(Ballot, Duration)>,
    accepted: Option<(Ballot, Arc<Epoch>)>,
    /// The slots that leases name, by owner: it is not computed again with each lease.
    granted: BTreeMap<Boot, SlotSet>,
}

impl Voter {
    /// Promises to take part in no lower ballot; an error is the higher one that it promised.
    pub(super) fn prepare(&mut self, ballot: Ballot, now: Duration) -> Result<Promise, Ballot> {
        self.take_part(ballot, now)?;
        let mut served = SlotSet::new();
        self.granted.values().for_each(|slots| served.insert_all(slots));
        let (accepted, heard) = (self.accepted.clone(), BTreeSet::new());
        Ok(Promise { ballot, accepted, served, heard })
    }

    /// Accepts an epoch; an error is the higher ballot that it promised.
    pub(super) fn accept(
        &mut self,
        ballot: Ballot,
        epoch: &Arc<Epoch>,
        now: Duration,
        rules: Rules,
    ) -> Result<(), Ballot> {
        let promised = self.promised;
        self.take_part(ballot, now)?;
        if !rules.keep(Rule::A5) {
            self.promised = promised;
        }
        self.accepted = Some((ballot, Arc::clone(epoch)));
        Ok(())
    }

    /// Grants a lease that names those of a boot's slots of which the next epoch is going to know; says which.
    pub(super) fn grant(
        &mut self,
        to: Boot,
        slots: &SlotSet,
        owns: impl Fn(Slot) -> bool,
        rules: Rules,
    ) -> SlotSet {
        if self.accepted.is_some() && rules.keep(Rule::A2) {
            return SlotSet::new();
        }
        let is_new = self.promised.is_none() || !rules.keep(Rule::A1);
        let granted = self.granted.entry(to).or_default();
        let is_granted = |slot: &Slot| granted.contains(*slot) || is_new && owns(*slot);
        let slots: SlotSet = slots.iter().filter(is_granted).collect();
        granted.insert_all(&slots);
        slots
    }

    /// The ballot it promised last, and when.
    pub(super) fn promised(&self) -> Option<(Ballot, Duration)> {
        self.promised
    }

    fn take_part(&mut self, ballot: Ballot, now: Duration) -> Result<(), Ballot> {
        match self.promised {
            Some((promised, _)) if promised > ballot => Err(promised),
            Some((promised, _)) if promised == ballot => Ok(()),
            _ => {
                self.promised = Some((ballot, now));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::{boot, grown};

    #[test]
    fn a_refusal_names_the_higher_ballot() {
        let mut voter = Voter::default();
        assert!(voter.prepare(ballot(2), NOW).is_ok());
        assert_eq!(voter.prepare(ballot(1), NOW), Err(ballot(2)));
        assert_eq!(accept(&mut voter, 1), Err(ballot(2)));
        assert!(accept(&mut voter, 2).is_ok(), "its own again");
    }

    #[test]
    fn a_promise_tells_what_was_accepted_and_served() {
        let mut voter = Voter::default();
        assert_eq!(grant(&mut voter, &[1], Rules::default()), slots(&[1]));
        accept(&mut voter, 1).unwrap();
        let promise = voter.prepare(ballot(2), NOW).unwrap();
        assert_eq!(promise.accepted, Some((ballot(1), epoch())));
        assert_eq!(promise.served, slots(&[1]));
    }

    #[test]
    fn a_voter_that_promised_grants_no_new_slot() {
        let mut voter = Voter::default();
        assert_eq!(grant(&mut voter, &[1], Rules::default()), slots(&[1]));
        voter.prepare(ballot(1), NOW).unwrap();
        assert_eq!(grant(&mut voter, &[1, 2], Rules::default()), slots(&[1]), "it told of that");
        let both = grant(&mut voter, &[1, 2], Rules::without(Rule::A1));
        assert_eq!(both, slots(&[1, 2]));
    }

    #[test]
    fn a_lease_names_slots_of_its_owner_only() {
        let mut voter = Voter::default();
        assert_eq!(grant(&mut voter, &[1, 5], Rules::default()), slots(&[1]));
        let other =
            voter.grant(boot(2), &slots(&[1, 5]), |slot| slot.index() == 5, Rules::default());
        assert_eq!(other, slots(&[5]));
        assert_eq!(voter.prepare(ballot(1), NOW).unwrap().served, slots(&[1, 5]));
    }

    #[test]
    fn a_voter_that_accepted_grants_nothing() {
        let mut voter = Voter::default();
        assert_eq!(grant(&mut voter, &[1], Rules::default()), slots(&[1]));
        accept(&mut voter, 1).unwrap();
        assert!(grant(&mut voter, &[1], Rules::default()).is_empty());
    }

    #[test]
    fn a_promise_keeps_its_first_time() {
        let mut voter = Voter::default();
        voter.prepare(ballot(1), NOW).unwrap();
        voter.prepare(ballot(1), NOW * 2).unwrap();
        assert_eq!(voter.promised(), Some((ballot(1), NOW)));
    }

    #[test]
    fn to_accept_is_to_promise() {
        let mut voter = Voter::default();
        accept(&mut voter, 2).unwrap();
        assert_eq!(accept(&mut voter, 1), Err(ballot(2)));
        assert_eq!(voter.prepare(ballot(1), NOW), Err(ballot(2)));
    }

    fn accept(voter: &mut Voter, number: u32) -> Result<(), Ballot> {
        voter.accept(ballot(number), &epoch(), NOW, Rules::default())
    }

    /// A lease for a node that owns the slots below 3.
    fn grant(voter: &mut Voter, indices: &[usize], rules: Rules) -> SlotSet {
        voter.grant(boot(1), &slots(indices), |slot| slot.index() < 3, rules)
    }

    const NOW: Duration = Duration::from_secs(1);

    fn ballot(number: u32) -> Ballot {
        Ballot { number, proposer: boot(0) }
    }

    fn epoch() -> Arc<Epoch> {
        Arc::new(grown(3))
    }

    fn slots(indices: &[usize]) -> SlotSet {
        indices.iter().copied().map(Slot::at).collect()
    }
}
