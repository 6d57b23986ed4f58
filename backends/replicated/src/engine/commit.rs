//! Replication: a change is sent to the holders, waits for acknowledgements, and is confirmed or
//! rolled back. It is shown to nobody before it is confirmed.

use std::collections::BTreeSet;
use std::time::Duration;

use steadfast_core::{Counters, Deleted, EndReason, Outcome, RecordId, Timestamp};

use super::alarm::Alarm;
use super::config::{ACK_WITHIN, Acks, BEAT, Copies, END_WITHIN, Partition};
use super::entry::Stage;
use super::index::Procedure;
use super::message::{Ack, Failure, Held, Kept, Message, Replica, Reply};
use super::undecided::Undecided;
use super::view::Sent;
use super::{Engine, Rule};
use crate::placement::Name;
use crate::record::{Copy, Delta, Stamp};

/// A change that waits for its acknowledgements.
#[derive(Debug)]
pub(super) struct Commit {
    change: Change,
    then: Then,
    /// What was kept before it.
    before: Stamp,
    /// Whether it must be known to everybody who may read: the end of a record, a new secret.
    everywhere: bool,
    started: Duration,
    asked: BTreeSet<Name>,
    acknowledged: BTreeSet<Name>,
    /// Whether a holder takes another node for the owner: one of the two will change its view.
    is_disputed: bool,
}

impl Commit {
    pub(super) fn is_take_over(&self) -> bool {
        matches!(self.then, Then::TakeOver { .. })
    }

    pub(super) fn is_end(&self) -> bool {
        self.change.is_end()
    }

    fn waits_for(&self, name: &Name) -> bool {
        self.asked.contains(name) && !self.acknowledged.contains(name)
    }
}

/// How a change stands.
enum Standing {
    Waits {
        until: Duration,
    },
    Counts,
    /// Too few nodes acknowledged it.
    Missed,
    /// It is done, but somebody may not know.
    NotConfirmed,
}

/// What a change leaves.
#[derive(Debug)]
pub(super) enum Change {
    Whole(Copy),
    Part(Copy, Delta),
    End { stamp: Stamp, until: Timestamp, reason: EndReason },
}

impl Change {
    fn stamp(&self) -> Stamp {
        match self {
            Self::Whole(copy) | Self::Part(copy, _) => copy.stamp,
            Self::End { stamp, .. } => *stamp,
        }
    }

    fn kept(&self) -> Kept {
        match self {
            Self::Whole(copy) | Self::Part(copy, _) => Kept::Live(copy.clone()),
            Self::End { stamp, until, reason } => {
                Kept::Dead { stamp: *stamp, until: *until, reason: *reason }
            }
        }
    }

    fn is_end(&self) -> bool {
        matches!(self, Self::End { .. })
    }

    /// What is sent to a holder: the patch, where it has what the patch is for.
    fn replica(&self, is_stale: bool) -> Replica {
        match self {
            Self::Part(_, delta) if !is_stale => Replica::Delta(delta.clone()),
            Self::Whole(copy) | Self::Part(copy, _) => Replica::Full(copy.clone(), false),
            Self::End { stamp, until, reason } => {
                Replica::Dead { stamp: *stamp, until: *until, reason: *reason }
            }
        }
    }
}

/// What follows a change.
#[derive(Debug)]
pub(super) enum Then {
    Apply {
        call: u64,
        counters: Counters,
        ended: Vec<RecordId>,
    },
    End {
        call: u64,
        was_live: bool,
    },
    /// A record was taken over in a state that nobody had confirmed, and that these nodes held.
    TakeOver {
        from: Vec<Name>,
    },
    /// A list of sessions changed.
    Index(Box<Procedure>),
}

impl Engine {
    /// Replicates a change of a record that nothing else is under way with.
    pub(super) fn commit(&mut self, id: RecordId, change: Change, everywhere: bool, then: Then) {
        let before = self.kept(id).stamp();
        let holders = if everywhere { self.sources(id) } else { self.other_holders(id) };
        let stamp = change.stamp();
        // The end of a record is never taken back, so it counts from now on.
        if let Change::End { reason, .. } = &change {
            self.keep_end(id, *reason, change.kept());
        }
        for name in &holders {
            let is_stale = self.peers.get(name).is_some_and(|peer| peer.stale.contains(&id));
            self.replicate(name, id, stamp, before, change.replica(is_stale));
        }
        let commit = Commit {
            change,
            then,
            before,
            everywhere,
            started: self.now.mono,
            asked: holders,
            acknowledged: BTreeSet::new(),
            is_disputed: false,
        };
        self.busy(id).stage = Some(Stage::Commit(Box::new(commit)));
        self.answer_to_dead(id);
        self.settle_commit(id);
    }

