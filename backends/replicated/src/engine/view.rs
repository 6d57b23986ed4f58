//! Who is there, who owns what, and since when.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use steadfast_core::{Change, RecordId, Timestamp};

use super::config::{ACK_WITHIN, Copies, DROP_LATE, LEASE, Partition, TOMBSTONE};
use super::message::{Base, Message, Status};
use super::reader::PeerLease;
use super::{Effect, Engine};
use crate::placement::{Name, Placement, node_number};
use crate::record::Stamp;

/// Another node, as far as it is known here.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) linked: bool,
    pub(super) status: Option<Status>,
    /// The last status that was sent over this link.
    said: Option<Status>,
    /// The incarnation that the detector took for dead. It stays dead: a node that hears it becomes
    /// another one.
    pub(super) dead: Option<u64>,
    pub(super) dead_since: Duration,
    /// The same by the wall clock.
    gone_since: Option<Timestamp>,
    /// Its last sign of life.
    pub(super) heard: Duration,
    /// The number of the last change sent over this link, and of the last one received.
    pub(super) sent: u64,
    pub(super) applied: u64,
    pub(super) in_flight: InFlight,
    /// Records that the peer should hold and has not acknowledged: repaired before it gets a lease.
    pub(super) stale: BTreeSet<RecordId>,
    pub(super) lease: PeerLease,
    pub(super) confirmed: Vec<(RecordId, Stamp)>,
    pub(super) expired: Vec<RecordId>,
    pub(super) evicted: Vec<(RecordId, Stamp)>,
    pub(super) changes: Vec<Change>,
}

/// Changes that wait for the acknowledgement of one peer.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    sent: BTreeMap<u64, Sent>,
    /// How many there are of each record.
    of: HashMap<RecordId, usize>,
}

#[derive(Debug)]
pub(super) struct Sent {
    pub(super) id: RecordId,
    pub(super) stamp: Stamp,
    pub(super) at: Duration,
}

impl InFlight {
    pub(super) fn insert(&mut self, seq: u64, sent: Sent) {
        *self.of.entry(sent.id).or_default() += 1;
        self.sent.insert(seq, sent);
    }

