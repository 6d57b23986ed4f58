//! The base: the members whose majority counts. It changes by consent of a majority of the members
//! before, one step after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Engine;
use super::config::{Partition, RESTART_WITHIN};
use super::message::{Ballot, Base, Message, Status};
use crate::placement::Name;

/// What a node knows of the base, and its part in the agreement on the next one.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    pub(super) base: Option<Base>,
    /// As a voter, for the epoch after the base: the ballot promised, and what was accepted.
    promised: u64,
    accepted: Option<(u64, Base)>,
    proposal: Option<Proposal>,
    last_proposed: Duration,
}

#[derive(Debug)]
struct Proposal {
    ballot: u64,
    base: Base,
    promised: BTreeSet<Name>,
    accepted: BTreeSet<Name>,
    /// The highest ballot that a voter had accepted, which is to be proposed again.
    earlier: u64,
    is_accepting: bool,
}

impl Agreement {
    fn adopt(&mut self, base: Base) {
        *self = Self { base: Some(base), last_proposed: self.last_proposed, ..Self::default() };
    }
}

impl Engine {
    /// Founds a service: where no other is in sight, or where the one there was can never agree on
    /// anything again and more than half of its nodes are in sight.
    pub(super) fn found_service(&mut self) {
        let is_time = match &self.agreement.base {
            Some(base) => self.is_lost(base) && self.sees_names_of(base),
            None => match &self.join {
                Some(_) if !self.config.expects_peers => true,
                Some(join) => join.has_waited(self.now.mono) && !self.expects_others,
                None => false,
            },
        };
        let rank = |name: &Name, is_joining: bool| (is_joining, name.clone());
        let mine = rank(&self.me, self.join.is_some());
        let mut in_sight = self.peers.iter().filter(|(_, peer)| peer.linked);
        let is_first = in_sight.all(|(name, peer)| {
            peer.status.as_ref().is_some_and(|status| rank(name, !status.complete) > mine)
        });
        if is_time && is_first {
            let members = vec![(self.me.clone(), self.incarnation)];
            let lineage = self.random.next();
            let is_rescue = self.agreement.base.is_some();
            self.adopt(Base { lineage, epoch: 1, members });
            if is_rescue {
                self.doubt();
            }
            self.complete_join();
        }
    }

    /// Whether so many of the members became other nodes that no majority can be had of it any more.
    fn is_lost(&self, base: &Base) -> bool {
        let is_another = |(name, incarnation): &&(Name, u64)| {
            self.incarnation_of(name).is_some_and(|known| known > *incarnation)
        };
        let gone = base.members.iter().filter(is_another).count();
        match self.policy() {
            Partition::Fail => !base.is_majority(base.members.len() - gone),
            Partition::Degrade => gone == base.members.len(),
        }
    }

    fn sees_names_of(&self, base: &Base) -> bool {
        let in_sight = |(name, _): &&(Name, u64)| match self.peers.get(name) {
            Some(peer) => peer.linked && !peer.is_dead(),
            None => *name == self.me,
        };
        base.is_majority(base.members.iter().filter(in_sight).count())
    }

    /// Takes over the base of another node, if it is newer or of a greater service.
    pub(super) fn hear_base(&mut self, theirs: Option<Base>) {
        let Some(theirs) = theirs else {
            return;
        };
        let Some(mine) = &self.agreement.base else {
            self.adopt(theirs);
            return self.refresh_view();
        };
        let is_other_service = mine.lineage != theirs.lineage;
        let is_rescue = is_other_service && self.is_lost(mine);
        if self.is_lost(&theirs) || !(is_rescue || theirs.outranks(mine)) {
            return;
        }
        let leaves_me_out = self.is_in(mine) && !self.is_in(&theirs) && !self.is_leaving();
        self.adopt(theirs);
        if is_rescue {
            self.doubt();
        } else if leaves_me_out || is_other_service {
            self.be_reborn();
        }
        self.refresh_view();
    }

    /// Begins the next epoch. With the same members as before, it forgives: nobody of them is dead to
    /// anybody any more, and since somebody may have acted on it, everybody doubts what it has.
    fn adopt(&mut self, base: Base) {
        let before = self.agreement.base.as_ref();
        let forgives = before.is_some_and(|before| {
            before.lineage == base.lineage
                && (before.members == base.members || before.epoch + 1 < base.epoch)
        });
        if forgives {
            for (name, peer) in &mut self.peers {
                let is_member = |dead| base.members.contains(&(name.clone(), dead));
                peer.dead = peer.dead.filter(|dead| !(peer.linked && is_member(*dead)));
            }
        }
        self.agreement.adopt(base);
        self.speaks = true;
        if forgives {
            self.doubt();
        }
    }

