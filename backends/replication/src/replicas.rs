//! The records that a node holds, by slot.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use steadfast_core::{Ending, RecordId, Timestamp};

use crate::budget::Totals;
use crate::call::CallId;
use crate::record::{Copy, Entry, Held, Kept, Revision};
use crate::slots::{HashKey, SLOTS, Slot};

/// All records that a node holds.
#[derive(Debug)]
pub struct Replicas {
    key: HashKey,
    slots: Box<[Replica]>,
    totals: Totals,
    /// The number of ends that are to be reported.
    unreported: usize,
    /// The session that grew last.
    grown: Option<RecordId>,
    /// True if any record grew since the last query.
    has_grown: bool,
}

/// A node's part of a slot.
#[derive(Clone, Debug, Default)]
struct Replica {
    records: BTreeMap<RecordId, Held>,
    digest: Digest,
    /// The usage that counts for the budgets.
    totals: Totals,
    /// The number of records with a tentative write.
    tentative: usize,
    /// The sessions whose end is to be reported.
    unreported: BTreeSet<RecordId>,
    /// The last epoch in which it was complete, and knew.
    complete_in: Option<u64>,
}

/// Sums up what is confirmed of a slot: two holders that have the same have the same digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest {
    /// The number of records, tombstones included.
    pub count: u64,
    /// The marks of all of them, by XOR.
    pub sum: u64,
}

/// The part of a record's state that a digest covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The record.
    pub id: RecordId,
    /// The last confirmed write, if there is one.
    pub confirmed: Option<Mark>,
    /// The last tentative write, if there is one.
    pub tentative: Option<Mark>,
}

/// A write, and a hash of what it made of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The write.
    pub revision: Revision,
    /// A hash of the record, the write, its writer, the deadline, and the kind of the record.
    pub hash: u64,
}

/// A holder's part in the last epochs of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The last epoch in which it was complete, and knew.
    pub complete_in: Option<u64>,
    /// The digest of its confirmed state.
    pub digest: Digest,
    /// True if it has anything tentative.
    pub is_tentative: bool,
}

/// Some records of a slot, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The page has the records with higher ids than this one.
    pub after: Option<RecordId>,
    /// The records.
    pub summaries: Vec<Summary>,
    /// The last id of the page; `None` if no record follows.
    pub next: Option<RecordId>,
}

impl Replicas {
    /// Nothing.
    pub fn new(key: HashKey) -> Self {
        Self {
            key,
            slots: vec![Replica::default(); SLOTS].into(),
            totals: Totals::default(),
            unreported: 0,
            grown: None,
            has_grown: false,
        }
    }

    /// The key of all hashes.
    pub fn key(&self) -> &HashKey {
        &self.key
    }

    /// The slot of a record.
    pub fn slot_of(&self, id: RecordId) -> Slot {
        Slot::of(id, &self.key)
    }

    /// Returns the copy of a record.
    pub fn get(&self, id: RecordId) -> Option<&Held> {
        self.slots[self.slot_of(id).index()].records.get(&id)
    }

    /// Returns the confirmed part of a record.
    pub fn confirmed(&self, id: RecordId) -> Option<&Entry> {
        self.get(id)?.confirmed.as_ref()
    }

    /// The write of a record that may not be shown yet.
    pub fn tentative(&self, id: RecordId) -> Option<&Entry> {
        self.get(id)?.tentative.as_deref()
    }

    /// Takes a write that is not confirmed.
    pub fn stage(&mut self, id: RecordId, entry: Entry, told_in: u64) {
        self.change(id, |held| {
            held.tentative = Some(Box::new(entry));
            held.told_in = told_in;
        });
    }

    /// Confirms a tentative write; says whether there was this one, and what the record was before.
    pub fn confirm(&mut self, id: RecordId, revision: Revision) -> Option<Confirmed> {
        self.tentative(id).filter(|entry| entry.revision == revision)?;
        let before = self.change(id, |held| {
            let entry = held.tentative.take().expect("it was just there");
            held.confirmed.replace(*entry)
        });
        Some(Confirmed { before: before.map(|entry| entry.kept) })
    }

    /// Takes what an owner has of a record instead of what was held.
    pub fn put(&mut self, id: RecordId, held: Held) {
        self.change(id, |own| *own = held);
    }

