//! Reads, and the leases under which a copy answers.
//!
//! A lease is asked for when a read has to be answered, and renewed while reads go on, before it runs
//! out. It runs from when it was asked for; who granted it counts twice as long, so that clocks that run unevenly do
//! not matter. One request asks for two things: whether the other one takes this node for alive (an
//! owner needs that of a majority of the base), and whether the copies from it are good.

use std::collections::VecDeque;
use std::time::Duration;

use steadfast_core::{Absence, Found, Lookup, Proof, RecordId, Verdict, Version};

use super::config::{LEASE, Partition};
use super::message::{Failure, Kept, Message, Reply, Request};
use super::view::Peer;
use super::{Engine, Rule};
use crate::placement::Name;
use crate::record::Copy;

/// What this node asked for.
#[derive(Debug, Default)]
pub(super) struct Leases {
    asked: VecDeque<(u64, Duration)>,
    /// Calls that wait for the leave of a majority.
    waiting: Vec<u64>,
}

impl Leases {
    pub(super) fn forget(&mut self) {
        self.asked.clear();
    }
}

/// The leases between this node and a peer.
#[derive(Debug, Default)]
pub(super) struct PeerLease {
    /// When this node asked last.
    asked: Option<Duration>,
    /// Until when the peer takes this node for alive.
    alive_until: Duration,
    /// Until when copies of records that the peer owns are good.
    data_until: Duration,
    /// Until when the peer may take its copies for good.
    pub(super) granted_until: Duration,
}

impl PeerLease {
    /// Forgets what was granted to this node. What this node granted goes on.
    pub(super) fn forget(&mut self) {
        self.asked = None;
        self.alive_until = Duration::ZERO;
        self.data_until = Duration::ZERO;
    }
}

impl Engine {
    /// Answers a read as the owner, or sees to it that it can.
    pub(super) fn read(&mut self, number: u64) {
        let Some(call) = self.calls.get(&number) else {
            return;
        };
        let Request::Load { id, proof, seen } = &call.request else {
            return;
        };
        let (id, proof, seen, consulted) = (*id, proof.clone(), *seen, call.consulted);
        if !self.may_decide() {
            return self.wait_for_leave(number);
        }
        if !self.is_known(id) || self.is_consulting(id) {
            let queue = &mut self.busy(id).queue;
            queue.push_back(number);
            return self.advance(id);
        }
        let version = self.live(id).map(|copy| copy.record.version);
        if seen.is_some_and(|seen| version.is_some_and(|version| version < seen)) && !consulted {
            return self.read_again(number, id);
        }
        let found = self.look_up(id, proof.as_ref());
        if version < seen && version.is_some() && seen != Some(Version(u64::MAX)) {
            steadfast_core::Event::RolledBack.emit(Some(id));
        }
        self.answer(number, found.map_or_else(Reply::Failed, Reply::Lookup));
    }

    /// Whether a majority takes this node for alive, so that nobody else decides what it decides.
    pub(super) fn may_decide(&mut self) -> bool {
        let until = self.majority_until();
        if self.runs_out(until) {
            self.ask_leases();
        }
        until > self.now.mono || !self.config.keeps(Rule::Lease)
    }

    pub(super) fn wait_for_leave(&mut self, number: u64) {
        self.leases.waiting.push(number);
        self.ask_leases();
    }

    /// The client has seen more than there is: the other holders are asked, once.
    fn read_again(&mut self, number: u64, id: RecordId) {
        if let Some(call) = self.calls.get_mut(&number) {
            call.consulted = true;
        }
        let busy = self.busy(id);
        busy.queue.push_front(number);
        if busy.stage.is_none() {
            self.consult(id);
        }
    }

    /// Answers a read from a copy, if a lease says that it is good; says whether it did.
    pub(super) fn read_copy(&mut self, number: u64) -> bool {
        let Some(call) = self.calls.get(&number) else {
            return true;
        };
        let Request::Load { id, proof, seen } = &call.request else {
            return false;
        };
        let (id, seen, proof) = (*id, *seen, proof.clone());
        if self.join.is_some() || !self.view.placement.holds(&self.me, id) {
            return false;
        }
        let Some(owner) = self.owner(id).cloned() else {
            return false;
        };
        let until = self.peers.get(&owner).map_or(Duration::ZERO, |peer| peer.lease.data_until);
        if self.runs_out(until) {
            self.ask_lease(&owner);
        }
        let is_good = until > self.now.mono;
        if !is_good && self.config.keeps(Rule::Lease) {
            self.counts.lease_misses += 1;
            return false;
        }
        let Some(found) = self.good_copy(id, seen, proof.as_ref()) else {
            return false;
        };
        self.answer(number, Reply::Lookup(found));
        true
    }

    /// A copy that is as new as the client has seen, and that the proof opens. Anything else is for
    /// the owner to say.
    fn good_copy(
        &self,
        id: RecordId,
        seen: Option<Version>,
        proof: Option<&Proof>,
    ) -> Option<Lookup> {
        let entry = self.table.get(&id)?;
        if let Kept::Dead { .. } = entry.kept {
            return Some(Lookup::Absent(Absence::Unknown));
        }
        let copy = entry.kept.live()?;
        let is_new = Some(copy.record.version) >= seen;
        let is_settled = entry.tentative.is_none() || !self.config.keeps(Rule::RollBack);
        if !is_new || !is_settled || !self.is_good(id, entry.sure) {
            return None;
        }
        match self.opened(id, copy, proof) {
            Ok(found @ Lookup::Found(_)) => Some(found),
            _ => None,
        }
    }

