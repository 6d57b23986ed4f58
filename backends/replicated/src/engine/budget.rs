//! Sessions that end early, so that the memory of a node stays bounded.
//!
//! What a node holds counts, for itself and for others, and it ends what it owns: the others do the
//! same, so each of them keeps its own memory within bounds. Which session was quiet for longest is
//! found out by looking at a few, as Redis does, since an order of all of them would cost memory.
//!
//! Such an end is no logout. A session that nobody signed in to is dropped by its holders and
//! remembered by nobody, or a flood would leave as much behind as it brought. Where a holder misses
//! that, the session may come back, which harms nobody: it is no user's. One that somebody signed in
//! to is remembered until it would have expired. A copy of it that was cut off may have a secret that
//! was replaced since, and a logout that finds nothing would not reach it.

use steadfast_core::{Change, EndReason, RecordId};

use super::config::DROP_LATE;
use super::entry::Entry;
use super::message::{Kept, Replica, is_index};
use super::table::Class;
use super::{Effect, Engine};
use crate::placement::Name;
use crate::record::Stamp;

impl Engine {
    /// Ends a few sessions after something grew, so that no flood outruns it.
    pub(super) fn make_room(&mut self) {
        if self.table.take_has_grown() {
            self.keep_within_budgets(EVICTED_AT_ONCE);
        }
    }

    /// The same in every beat, for what grew while this node could end nothing.
    pub(super) fn make_room_in_beat(&mut self) {
        self.found_none = [false; 2];
        self.keep_within_budgets(EVICTED_IN_BEAT);
    }

    fn keep_within_budgets(&mut self, most: usize) {
        for class in Class::ALL {
            for _ in 0..most {
                if !self.evict_one(class) {
                    break;
                }
            }
        }
    }

    /// Ends a session of a class that is over its budget, if this node may; says whether it did.
    fn evict_one(&mut self, class: Class) -> bool {
        let is_member = self.join.is_none() && self.drain.is_none();
        if !is_member || !self.is_over(class) || self.found_none[class as usize] {
            return false;
        }
        let Some(id) = self.quietest(class) else {
            self.found_none[class as usize] = true;
            return false;
        };
        if !self.may_decide() {
            return false;
        }
        if !self.expire(id) {
            self.evict(id, class);
        }
        true
    }

    fn is_over(&self, class: Class) -> bool {
        let held = self.table.totals().of(class);
        let budget = self.config.budgets.of(class);
        held.records > budget.records.max(1) || held.bytes > budget.bytes
    }

    /// Of a few sessions that this node may end, the one that was quiet for longest.
    fn quietest(&mut self, class: Class) -> Option<RecordId> {
        let place = self.random.id();
        let around = self.table.range(place..).chain(self.table.range(..place)).take(LOOKED_AT);
        let of_class = around.filter_map(|(id, entry)| {
            let record = &entry.kept.live()?.record;
            (Class::of(*id, record) == class).then_some((record.idle_deadline, *id, entry))
        });
        let may_end = of_class.filter(|(_, id, entry)| self.may_evict(*id, entry));
        may_end.take(SAMPLED).map(|(deadline, id, _)| (deadline, id)).min().map(|(_, id)| id)
    }

    /// The session that grew last is the one that was used last: it stays, however large it is.
    fn may_evict(&self, id: RecordId, entry: &Entry) -> bool {
        !is_index(id)
            && self.table.grown() != Some(id)
            && entry.tentative.is_none()
            && self.owns(id)
            && !self.busy.contains_key(&id)
            && self.is_known(id)
            && !self.peers.values().any(|peer| peer.in_flight.has(id))
    }

    fn evict(&mut self, id: RecordId, class: Class) {
        self.counts.evicted[class as usize] += 1;
        self.changed(Change::Ended(id, EndReason::Evicted));
        self.effects.push(Effect::Evicted(id));
        match class {
            Class::Anonymous => self.forget(id),
            Class::Authenticated => self.end_early(id),
        }
    }

    fn forget(&mut self, id: RecordId) {
        let stamp = self.kept(id).stamp();
        for name in self.other_holders(id) {
            if let Some(peer) = self.peers.get_mut(&name).filter(|peer| peer.linked) {
                peer.evicted.push((id, stamp));
            }
        }
        self.drop_entry(id);
    }

    fn end_early(&mut self, id: RecordId) {
        let Some(copy) = self.live(id) else {
            return;
        };
        let (before, until) = (copy.stamp, copy.record.deadline() + DROP_LATE);
        let stamp = self.stamps.stamp(self.now.wall);
        let reason = EndReason::Evicted;
        self.keep(id, Kept::Dead { stamp, until, reason });
        for name in self.sources(id) {
            self.replicate(&name, id, stamp, before, Replica::Dead { stamp, until, reason });
        }
    }

    /// Sessions that their owner ended. A change that came after the stamp is of one that is back.
    pub(super) fn evicted(&mut self, from: &Name, evicted: Vec<(RecordId, Stamp)>) {
        for (id, stamp) in evicted {
            let is_that = |entry: &Entry| {
                entry.tentative.is_none() && entry.kept.live().is_some_and(|c| c.stamp <= stamp)
            };
            if self.owner(id) == Some(from) && self.table.get(&id).is_some_and(is_that) {
                self.drop_entry(id);
            }
        }
    }
}

/// Sessions of a class that end at most whenever something grew: more than came.
const EVICTED_AT_ONCE: usize = 2;

/// Sessions of a class that end in a beat at most: about 1,300 in a second.
const EVICTED_IN_BEAT: usize = 32;

/// Sessions of which the quietest one ends.
const SAMPLED: usize = 16;

/// Records that are looked at for them at most.
const LOOKED_AT: usize = 1_000;
