//! Whatever went missing is found again: a walk over all records, a little at a time, and a
//! comparison with a random peer every few seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::{Change, EndReason, RecordId};

use super::alarm::Alarm;
use super::config::{DIGEST_EVERY, DROP_LATE, GRACE, LEASE, Partition};
use super::entry::Entry;
use super::look::Holdings;
use super::message::{Kept, Message, is_index};
use super::{Effect, Engine, Rule};
use crate::placement::{Name, siphash};
use crate::record::Stamp;

/// The walk over the records.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    next: Option<RecordId>,
    /// The view in which this round began.
    began: u32,
    /// Whether something was found in this round that is not as it should be.
    found: bool,
    /// Whether this round, or the one before, found something that waits for the next one.
    hurries: bool,
    hurried: bool,
    /// The last view in which a whole round found everything as it should be.
    clean: u32,
    last_digest: Duration,
    /// The copies that this round found so far, and those that the last whole one found.
    counted: Holdings,
    pub(super) holdings: Holdings,
}

impl Scrub {
    pub(super) fn restart(&mut self) {
        self.next = None;
        self.began = 0;
        self.clean = 0;
    }
}

impl Engine {
    /// Whether nothing is left to repair here, for all this node knows.
    pub(super) fn is_settled(&self) -> bool {
        self.is_clean() && self.under_replicated() == 0
    }

    /// Whether a whole round found every record as it should be in this view.
    pub(super) fn is_clean(&self) -> bool {
        self.join.is_none() && self.scrub.clean == self.view.number
    }

    /// Records of this node that a member should hold and may not.
    pub(super) fn under_replicated(&self) -> usize {
        let members = self.peers.iter().filter(|(name, _)| self.view.placement.contains(name));
        members.map(|(_, peer)| peer.stale.len()).sum()
    }

    pub(super) fn repair(&mut self) {
        self.check_leases();
        self.fill();
        self.walk(self.pace());
        self.settle_view();
        let now = self.now.mono;
        if self.scrub.last_digest + DIGEST_EVERY <= now {
            self.scrub.last_digest = now;
            self.compare_with_somebody();
        }
    }