    /// Takes what another holder has of a record, where it is newer, or where the session has ended there: that
    /// has to be written again.
    pub fn merge(&mut self, id: RecordId, other: Held, told_in: u64) {
        self.change(id, |own| {
            let end = [&own.confirmed, &other.confirmed].into_iter().flatten();
            let end = end.filter(|entry| entry.kept.is_ended()).max_by_key(|e| e.revision).cloned();
            own.confirmed = newest(own.confirmed.take(), other.confirmed);
            let tentative = newest(own.tentative.take().map(|e| *e), other.tentative.map(|e| *e));
            let confirmed = own.confirmed.as_ref();
            let revision = confirmed.map(|entry| entry.revision).unwrap_or_default();
            let is_undone = confirmed.is_some_and(|entry| !entry.kept.is_ended());
            let again = end.filter(|_| is_undone);
            let again =
                again.map(|end| Entry { revision: revision.next_in(revision.epoch), ..end });
            let later = tentative.filter(|entry| entry.revision > revision);
            own.tentative = again.or(later).map(Box::new);
            own.told_in = told_in;
        });
    }

    /// Drops what is held of a record.
    pub fn remove(&mut self, id: RecordId) {
        self.change(id, |held| *held = Held::default());
    }

    /// Drops what is confirmed of a record, and keeps a tentative write of an epoch.
    pub fn remove_confirmed(&mut self, id: RecordId, epoch: u64) {
        self.change(id, |held| {
            held.confirmed = None;
            held.tentative = held.tentative.take().filter(|entry| entry.revision.epoch >= epoch);
        });
    }

    /// Drops everything of a slot.
    pub fn clear(&mut self, slot: Slot) {
        let replica = std::mem::take(&mut self.slots[slot.index()]);
        self.totals -= replica.totals;
        self.unreported -= replica.unreported.len();
    }

    /// Returns the number of ends that are to be reported.
    pub fn unreported(&self) -> usize {
        self.unreported
    }

    /// The ends of a slot that are to be reported, and of which it is not being noted that they were.
    pub fn endings(&self, slot: Slot) -> impl Iterator<Item = Ending> {
        let Replica { records, unreported, .. } = &self.slots[slot.index()];
        let held = unreported.iter().filter_map(|id| Some((*id, records.get(id)?)));
        let settled = held.filter(|(_, held)| held.tentative.is_none());
        settled.filter_map(|(id, held)| held.unreported()?.ending(id))
    }

    /// Returns the usage that counts for the budgets.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The session that grew last: the one that was used last.
    pub fn grown(&self) -> Option<RecordId> {
        self.grown
    }

    /// Returns true if any record grew since the last call.
    pub fn take_has_grown(&mut self) -> bool {
        std::mem::take(&mut self.has_grown)
    }

    /// Returns up to the given number of confirmed sessions of all slots after an id, ordered by
    /// id.
    pub fn sessions_after(
        &self,
        after: Option<RecordId>,
        limit: usize,
    ) -> BTreeMap<RecordId, &Copy> {
        let lower = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = BTreeMap::new();
        for slot in &self.slots {
            let sessions = slot.records.range((lower, Bound::Unbounded)).filter_map(session);
            for (id, copy) in sessions.take(limit) {
                if page.len() >= limit && page.last_key_value().is_some_and(|(last, _)| *last < id)
                {
                    break;
                }
                page.insert(id, copy);
                if page.len() > limit {
                    page.pop_last();
                }
            }
        }
        page
    }

    /// The confirmed sessions of a slot from an id on, and then those before it.
    pub fn sessions_around(
        &self,
        slot: Slot,
        id: RecordId,
    ) -> impl Iterator<Item = (RecordId, &Copy)> {
        let records = &self.slots[slot.index()].records;
        records.range(id..).chain(records.range(..id)).filter_map(session)
    }

    /// The sum of what is confirmed of a slot.
    pub fn digest(&self, slot: Slot) -> Digest {
        self.slots[slot.index()].digest
    }

    /// This node's part in a slot, for the slot's next owner.
    pub fn inspect(&self, slot: Slot) -> Inspection {
        let Replica { digest, tentative, complete_in, .. } = &self.slots[slot.index()];
        Inspection { complete_in: *complete_in, digest: *digest, is_tentative: *tentative > 0 }
    }

