//! What a new owner does before it serves a record: it asks everybody who may hold it, and merges.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::RecordId;

use super::alarm::Alarm;
use super::commit::{Change, Then};
use super::config::{ACK_WITHIN, BEAT, END_WITHIN, Partition};
use super::entry::Stage;
use super::message::{Held, Kept, Message};
use super::{Engine, Rule};
use crate::placement::Name;
use crate::record::Copy;

/// A record that is being taken over.
#[derive(Debug)]
pub(super) struct Consult {
    number: u64,
    view: u32,
    started: Duration,
    /// Who has not answered yet, and when they were asked.
    waits_for: BTreeMap<Name, Option<Duration>>,
    found: Vec<(Name, Held)>,
}

impl Engine {
    /// Asks the other holders for a record, unless that is under way.
    pub(super) fn consult(&mut self, id: RecordId) {
        if self.busy(id).stage.is_some() {
            return;
        }
        self.counts.take_overs += 1;
        let asked: Vec<_> =
            self.sources(id).into_iter().filter(|name| self.is_asked(name)).collect();
        let consult = Consult {
            number: self.number(),
            view: self.view.number,
            started: self.now.mono,
            waits_for: asked.into_iter().map(|name| (name, None)).collect(),
            found: Vec::new(),
        };
        self.busy(id).stage = Some(Stage::Consult(consult));
        self.alarms.set(Alarm::Consult(id), self.now.mono + BEAT);
        self.pull(id);
        self.settle_consult(id);
    }

    pub(super) fn is_consulting(&self, id: RecordId) -> bool {
        let stage = self.busy.get(&id).and_then(|busy| busy.stage.as_ref());
        match stage {
            Some(Stage::Consult(_)) => true,
            Some(Stage::Commit(commit)) => commit.is_take_over(),
            _ => false,
        }
    }

    /// Whoever can be reached is asked, also who was declared dead a moment ago; who cannot be is
    /// waited for unless it is dead.
    fn is_asked(&self, name: &Name) -> bool {
        let is_placed = self.view.placement.contains(name);
        let is_gone = |peer: &super::view::Peer| {
            !peer.linked && (!is_placed || (self.policy() == Partition::Degrade && peer.is_dead()))
        };
        !self.peers.get(name).is_none_or(is_gone)
    }

    fn pull(&mut self, id: RecordId) {
        let now = self.now.mono;
        let Some(consult) = self.consult_of(id) else {
            return;
        };
        let number = consult.number;
        let due = |asked: Option<Duration>| asked.is_none_or(|at| at + PULL_AGAIN <= now);
        let ask: Vec<_> = consult.waits_for.iter().filter(|(_, at)| due(**at)).collect();
        let ask: Vec<_> = ask.into_iter().map(|(name, _)| name.clone()).collect();
        for name in ask {
            if self.peers.get(&name).is_some_and(|peer| peer.linked) {
                if let Some(consult) = self.consult_of(id) {
                    consult.waits_for.insert(name.clone(), Some(now));
                }
                self.send(&name, Message::Pull { number, id });
            }
        }
    }

    /// A node that takes this one's word asks for a record.
    pub(super) fn pulled_by(&mut self, from: &Name, number: u64, id: RecordId) {
        let held = (self.owner(id) == Some(from))
            .then(|| self.table.get(&id).map(super::entry::Entry::held).unwrap_or_default());
        self.send(from, Message::Pulled { number, id, held });
    }

    pub(super) fn pulled(&mut self, from: &Name, number: u64, id: RecordId, held: Option<Held>) {
        let Some(consult) = self.consult_of(id).filter(|consult| consult.number == number) else {
            return;
        };
        // Who takes another node for the owner is asked again: one of the two will change its view.
        let Some(held) = held else {
            return;
        };
        if consult.waits_for.remove(from).is_some() {
            consult.found.push((from.clone(), held));
            self.settle_consult(id);
        }
    }