    fn keep_end(&mut self, id: RecordId, reason: EndReason, kept: Kept) {
        if self.live(id).is_some() {
            self.changed(steadfast_core::Change::Ended(id, reason));
        }
        self.keep(id, kept);
    }

    /// Sends a change to a holder; one that cannot have it is to be repaired.
    pub(super) fn replicate(
        &mut self,
        to: &Name,
        id: RecordId,
        stamp: Stamp,
        prev: Stamp,
        change: Replica,
    ) {
        let at = self.now.mono;
        let peer = self.peers.entry(to.clone()).or_default();
        if !peer.linked {
            peer.stale.insert(id);
            return;
        }
        peer.sent += 1;
        let seq = peer.sent;
        peer.in_flight.insert(seq, Sent { id, stamp, at });
        self.send(to, Message::Replicate { seq, id, prev, change });
    }

    pub(super) fn acknowledged(&mut self, from: &Name, seq: u64, answer: Ack) {
        let Some(peer) = self.peers.get_mut(from) else {
            return;
        };
        let Some(Sent { id, stamp, .. }) = peer.in_flight.remove(seq) else {
            return;
        };
        match answer {
            Ack::Held => self.held(from, id, stamp),
            Ack::Refused => {
                peer.stale.insert(id);
                let commit = self.commit_of(id).filter(|commit| commit.change.stamp() == stamp);
                if let Some(commit) = commit {
                    commit.is_disputed = true;
                }
            }
            Ack::Gap(held) => self.gap(from, id, stamp, *held),
        }
        self.settle_commit(id);
    }

    fn held(&mut self, from: &Name, id: RecordId, stamp: Stamp) {
        let kept = self.kept(id).stamp();
        if let Some(commit) = self.commit_of(id).filter(|commit| commit.change.stamp() == stamp) {
            commit.acknowledged.insert(from.clone());
            if let Some(peer) = self.peers.get_mut(from) {
                peer.stale.remove(&id);
            }
            return;
        }
        let is_under_way = self.commit_of(id).is_some();
        let Some(peer) = self.peers.get_mut(from) else {
            return;
        };
        if kept == stamp {
            peer.stale.remove(&id);
        }
        // It came after the acknowledgements that were waited for. A change that is under way has
        // taken its place already.
        if !is_under_way {
            peer.confirmed.push((id, kept));
        }
    }

    /// A holder has something else than the change is for: it gets the whole record, unless it has
    /// something that this node has not.
    fn gap(&mut self, from: &Name, id: RecordId, stamp: Stamp, held: Held) {
        let is_holder = self.other_holders(id).contains(from);
        if !is_holder && matches!((&held.kept, &held.tentative), (Kept::Nothing, None)) {
            return self.held(from, id, stamp);
        }
        if let Some(peer) = self.peers.get_mut(from) {
            peer.stale.insert(id);
        }
        let theirs = [held.kept.live(), held.tentative.as_ref()];
        let is_covered = match (self.kept(id), &held.kept) {
            (Kept::Live(_) | Kept::Nothing, Kept::Dead { .. }) => false,
            (Kept::Live(mine), _) => theirs.into_iter().flatten().all(|copy| mine.covers(copy)),
            (Kept::Nothing, _) => theirs.into_iter().flatten().next().is_none(),
            (Kept::Dead { .. }, _) => true,
        };
        if !is_covered {
            self.absorb(id, vec![held]);
            return;
        }
        let again = self.commit_of(id).filter(|commit| commit.change.stamp() == stamp);
        if let Some(replica) = again.map(|commit| commit.change.replica(true)) {
            self.replicate(from, id, stamp, Stamp::ZERO, replica);
        }
    }

    fn commit_at(&self, id: RecordId) -> Option<&Commit> {
        match self.busy.get(&id)?.stage.as_ref()? {
            Stage::Commit(commit) => Some(commit),
            _ => None,
        }
    }

    fn commit_of(&mut self, id: RecordId) -> Option<&mut Commit> {
        match self.busy.get_mut(&id)?.stage.as_mut()? {
            Stage::Commit(commit) => Some(commit),
            _ => None,
        }
    }

    /// Whoever became a holder while a change waits may acknowledge it, too.
    pub(super) fn ask_new_holders(&mut self, id: RecordId) {
        let holders = self.other_holders(id);
        let Some(commit) = self.commit_of(id) else {
            return;
        };
        let new: Vec<_> = holders.difference(&commit.asked).cloned().collect();
        let (stamp, replica) = (commit.change.stamp(), commit.change.replica(true));
        commit.asked.extend(new.iter().cloned());
        for name in new {
            self.replicate(&name, id, stamp, Stamp::ZERO, replica.clone());
        }
    }