    pub(super) fn remove(&mut self, seq: u64) -> Option<Sent> {
        let sent = self.sent.remove(&seq)?;
        match self.of.get_mut(&sent.id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.of.remove(&sent.id)),
        }
        Some(sent)
    }

    pub(super) fn has(&self, id: RecordId) -> bool {
        self.of.contains_key(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    /// When the first of them was sent: their numbers grow with time.
    fn oldest(&self) -> Option<Duration> {
        self.sent.first_key_value().map(|(_, sent)| sent.at)
    }

    fn into_ids(self) -> Vec<RecordId> {
        self.sent.into_values().map(|sent| sent.id).collect()
    }
}

impl Peer {
    pub(super) fn is_dead(&self) -> bool {
        self.dead.is_some()
    }

    pub(super) fn listens(&self) -> bool {
        self.linked && self.status.as_ref().is_some_and(|status| status.listens)
    }

    fn incarnation(&self) -> u64 {
        self.status.as_ref().map_or(0, |status| status.incarnation)
    }
}

/// The placement this node computes with, and the ones before, until nothing depends on them.
#[derive(Debug)]
pub(super) struct View {
    pub(super) number: u32,
    pub(super) since: Duration,
    pub(super) placement: Placement,
    /// The same with the nodes that are about to join.
    pub(super) next: Placement,
    past: Vec<Past>,
}

#[derive(Debug)]
struct Past {
    number: u32,
    placement: Placement,
    until: Duration,
    /// Whether this node cannot know what happened after it.
    doubt: bool,
}

impl View {
    pub(super) fn new() -> Self {
        Self {
            number: 1,
            since: Duration::ZERO,
            placement: Placement::default(),
            next: Placement::default(),
            past: Vec::new(),
        }
    }

    fn turn(&mut self, placement: Placement, now: Duration, doubt: bool) {
        let before = std::mem::replace(&mut self.placement, placement);
        self.past.push(Past { number: self.number, placement: before, until: now, doubt });
        self.number += 1;
        self.since = now;
    }
}

impl Engine {
    pub(super) fn owner(&self, id: RecordId) -> Option<&Name> {
        self.view.placement.owner(id)
    }

    pub(super) fn owns(&self, id: RecordId) -> bool {
        self.owner(id) == Some(&self.me)
    }

    /// The holders of a record but this node, those included that are about to join.
    pub(super) fn other_holders(&self, id: RecordId) -> BTreeSet<Name> {
        let mut holders: BTreeSet<_> = self.view.placement.holders(id).into_iter().collect();
        if self.view.next.len() != self.view.placement.len() {
            holders.extend(self.view.next.holders(id));
        }
        holders.remove(&self.me);
        holders
    }

    /// The holders but this node that are counted on.
    pub(super) fn backups(&self, id: RecordId) -> BTreeSet<Name> {
        let holders = self.view.placement.holders(id).into_iter();
        holders.filter(|name| *name != self.me).collect()
    }

    /// Every node that may hold a record: its holders in this view and in those before.
    pub(super) fn sources(&self, id: RecordId) -> BTreeSet<Name> {
        let past = self.view.past.iter().flat_map(|past| past.placement.holders(id));
        let mut sources = self.other_holders(id);
        sources.extend(past);
        sources.remove(&self.me);
        sources
    }

    /// Whether what this node has of a record, or that it has nothing, is known to be so: nobody else
    /// owned the record since, and this node missed nothing.
    pub(super) fn is_sure(&self, id: RecordId, since: u32) -> bool {
        let owner = self.view.placement.owner(id);
        let mut past = self.view.past.iter().filter(|past| past.number >= since);
        since > 0
            && past.all(|past| {
                let before = past.placement.owner(id);
                !past.doubt && (before.is_none() || before == owner)
            })
    }

    /// The same for a copy: this node was a holder all the time, too.
    pub(super) fn is_good(&self, id: RecordId, since: u32) -> bool {
        let mut past = self.view.past.iter().filter(|past| past.number >= since);
        self.is_sure(id, since) && past.all(|past| past.placement.holds(&self.me, id))
    }

    /// Whether nobody was new as a holder since the view of that number.
    pub(super) fn held_before(&self, name: &Name, id: RecordId) -> bool {
        let mut past = self.view.past.iter().filter(|past| past.placement.len() > 0);
        past.all(|past| !past.doubt && past.placement.holds(name, id))
    }

    /// When nobody can serve a record any more who owned it before.
    pub(super) fn fenced_until(&self, id: RecordId) -> Duration {
        if self.view.past.is_empty() {
            return Duration::ZERO;
        }
        let is_agreed = self.is_agreed();
        // Who computes with this view, too, does not take itself for the owner.
        let may_serve = |owner: &Name| {
            !is_agreed || !(self.view.placement.contains(owner) || self.has_withdrawn(owner))
        };
        let others = self.view.past.iter().filter(|past| {
            let owner = past.placement.owner(id).filter(|owner| **owner != self.me);
            owner.is_some_and(may_serve) || past.doubt
        });
        others.map(|past| past.until + 2 * LEASE).max().unwrap_or(Duration::ZERO)
    }

    /// Whether a node drains, and computes with this view: it serves nothing any more that it holds,
    /// and will not again.
    fn has_withdrawn(&self, name: &Name) -> bool {
        let status = self.peers.get(name).and_then(|peer| peer.status.as_ref());
        status.is_some_and(|status| status.draining && status.view == self.view.placement.digest())
    }

    /// Whether a node may read a record here, by a lease that this one granted.
    pub(super) fn may_read(&self, name: &Name) -> bool {
        let until = self.peers.get(name).map_or(Duration::ZERO, |peer| peer.lease.granted_until);
        until > self.now.mono && !self.has_withdrawn(name)
    }

    pub(super) fn policy(&self) -> Partition {
        let by_size = match self.agreement.base.as_ref().map_or(0, |base| base.members.len()) {
            0..=2 => Partition::Degrade,
            _ => Partition::Fail,
        };
        self.config.partition.unwrap_or(by_size)
    }

    /// Whether a member is dead for everybody: the word of this node, and under `Fail` of a majority
    /// of the base.
    pub(super) fn is_buried(&self, name: &Name) -> bool {
        let Some(dead) = self.peers.get(name).and_then(|peer| peer.dead) else {
            return false;
        };
        self.policy() == Partition::Degrade || self.is_accused(&(name.clone(), dead))
    }

    /// Whether a majority of the base takes a node for dead: none of them follows it any more.
    fn is_accused(&self, accused: &(Name, u64)) -> bool {
        let Some(base) = &self.agreement.base else {
            return true;
        };
        let is_dead_to = |(member, incarnation): &&(Name, u64)| match self.peers.get(member) {
            None => self.peers.get(&accused.0).is_some_and(|peer| peer.dead == Some(accused.1)),
            Some(peer) => peer.status.as_ref().is_some_and(|status| {
                status.incarnation == *incarnation
                    && status.base.as_ref().is_some_and(|theirs| theirs.epoch == base.epoch)
                    && status.down.contains(accused)
            }),
        };
        base.is_majority(base.members.iter().filter(is_dead_to).count())
    }

    /// Whether this node has to become another one, since the others go on without it. Where two
    /// take each other for dead and no majority decides, the first by name stays who it is.
    fn is_given_up(&self, by: &Name) -> bool {
        let me = (self.me.clone(), self.incarnation);
        match self.policy() {
            Partition::Fail => self.is_accused(&me),
            Partition::Degrade => {
                let is_mutual = self.peers.get(by).is_some_and(Peer::is_dead);
                !is_mutual || *by < self.me
            }
        }
    }

    /// Whether this node may serve: under `Fail`, while it sees a majority of the base.
    pub(super) fn sees_majority(&self) -> bool {
        let Some(base) = self.agreement.base.as_ref().filter(|_| self.policy() == Partition::Fail)
        else {
            return true;
        };
        let in_sight = |(name, incarnation): &(Name, u64)| match self.peers.get(name) {
            Some(peer) => !peer.is_dead() && peer.incarnation() == *incarnation,
            None => *name == self.me && self.incarnation == *incarnation,
        };
        base.is_majority(base.members.iter().filter(|member| in_sight(member)).count())
    }

    pub(super) fn is_ready(&self) -> bool {
        self.join.is_none() && self.sees_majority()
    }

    pub(super) fn link_up(&mut self, name: &Name) {
        if *name == self.me {
            return;
        }
        self.link_down(name);
        let status = self.status();
        let peer = self.peers.entry(name.clone()).or_default();
        peer.linked = true;
        // Told in the next beat, when the peer knows that somebody listens here.
        self.may_have_missed = true;
        peer.heard = self.now.mono;
        peer.said = Some(status.clone());
        self.send(name, Message::Status(status));
        let asked = self.unsettled.iter().copied().filter(|id| self.owner(*id) == Some(name));
        self.ask_to_settle(name, asked.collect());
        self.resume_pulls(name);
    }

    /// Whatever was on its way is lost, so all of it is to be repaired.
    pub(super) fn link_down(&mut self, name: &Name) {
        let Some(peer) = self.peers.get_mut(name).filter(|peer| peer.linked) else {
            return;
        };
        peer.linked = false;
        peer.sent = 0;
        peer.applied = 0;
        peer.lease.forget();
        peer.confirmed.clear();
        peer.evicted.clear();
        peer.changes.clear();
        let missed = std::mem::take(&mut peer.in_flight).into_ids();
        peer.stale.extend(&missed);
        // Changes may have been on their way.
        self.may_have_missed = true;
        self.report_feed();
        self.lose_replies(name);
        self.skip_pull(name);
        for id in missed {
            self.settle_commit(id);
        }
    }

    /// Tells listeners when the changes of a node no longer come here, and when those of all nodes do
    /// again. A node that is counted as down has none, unless it is this one that was cut off.
    pub(super) fn report_feed(&mut self) {
        let is_cut_off = !self.sees_majority();
        let comes = |peer: &Peer| peer.linked || (peer.is_dead() && !is_cut_off);
        let hears_all = self.join.is_none() && self.peers.values().all(comes);
        let heard_all = std::mem::replace(&mut self.hears_all, hears_all);
        let is_back = hears_all && (std::mem::take(&mut self.may_have_missed) || !heard_all);
        let change = match (is_back, hears_all != heard_all) {
            (true, _) => Change::Missed,
            (false, true) => Change::Down,
            (false, false) => return,
        };
        if self.listens {
            self.effects.push(Effect::Changed(change));
        }
    }

    /// A link on which an acknowledgement is late lost something, and is not trusted again.
    pub(super) fn check_links(&mut self) {
        let deadline = self.now.mono.saturating_sub(ACK_WITHIN);
        let is_late = |peer: &Peer| peer.in_flight.oldest().is_some_and(|at| at < deadline);
        let late = self.peers.iter().filter(|(_, peer)| peer.linked && is_late(peer));
        for name in late.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.close(&name);
        }
    }

    pub(super) fn close(&mut self, name: &Name) {
        if self.peers.get(name).is_some_and(|peer| peer.linked) {
            self.effects.push(Effect::Close(name.clone()));
            self.link_down(name);
        }
    }

    pub(super) fn take_for_dead(&mut self, name: &Name) {
        let now = self.now.mono;
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if peer.dead.is_none() {
            peer.dead = Some(peer.incarnation());
            peer.dead_since = now;
            peer.gone_since = Some(self.now.wall);
            self.effects.push(Effect::TakenForDead(now.saturating_sub(peer.heard)));
            self.speaks = true;
            self.refresh_view();
        }
    }

    pub(super) fn hear_status(&mut self, from: &Name, status: Status) {
        let Some(peer) = self.peers.get_mut(from) else {
            return;
        };
        if peer.status.as_ref().is_some_and(|known| known.incarnation > status.incarnation) {
            return;
        }
        if peer.dead.is_some_and(|dead| dead < status.incarnation) {
            peer.dead = None;
        }
        let started_anew = peer.incarnation() != status.incarnation;
        if started_anew {
            peer.stale.clear();
        }
        let is_accused = status.down.contains(&(self.me.clone(), self.incarnation));
        let base = status.base.clone();
        peer.status = Some(status);
        self.hear_base(base);
        if is_accused && self.is_given_up(from) {
            self.be_reborn();
        }
        self.refresh_view();
    }

    /// Becomes another node with the same copies, which joins anew.
    pub(super) fn be_reborn(&mut self) {
        self.incarnation += 1;
        self.stamps.rename(node_number(&self.me, self.incarnation));
        // It may hold what ended meanwhile, and nobody remembers that any more.
        if std::mem::take(&mut self.was_alone) {
            self.table.clear();
            self.unsettled.clear();
        }
        for peer in self.peers.values_mut() {
            peer.dead = None;
        }
        self.join = Some(super::join::Join::begin(self.now.mono));
        self.doubt();
    }

    /// From now on, nothing that is held here is known to be what its owner has.
    pub(super) fn doubt(&mut self) {
        let placement = self.view.placement.clone();
        self.view.turn(placement, self.now.mono, true);
        self.view_changed();
    }

    /// Computes the view anew, after anything it depends on.
    pub(super) fn refresh_view(&mut self) {
        let placed = self.placed();
        let joining = self.peers.iter().filter(|(_, peer)| {
            !peer.is_dead() && peer.linked && peer.status.as_ref().is_some_and(|s| !s.complete)
        });
        let joining: Vec<_> = joining.map(|(name, _)| name.clone()).collect();
        let placement = Placement::new(placed.clone(), self.copies(placed.len()));
        let count = placed.len() + joining.len();
        self.view.next = Placement::new(placed.into_iter().chain(joining), self.copies(count));
        if placement != self.view.placement {
            self.view.turn(placement, self.now.mono, false);
            self.view_changed();
        }
    }

    /// The members that records are placed on.
    fn placed(&self) -> Vec<Name> {
        let is_placed = |name: &Name, peer: &Peer| {
            let status = peer.status.as_ref();
            status.is_some_and(|s| s.complete && !s.draining) && !self.is_buried(name)
        };
        let others = self.peers.iter().filter(|(name, peer)| is_placed(name, peer));
        let me = (self.join.is_none() && self.drain.is_none()).then(|| self.me.clone());
        others.map(|(name, _)| name.clone()).chain(me).collect()
    }

    fn copies(&self, members: usize) -> usize {
        match self.config.copies {
            Copies::All => members,
            Copies::Backups(k) => 1 + k,
        }
    }

    fn view_changed(&mut self) {
        self.speaks = true;
        self.scrub.restart();
        if let Some(join) = &mut self.join {
            join.restart();
        }
        for id in self.busy.keys().copied().collect::<Vec<_>>() {
            if self.owns(id) {
                self.ask_new_holders(id);
                self.settle_commit(id);
            } else {
                self.step_down(id);
            }
        }
    }

    /// Forgets the views before, once every node computes with this one and found nothing to repair.
    pub(super) fn settle_view(&mut self) {
        let everybody = self.view.placement.contains(&self.me)
            && self.is_settled()
            && self.others_are_settled()
            && self.peers.values().all(|peer| {
                peer.is_dead() || !peer.linked || peer.status.as_ref().is_none_or(|s| s.settled)
            });
        let long_ago = self.now.mono.saturating_sub(2 * LEASE);
        if everybody {
            self.view.past.retain(|past| past.until > long_ago);
            self.was_alone = false;
            // Who comes back after it was replaced is a new holder of everything.
            for peer in self.peers.values_mut().filter(|peer| peer.is_dead() && !peer.linked) {
                peer.stale.clear();
            }
            self.forget_the_gone();
        }
    }

    /// Forgets nodes that are gone for longer than the end of a record is remembered: by then, they
    /// forgot what they held, too. Where nodes get new names, there would be more and more of them.
    fn forget_the_gone(&mut self) {
        let long_ago = self.now.wall - TOMBSTONE - DROP_LATE;
        let members = self.agreement.base.iter().flat_map(|base| &base.members);
        let members: BTreeSet<_> = members.map(|(name, _)| name).collect();
        let placement = &self.view.placement;
        self.peers.retain(|name, peer| {
            let is_gone = peer.is_dead() && peer.gone_since.is_some_and(|since| since < long_ago);
            peer.linked || !is_gone || members.contains(name) || placement.contains(name)
        });
    }

    /// Whether the others that are placed on compute with this view, and have nothing to repair.
    pub(super) fn others_are_settled(&self) -> bool {
        let digest = self.view.placement.digest();
        let is_settled = |name: &Name| {
            let status = self.peers.get(name).and_then(|peer| peer.status.as_ref());
            status.is_some_and(|status| status.settled && status.view == digest)
        };
        self.view.placement.names().filter(|name| **name != self.me).all(is_settled)
    }

    pub(super) fn has_past(&self) -> bool {
        !self.view.past.is_empty()
    }

    pub(crate) fn status(&self) -> Status {
        let dead = self.peers.iter().filter_map(|(name, peer)| Some((name.clone(), peer.dead?)));
        Status {
            incarnation: self.incarnation,
            complete: self.join.is_none(),
            draining: self.drain.is_some(),
            leaving: self.is_leaving(),
            base: self.agreement.base.clone(),
            view: self.view.placement.digest(),
            settled: self.is_settled(),
            down: dead.collect(),
            listens: self.listens,
        }
    }

    /// Tells the others who this node is, where that changed.
    pub(super) fn say_status(&mut self) {
        if !std::mem::take(&mut self.speaks) {
            return;
        }
        let status = self.status();
        let unaware = self
            .peers
            .iter_mut()
            .filter(|(_, peer)| peer.linked && peer.said.as_ref() != Some(&status));
        let unaware: Vec<_> = unaware
            .map(|(name, peer)| {
                peer.said = Some(status.clone());
                name.clone()
            })
            .collect();
        for name in unaware {
            self.send(&name, Message::Status(status.clone()));
        }
    }
}

impl Base {
    /// Whether so many of the members are more than half of them.
    pub(super) fn is_majority(&self, count: usize) -> bool {
        2 * count > self.members.len()
    }
}