    fn look_up(&self, id: RecordId, proof: Option<&Proof>) -> Result<Lookup, Failure> {
        match self.live(id) {
            Some(copy) => self.opened(id, copy, proof),
            None => Ok(Lookup::Absent(Absence::Unknown)),
        }
    }

    fn opened(&self, id: RecordId, copy: &Copy, proof: Option<&Proof>) -> Result<Lookup, Failure> {
        let (now, record) = (self.now.wall, &copy.record);
        let is_expired = record.is_expired(now);
        let verdict = proof.map_or(Verdict::Right, |proof| record.verify(proof, now));
        Ok(match verdict {
            Verdict::Right if is_expired => Lookup::Absent(Absence::Expired),
            Verdict::Right => {
                Lookup::Found(Found { id, record: record.clone(), carry: self.carry(id, copy) })
            }
            Verdict::Superseded if !is_expired => Lookup::Superseded,
            Verdict::UnknownKey(key) if !is_expired => return Err(Failure::UnknownKey(key)),
            Verdict::Superseded | Verdict::Wrong | Verdict::UnknownKey(_) => {
                Lookup::Absent(Absence::Unknown)
            }
        })
    }

    /// Until when a majority of the base takes this node for alive: for ever under `Degrade`.
    fn majority_until(&self) -> Duration {
        let base = self.agreement.base.as_ref();
        let Some(base) = base.filter(|_| self.policy() == Partition::Fail) else {
            return Duration::MAX;
        };
        let granted = base.members.iter().filter_map(|(name, incarnation)| {
            if *name == self.me {
                return (self.incarnation == *incarnation).then_some(Duration::MAX);
            }
            let peer = self.peers.get(name)?;
            let is_same = peer.status.as_ref().is_some_and(|s| s.incarnation == *incarnation);
            is_same.then_some(peer.lease.alive_until)
        });
        let mut granted: Vec<_> = granted.collect();
        granted.sort_unstable_by(|a, b| b.cmp(a));
        granted.get(base.members.len() / 2).copied().unwrap_or(Duration::ZERO)
    }

    /// Whether a lease has to be renewed by whoever goes on under it.
    fn runs_out(&self, until: Duration) -> bool {
        until < self.now.mono + LEASE / 2
    }

    pub(super) fn ask_leases(&mut self) {
        for name in self.peers.keys().cloned().collect::<Vec<_>>() {
            self.ask_lease(&name);
        }
    }

    /// Asks a peer for leases, a few times within the life of one at most.
    fn ask_lease(&mut self, name: &Name) {
        let now = self.now.mono;
        let is_due = |peer: &Peer| peer.lease.asked.is_none_or(|asked| asked + LEASE / 4 <= now);
        let Some(peer) = self.peers.get_mut(name).filter(|peer| peer.linked && is_due(peer)) else {
            return;
        };
        peer.lease.asked = Some(now);
        let applied = peer.applied;
        let number = self.number();
        // What is granted later than that is over.
        self.leases.asked.retain(|(_, at)| *at + LEASE > now);
        self.leases.asked.push_back((number, now));
        self.send(name, Message::Lease { number, applied });
    }

    /// Grants a lease: for the copies only to who has applied everything that was sent and misses
    /// nothing, and never for longer than this node itself may read.
    pub(super) fn lease_asked(&mut self, from: &Name, number: u64, applied: u64) {
        let now = self.now.mono;
        let mine = self.majority_until();
        let may_read = self.is_ready() && mine > now;
        let Some(peer) = self.peers.get_mut(from) else {
            return;
        };
        let alive = !peer.is_dead();
        let in_flight = peer.in_flight.len() as u64;
        let has_all = peer.stale.is_empty() && applied + in_flight >= peer.sent;
        let data = match alive && may_read && has_all {
            true => LEASE.min(mine.saturating_sub(now)),
            false => Duration::ZERO,
        };
        let reads_on = peer.lease.granted_until > now;
        if data > Duration::ZERO {
            peer.lease.granted_until = now + 2 * LEASE;
        }
        self.send(from, Message::Grant { number, alive, data });
        // A copy is good for no longer than its owner may decide.
        if reads_on && self.is_ready() && self.runs_out(mine) {
            self.ask_leases();
        }
    }

    pub(super) fn granted(&mut self, from: &Name, number: u64, alive: bool, data: Duration) {
        let asked = self.leases.asked.iter().find(|(asked, _)| *asked == number);
        let Some((_, at)) = asked.copied() else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(from) {
            let until = if alive { at + LEASE } else { Duration::ZERO };
            peer.lease.alive_until = peer.lease.alive_until.max(until);
            peer.lease.data_until = peer.lease.data_until.max(at + data.min(LEASE));
        }
        if self.majority_until() > self.now.mono {
            for number in std::mem::take(&mut self.leases.waiting) {
                self.route(number);
            }
        }
    }

    /// Asks again while reads wait.
    pub(super) fn check_leases(&mut self) {
        let calls = &self.calls;
        self.leases.waiting.retain(|number| calls.contains_key(number));
        if !self.leases.waiting.is_empty() {
            self.ask_leases();
        }
    }
}