    /// A holder lost a change that waits for it, or refused it by a view that was old.
    pub(super) fn ask_again(&mut self, name: &Name, id: RecordId) {
        let again = self.commit_at(id).filter(|commit| commit.waits_for(name));
        let again = again.map(|commit| (commit.change.stamp(), commit.change.replica(true)));
        if let Some((stamp, change)) = again {
            self.replicate(name, id, stamp, Stamp::ZERO, change);
        }
    }

    /// Goes on with a change that has what it waits for, or cannot have it any more.
    pub(super) fn settle_commit(&mut self, id: RecordId) {
        match self.standing(id) {
            None => {}
            Some(Standing::Waits { until }) => self.alarms.set(Alarm::Commit(id), until),
            Some(Standing::Counts) => self.finish(id),
            Some(Standing::Missed) => self.roll_back(id),
            Some(Standing::NotConfirmed) => self.give_up(id),
        }
    }

    fn standing(&self, id: RecordId) -> Option<Standing> {
        let commit = self.commit_at(id)?;
        let (now, acks_until) = (self.now.mono, commit.started + ACK_WITHIN);
        let is_acknowledged = self.is_acknowledged(id, commit);
        if !is_acknowledged && now < acks_until && self.may_be_acknowledged(id, commit) {
            return Some(Standing::Waits { until: acks_until });
        }
        let counts = is_acknowledged || self.policy() == Partition::Degrade;
        let standing = if !counts && !commit.is_end() {
            Standing::Missed
        } else if !commit.everywhere || (counts && self.nobody_reads_what_was_before(id, commit)) {
            Standing::Counts
        } else if now >= commit.started + END_WITHIN {
            Standing::NotConfirmed
        } else {
            Standing::Waits { until: now + BEAT }
        };
        Some(standing)
    }

    fn is_acknowledged(&self, id: RecordId, commit: &Commit) -> bool {
        let backups = self.backups(id);
        let needed = match self.config.acks {
            _ if !self.config.keeps(Rule::Acknowledge) => 0,
            Acks::One => backups.len().min(1),
            Acks::All => backups.len(),
        };
        commit.acknowledged.intersection(&backups).count() >= needed
    }

    fn may_be_acknowledged(&self, id: RecordId, commit: &Commit) -> bool {
        let can_come =
            |name: &Name| self.peers.get(name).is_some_and(|peer| peer.in_flight.has(id));
        let mut waits = self.backups(id).into_iter().filter(|name| commit.waits_for(name));
        commit.is_disputed || waits.any(|name| can_come(&name))
    }

    /// Whether every node knows of a change, or certainly does not answer by what was before.
    fn nobody_reads_what_was_before(&self, id: RecordId, commit: &Commit) -> bool {
        let mut waits = commit.asked.iter().filter(|name| commit.waits_for(name));
        !self.config.keeps(Rule::Lease)
            || (self.fenced_until(id) <= self.now.mono && !waits.any(|name| self.may_read(name)))
    }

    /// The change counts: whoever asked is answered, and the holders hear it with the next frame.
    fn finish(&mut self, id: RecordId) {
        let Some(commit) = self.take_commit(id) else {
            return;
        };
        let wanted = self.wanted_copies();
        let is_alone = commit.acknowledged.is_empty();
        let degraded = wanted > 1 && (is_alone || 1 + self.backups(id).len() < wanted);
        self.settle_for_holders(id, &commit, commit.change.stamp());
        if !commit.change.is_end() {
            let is_known = self.is_known(id) || commit.is_take_over();
            let before = self.live(id).cloned();
            self.keep(id, commit.change.kept());
            if !is_known {
                self.take_over_failed(id);
            }
            if let Some(change) = self.live(id).and_then(|copy| copy.news(id, before.as_ref())) {
                self.changed(change);
            }
        }
        self.counts.degraded += u64::from(degraded);
        match commit.then {
            Then::Apply { call, counters, ended } => {
                let Some(copy) = self.live(id) else {
                    return self.advance(id);
                };
                let mut applied = self.applied(id, copy);
                applied.counters = counters;
                applied.ended = ended;
                applied.degraded = degraded;
                self.answer(call, Reply::Outcome(Outcome::Applied(applied)));
            }
            Then::End { call, was_live } => {
                let deleted = if was_live { Deleted::Ended } else { Deleted::Gone };
                self.answer(call, Reply::Ended(deleted));
            }
            Then::TakeOver { from } => self.confirm_to(&from, id, commit.change.stamp()),
            Then::Index(procedure) => return self.list_changed(id, procedure),
        }
        self.advance(id);
    }

