//! Slots by id, with two lists in order of use.

use std::sync::Arc;

use indexmap::IndexMap;
use steadfast_core::{RecordId, SessionKind};

use crate::hash::IdHash;
use crate::slot::Slot;

/// A map of slots by id. Each slot is on one of two lists, ordered from the least to the most
/// recently used.
///
/// The lists link entries by their index in the map. Millions of entries therefore need no
/// allocation each, and freed memory goes back to the allocator.
#[derive(Debug)]
pub(crate) struct LruMap {
    entries: IndexMap<RecordId, Entry, IdHash>,
    lists: [List; 2],
}

#[derive(Debug)]
struct Entry {
    slot: Arc<Slot>,
    /// The time of the last use, in ticks of the cache.
    used: u64,
    weight: u32,
    older: u32,
    newer: u32,
    kind: SessionKind,
}

#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u32,
    newest: u32,
}

impl LruMap {
    pub(crate) fn new(hash: IdHash) -> Self {
        let empty = List { oldest: NOWHERE, newest: NOWHERE };
        Self { entries: IndexMap::with_hasher(hash), lists: [empty; 2] }
    }

    /// Returns the slot of a record and marks it as used.
    pub(crate) fn find(&mut self, id: RecordId, now: impl FnOnce() -> u64) -> Option<&Arc<Slot>> {
        let at = self.entries.get_index_of(&id)? as u32;
        self.entry_mut(at).used = now();
        if self.entry(at).newer != NOWHERE {
            self.unlink(at);
            self.link(at);
        }
        Some(&self.entry(at).slot)
    }

    /// Returns true if the map holds this very slot, rather than another one with the same id.
    pub(crate) fn holds(&self, id: RecordId, slot: &Arc<Slot>) -> bool {
        self.entries.get(&id).is_some_and(|entry| Arc::ptr_eq(&entry.slot, slot))
    }

    /// Inserts a slot unless the id is taken. Returns whether it did.
    pub(crate) fn add(
        &mut self,
        id: RecordId,
        slot: &Arc<Slot>,
        (kind, weight): (SessionKind, u32),
        now: u64,
    ) -> bool {
        if self.entries.contains_key(&id) {
            return false;
        }
        if self.entries.len() == self.entries.capacity() {
            // Grow by an eighth instead of doubling: for a small session, the entry is most of the
            // memory.
            self.entries.reserve_exact(self.entries.len() / 8 + 4);
        }
        let (slot, links) = (Arc::clone(slot), NOWHERE);
        let entry = Entry { slot, used: now, weight, older: links, newer: links, kind };
        let (at, _) = self.entries.insert_full(id, entry);
        self.link(at as u32);
        true
    }

    /// Moves a slot to the list of `kind` and sets its weight. Returns the previous kind and
    /// weight.
    pub(crate) fn change(
        &mut self,
        id: RecordId,
        kind: SessionKind,
        weight: u32,
    ) -> Option<(SessionKind, u32)> {
        let at = self.entries.get_index_of(&id)? as u32;
        let before = (self.entry(at).kind, self.entry(at).weight);
        self.entry_mut(at).weight = weight;
        if before.0 != kind {
            self.unlink(at);
            self.entry_mut(at).kind = kind;
            self.link(at);
        }
        Some(before)
    }

    /// Removes a slot. Returns its kind and weight.
    pub(crate) fn remove(&mut self, id: RecordId) -> Option<(SessionKind, u32)> {
        let at = self.entries.get_index_of(&id)?;
        let entry = self.detach(at as u32).1;
        Some((entry.kind, entry.weight))
    }

    /// Removes the least recently used slot of a kind. Returns it with its weight.
    pub(crate) fn remove_oldest(
        &mut self,
        kind: SessionKind,
    ) -> Option<(RecordId, Arc<Slot>, u32)> {
        let oldest = self.lists[kind as usize].oldest;
        (oldest != NOWHERE).then(|| {
            let (id, entry) = self.detach(oldest);
            (id, entry.slot, entry.weight)
        })
    }

    /// Returns the last use of the least recently used slot.
    pub(crate) fn oldest(&self, kind: SessionKind) -> Option<u64> {
        let oldest = self.lists[kind as usize].oldest;
        (oldest != NOWHERE).then(|| self.entry(oldest).used)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RecordId, Arc<Slot>)> {
        self.entries.iter().map(|(id, entry)| (*id, Arc::clone(&entry.slot)))
    }

    /// Unlinks and removes an entry. The last entry of the map moves to the freed index.
    fn detach(&mut self, at: u32) -> (RecordId, Entry) {
        self.unlink(at);
        let taken = self.entries.swap_remove_index(at as usize).expect("links lead to entries");
        if (at as usize) < self.entries.len() {
            self.lead_to(at);
        }
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        taken
    }

