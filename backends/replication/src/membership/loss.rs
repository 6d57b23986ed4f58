//! A new lineage after the majority of the voters was lost for good.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::peers::{Peer, Peers};
use crate::cluster::Ballot;
use crate::epoch::{Epoch, EpochId};
use crate::member::{Boot, Member, Name};
use crate::rules::{Rule, Rules};

/// A boot's part in choosing the first epoch of the lineage that follows a lost one: it takes part in no
/// other decision from then on.
#[derive(Clone, Debug, Default)]
pub(super) struct Acceptor {
    surrendered: Option<(EpochId, Ballot)>,
    /// The time of the last request.
    asked: Duration,
    accepted: Option<(Ballot, Arc<Epoch>)>,
}

/// The reason why a boot takes no part in a ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declined {
    /// It surrendered in another lineage.
    Elsewhere,
    /// It takes part in a higher ballot.
    Higher(Ballot),
}

impl Acceptor {
    /// Returns true if this boot surrendered.
    pub(super) fn has_surrendered(&self) -> bool {
        self.surrendered.is_some()
    }

    /// The epoch for which it was asked to surrender a short while ago.
    pub(super) fn recent(&self, now: Duration) -> Option<EpochId> {
        let is_recent = now.saturating_sub(self.asked) <= RECENT;
        self.surrendered.filter(|_| is_recent).map(|(epoch, _)| epoch)
    }

    /// Frees a boot that is in no lineage for another one.
    pub(super) fn turn_to(&mut self, epoch: EpochId) {
        if self.surrendered.is_some_and(|(earlier, _)| earlier.lineage != epoch.lineage) {
            *self = Self::default();
        }
    }

    /// Takes part in a ballot on the lineage that follows an epoch; says what it accepted before.
    pub(super) fn surrender(
        &mut self,
        epoch: EpochId,
        ballot: Ballot,
        now: Duration,
    ) -> Result<Option<(Ballot, Arc<Epoch>)>, Declined> {
        if let Some((earlier, promised)) = self.surrendered {
            if earlier.lineage != epoch.lineage {
                return Err(Declined::Elsewhere);
            }
            if promised > ballot {
                return Err(Declined::Higher(promised));
            }
        }
        (self.surrendered, self.asked) = (Some((epoch, ballot)), now);
        Ok(self.accepted.clone())
    }

    /// Accepts the first epoch of a lineage.
    pub(super) fn accept(
        &mut self,
        epoch: EpochId,
        ballot: Ballot,
        first: &Arc<Epoch>,
        now: Duration,
    ) -> Result<(), Declined> {
        self.surrender(epoch, ballot, now)?;
        self.accepted = Some((ballot, Arc::clone(first)));
        Ok(())
    }
}

/// The time in which the founder of a lineage may still learn that all accepted.
const RECENT: Duration = Duration::from_secs(2);

/// One attempt to found a lineage: Paxos with a quorum of all.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    from: Arc<Epoch>,
    ballot: Ballot,
    members: BTreeMap<Boot, Member>,
    promises: BTreeMap<Boot, Option<(Ballot, Arc<Epoch>)>>,
    proposed: Option<Arc<Epoch>>,
    accepted: BTreeSet<Boot>,
}

impl Attempt {
    pub(super) fn new(from: Arc<Epoch>, ballot: Ballot, members: BTreeMap<Boot, Member>) -> Self {
        let (promises, accepted) = (BTreeMap::new(), BTreeSet::new());
        Self { from, ballot, members, promises, proposed: None, accepted }
    }

    /// The epoch whose lineage was lost, and the ballot.
    pub(super) fn id(&self) -> (EpochId, Ballot) {
        (self.from.id(), self.ballot)
    }

    pub(super) fn acceptors(&self) -> impl Iterator<Item = Boot> {
        self.members.keys().copied()
    }