    /// Proposes the members that are there, once everything is repaired among them; or the same ones
    /// again, where some take others for dead who are not, and no majority agrees.
    pub(super) fn agree_on_base(&mut self) {
        self.found_service();
        let Some(base) = &self.agreement.base else {
            return;
        };
        let jitter = Duration::from_millis(u64::from(self.stamps.node() % 400));
        let is_time = self.agreement.last_proposed + PROPOSE_EVERY + jitter <= self.now.mono;
        if !is_time || !self.is_in(base) {
            return;
        }
        let members = match self.proposes(base) {
            true if self.is_settled() && !self.has_past() => self.wanted_members(base),
            true => self.renewed_members(base),
            false => base.members.clone(),
        };
        if (members == base.members && !self.accuses_falsely(base)) || members.is_empty() {
            return;
        }
        let (epoch, lineage) = (base.epoch, base.lineage);
        self.agreement.last_proposed = self.now.mono;
        let round = (self.agreement.promised >> 32) + 1;
        let ballot = round << 32 | u64::from(self.stamps.node());
        self.agreement.proposal = Some(Proposal {
            ballot,
            base: Base { lineage, epoch: epoch + 1, members },
            promised: BTreeSet::new(),
            accepted: BTreeSet::new(),
            earlier: 0,
            is_accepting: false,
        });
        self.broadcast(&Ballot::Prepare { epoch, ballot });
    }

    pub(super) fn vote(&mut self, from: &Name, ballot: Ballot) {
        let current = self.agreement.base.as_ref().map_or(0, |base| base.epoch);
        match ballot {
            Ballot::Prepare { epoch, ballot } if epoch == current => self.promise(from, ballot),
            Ballot::Promise { epoch, ballot, accepted } if epoch == current => {
                self.promised(from, ballot, accepted);
            }
            Ballot::Accept { epoch, ballot, base } if epoch == current => {
                self.accept(from, ballot, base);
            }
            Ballot::Accepted { epoch, ballot } if epoch == current => self.accepted(from, ballot),
            _ => {}
        }
    }

    fn promise(&mut self, from: &Name, ballot: u64) {
        if ballot <= self.agreement.promised {
            return;
        }
        self.agreement.promised = ballot;
        let epoch = self.agreement.base.as_ref().map_or(0, |base| base.epoch);
        let accepted = self.agreement.accepted.clone();
        self.reply_ballot(from, Ballot::Promise { epoch, ballot, accepted });
    }

    fn promised(&mut self, from: &Name, ballot: u64, accepted: Option<(u64, Base)>) {
        let epoch = self.agreement.base.as_ref().map_or(0, |base| base.epoch);
        let Some(proposal) = self.agreement.proposal.as_mut().filter(|p| p.ballot == ballot) else {
            return;
        };
        proposal.promised.insert(from.clone());
        if let Some((earlier, base)) = accepted.filter(|(ballot, _)| *ballot > proposal.earlier) {
            proposal.earlier = earlier;
            proposal.base = base;
        }
        let (base, is_accepting) = (proposal.base.clone(), proposal.is_accepting);
        let promised = proposal.promised.clone();
        if !is_accepting && self.is_quorum(&promised) {
            if let Some(proposal) = &mut self.agreement.proposal {
                proposal.is_accepting = true;
            }
            self.broadcast(&Ballot::Accept { epoch, ballot, base });
        }
    }

    fn accept(&mut self, from: &Name, ballot: u64, base: Base) {
        if ballot < self.agreement.promised {
            return;
        }
        self.agreement.promised = ballot;
        self.agreement.accepted = Some((ballot, base));
        let epoch = self.agreement.base.as_ref().map_or(0, |base| base.epoch);
        self.reply_ballot(from, Ballot::Accepted { epoch, ballot });
    }

    fn accepted(&mut self, from: &Name, ballot: u64) {
        let Some(proposal) = self.agreement.proposal.as_mut().filter(|p| p.ballot == ballot) else {
            return;
        };
        proposal.accepted.insert(from.clone());
        let (accepted, base) = (proposal.accepted.clone(), proposal.base.clone());
        if self.is_quorum(&accepted) {
            self.adopt(base);
            self.refresh_view();
        }
    }

    fn broadcast(&mut self, ballot: &Ballot) {
        for name in self.peers.keys().cloned().collect::<Vec<_>>() {
            self.send(&name, Message::Base(ballot.clone()));
        }
        let me = self.me.clone();
        self.vote(&me, ballot.clone());
    }