    /// Something that this node does not have turned up.
    pub(super) fn absorb(&mut self, id: RecordId, held: Vec<Held>) {
        if let Some(dead) = held.iter().find(|held| matches!(held.kept, Kept::Dead { .. })) {
            return self.hear_end(id, dead.kept.clone());
        }
        self.table.change(id, |entry| entry.sure = 0);
        self.consult(id);
        let me = self.me.clone();
        if let Some(consult) = self.consult_of(id) {
            consult.found.extend(held.into_iter().map(|held| (me.clone(), held)));
        }
        self.settle_consult(id);
    }

    pub(super) fn resume_pulls(&mut self, name: &Name) {
        for id in self.consults() {
            if self.consult_of(id).is_some_and(|consult| consult.waits_for.contains_key(name)) {
                self.pull(id);
            }
        }
    }

    /// A peer that was asked is gone: it is asked again, unless it is not waited for any more.
    pub(super) fn skip_pull(&mut self, name: &Name) {
        for id in self.consults() {
            let is_asked = self.is_asked(name);
            let Some(consult) = self.consult_of(id) else {
                continue;
            };
            if let Some(at) = consult.waits_for.get_mut(name) {
                *at = None;
                if !is_asked {
                    consult.waits_for.remove(name);
                    self.settle_consult(id);
                }
            }
        }
    }

    pub(super) fn check_take_over(&mut self, id: RecordId) {
        self.stop_waiting(id);
        self.pull(id);
        self.settle_consult(id);
        self.expire_consult(id);
        if self.consult_of(id).is_some() && !self.alarms.is_set(Alarm::Consult(id)) {
            self.alarms.set(Alarm::Consult(id), self.now.mono + BEAT);
        }
    }

    /// Who cannot be asked is not waited for any more, and who is dead is not for long.
    fn stop_waiting(&mut self, id: RecordId) {
        let now = self.now.mono;
        for name in self.sources(id) {
            let is_dead = !self.view.placement.contains(&name)
                && self.peers.get(&name).is_some_and(super::view::Peer::is_dead);
            let is_asked = self.is_asked(&name);
            if let Some(consult) = self.consult_of(id)
                && (!is_asked || (is_dead && consult.started + ACK_WITHIN <= now))
            {
                consult.waits_for.remove(&name);
            }
        }
    }

    /// A take-over that nobody waits for any more is given up.
    fn expire_consult(&mut self, id: RecordId) {
        let now = self.now.mono;
        let Some(consult) = self.consult_of(id) else {
            return;
        };
        if consult.started + END_WITHIN > now {
            return;
        }
        let calls = &self.calls;
        let waits = |busy: &super::entry::Busy| busy.queue.iter().any(|n| calls.contains_key(n));
        if !self.busy.get(&id).is_some_and(waits) {
            self.busy.remove(&id);
        }
    }

    fn consults(&self) -> Vec<RecordId> {
        let under_way =
            self.busy.iter().filter(|(_, busy)| matches!(busy.stage, Some(Stage::Consult(_))));
        under_way.map(|(id, _)| *id).collect()
    }

    fn consult_of(&mut self, id: RecordId) -> Option<&mut Consult> {
        match self.busy.get_mut(&id)?.stage.as_mut()? {
            Stage::Consult(consult) => Some(consult),
            _ => None,
        }
    }

    fn settle_consult(&mut self, id: RecordId) {
        let number = self.view.number;
        let Some(consult) = self.consult_of(id).filter(|consult| consult.waits_for.is_empty())
        else {
            return;
        };
        let (found, is_current) = (std::mem::take(&mut consult.found), consult.view == number);
        self.busy(id).stage = None;
        if is_current {
            self.take_over(id, &found);
        } else {
            self.keep_found(id, found);
        }
        self.advance(id);
    }