    /// Notes that a boot surrendered. Once all did, says what to propose: what may have been chosen
    /// already, or what `first` makes of the lost epoch and the boots.
    pub(super) fn on_surrendered(
        &mut self,
        boot: Boot,
        id: (EpochId, Ballot),
        accepted: Option<(Ballot, Arc<Epoch>)>,
        first: impl FnOnce(&Epoch, Vec<Member>) -> Epoch,
    ) -> Option<Arc<Epoch>> {
        if id != self.id() || !self.members.contains_key(&boot) || self.proposed.is_some() {
            return None;
        }
        self.promises.insert(boot, accepted);
        if self.promises.len() < self.members.len() {
            return None;
        }
        let accepted = self.promises.values().flatten();
        let highest = accepted.max_by_key(|(ballot, _)| *ballot);
        let epoch = match highest {
            Some((_, epoch)) => Arc::clone(epoch),
            None => Arc::new(first(&self.from, self.members.values().cloned().collect())),
        };
        self.proposed = Some(Arc::clone(&epoch));
        Some(epoch)
    }

    /// Notes that a boot accepted; the epoch, once all did.
    pub(super) fn on_founded(&mut self, boot: Boot, id: (EpochId, Ballot)) -> Option<Arc<Epoch>> {
        let proposed = self.proposed.as_ref()?;
        if id != self.id() || !self.members.contains_key(&boot) {
            return None;
        }
        self.accepted.insert(boot);
        (self.accepted.len() == self.members.len()).then(|| Arc::clone(proposed))
    }
}

/// The boots that found the lineage after an epoch: each of its voters, or a newer boot of its name.
///
/// # Errors
///
/// The names that have to be there, and are not; none, if a node knows a later epoch, or an address did not
/// answer.
pub(super) fn founders(
    epoch: &Epoch,
    me: (&Member, Option<EpochId>),
    peers: &Peers,
    now: Duration,
    (is_called, rules): (bool, Rules),
) -> Result<BTreeMap<Boot, Member>, Vec<Name>> {
    let heard: Vec<_> = peers.iter().filter(|(_, peer)| peer.is_heard(now)).collect();
    let is_strict = rules.keep(Rule::M1) && !is_called;
    if is_strict && heard.iter().any(|(_, peer)| knows_another(peer, epoch)) {
        return Err(Vec::new());
    }
    // Without a node of that epoch, nothing is lost that a new service would not lose.
    let is_of_it = |peer: &Peer| peer.epoch() == Some(epoch.id());
    if me.1 != Some(epoch.id()) && !heard.iter().any(|(_, peer)| is_of_it(peer)) {
        return Err(Vec::new());
    }
    let (mut founders, mut missing) = (BTreeMap::new(), Vec::new());
    for member in epoch.members() {
        match successor_of(member, epoch, me, &heard) {
            Some(there) if member.votes => {
                founders.insert(there.boot, there);
            }
            Some(_) => {}
            None => missing.push(member.name.clone()),
        }
    }
    let is_enough = missing.is_empty() || !is_strict && founders.len() >= epoch.quorum();
    let is_founder = founders.contains_key(&me.0.boot);
    if is_founder && (is_enough || is_called) { Ok(founders) } else { Err(missing) }
}

/// Returns true if a peer has or sees an epoch that is neither the given one nor one before it.
fn knows_another(peer: &Peer, epoch: &Epoch) -> bool {
    let in_sight = peer.hello().and_then(|hello| hello.in_sight);
    let is_another = |theirs: EpochId| {
        let is_before = theirs.lineage == epoch.id().lineage && theirs.number <= epoch.id().number;
        !is_before && !epoch.descends_from(theirs)
    };
    peer.epoch().or(in_sight).is_some_and(is_another)
}