    /// Returns true if a slot has a tentative write.
    pub fn has_tentative(&self, slot: Slot) -> bool {
        self.slots[slot.index()].tentative > 0
    }

    /// The records of a slot with a tentative write.
    pub fn tentatives(&self, slot: Slot) -> Vec<RecordId> {
        let replica = &self.slots[slot.index()];
        if replica.tentative == 0 {
            return Vec::new();
        }
        let is_tentative = |(_, held): &(&RecordId, &Held)| held.tentative.is_some();
        replica.records.iter().filter(is_tentative).map(|(id, _)| *id).collect()
    }

    /// The last epoch in which this node had everything of a slot, and knew it.
    pub fn complete_in(&self, slot: Slot) -> Option<u64> {
        self.slots[slot.index()].complete_in
    }

    /// Notes that this node has everything of a slot in an epoch.
    pub fn set_complete(&mut self, slot: Slot, epoch: u64) {
        self.slots[slot.index()].complete_in = Some(epoch);
    }

    /// Drops tentative writes of earlier epochs: the owner wrote again those that it found (T10).
    pub fn drop_old_tentatives(&mut self, slot: Slot, epoch: u64) {
        for id in self.tentatives(slot) {
            let is_old = |entry: &Entry| entry.revision.epoch < epoch;
            if self.tentative(id).is_some_and(is_old) {
                self.change(id, |held| held.tentative = None);
            }
        }
    }

    /// A page of a slot, after an id. `since` leaves out what no owner sent in that epoch or a later one.
    pub fn page(
        &self,
        slot: Slot,
        after: Option<RecordId>,
        since: Option<u64>,
        len: usize,
    ) -> Page {
        let lower = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut records = self.slots[slot.index()].records.range((lower, Bound::Unbounded));
        let is_told = |held: &Held| since.is_none_or(|since| held.told_in >= since);
        let mut summaries = Vec::new();
        let mut last = None;
        for (id, held) in records.by_ref().take(len) {
            last = Some(*id);
            if is_told(held) {
                summaries.push(self.summary(*id, held));
            }
        }
        let next = records.next().and(last);
        Page { after, summaries, next }
    }

    /// Returns a page of a slot after an id: records of up to the given number of bytes, and one
    /// more.
    pub fn page_within(
        &self,
        slot: Slot,
        after: Option<RecordId>,
        len: usize,
        bytes: usize,
    ) -> Page {
        let lower = after.map_or(Bound::Unbounded, Bound::Excluded);
        let records = self.slots[slot.index()].records.range((lower, Bound::Unbounded));
        let mut taken = 0;
        let fits = |(_, held): &(&RecordId, &Held)| {
            let before = taken;
            taken += held.latest().map_or(0, Entry::size);
            before < bytes
        };
        let len = records.take(len).take_while(fits).count();
        self.page(slot, after, None, len)
    }

    /// The ids of a slot in the part that a page is about.
    pub fn ids(&self, slot: Slot, page: &Page) -> Vec<RecordId> {
        let lower = page.after.map_or(Bound::Unbounded, Bound::Excluded);
        let upper = page.next.map_or(Bound::Unbounded, Bound::Included);
        let records = &self.slots[slot.index()].records;
        match (page.after, page.next) {
            (Some(after), Some(next)) if after >= next => Vec::new(),
            _ => records.range((lower, upper)).map(|(id, _)| *id).collect(),
        }
    }

    /// Returns the part of a record's state that a digest covers.
    pub fn summary(&self, id: RecordId, held: &Held) -> Summary {
        let mark = |entry: &Entry| self.mark(id, entry);
        Summary {
            id,
            confirmed: held.confirmed.as_ref().map(mark),
            tentative: held.tentative.as_deref().map(mark),
        }
    }

    /// The sessions of a slot whose deadline is over.
    pub fn due(&self, slot: Slot, now: Timestamp) -> Vec<RecordId> {
        let is_due = |held: &Held| {
            let confirmed = held.confirmed.as_ref().and_then(|entry| entry.kept.record());
            confirmed.is_some_and(|record| record.is_expired(now))
        };
        let records = self.slots[slot.index()].records.iter();
        records.filter(|(_, held)| is_due(held)).map(|(id, _)| *id).collect()
    }