    /// The view changed meanwhile, so everybody has to be asked anew; what was found stays.
    fn keep_found(&mut self, id: RecordId, found: Vec<(Name, Held)>) {
        let absorbed = found.into_iter().filter(|(name, _)| *name == self.me);
        let absorbed: Vec<_> = absorbed.map(|(_, held)| held).collect();
        if !absorbed.is_empty() || self.owns(id) {
            self.absorb(id, absorbed);
        }
    }

    fn take_over(&mut self, id: RecordId, found: &[(Name, Held)]) {
        let mine = self.table.get(&id).map(super::entry::Entry::held).unwrap_or_default();
        let all = || found.iter().map(|(_, held)| held).chain([&mine]);
        let dead = all().find(|held| matches!(held.kept, Kept::Dead { .. }));
        if let Some(dead) = dead.map(|held| held.kept.clone()) {
            let stamp = dead.stamp();
            self.hear_end(id, dead);
            self.mark_sure(id);
            return self.mark_stale(id, found, stamp);
        }
        let kept = all().filter_map(|held| held.kept.live());
        let tentative = all().filter_map(|held| held.tentative.as_ref());
        let Some(merged) = merge(kept.clone().chain(tentative)) else {
            self.mark_sure(id);
            return;
        };
        let parts = all().flat_map(|held| held.kept.live().into_iter().chain(&held.tentative));
        let merged = self.stamped(merged, &parts.collect::<Vec<_>>());
        let is_confirmed = kept.into_iter().any(|copy| copy.same_writes(&merged));
        self.stamps.observe(merged.stamp, self.now.wall);
        self.mark_stale(id, found, merged.stamp);
        // Whoever held something unconfirmed may have a write that waits to hear whether it counts.
        let from = found.iter().filter(|(_, held)| held.tentative.is_some());
        let from: Vec<_> = from.map(|(name, _)| name.clone()).collect();
        if is_confirmed || !self.config.keeps(Rule::RollBack) {
            let stamp = merged.stamp;
            self.keep(id, Kept::Live(merged));
            self.confirm_to(&from, id, stamp);
        } else {
            self.commit(id, Change::Whole(merged), false, Then::TakeOver { from });
        }
    }

    /// What was never together before gets a stamp and a version of its own.
    fn stamped(&mut self, merged: Copy, parts: &[&Copy]) -> Copy {
        if parts.iter().any(|part| part.stamp == merged.stamp && part.same_writes(&merged)) {
            return merged;
        }
        self.counts.conflicts += 1;
        let stamp = self.stamps.stamp(self.now.wall);
        let version = merged.record.version.next();
        let record = steadfast_core::Record { version, ..merged.record.as_ref().clone() };
        Copy { record: record.into(), stamp, ..merged }
    }

    fn mark_sure(&mut self, id: RecordId) {
        let number = self.view.number;
        if *self.kept(id) == Kept::Nothing {
            self.drop_entry(id);
            self.busy(id).absent = Some(number);
        } else {
            self.table.change(id, |entry| entry.sure = number);
        }
    }

    /// Holders that were found without the record are filled.
    fn mark_stale(&mut self, id: RecordId, found: &[(Name, Held)], stamp: crate::record::Stamp) {
        let holders = self.other_holders(id);
        for (name, held) in found.iter().filter(|(name, _)| holders.contains(name)) {
            if held.kept.stamp() != stamp
                && let Some(peer) = self.peers.get_mut(name)
            {
                peer.stale.insert(id);
            }
        }
    }

    pub(super) fn take_over_failed(&mut self, id: RecordId) {
        self.table.change(id, |entry| entry.sure = 0);
    }
}

fn merge<'c>(copies: impl Iterator<Item = &'c Copy>) -> Option<Copy> {
    copies.cloned().reduce(|one, other| one.merged(&other))
}

/// How often a holder is asked again that takes another node for the owner.
const PULL_AGAIN: Duration = Duration::from_millis(40);