    fn reply_ballot(&mut self, to: &Name, ballot: Ballot) {
        if *to == self.me {
            self.vote(&to.clone(), ballot);
        } else {
            self.send(to, Message::Base(ballot));
        }
    }

    /// Whether so many members of the base consent: a majority under `Fail`, and under `Degrade`
    /// all of those that are left.
    fn is_quorum(&self, consenting: &BTreeSet<Name>) -> bool {
        let Some(base) = &self.agreement.base else {
            return false;
        };
        let consents = |member: &&(Name, u64)| {
            consenting.contains(&member.0) && self.incarnation_of(&member.0) == Some(member.1)
        };
        let count = base.members.iter().filter(consents).count();
        match self.policy() {
            Partition::Fail => base.is_majority(count),
            Partition::Degrade => count > 0 && count == self.members_left(base).count(),
        }
    }

    /// The members that are not dead, and are still the same.
    fn members_left<'b>(&'b self, base: &'b Base) -> impl Iterator<Item = &'b Name> {
        let is_left = |(name, incarnation): &&(Name, u64)| {
            self.incarnation_of(name) == Some(*incarnation)
                && self.peers.get(name).is_none_or(|peer| !peer.is_dead())
        };
        base.members.iter().filter(is_left).map(|(name, _)| name)
    }

    /// One node proposes at a time, where views agree: the first member that is left and stays.
    fn proposes(&self, base: &Base) -> bool {
        let stays = |name: &&Name| self.view.placement.contains(name);
        self.members_left(base).find(stays) == Some(&self.me)
    }

    /// Whether this node takes a member for dead for a while now that is in sight, and that is not
    /// dead for the majority.
    fn accuses_falsely(&self, base: &Base) -> bool {
        let now = self.now.mono;
        let is_false = |(name, incarnation): &(Name, u64)| {
            let peer = self.peers.get(name).filter(|peer| peer.linked);
            let is_accused = peer.is_some_and(|peer| {
                peer.dead == Some(*incarnation) && peer.dead_since + FORGIVE_AFTER <= now
            });
            is_accused && !self.is_buried(name)
        };
        self.policy() == Partition::Fail && base.members.iter().any(is_false)
    }

    /// Who should be in the base: whoever is placed on, and who is about to come back.
    fn wanted_members(&self, base: &Base) -> Vec<(Name, u64)> {
        let placed = self.view.placement.names();
        let mut wanted: Vec<_> =
            placed.filter_map(|name| Some((name.clone(), self.incarnation_of(name)?))).collect();
        let restarts = |name: &Name| {
            self.peers.get(name).is_some_and(|peer| {
                let comes_back = |status: &Status| match status.complete {
                    true => status.draining && !status.leaving,
                    false => peer.linked,
                };
                peer.status.as_ref().is_some_and(comes_back)
                    && (!peer.is_dead() || peer.dead_since + RESTART_WITHIN > self.now.mono)
            })
        };
        let missing = |name: &Name| wanted.iter().all(|(known, _)| known != name);
        let kept = base.members.iter().filter(|(name, _)| missing(name) && restarts(name));
        let kept: Vec<_> = kept.cloned().collect();
        wanted.extend(kept);
        wanted.sort();
        wanted
    }

    /// The same members, those that were started anew as who they are now. That need not wait for a
    /// repair: nobody is added, and whoever it replaces is gone. Otherwise nodes that are restarted
    /// one after the other take the majority along.
    fn renewed_members(&self, base: &Base) -> Vec<(Name, u64)> {
        let renewed = |(name, before): &(Name, u64)| {
            let placed = self.view.placement.contains(name);
            let now = self.incarnation_of(name).filter(|_| placed).unwrap_or(*before);
            (name.clone(), now.max(*before))
        };
        base.members.iter().map(renewed).collect()
    }

    fn incarnation_of(&self, name: &Name) -> Option<u64> {
        match self.peers.get(name) {
            Some(peer) => peer.status.as_ref().map(|status| status.incarnation),
            None => (*name == self.me).then_some(self.incarnation),
        }
    }

    pub(super) fn is_in(&self, base: &Base) -> bool {
        base.members.contains(&(self.me.clone(), self.incarnation))
    }
}

impl Base {
    /// Whether a node with the other base has to take this one over.
    fn outranks(&self, other: &Self) -> bool {
        if self.lineage == other.lineage {
            return (self.epoch, &self.members) > (other.epoch, &other.members);
        }
        (self.members.len(), self.lineage) > (other.members.len(), other.lineage)
    }
}

const PROPOSE_EVERY: Duration = Duration::from_millis(500);

/// For how long somebody is taken for dead wrongly at least, before that is forgiven.
const FORGIVE_AFTER: Duration = Duration::from_secs(2);