    /// Tombstones that were kept long enough, and lists of which nothing is left to remember.
    pub fn over(&self, slot: Slot, now: Timestamp) -> Vec<(RecordId, Revision)> {
        let revision = |(id, held): (&RecordId, &Held)| {
            let entry = held.confirmed.as_ref().filter(|_| held.tentative.is_none())?;
            let is_over = entry.kept.record().is_none() && entry.kept.deadline() <= now;
            (is_over && entry.done.is_empty()).then_some((*id, entry.revision))
        };
        self.slots[slot.index()].records.iter().filter_map(revision).collect()
    }

    /// Forgets the calls of a slot's records that are not asked again.
    pub fn forget_calls(&mut self, slot: Slot, is_open: impl Fn(CallId) -> bool) {
        for held in self.slots[slot.index()].records.values_mut() {
            if let Some(entry) = &mut held.confirmed {
                entry.done.retain(|done| is_open(done.call));
            }
        }
    }

    /// The lists of a slot with a session that is not settled.
    pub fn unsettled_lists(&self, slot: Slot) -> Vec<RecordId> {
        let is_open = |held: &Held| {
            let list = held.confirmed.as_ref().and_then(|entry| entry.kept.list());
            list.is_some_and(|list| list.open().next().is_some())
        };
        let records = self.slots[slot.index()].records.iter();
        records.filter(|(_, held)| is_open(held)).map(|(id, _)| *id).collect()
    }

    /// Begins to go by the epochs of others, which went on from this number: what this node has of later epochs
    /// means nothing there, and it is complete in none of those.
    pub fn part(&mut self, since: u64) {
        for slot in Slot::all() {
            let is_later = |(_, held): &(RecordId, &Held)| {
                held.latest().is_some_and(|entry| entry.revision.epoch > since)
            };
            let later: Vec<_> = self.of(slot).filter(is_later).map(|(id, _)| id).collect();
            later.iter().for_each(|id| self.remove(*id));
            let replica = &mut self.slots[slot.index()];
            let complete_in = replica.complete_in.filter(|_| later.is_empty());
            replica.complete_in = complete_in.map(|epoch| epoch.min(since));
            replica.records.values_mut().for_each(|held| held.told_in = held.told_in.min(since));
        }
    }

    /// The records of a slot.
    pub fn of(&self, slot: Slot) -> impl Iterator<Item = (RecordId, &Held)> {
        self.slots[slot.index()].records.iter().map(|(id, held)| (*id, held))
    }

    /// All records, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (RecordId, &Held)> {
        self.slots.iter().flat_map(|slot| slot.records.iter().map(|(id, held)| (*id, held)))
    }

    /// Returns the number of records in a slot, tombstones and tentative ones included.
    pub fn len(&self, slot: Slot) -> usize {
        self.slots[slot.index()].records.len()
    }

    /// Returns true if a slot has no records.
    pub fn is_empty(&self, slot: Slot) -> bool {
        self.len(slot) == 0
    }

    /// Changes what is held of a record, and keeps the sums right.
    fn change<T>(&mut self, id: RecordId, change: impl FnOnce(&mut Held) -> T) -> T {
        let slot = self.slot_of(id).index();
        let mut held = self.slots[slot].records.remove(&id).unwrap_or_default();
        let before = Totals::taken_by(&held);
        let was_unreported = held.unreported().is_some();
        self.count(slot, id, &held, |count, by| count - by);
        let result = change(&mut held);
        self.count(slot, id, &held, |count, by| count + by);
        self.weigh((slot, id), before, &held);
        if held.unreported().is_some() != was_unreported {
            self.list_unreported((slot, id), !was_unreported);
        }
        if held.latest().is_some() {
            self.slots[slot].records.insert(id, held);
        }
        result
    }

    fn count(
        &mut self,
        slot: usize,
        id: RecordId,
        held: &Held,
        add: impl Fn(usize, usize) -> usize,
    ) {
        let mark = held.confirmed.as_ref().map(|entry| self.mark(id, entry).hash);
        let replica = &mut self.slots[slot];
        replica.digest.sum ^= mark.unwrap_or_default();
        replica.digest.count = add(replica.digest.count as usize, mark.iter().len()) as u64;
        replica.tentative = add(replica.tentative, held.tentative.iter().len());
    }

    fn weigh(&mut self, (slot, id): (usize, RecordId), before: Totals, held: &Held) {
        let after = Totals::taken_by(held);
        if before == after {
            return;
        }
        for totals in [&mut self.totals, &mut self.slots[slot].totals] {
            *totals += after;
            *totals -= before;
        }
        if after.exceeds(&before) {
            self.has_grown = true;
            let is_session = held.latest().is_some_and(|entry| entry.kept.live().is_some());
            self.grown = Some(id).filter(|_| is_session).or(self.grown);
        }
    }

    fn list_unreported(&mut self, (slot, id): (usize, RecordId), is_unreported: bool) {
        let unreported = &mut self.slots[slot].unreported;
        let before = unreported.len();
        if is_unreported {
            unreported.insert(id);
        } else {
            unreported.remove(&id);
        }
        self.unreported = self.unreported + unreported.len() - before;
    }

    fn mark(&self, id: RecordId, entry: &Entry) -> Mark {
        let Entry { revision, kept, .. } = entry;
        let kind = match kept {
            Kept::Live(_) => 0,
            Kept::Ended(_) => 1,
            Kept::List(_) => 2,
        };
        let mut bytes = Vec::with_capacity(64);
        bytes.extend(id.as_bytes());
        bytes.extend(revision.epoch.to_le_bytes());
        bytes.extend(revision.number.to_le_bytes());
        bytes.extend(kept.stamp().time.to_le_bytes());
        bytes.extend(kept.stamp().writer.to_le_bytes());
        bytes.extend(kept.deadline().as_millis().to_le_bytes());
        bytes.push(kind);
        Mark { revision: *revision, hash: self.key.hash(&bytes) }
    }
}