/// A member itself, or a newer boot of its name: one that no epoch in sight ever listed.
fn successor_of(
    member: &Member,
    epoch: &Epoch,
    (me, listed_in): (&Member, Option<EpochId>),
    heard: &[(Boot, &Peer)],
) -> Option<Member> {
    if me.boot == member.boot || heard.iter().any(|(boot, _)| *boot == member.boot) {
        return Some(member.clone());
    }
    let is_newer = |node: &Member, listed_in: Option<EpochId>| {
        node.name == member.name && listed_in.is_none() && epoch.member(node.boot).is_none()
    };
    if is_newer(me, listed_in) {
        return Some(me.clone());
    }
    let hellos = heard.iter().filter_map(|(_, peer)| peer.hello());
    let mut newer = hellos.filter(|hello| is_newer(&hello.member, hello.listed_in));
    newer.next().map(|hello| hello.member.clone())
}

#[cfg(test)]
mod tests {
    use super::super::message::Hello;
    use super::super::peers::tests::hello;
    use super::*;
    use crate::epoch::tests::{boot, grown, joining, next, reborn};
    use crate::epoch::{Change, Lineage};

    #[test]
    fn each_voter_has_to_be_there() {
        let three = grown(3);
        let (one, new) = (hello(1), renewed(2));
        assert_eq!(founders_with(&three, &[&one]), Err(vec![joining(2).name]));
        let all = founders_with(&three, &[&one, &new]).unwrap();
        assert_eq!(Vec::from_iter(all.keys()), [&boot(0), &boot(1), &reborn(2).boot]);
        let without = Rules::without(Rule::M1);
        assert!(founders_in(&three, &[&one], false, without).is_ok(), "a majority of names");
    }

    #[test]
    fn founding_needs_a_node_of_the_epoch() {
        let (three, terms) = (grown(3), (false, Rules::default()));
        let peers = heard(&[&renewed(1), &renewed(2)]);
        assert!(founders(&three, (&reborn(0), None), &peers, NOW, terms).is_err());
        let mut peers = heard(&[&hello(1), &renewed(2)]);
        peers.on_frame(boot(1), Some(three.id()), NOW);
        assert!(founders(&three, (&reborn(0), None), &peers, NOW, terms).is_ok());
    }

    #[test]
    fn an_operator_can_give_names_up() {
        let found = founders_in(&grown(3), &[&hello(1)], true, Rules::default()).unwrap();
        assert_eq!(Vec::from_iter(found.keys()), [&boot(0), &boot(1)]);
    }

    #[test]
    fn a_boot_listed_earlier_is_not_newer() {
        let three = grown(3);
        let listed = Hello { listed_in: Some(grown(2).id()), ..renewed(2) };
        assert!(founders_with(&three, &[&hello(1), &listed]).is_err());
    }

    #[test]
    fn a_later_epoch_in_sight_rules_it_out() {
        let three = grown(3);
        let later = next(&three, &[]).unwrap().id();
        let sees = Hello { in_sight: Some(later), ..renewed(2) };
        assert_eq!(founders_with(&three, &[&hello(1), &sees]), Err(Vec::new()));
        let mut peers = heard(&[&hello(1), &renewed(2)]);
        peers.on_frame(boot(1), Some(later), NOW);
        let terms = (false, Rules::default());
        let me = (&joining(0), Some(three.id()));
        assert!(founders(&three, me, &peers, NOW, terms).is_err());
    }

    #[test]
    fn a_member_without_a_vote_must_answer() {
        let aside = next(&grown(3), &[Change::SetAside(boot(2))]).unwrap();
        let two = next(&aside, &[Change::LoseVote(boot(2))]).unwrap();
        assert!(founders_with(&two, &[&hello(1)]).is_err(), "it may know a later epoch");
        let both = founders_with(&two, &[&hello(1), &hello(2)]).unwrap();
        assert_eq!(both.len(), 2, "and has no say");
    }

    #[test]
    fn a_boot_surrenders_to_the_highest_ballot() {
        let (mut acceptor, three) = (Acceptor::default(), grown(3));
        let (id, first) = (three.id(), Arc::new(grown(2)));
        assert_eq!(acceptor.surrender(id, ballot(2), NOW), Ok(None));
        assert_eq!(acceptor.surrender(id, ballot(1), NOW), Err(Declined::Higher(ballot(2))));
        acceptor.accept(id, ballot(2), &first, NOW).unwrap();
        assert_eq!(acceptor.surrender(id, ballot(3), NOW), Ok(Some((ballot(2), first))));
        assert!(acceptor.has_surrendered());
    }

