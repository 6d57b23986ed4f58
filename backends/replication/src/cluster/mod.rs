//! The current epoch, the choice of the next one, and permission to serve.

mod campaign;
mod suspicion;
mod tenure;
mod voter;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use self::campaign::{Campaign, Choice};
pub use self::suspicion::{Suspected, Suspicion, Word};
pub use self::tenure::LeaseState;
use self::tenure::Tenure;
use self::voter::Voter;
pub use self::voter::{Ballot, Promise};
use crate::epoch::{Change, Epoch, EpochId};
use crate::member::Boot;
use crate::rules::{Rule, Rules};
use crate::slots::{Slot, SlotSet};

/// One member's part in the cluster: its vote, its attempts to have an epoch chosen, and its leases.
///
/// It is given frames, requests and the time, and answers with frames to send.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    me: Boot,
    epoch: Arc<Epoch>,
    voter: Voter,
    campaign: Option<Campaign>,
    tenure: Tenure,
    timing: Timing,
    rules: Rules,
}

/// The durations of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The time from the request for a lease until it ends.
    pub lease: Duration,
    /// The time that other nodes wait for its end: longer, because the rates of clocks differ.
    pub wait: Duration,
}

impl Timing {
    /// The values of `PROTOCOL.md`.
    pub const DEFAULT: Self =
        Self { lease: Duration::from_millis(300), wait: Duration::from_millis(360) };
}

/// A message between members about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The sender.
    pub from: Boot,
    /// The epoch of the sender.
    pub epoch: EpochId,
    /// The content.
    pub message: Message,
}

/// A message about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Message {
    /// An epoch that was chosen.
    Epoch(Arc<Epoch>),
    /// The receiver's epoch is wanted.
    Fetch,
    /// Asks a voter to take part in a ballot.
    Prepare(Ballot),
    /// It does.
    Promise(Promise),
    /// It takes part in a higher ballot.
    Nack(Ballot),
    /// Asks a voter to accept an epoch.
    Accept(Ballot, Arc<Epoch>),
    /// It does.
    Accepted(Ballot),
    /// Asks a voter for a lease over slots.
    AskLease {
        /// The number of the request.
        number: u64,
        /// The slots that are served or about to be.
        slots: SlotSet,
    },
    /// It grants the lease.
    Lease {
        /// The number of the request.
        number: u64,
        /// The slots that it grants.
        slots: SlotSet,
    },
    /// The sender serves these slots no more.
    Withdrawn(SlotSet),
}

/// An effect of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// A frame is to be sent to a boot.
    Send(Boot, Frame),
    /// Another epoch was learned.
    Learned(Arc<Epoch>),
}

impl Cluster {
    /// A member of an epoch.
    pub fn new(me: Boot, epoch: Arc<Epoch>, timing: Timing, rules: Rules, now: Duration) -> Self {
        let tenure = Tenure::new(&epoch, now);
        Self { me, epoch, voter: Voter::default(), campaign: None, tenure, timing, rules }
    }

    /// This node.
    pub fn me(&self) -> Boot {
        self.me
    }

    /// The epoch that this node knows.
    pub fn epoch(&self) -> &Arc<Epoch> {
        &self.epoch
    }

    /// Returns true if this node may answer for a slot: a running lease of this epoch names it.
    pub fn serves(&self, slot: Slot, now: Duration) -> bool {
        self.tenure.serves(slot, now)
    }

    /// Returns the remaining time of this node's lease.
    pub fn lease_left(&self, now: Duration) -> Duration {
        let until = self.lease_state().until;
        until.map_or(Duration::ZERO, |until| until.saturating_sub(now))
    }

    /// Returns true if no other node of any epoch can still serve a slot: the first step of a
    /// take-over.
    pub fn is_clear(&self, slot: Slot, now: Duration) -> bool {
        let rules = (self.timing, self.rules);
        self.tenure.is_clear(slot, (self.me, &self.epoch), now, rules)
    }

    /// Says that own slots can be served once a lease names them: the last step of a take-over. Slots
    /// that are not clear, or not owned, are left out.
    pub fn make_ready(&mut self, slots: &SlotSet, now: Duration) {
        let owner = |slot: Slot| self.epoch.placement().owner(slot);
        let can_be = |slot: &Slot| owner(*slot) == Some(self.me) && self.is_clear(*slot, now);
        self.tenure.make_ready(&slots.iter().filter(can_be).collect());
    }

    /// Returns the time of the last request for a lease, whether it was granted, and whether a
    /// lease of this epoch named every slot that is ready.
    pub fn lease_state(&self) -> LeaseState {
        self.tenure.state(self.timing)
    }

