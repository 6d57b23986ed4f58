//! One attempt to have a successor chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::voter::{Ballot, Promise};
use crate::epoch::{Change, Epoch};
use crate::member::Boot;
use crate::rules::{Rule, Rules};
use crate::slots::SlotSet;

/// A proposer of single-decree Paxos.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Campaign {
    ballot: Ballot,
    wanted: Vec<Change>,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Preparing(BTreeMap<Boot, Promise>),
    Accepting { epoch: Arc<Epoch>, accepted: BTreeSet<Boot> },
}

/// The epoch to propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// It may have been chosen already.
    Accepted(Arc<Epoch>),
    /// Returns the wanted epoch, given the served slots and the boots that were heard.
    Free(SlotSet, BTreeSet<Boot>),
}

impl Campaign {
    pub(super) fn new(ballot: Ballot, wanted: Vec<Change>) -> Self {
        Self { ballot, wanted, phase: Phase::Preparing(BTreeMap::new()) }
    }

    pub(super) fn want_instead(&mut self, changes: Vec<Change>) {
        self.wanted = changes;
    }

    pub(super) fn wanted(&self) -> &[Change] {
        &self.wanted
    }

    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Notes a promise; says what to propose once enough voters promised.
    pub(super) fn on_promise(
        &mut self,
        voter: Boot,
        promise: Promise,
        quorum: usize,
        rules: Rules,
    ) -> Option<Choice> {
        let Phase::Preparing(promises) = &mut self.phase else {
            return None;
        };
        if promise.ballot != self.ballot {
            return None;
        }
        promises.insert(voter, promise);
        if promises.len() < quorum {
            return None;
        }
        let accepted = promises.values().filter_map(|promise| promise.accepted.as_ref());
        let highest = accepted.max_by_key(|(ballot, _)| *ballot);
        if let Some((_, epoch)) = highest
            && rules.keep(Rule::A4)
        {
            return Some(Choice::Accepted(Arc::clone(epoch)));
        }
        let mut served = SlotSet::new();
        promises.values().for_each(|promise| served.insert_all(&promise.served));
        let heard = promises.values().flat_map(|promise| promise.heard.iter().copied());
        Some(Choice::Free(served, heard.collect()))
    }

    /// Goes on to have an epoch accepted.
    pub(super) fn propose(&mut self, epoch: Arc<Epoch>) {
        self.phase = Phase::Accepting { epoch, accepted: BTreeSet::new() };
    }

    /// The proposal that is being accepted, if the attempt has come that far.
    pub(super) fn proposed(&self) -> Option<&Arc<Epoch>> {
        match &self.phase {
            Phase::Accepting { epoch, .. } => Some(epoch),
            Phase::Preparing(_) => None,
        }
    }

    /// Notes that a voter accepted; the epoch, once it is chosen.
    pub(super) fn on_accepted(
        &mut self,
        voter: Boot,
        ballot: Ballot,
        quorum: usize,
    ) -> Option<Arc<Epoch>> {
        let Phase::Accepting { epoch, accepted } = &mut self.phase else {
            return None;
        };
        if ballot != self.ballot {
            return None;
        }
        accepted.insert(voter);
        (accepted.len() >= quorum).then(|| Arc::clone(epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::{boot, grown};
    use crate::slots::Slot;

    #[test]
    fn a_majority_of_promises_is_waited_for() {
        let mut campaign = Campaign::new(ballot(1), Vec::new());
        assert_eq!(on_promise(&mut campaign, 0, promise(1, &[1])), None);
        assert_eq!(on_promise(&mut campaign, 0, promise(1, &[1])), None, "the same again");
        let served = [1, 2].map(Slot::at).into_iter().collect();
        let choice = on_promise(&mut campaign, 1, promise(1, &[2]));
        assert_eq!(choice, Some(Choice::Free(served, [boot(7)].into())));
    }

    #[test]
    fn the_highest_accepted_proposal_is_proposed() {
        let mut campaign = Campaign::new(ballot(9), Vec::new());
        let [old, new] = [grown(2), grown(3)].map(Arc::new);
        let with = |number, epoch: &Arc<Epoch>| Promise {
            ballot: ballot(9),
            accepted: Some((ballot(number), Arc::clone(epoch))),
            served: SlotSet::new(),
            heard: BTreeSet::new(),
        };
        on_promise(&mut campaign, 0, with(2, &new));
        let choice = on_promise(&mut campaign, 1, with(1, &old));
        assert_eq!(choice, Some(Choice::Accepted(new)));
    }

    #[test]
    fn answers_to_an_earlier_ballot_count_for_nothing() {
        let mut campaign = Campaign::new(ballot(2), Vec::new());
        on_promise(&mut campaign, 0, promise(1, &[]));
        assert_eq!(on_promise(&mut campaign, 1, promise(2, &[])), None);
        campaign.propose(Arc::new(grown(3)));
        assert_eq!(campaign.on_accepted(boot(0), ballot(2), 2), None);
        assert_eq!(campaign.on_accepted(boot(1), ballot(1), 2), None);
        assert!(campaign.on_accepted(boot(1), ballot(2), 2).is_some());
    }

    fn on_promise(campaign: &mut Campaign, voter: usize, promise: Promise) -> Option<Choice> {
        campaign.on_promise(boot(voter), promise, 2, Rules::default())
    }

    fn promise(number: u32, served: &[usize]) -> Promise {
        let served = served.iter().copied().map(Slot::at).collect();
        Promise { ballot: ballot(number), accepted: None, served, heard: [boot(7)].into() }
    }

    fn ballot(number: u32) -> Ballot {
        Ballot { number, proposer: boot(0) }
    }
}