    /// Sends members what they miss, a few records at a time.
    fn fill(&mut self) {
        let linked = self.peers.iter().filter(|(_, peer)| {
            peer.linked && !peer.stale.is_empty() && peer.in_flight.len() < IN_FLIGHT
        });
        for name in linked.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            let Some(peer) = self.peers.get(&name) else {
                continue;
            };
            let due = peer.stale.iter().filter(|id| !peer.in_flight.has(**id));
            for id in due.take(IN_FLIGHT).copied().collect::<Vec<_>>() {
                self.fill_one(&name, id);
            }
        }
    }

    fn fill_one(&mut self, name: &Name, id: RecordId) {
        let is_wanted = self.owns(id)
            && (self.other_holders(id).contains(name)
                || matches!(self.kept(id), Kept::Dead { .. }));
        let replica = self.kept(id).replica().filter(|_| is_wanted);
        if self.busy.contains_key(&id) {
            return self.ask_again(name, id);
        }
        match replica {
            Some(replica) if self.is_known(id) => {
                let stamp = self.kept(id).stamp();
                self.replicate(name, id, stamp, Stamp::ZERO, replica);
            }
            Some(_) => self.consult(id),
            None => {
                if let Some(peer) = self.peers.get_mut(name) {
                    peer.stale.remove(&id);
                }
            }
        }
    }

    /// How many records are looked at in a beat: as many as may be while something is to be repaired,
    /// and otherwise so few that a round of all of them is over in time.
    fn pace(&self) -> usize {
        if self.is_clean() && !self.scrub.hurries && !self.scrub.hurried {
            self.table.len().div_ceil(ROUND_BEATS).clamp(1, WALKED)
        } else {
            WALKED
        }
    }

    /// Looks at some records: is one over, does a new holder miss it, should it be elsewhere?
    pub(super) fn walk(&mut self, limit: usize) {
        if self.scrub.next.is_none() {
            self.scrub.began = self.view.number;
            self.scrub.found = false;
            self.scrub.counted = Holdings::default();
            self.scrub.hurried = std::mem::take(&mut self.scrub.hurries);
        }
        let from = self.scrub.next.unwrap_or(FIRST);
        let mut ids: Vec<_> = self.table.range(from..).take(limit + 1).map(|(id, _)| *id).collect();
        self.scrub.next = (ids.len() > limit).then(|| ids.pop()).flatten();
        let mut offers = BTreeMap::<Name, Vec<_>>::new();
        for id in ids {
            self.look_at(id, &mut offers);
        }
        if self.scrub.next.is_none() {
            self.scrub.holdings = self.scrub.counted;
        }
        self.scrub.found |= !offers.is_empty();
        self.scrub.hurries |= self.scrub.found;
        for (owner, offer) in offers {
            self.send(&owner, Message::Offer(offer));
        }
        if self.scrub.next.is_none() && !self.scrub.found && self.scrub.began == self.view.number {
            self.scrub.clean = self.view.number;
        }
    }

    fn look_at(&mut self, id: RecordId, offers: &mut BTreeMap<Name, Vec<(RecordId, Stamp)>>) {
        if self.busy.contains_key(&id) {
            self.count_copy(id, self.owns(id));
            return self.look_at_busy(id);
        }
        if self.expire(id) || self.drop_if_empty(id) {
            return;
        }
        let Some(owner) = self.owner(id).cloned() else {
            return;
        };
        self.count_copy(id, owner == self.me);
        let should_hold = self.view.placement.holds(&self.me, id)
            || self.view.next.holds(&self.me, id)
            || self.join.is_some();
        if !should_hold && !self.config.keeps(Rule::Grace) {
            return self.drop_entry(id);
        }
        if !should_hold {
            // Its owner tells this node nothing any more.
            self.table.change(id, |entry| entry.sure = 0);
        }
        if owner == self.me {
            self.look_at_own(id);
        } else if self.join.is_none() && !self.is_checked(id) {
            let stamp = self.kept(id).stamp();
            offers.entry(owner).or_default().push((id, stamp));
        } else if !should_hold {
            self.drop_foreign(id);
        }
    }

    fn count_copy(&mut self, id: RecordId, is_owned: bool) {
        if self.live(id).is_some() && !is_index(id) {
            let counted = &mut self.scrub.counted;
            let counted = if is_owned { &mut counted.owned } else { &mut counted.backups };
            *counted += 1;
        }
    }

    /// A record with a change under way is as it should be: at its owner, which knows it.
    fn look_at_busy(&mut self, id: RecordId) {
        if self.owns(id) && self.is_known(id) && !self.is_consulting(id) {
            self.look_at_own(id);
        } else {
            self.scrub.found = true;
        }
    }

    /// Whether the owner in this view knows what this node holds of a record.
    fn is_checked(&self, id: RecordId) -> bool {
        let number = self.view.number;
        self.table.get(&id).is_some_and(|entry| {
            entry.sure == number || entry.safe.is_some_and(|(view, _)| view == number)
        })
    }

    /// Records that keep a round from being clean, and whether this node owns them.
    #[cfg(test)]
    pub(super) fn unchecked(&self) -> Vec<(RecordId, bool, Kept)> {
        let is_fine = |id| if self.owns(id) { self.is_known(id) } else { self.is_checked(id) };
        let left = self.table.iter().filter(|(id, _)| !is_fine(**id)).take(3);
        left.map(|(id, entry)| (*id, self.owns(*id), entry.kept.clone())).collect()
    }

    /// A record that this node owns: who is new as a holder gets it.
    fn look_at_own(&mut self, id: RecordId) {
        if !self.is_known(id) {
            self.scrub.found = true;
            if self.busy.len() < IN_FLIGHT {
                self.consult(id);
            }
            return;
        }
        let number = self.view.number;
        let filled = self.table.change(id, |entry| std::mem::replace(&mut entry.filled, number));
        if filled.is_none_or(|before| before == number) {
            return;
        }
        let new: Vec<_> =
            self.backups(id).into_iter().filter(|name| !self.held_before(name, id)).collect();
        for name in new {
            if let Some(peer) = self.peers.get_mut(&name) {
                peer.stale.insert(id);
            }
        }
    }

    /// Drops a record that should be elsewhere, once every holder has it, a grace has passed and the
    /// view stood still.
    fn drop_foreign(&mut self, id: RecordId) {
        let (now, number, since) = (self.now.mono, self.view.number, self.view.since);
        let safe = self.table.get(&id).and_then(|entry| entry.safe);
        match safe.filter(|(view, _)| *view == number) {
            Some((_, safe)) if safe.max(since) + GRACE <= now => self.drop_entry(id),
            _ => self.scrub.hurries = true,
        }
    }

    /// Gives back what is over: the owner at once, others late.
    pub(super) fn expire(&mut self, id: RecordId) -> bool {
        let (now, owns) = (self.now.wall, self.owns(id));
        let late = if owns { Duration::ZERO } else { DROP_LATE };
        let is_over = match self.kept(id) {
            Kept::Live(copy) => copy.record.deadline() + late <= now,
            Kept::Dead { until, .. } => *until <= now,
            Kept::Nothing => false,
        };
        if !is_over || (owns && !self.is_known(id)) {
            return false;
        }
        if !owns || self.live(id).is_none() {
            self.drop_entry(id);
            return true;
        }
        // In simulation, an owner that was cut off ended what its successor kept alive.
        if !self.may_decide() {
            self.expire_later(id);
            return false;
        }
        self.changed(Change::Ended(id, EndReason::Expired));
        self.effects.push(Effect::Expired(id));
        for name in self.other_holders(id) {
            if let Some(peer) = self.peers.get_mut(&name).filter(|peer| peer.linked) {
                peer.expired.push(id);
            }
        }
        self.keep_expired(id);
        true
    }

    fn expire_later(&mut self, id: RecordId) {
        self.alarms.set(Alarm::Expiry(id), self.now.mono + LEASE / 4);
        self.ask_leases();
    }

    pub(super) fn check_expiry(&mut self, id: RecordId) {
        if !self.busy.contains_key(&id) {
            self.expire(id);
        }
    }

    /// What expired is remembered until it has expired by every clock. In simulation, a node whose
    /// clock was behind brought back an older copy that it had kept, once it was the owner.
    pub(super) fn keep_expired(&mut self, id: RecordId) {
        // Under `Degrade`, the other half of a split may keep it alive.
        let is_final = !is_index(id) && self.policy() == Partition::Fail;
        let Some(copy) = self.live(id).filter(|_| is_final) else {
            return self.drop_entry(id);
        };
        // Every holder of this copy makes the same of it.
        let stamp = Stamp { time: copy.stamp.time + 1, ..copy.stamp };
        let until = copy.record.deadline() + DROP_LATE;
        self.keep(id, Kept::Dead { stamp, until, reason: EndReason::Expired });
    }

    /// Ends every record that is due, and says how many.
    pub(crate) fn collect(&mut self, now: super::Now) -> u64 {
        self.pass(now);
        let ids: Vec<_> = self.table.keys().copied().collect();
        let is_due = |id: &RecordId| {
            self.live(*id).is_some_and(|copy| copy.record.is_expired(now.wall) && self.owns(*id))
        };
        let due = ids.iter().filter(|id| is_due(id)).count() as u64;
        for id in ids {
            self.check_expiry(id);
        }
        due
    }

    /// Another node holds records of this one, and asks whether it holds them right.
    pub(super) fn offered(&mut self, from: &Name, offered: Vec<(RecordId, Stamp)>) {
        let (mut safe, mut wanted) = (Vec::new(), Vec::new());
        for (id, stamp) in offered {
            if !self.owns(id) {
                continue;
            }
            if self.is_consulting(id) {
                // It is offered again when this is over.
            } else if self.kept(id).stamp() != stamp {
                // In simulation, an owner that was not sure asked everybody but who offered it.
                if wanted.len() < IN_FLIGHT {
                    wanted.push(id);
                }
            } else if !self.is_known(id) {
                if self.busy.len() < IN_FLIGHT {
                    self.consult(id);
                }
            } else if self.is_everywhere(id) {
                safe.push(id);
            }
        }
        for (ids, message) in [(safe, Message::Safe as fn(_) -> _), (wanted, Message::Want)] {
            if !ids.is_empty() {
                self.send(from, message(ids));
            }
        }
    }

    /// Whether this owner knows what it has of a record, and every holder has it, too.
    pub(super) fn is_everywhere(&self, id: RecordId) -> bool {
        let filled = self.table.get(&id).is_some_and(|entry| entry.filled == self.view.number);
        let has = |name: &Name| {
            let peer = self.peers.get(name);
            peer.is_some_and(|peer| peer.linked && !peer.stale.contains(&id))
        };
        filled && self.is_known(id) && self.backups(id).iter().all(has)
    }

    pub(super) fn found_safe(&mut self, ids: Vec<RecordId>) {
        let (number, now) = (self.view.number, self.now.mono);
        for id in ids {
            let is_new = |entry: &Entry| entry.safe.is_none_or(|(view, _)| view != number);
            self.table.change(id, |entry| {
                if is_new(entry) {
                    entry.safe = Some((number, now));
                }
            });
        }
    }

    pub(super) fn wanted(&mut self, from: &Name, ids: Vec<RecordId>) {
        for id in ids {
            if let Some(held) = self.table.get(&id).map(Entry::held) {
                self.send(from, Message::Handover { id, held });
            }
        }
    }

    fn compare_with_somebody(&mut self) {
        let linked: Vec<_> =
            self.peers.iter().filter(|(_, peer)| peer.linked).map(|(name, _)| name).collect();
        if linked.is_empty() || self.join.is_some() {
            return;
        }
        let name = linked[self.random.below(linked.len())].clone();
        let start = self.random.id();
        let end = self.table.range(start..).nth(COMPARED).map(|(id, _)| *id);
        let from = if self.table.len() <= COMPARED { FIRST } else { start };
        let to = if from == FIRST { None } else { end };
        let sum = self.sum(&name, from, to);
        self.send(&name, Message::Digest { from, to, sum });
    }

    /// What this node shares with a peer: records that one of the two owns and both should hold.
    fn shared(&self, name: &Name, from: RecordId, to: Option<RecordId>) -> Vec<(RecordId, Stamp)> {
        let range = self.table.range(from..).take_while(|(id, _)| to.is_none_or(|to| **id < to));
        let is_shared = |id: RecordId| match self.owner(id) {
            Some(owner) if *owner == self.me => self.view.placement.holds(name, id),
            Some(owner) if owner == name => self.view.placement.holds(&self.me, id),
            _ => false,
        };
        let shared = range.filter(|(id, _)| is_shared(**id) && !self.busy.contains_key(id));
        shared.map(|(id, entry)| (*id, entry.kept.stamp())).collect()
    }

    fn sum(&self, name: &Name, from: RecordId, to: Option<RecordId>) -> u64 {
        let hash = |(id, stamp): (RecordId, Stamp)| {
            siphash((stamp.time, u64::from(stamp.node)), id.as_bytes())
        };
        self.shared(name, from, to).into_iter().map(hash).fold(0, |sum, hash| sum ^ hash)
    }

    pub(super) fn compare(&mut self, peer: &Name, from: RecordId, to: Option<RecordId>, sum: u64) {
        let most = self.table.range(from..).nth(2 * COMPARED).map(|(id, _)| *id);
        let is_more = most.is_some_and(|most| to.is_none_or(|to| most < to));
        // The other one has far less there, so the sums differ.
        let to = if is_more { most } else { to };
        if is_more || self.sum(peer, from, to) != sum {
            let stamps = self.shared(peer, from, to);
            self.send(peer, Message::Stamps { from, to, stamps, is_answer: false });
        }
    }

    /// As the owner: whatever the other one has differently is repaired.
    pub(super) fn differ(
        &mut self,
        peer: &Name,
        from: RecordId,
        to: Option<RecordId>,
        stamps: &[(RecordId, Stamp)],
        is_answer: bool,
    ) {
        if !is_answer {
            let stamps = self.shared(peer, from, to);
            self.send(peer, Message::Stamps { from, to, stamps, is_answer: true });
        }
        let theirs: BTreeMap<_, _> = stamps.iter().copied().collect();
        let mine: BTreeMap<_, _> = self.shared(peer, from, to).into_iter().collect();
        let owned = |id: &RecordId| self.owns(*id) && !self.busy.contains_key(id);
        let lacks: Vec<_> = mine
            .iter()
            .filter(|(id, stamp)| owned(id) && theirs.get(id) != Some(stamp))
            .map(|(id, _)| *id)
            .collect();
        let wanted = theirs.keys().filter(|id| owned(id) && !mine.contains_key(id));
        let wanted: Vec<_> = wanted.take(WANTED).copied().collect();
        if !wanted.is_empty() {
            self.send(peer, Message::Want(wanted));
        }
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.stale.extend(lacks);
        }
    }

    /// Sends what was gathered for the others.
    pub(super) fn flush(&mut self) {
        for name in self.peers.keys().cloned().collect::<Vec<_>>() {
            let Some(peer) = self.peers.get_mut(&name).filter(|peer| peer.linked) else {
                continue;
            };
            let confirmed = std::mem::take(&mut peer.confirmed);
            let changes = std::mem::take(&mut peer.changes);
            let expired = std::mem::take(&mut peer.expired);
            let evicted = std::mem::take(&mut peer.evicted);
            if !confirmed.is_empty() {
                self.send(&name, Message::Confirm(confirmed));
            }
            if !changes.is_empty() {
                self.send(&name, Message::Changes(changes));
            }
            if !expired.is_empty() {
                self.send(&name, Message::Expired(expired));
            }
            if !evicted.is_empty() {
                self.send(&name, Message::Evicted(evicted));
            }
        }
    }
}

const FIRST: RecordId = RecordId::from_bytes([0; 16]);

/// Records that are looked at in a beat at most: 40,000 in a second.
const WALKED: usize = 1_000;

/// In how many beats a walk at rest goes round: half a minute, so that what is over is found in time.
const ROUND_BEATS: usize = 1_200;

/// Records that are compared at a time.
const COMPARED: usize = 4_096;

/// Records that a comparison asks for at a time; the next one asks for the rest.
const WANTED: usize = 1_024;

/// Records that a peer is sent, or that are taken over, at a time without being asked for.
const IN_FLIGHT: usize = 64;