    /// Asks all voters for a lease over what is ready.
    pub fn ask_lease(&mut self, now: Duration) -> Vec<Effect> {
        let (number, slots) = self.tenure.ask(now);
        self.to_voters(&Message::AskLease { number, slots })
    }

    /// Says to their new owners that this node is out of slots that it served in an earlier epoch.
    pub fn withdraw(&self, slots: &SlotSet) -> Vec<Effect> {
        let mut effects = Vec::new();
        for member in self.epoch.members() {
            let theirs = |slot: &Slot| self.epoch.placement().owner(*slot) == Some(member.boot);
            let theirs: SlotSet = slots.iter().filter(theirs).collect();
            if member.boot != self.me && !theirs.is_empty() {
                effects.push(self.send(member.boot, Message::Withdrawn(theirs)));
            }
        }
        effects
    }

    /// Notes that the owner of these slots when last served is out.
    pub fn on_withdrawn(&mut self, from: Boot, slots: &SlotSet) {
        self.tenure.on_withdrawn(from, slots, &self.epoch);
    }

    /// Tries to have an epoch chosen with these changes. Those that do not apply when it is proposed are
    /// left out.
    pub fn want(&mut self, changes: Vec<Change>) -> Vec<Effect> {
        self.want_above(0, changes)
    }

    /// The same, in a ballot above this number.
    pub fn want_above(&mut self, refused: u32, changes: Vec<Change>) -> Vec<Effect> {
        let promised = self.voter.promised().map_or(0, |(ballot, _)| ballot.number);
        let tried = self.campaign.as_ref().map_or(0, |campaign| campaign.ballot().number);
        // A proposer may not use a ballot twice.
        let Some(number) = promised.max(tried).max(refused).checked_add(1) else {
            return Vec::new();
        };
        let ballot = Ballot { number, proposer: self.me };
        self.campaign = Some(Campaign::new(ballot, changes));
        self.to_voters(&Message::Prepare(ballot))
    }

    /// Wants other changes than when it began to ask for promises.
    pub fn want_instead(&mut self, changes: Vec<Change>) {
        if let Some(campaign) = &mut self.campaign {
            campaign.want_instead(changes);
        }
    }

    /// Returns true if this node promised a ballot, and therefore grants no new slots until the
    /// next epoch.
    pub fn has_promised(&self) -> bool {
        self.voter.promised().is_some()
    }

    /// Handles a frame.
    pub fn receive(&mut self, frame: Frame, now: Duration) -> Vec<Effect> {
        let Frame { from, epoch, message } = frame;
        if let Message::Epoch(epoch) = message {
            return self.learn(&epoch, now);
        }
        if epoch.lineage != self.epoch.id().lineage {
            return Vec::new();
        }
        // Dropped: the sender repeats what is not answered, and by then both know the same epoch.
        if epoch.number > self.epoch.id().number {
            return vec![self.send(from, Message::Fetch)];
        }
        let is_behind = epoch.number < self.epoch.id().number;
        if is_behind || message == Message::Fetch {
            return vec![self.send(from, Message::Epoch(Arc::clone(&self.epoch)))];
        }
        self.handle(from, message, now)
    }