/// A session that may be shown.
fn session<'h>((id, held): (&RecordId, &'h Held)) -> Option<(RecordId, &'h Copy)> {
    Some((*id, held.confirmed.as_ref()?.kept.live()?))
}

fn newest(one: Option<Entry>, two: Option<Entry>) -> Option<Entry> {
    match (one, two) {
        (Some(one), Some(two)) if one.revision >= two.revision => Some(one),
        (one, two) => two.or(one),
    }
}

/// A write that may be shown from now on.
#[derive(Debug)]
pub struct Confirmed {
    /// The record before.
    pub before: Option<Kept>,
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use steadfast_core::{EndReason, KeyId, Record, SecretHash};

    use super::*;
    use crate::record::{Stamp, Tombstone};

    #[test]
    fn a_tentative_write_is_shown_once_confirmed() {
        let mut replicas = replicas();
        replicas.stage(id(1), entry(5, 1), 5);
        assert_eq!(replicas.confirmed(id(1)), None);
        assert!(replicas.confirm(id(1), Revision { epoch: 5, number: 2 }).is_none(), "another");
        assert!(replicas.confirm(id(1), entry(5, 1).revision).is_some());
        assert_eq!(replicas.confirmed(id(1)), Some(&entry(5, 1)));
        assert!(replicas.tentatives(replicas.slot_of(id(1))).is_empty());
    }

    #[test]
    fn equal_content_has_an_equal_digest() {
        let (mut one, mut other) = (replicas(), replicas());
        let slot = one.slot_of(id(1));
        one.put(id(1), confirmed(5, 1));
        assert_ne!(one.digest(slot), other.digest(slot));
        other.put(id(1), confirmed(5, 2));
        assert_ne!(one.digest(slot), other.digest(slot));
        other.put(id(1), confirmed(5, 1));
        assert_eq!(one.digest(slot), other.digest(slot));
        other.stage(id(1), entry(5, 2), 5);
        assert_eq!(one.digest(slot), other.digest(slot), "tentative writes are left out");
    }

    #[test]
    fn the_newest_write_of_two_holders_is_taken() {
        let mut replicas = replicas();
        replicas.put(id(1), confirmed(5, 2));
        replicas.merge(id(1), confirmed(5, 1), 6);
        assert_eq!(replicas.confirmed(id(1)), Some(&entry(5, 2)));
        let tentative = Held { tentative: Some(Box::new(entry(5, 3))), ..confirmed(5, 1) };
        replicas.merge(id(1), tentative.clone(), 6);
        assert_eq!(replicas.confirmed(id(1)), Some(&entry(5, 2)));
        assert_eq!(replicas.tentative(id(1)), Some(&entry(5, 3)));
        replicas.merge(id(1), confirmed(5, 3), 6);
        assert_eq!(replicas.tentative(id(1)), None, "it is confirmed elsewhere");
    }

