//! What a holder keeps: what the owner sent, apart from what the owner confirmed.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::{Change, RecordId};

use super::alarm::Alarm;
use super::entry::{Entry, Stage};
use super::message::{Ack, Held, Kept, Message, Replica};
use super::{Effect, Engine, Rule};
use crate::placement::Name;
use crate::record::{Copy, Delta, MAX_SKEW, Stamp};

impl Engine {
    pub(super) fn replicated(
        &mut self,
        from: &Name,
        seq: u64,
        id: RecordId,
        prev: Stamp,
        change: Replica,
    ) {
        let Some(peer) = self.peers.get_mut(from) else {
            return;
        };
        // What is repeated, or comes after something that is lost, is of another link.
        if seq != peer.applied + 1 {
            return self.close(from);
        }
        peer.applied = seq;
        let answer = match change {
            // The end of a record counts, whoever owns it.
            Replica::Dead { stamp, until, reason } => {
                self.hear_end(id, Kept::Dead { stamp, until, reason });
                Ack::Held
            }
            _ if self.owner(id) != Some(from) => Ack::Refused,
            Replica::Delta(delta) => self.hold_delta(id, prev, &delta),
            Replica::Full(copy, is_confirmed) => self.hold_full(id, copy, is_confirmed),
        };
        self.send(from, Message::Ack { seq, answer });
    }

    fn hold_delta(&mut self, id: RecordId, prev: Stamp, delta: &Delta) -> Ack {
        // A change after an unconfirmed one confirms it.
        self.table.change(id, |entry| {
            if entry.kept.stamp() != prev
                && let Some(tentative) = entry.tentative.take_if(|copy| copy.stamp == prev)
            {
                entry.kept = Kept::Live(*tentative);
            }
        });
        let Some(entry) = self.table.get(&id) else {
            return Ack::Gap(Box::default());
        };
        match &entry.kept {
            Kept::Live(copy) if copy.stamp == prev => {
                let changed = copy.changed(delta);
                self.decide(id, prev);
                self.hold(id, changed);
                Ack::Held
            }
            _ => Ack::Gap(Box::new(entry.held())),
        }
    }

    fn hold_full(&mut self, id: RecordId, copy: Copy, is_confirmed: bool) -> Ack {
        if let Some(entry) = self.table.get(&id) {
            let mut mine = entry.kept.live().into_iter().chain(entry.tentative.as_deref());
            let is_dead = matches!(entry.kept, Kept::Dead { .. });
            if is_dead || !mine.all(|mine| copy.covers(mine)) {
                return Ack::Gap(Box::new(entry.held()));
            }
        }
        if is_confirmed {
            self.show(id, copy);
        } else {
            self.hold(id, copy);
        }
        Ack::Held
    }

    /// Keeps what is not confirmed yet, beside what is.
    fn hold(&mut self, id: RecordId, copy: Copy) {
        self.stamps.observe(copy.stamp, self.now.wall);
        if !self.config.keeps(Rule::RollBack) {
            return self.show(id, copy);
        }
        let number = self.view.number;
        self.table.make(id, |entry| {
            entry.tentative = Some(Box::new(copy));
            entry.sure = number;
        });
        self.unsettled.insert(id);
        self.alarms.set(Alarm::Unsettled(id), self.now.mono + SETTLE_AFTER);
    }

    fn show(&mut self, id: RecordId, copy: Copy) {
        let before = self.live(id).map(|before| before.record.version);
        let news = copy.news(id, self.live(id)).filter(|_| before < Some(copy.record.version));
        self.keep(id, Kept::Live(copy));
        self.effects.extend(news.filter(|_| self.listens).map(Effect::Changed));
    }

    /// The owner says which state of a record counts.
    pub(super) fn confirmed(&mut self, from: &Name, confirmed: Vec<(RecordId, Stamp)>) {
        for (id, stamp) in confirmed {
            if self.owner(id) != Some(from) {
                continue;
            }
            let taken = |entry: &mut Entry| entry.tentative.take_if(|copy| copy.stamp == stamp);
            let Some(taken) = self.table.change(id, taken) else {
                continue;
            };
            if let Some(copy) = taken {
                self.show(id, *copy);
            } else if self.kept(id).stamp() == stamp {
                self.table.change(id, |entry| entry.tentative = None);
                self.unsettled.remove(&id);
                self.decide(id, stamp);
                self.drop_if_empty(id);
            } else if let Some(held) = self.table.get(&id).map(Entry::held) {
                self.send(from, Message::Handover { id, held });
            }
        }
    }