    /// Appends an entry to its list as the most recently used.
    fn link(&mut self, at: u32) {
        let newest = self.lists[self.entry(at).kind as usize].newest;
        let entry = self.entry_mut(at);
        (entry.older, entry.newer) = (newest, NOWHERE);
        self.lead_to(at);
    }

    /// Removes an entry from its list.
    fn unlink(&mut self, at: u32) {
        let Entry { older, newer, kind, .. } = *self.entry(at);
        *self.newer_of(kind, older) = newer;
        *self.older_of(kind, newer) = older;
    }

    /// Points the neighbours of an entry, or the ends of its list, at the entry.
    fn lead_to(&mut self, at: u32) {
        let Entry { older, newer, kind, .. } = *self.entry(at);
        *self.newer_of(kind, older) = at;
        *self.older_of(kind, newer) = at;
    }

    /// Returns the link to the next entry, or the head of the list.
    fn newer_of(&mut self, kind: SessionKind, at: u32) -> &mut u32 {
        match at {
            NOWHERE => &mut self.lists[kind as usize].oldest,
            at => &mut self.entry_mut(at).newer,
        }
    }

    /// Returns the link to the previous entry, or the tail of the list.
    fn older_of(&mut self, kind: SessionKind, at: u32) -> &mut u32 {
        match at {
            NOWHERE => &mut self.lists[kind as usize].newest,
            at => &mut self.entry_mut(at).older,
        }
    }

    fn entry(&self, at: u32) -> &Entry {
        &self.entries[at as usize]
    }

    fn entry_mut(&mut self, at: u32) -> &mut Entry {
        &mut self.entries[at as usize]
    }
}

/// The end of a list. No entry has this index: memory runs out first.
const NOWHERE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use steadfast_core::{KeyId, Record, SecretHash, Timestamp};

    use super::*;

    #[test]
    fn the_least_recently_used_slot_goes_first() {
        let mut map = map(5);
        for n in [1, 3, 0, 1] {
            map.find(id(n), || 9);
        }
        assert_eq!(order(&mut map, SessionKind::Visitor), [2, 4, 3, 0, 1]);
    }

    #[test]
    fn removing_a_slot_keeps_the_order() {
        for gone in 0..5 {
            let mut map = map(5);
            assert_eq!(map.remove(id(gone)), Some((SessionKind::Visitor, 7)));
            assert_eq!(map.remove(id(gone)), None);
            let rest: Vec<_> = (0..5).filter(|n| *n != gone).collect();
            assert_eq!(order(&mut map, SessionKind::Visitor), rest);
        }
    }

    #[test]
    fn a_slot_joins_its_new_list_as_newest() {
        let mut map = map(4);
        for n in [2, 0] {
            assert_eq!(map.change(id(n), SessionKind::Member, 8), Some((SessionKind::Visitor, 7)));
        }
        assert_eq!(map.oldest(SessionKind::Visitor), Some(1));
        assert_eq!(order(&mut map, SessionKind::Member), [2, 0]);
        assert_eq!(order(&mut map, SessionKind::Visitor), [1, 3]);
    }

    #[test]
    fn an_id_is_inserted_once() {
        let mut map = map(1);
        let slot = slot();
        assert!(!map.add(id(0), &slot, (SessionKind::Member, 1), 1));
        assert!(!map.holds(id(0), &slot));
    }

    #[test]
    fn removed_slots_free_their_memory() {
        let mut map = map(200);
        let full = map.entries.capacity();
        assert!(full <= 250, "{full}");
        order(&mut map, SessionKind::Visitor);
        assert!(map.entries.capacity() <= 8, "{}", map.entries.capacity());
    }

    /// Slots 0 to `slots`, used in this order.
    fn map(slots: u8) -> LruMap {
        let mut map = LruMap::new(IdHash::new());
        for n in 0..slots {
            assert!(map.add(id(n), &slot(), (SessionKind::Visitor, 7), n.into()));
        }
        map
    }

    /// Empties a list, least recently used first.
    fn order(map: &mut LruMap, kind: SessionKind) -> Vec<u8> {
        std::iter::from_fn(|| map.remove_oldest(kind)).map(|(id, ..)| id.as_bytes()[0]).collect()
    }

    fn id(n: u8) -> RecordId {
        RecordId::from_bytes([n; 16])
    }

    fn slot() -> Arc<Slot> {
        let hash = SecretHash::from_parts(KeyId::NONE, [0; 32]);
        let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        Arc::new(Slot::new(Record::new(hash, start, end, end)))
    }
}