    #[test]
    fn a_boot_surrenders_in_one_lineage() {
        let (mut acceptor, id) = (Acceptor::default(), grown(3).id());
        acceptor.surrender(id, ballot(1), NOW).unwrap();
        let elsewhere = EpochId { lineage: Lineage::new([1; 16]), ..id };
        assert_eq!(acceptor.surrender(elsewhere, ballot(2), NOW), Err(Declined::Elsewhere));
        let later = EpochId { number: id.number + 1, ..id };
        assert_eq!(acceptor.surrender(later, ballot(2), NOW), Ok(None));
        assert_eq!(acceptor.recent(NOW * 3), Some(later));
        assert_eq!(acceptor.recent(NOW * 4), None);
        acceptor.turn_to(later);
        assert!(acceptor.has_surrendered());
        acceptor.turn_to(elsewhere);
        assert_eq!(acceptor.surrender(elsewhere, ballot(1), NOW), Ok(None));
    }

    #[test]
    fn all_have_to_surrender_and_accept() {
        let mut attempt = attempt();
        let id = attempt.id();
        assert!(surrendered(&mut attempt, 0, None).is_none());
        assert!(surrendered(&mut attempt, 0, None).is_none(), "the same again");
        let epoch = surrendered(&mut attempt, 1, None).unwrap();
        assert_eq!(epoch.members().len(), 2);
        assert_eq!(attempt.on_founded(boot(0), id), None);
        assert_eq!(attempt.on_founded(boot(9), id), None, "no acceptor");
        assert_eq!(attempt.on_founded(boot(1), id), Some(epoch));
    }

    #[test]
    fn a_possibly_chosen_epoch_is_proposed() {
        let mut attempt = attempt();
        let [old, new] = [grown(2), grown(3)].map(Arc::new);
        surrendered(&mut attempt, 0, Some((ballot(1), old)));
        let proposed = surrendered(&mut attempt, 1, Some((ballot(2), Arc::clone(&new))));
        assert_eq!(proposed, Some(new));
    }

    fn attempt() -> Attempt {
        let members = (0..2).map(|n| (boot(n), joining(n))).collect();
        Attempt::new(Arc::new(grown(2)), ballot(3), members)
    }

    fn surrendered(
        attempt: &mut Attempt,
        n: usize,
        accepted: Option<(Ballot, Arc<Epoch>)>,
    ) -> Option<Arc<Epoch>> {
        let id = attempt.id();
        attempt.on_surrendered(boot(n), id, accepted, |lost, members| {
            lost.found_again(Lineage::new([5; 16]), joining(0).name, members)
        })
    }

    fn founders_with(epoch: &Epoch, there: &[&Hello]) -> Result<BTreeMap<Boot, Member>, Vec<Name>> {
        founders_in(epoch, there, false, Rules::default())
    }

    fn founders_in(
        epoch: &Epoch,
        there: &[&Hello],
        is_called: bool,
        rules: Rules,
    ) -> Result<BTreeMap<Boot, Member>, Vec<Name>> {
        let me = (&joining(0), Some(epoch.id()));
        founders(epoch, me, &heard(there), NOW, (is_called, rules))
    }

    fn heard(there: &[&Hello]) -> Peers {
        let mut peers = Peers::default();
        for hello in there {
            peers.link((*hello).clone());
            peers.on_frame(hello.member.boot, None, NOW);
        }
        peers
    }

    /// A newer boot of a name.
    fn renewed(n: usize) -> Hello {
        Hello { member: reborn(n), ..hello(n) }
    }

    fn ballot(number: u32) -> Ballot {
        Ballot { number, proposer: boot(0) }
    }

    const NOW: Duration = Duration::from_secs(1);
}