    pub(super) fn drop_if_empty(&mut self, id: RecordId) -> bool {
        let is_empty = |entry: &Entry| entry.kept == Kept::Nothing && entry.tentative.is_none();
        let is_empty = self.table.get(&id).is_some_and(is_empty);
        if is_empty {
            self.drop_entry(id);
        }
        is_empty
    }

    /// Asks the owners what became of changes that were not confirmed in time.
    pub(super) fn check_unsettled(&mut self, mut ids: Vec<RecordId>) {
        ids.retain(|id| self.unsettled.contains(id));
        let mut by_owner = BTreeMap::<_, Vec<_>>::new();
        for id in ids {
            self.alarms.set(Alarm::Unsettled(id), self.now.mono + SETTLE_AFTER);
            if let Some(owner) = self.owner(id).filter(|owner| **owner != self.me) {
                by_owner.entry(owner.clone()).or_default().push(id);
            }
        }
        for (owner, ids) in by_owner {
            self.ask_to_settle(&owner, ids);
        }
    }

    pub(super) fn ask_to_settle(&mut self, owner: &Name, ids: Vec<RecordId>) {
        if !ids.is_empty() {
            self.send(owner, Message::Unsettled(ids));
        }
    }

    pub(super) fn settle_for(&mut self, from: &Name, ids: Vec<RecordId>) {
        for id in &ids {
            if self.owns(*id) && !self.is_known(*id) && !self.busy.contains_key(id) {
                self.consult(*id);
            }
        }
        let is_settled = |id: &RecordId| {
            let stage = self.busy.get(id).and_then(|busy| busy.stage.as_ref());
            let is_under_way = matches!(stage, Some(Stage::Commit(_) | Stage::Consult(_)));
            self.owns(*id) && !is_under_way && self.is_known(*id)
        };
        let settled: Vec<_> = ids.into_iter().filter(is_settled).collect();
        let counts: Vec<_> = settled.iter().map(|id| (*id, self.kept(*id).stamp())).collect();
        if !counts.is_empty() {
            self.send(from, Message::Confirm(counts));
        }
    }

    /// A record ended: for good, whatever is known of it here.
    pub(super) fn hear_end(&mut self, id: RecordId, kept: Kept) {
        let known = matches!(self.kept(id), Kept::Dead { .. });
        if known && self.kept(id).stamp() < kept.stamp() {
            // Two ends of one record: everybody remembers the later one.
            self.keep(id, kept);
        } else if !known {
            if let (Some(_), Kept::Dead { reason, .. }, true) = (self.live(id), &kept, self.listens)
            {
                self.effects.push(Effect::Changed(Change::Ended(id, *reason)));
            }
            self.keep(id, kept);
        }
        self.drop_commit(id);
        if self.owns(id) && !known {
            for name in self.backups(id) {
                if let Some(peer) = self.peers.get_mut(&name) {
                    peer.stale.insert(id);
                }
            }
            self.advance(id);
        }
    }

    /// Records that expired where they are owned, by a clock that may be ahead.
    pub(super) fn expired(&mut self, from: &Name, expired: Vec<RecordId>) {
        let latest = self.now.wall + MAX_SKEW;
        for id in expired {
            let is_due = self.live(id).is_some_and(|copy| copy.record.deadline() <= latest);
            if self.owner(id) == Some(from) && is_due {
                self.keep_expired(id);
            }
        }
    }

    pub(super) fn handed_over(&mut self, from: &Name, id: RecordId, held: Held) {
        if !self.owns(id) {
            return;
        }
        if let Kept::Dead { .. } = held.kept {
            self.hear_end(id, held.kept.clone());
        }
        let theirs = held.kept.live().into_iter().chain(held.tentative.as_ref());
        let is_covered = match (&held.kept, self.kept(id)) {
            (_, Kept::Dead { .. }) => true,
            (Kept::Dead { .. }, _) => false,
            (_, Kept::Live(mine)) => theirs.into_iter().all(|copy| mine.covers(copy)),
            (_, Kept::Nothing) => theirs.into_iter().next().is_none(),
        };
        if !is_covered {
            return self.absorb(id, vec![held]);
        }
        // It has nothing that this node lacks, so it need not hold it any more, or gets the same.
        if !self.other_holders(id).contains(from) && self.is_everywhere(id) {
            return self.send(from, Message::Safe(vec![id]));
        }
        let Some(replica) = self.kept(id).replica() else {
            return;
        };
        if !self.busy.contains_key(&id) && self.is_known(id) {
            let stamp = self.kept(id).stamp();
            self.replicate(from, id, stamp, Stamp::ZERO, replica);
        }
    }
}

/// After what time a holder asks what became of a change that was not confirmed.
const SETTLE_AFTER: Duration = Duration::from_millis(100);