    /// Handles a message of this epoch.
    fn handle(&mut self, from: Boot, message: Message, now: Duration) -> Vec<Effect> {
        match message {
            Message::Prepare(ballot) if self.votes() => {
                let answer = self.voter.prepare(ballot, now);
                vec![self.send(from, answer.map_or_else(Message::Nack, Message::Promise))]
            }
            Message::Accept(ballot, epoch) if self.votes() => {
                let answer = self.voter.accept(ballot, &epoch, now, self.rules).map(|()| ballot);
                vec![self.send(from, answer.map_or_else(Message::Nack, Message::Accepted))]
            }
            Message::AskLease { number, slots } if self.votes() => {
                let owns = |slot: Slot| self.epoch.placement().owner(slot) == Some(from);
                let slots = self.voter.grant(from, &slots, owns, self.rules);
                vec![self.send(from, Message::Lease { number, slots })]
            }
            Message::Promise(promise) if self.epoch.is_voter(from) => {
                self.on_promise(from, promise)
            }
            Message::Accepted(ballot) if self.epoch.is_voter(from) => {
                self.on_accepted(from, ballot, now)
            }
            Message::Lease { number, slots } if self.epoch.is_voter(from) => {
                let terms = (self.epoch.quorum(), self.timing);
                self.tenure.on_granted(from, number, slots, terms);
                Vec::new()
            }
            Message::Withdrawn(slots) => {
                self.on_withdrawn(from, &slots);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn on_promise(&mut self, from: Boot, promise: Promise) -> Vec<Effect> {
        let (quorum, rules) = (self.epoch.quorum(), self.rules);
        let Some(campaign) = &mut self.campaign else {
            return Vec::new();
        };
        let next = match campaign.on_promise(from, promise, quorum, rules) {
            None => return Vec::new(),
            Some(Choice::Accepted(epoch)) => epoch,
            Some(Choice::Free(served, heard)) => {
                let is_sound = |change: &&Change| match change {
                    Change::GiveUp(_, silent) => {
                        silent.is_disjoint(&heard) || !rules.keep(Rule::G1)
                    }
                    _ => true,
                };
                let wanted: Vec<_> = campaign.wanted().iter().filter(is_sound).cloned().collect();
                let changes = self.epoch.applicable(&wanted, rules);
                let next = self.epoch.successor(&changes, &served, rules);
                Arc::new(next.expect("an epoch in which nothing changes follows each one"))
            }
        };
        campaign.propose(Arc::clone(&next));
        let accept = Message::Accept(campaign.ballot(), next);
        self.to_voters(&accept)
    }

    fn on_accepted(&mut self, from: Boot, ballot: Ballot, now: Duration) -> Vec<Effect> {
        let quorum = self.epoch.quorum();
        let campaign = self.campaign.as_mut();
        match campaign.and_then(|campaign| campaign.on_accepted(from, ballot, quorum)) {
            Some(epoch) => self.learn(&epoch, now),
            None => Vec::new(),
        }
    }

    /// Enters an epoch that was chosen, and tells the members of both.
    fn learn(&mut self, epoch: &Arc<Epoch>, now: Duration) -> Vec<Effect> {
        let (own, other) = (self.epoch.id(), epoch.id());
        if other.lineage != own.lineage || other.number <= own.number {
            return Vec::new();
        }
        let is_chosen_here = self.campaign.as_ref().and_then(Campaign::proposed) == Some(epoch);
        let before = std::mem::replace(&mut self.epoch, Arc::clone(epoch));
        self.voter = Voter::default();
        self.campaign = None;
        self.tenure.follow(&self.epoch, now, self.rules);
        let mut effects = vec![Effect::Learned(Arc::clone(epoch))];
        if is_chosen_here {
            let both = before.members().iter().chain(epoch.members()).map(|member| member.boot);
            let others = both.filter(|boot| *boot != self.me);
            let others: BTreeSet<_> = others.collect();
            let tell = |boot| self.send(boot, Message::Epoch(Arc::clone(epoch)));
            effects.extend(others.into_iter().map(tell));
        }
        effects
    }

    fn votes(&self) -> bool {
        self.epoch.is_voter(self.me)
    }

    fn to_voters(&self, message: &Message) -> Vec<Effect> {
        self.epoch.voters().into_iter().map(|voter| self.send(voter, message.clone())).collect()
    }

    fn send(&self, to: Boot, message: Message) -> Effect {
        Effect::Send(to, Frame { from: self.me, epoch: self.epoch.id(), message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::{boot, grown};

    #[test]
    fn no_slot_is_lost_while_holders_are_heard() {
        let gives_up = |heard: &[usize], rules| {
            let mut cluster =
                Cluster::new(boot(0), Arc::new(grown(3)), Timing::DEFAULT, rules, NOW);
            let slots = SlotSet::from_iter([Slot::at(1)]);
            cluster.want(vec![Change::GiveUp(slots, [boot(2)].into())]);
            promise(&mut cluster, 0, &[1]);
            let effects = promise(&mut cluster, 1, heard);
            effects.iter().any(|effect| match effect {
                Effect::Send(_, Frame { message: Message::Accept(_, epoch), .. }) => {
                    epoch.is_given_up(Slot::at(1))
                }
                _ => false,
            })
        };
        assert!(gives_up(&[0], Rules::default()));
        assert!(!gives_up(&[0, 2], Rules::default()));
        assert!(gives_up(&[0, 2], Rules::without(Rule::G1)));
    }

    const NOW: Duration = Duration::from_secs(1);

    fn promise(cluster: &mut Cluster, voter: usize, heard: &[usize]) -> Vec<Effect> {
        let ballot = Ballot { number: 1, proposer: boot(0) };
        let heard = heard.iter().map(|n| boot(*n)).collect();
        let promise = Promise { ballot, accepted: None, served: SlotSet::new(), heard };
        let epoch = cluster.epoch().id();
        let message = Message::Promise(promise);
        cluster.receive(Frame { from: boot(voter), epoch, message }, NOW)
    }
}