    #[test]
    fn tentative_writes_of_earlier_epochs_are_dropped() {
        let mut replicas = replicas();
        let slot = replicas.slot_of(id(1));
        replicas.stage(id(1), entry(5, 1), 5);
        replicas.drop_old_tentatives(slot, 5);
        assert!(replicas.has_tentative(slot));
        replicas.drop_old_tentatives(slot, 6);
        assert!(!replicas.has_tentative(slot));
    }

    #[test]
    fn an_end_wins_over_a_later_write() {
        let live = || Held { confirmed: Some(live(6, 3)), tentative: None, told_in: 6 };
        for (one, other) in [(live(), confirmed(5, 9)), (confirmed(5, 9), live())] {
            let mut replicas = replicas();
            replicas.put(id(1), one);
            replicas.merge(id(1), other, 7);
            let again = replicas.tentative(id(1)).unwrap();
            assert!(again.kept.is_ended() && again.revision > live().confirmed.unwrap().revision);
        }
    }

    #[test]
    fn joining_another_side_drops_own_epochs() {
        let mut replicas = replicas();
        let (old, new) = (id(1), id(1 << 20));
        replicas.put(old, Held { told_in: 9, ..confirmed(5, 1) });
        replicas.put(new, confirmed(6, 1));
        let slots = [old, new].map(|id| replicas.slot_of(id));
        slots.iter().for_each(|slot| replicas.set_complete(*slot, 9));
        replicas.part(5);
        assert_eq!(slots.map(|slot| replicas.complete_in(slot)), [Some(5), None]);
        assert_eq!(replicas.get(old), Some(&confirmed(5, 1)));
        assert_eq!(replicas.get(new), None);
    }

    #[test]
    fn a_page_omits_copies_unsent_since() {
        let mut replicas = replicas();
        let slot = replicas.slot_of(id(1));
        replicas.put(id(1), confirmed(5, 1));
        assert_eq!(replicas.page(slot, None, Some(5), 9).summaries.len(), 1);
        assert_eq!(replicas.page(slot, None, Some(6), 9).summaries.len(), 0);
        assert_eq!(replicas.page(slot, None, None, 9).summaries.len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn pages_have_all_records_once(
            ids in proptest::collection::btree_set(0..u64::MAX, 0..10_000), len in 1..5_usize,
        ) {
            let mut replicas = replicas();
            let ids: Vec<_> = ids.into_iter().map(id).collect();
            ids.iter().for_each(|id| replicas.put(*id, confirmed(1, 1)));
            let mut found = Vec::new();
            for slot in Slot::all() {
                let mut after = None;
                loop {
                    let page = replicas.page(slot, after, None, len);
                    prop_assert_eq!(replicas.ids(slot, &page).len(), page.summaries.len());
                    found.extend(page.summaries.iter().map(|summary| summary.id));
                    let Some(next) = page.next else { break };
                    after = Some(next);
                }
            }
            prop_assert_eq!(found.len(), ids.len());
            prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), ids.into_iter().collect());
        }
    }

    fn replicas() -> Replicas {
        Replicas::new(HashKey::new([7; 16]))
    }

    pub(crate) fn id(n: u64) -> RecordId {
        RecordId::from_bytes((u128::from(n) << 64).to_be_bytes())
    }

    pub(crate) fn confirmed(epoch: u64, number: u64) -> Held {
        Held { confirmed: Some(entry(epoch, number)), tentative: None, told_in: epoch }
    }

    fn live(epoch: u64, number: u64) -> Entry {
        let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let record = Record::new(SecretHash::from_parts(KeyId::NONE, [0; 32]), start, end, end);
        let kept = Kept::Live(crate::record::Copy::new(record, Stamp::ZERO));
        Entry { kept, ..entry(epoch, number) }
    }

    pub(crate) fn entry(epoch: u64, number: u64) -> Entry {
        let until = Timestamp::MAX;
        let kept = Kept::Ended(Tombstone {
            stamp: Stamp::ZERO,
            until,
            reason: EndReason::Logout,
            unreported: None,
        });
        Entry { revision: Revision { epoch, number }, kept, done: Vec::new() }
    }
}