    /// How many nodes should hold a record.
    pub(super) fn wanted_copies(&self) -> usize {
        match self.config.copies {
            Copies::All => self.agreement.base.as_ref().map_or(1, |base| base.members.len()),
            Copies::Backups(k) => 1 + k,
        }
    }

    /// The change missed its acknowledgements: it never happened, and its version is spent.
    fn roll_back(&mut self, id: RecordId) {
        let Some(commit) = self.take_commit(id) else {
            return;
        };
        self.counts.rolled_back += 1;
        if self.config.keeps(Rule::RollBack) {
            let kept = commit.change.kept();
            let version = kept.live().map(|copy| copy.record.version);
            self.table.make(id, |entry| entry.spent = entry.spent.max(version));
            self.settle_for_holders(id, &commit, commit.before);
        } else {
            self.keep(id, commit.change.kept());
        }
        self.fail(id, commit.then, Failure::Unacknowledged);
    }

    /// The change is done, but somebody may not know. An end goes on; a new secret is taken back.
    fn give_up(&mut self, id: RecordId) {
        if !self.commit_at(id).is_some_and(Commit::is_end) {
            return self.roll_back(id);
        }
        if let Some(commit) = self.take_commit(id) {
            self.settle_for_holders(id, &commit, commit.change.stamp());
            self.fail(id, commit.then, Failure::NotConfirmed);
        }
    }

    fn fail(&mut self, id: RecordId, then: Then, failure: Failure) {
        match then {
            Then::Apply { call, .. } | Then::End { call, .. } => {
                self.answer(call, Reply::Failed(failure));
            }
            Then::TakeOver { .. } => self.take_over_failed(id),
            Then::Index(procedure) => self.answer(procedure.call, Reply::Failed(failure)),
        }
        self.advance(id);
    }

    /// Gives up a change of a record that ended meanwhile, wherever it ended.
    pub(super) fn drop_commit(&mut self, id: RecordId) {
        let is_moot = self.commit_of(id).is_some_and(|commit| !commit.is_end());
        let Some(commit) = is_moot.then(|| self.take_commit(id)).flatten() else {
            return;
        };
        match commit.then {
            Then::Apply { call, .. } => self.answer(call, Reply::Outcome(Outcome::Gone)),
            Then::Index(procedure) => self.route(procedure.call),
            Then::End { .. } | Then::TakeOver { .. } => {}
        }
    }

    fn take_commit(&mut self, id: RecordId) -> Option<Commit> {
        let busy = self.busy.get_mut(&id)?;
        match busy.stage.take() {
            Some(Stage::Commit(commit)) => {
                self.alarms.clear(Alarm::Commit(id));
                Some(*commit)
            }
            other => {
                busy.stage = other;
                None
            }
        }
    }

    /// Tells those that acknowledged a change what counts, and has the others repaired.
    fn settle_for_holders(&mut self, id: RecordId, commit: &Commit, counts: Stamp) {
        for name in &commit.asked {
            let Some(peer) = self.peers.get_mut(name) else {
                continue;
            };
            if commit.acknowledged.contains(name) {
                peer.confirmed.push((id, counts));
            } else if !peer.in_flight.has(id) {
                peer.stale.insert(id);
            }
        }
    }

    /// A change whose record got another owner while it waited: that one decides whether it happened,
    /// and asks for what was not confirmed, too.
    pub(super) fn abandon(&mut self, id: RecordId, commit: Commit) {
        let stamp = commit.change.stamp();
        if let Kept::Live(copy) = commit.change.kept()
            && self.table.change(id, |entry| entry.tentative = Some(Box::new(copy))).is_some()
        {
            self.unsettled.insert(id);
            self.alarms.set(Alarm::Unsettled(id), self.now.mono);
        }
        match commit.then {
            Then::End { call, .. } => self.route(call),
            Then::Apply { call, counters, ended } => {
                let before = commit.before;
                self.leave_undecided(id, Undecided { call, before, stamp, counters, ended });
            }
            Then::Index(procedure) => self.route(procedure.call),
            Then::TakeOver { .. } => {}
        }
    }

    /// Tells nodes, with the next frame, which state of a record counts.
    pub(super) fn confirm_to(&mut self, names: &[Name], id: RecordId, counts: Stamp) {
        for name in names {
            if let Some(peer) = self.peers.get_mut(name) {
                peer.confirmed.push((id, counts));
            }
        }
    }

    /// Whether every node that may hold a record knows of its end.
    pub(super) fn is_dead_everywhere(&self, id: RecordId) -> bool {
        let knows = |name: &Name| {
            let is_stale = self.peers.get(name).is_some_and(|peer| peer.stale.contains(&id));
            !is_stale || !self.may_read(name)
        };
        self.sources(id).iter().all(knows) && self.fenced_until(id) <= self.now.mono
    }
}
