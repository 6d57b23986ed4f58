//! A part of the shelf: slots by id, and the order in which they were used.

use std::sync::Arc;

use indexmap::IndexMap;
use steadfast_core::RecordId;

use crate::hash::IdHash;
use crate::slot::Slot;

/// Slots by id, each on one of two lists, which run from the slot that was not used for the longest
/// time to the one that was used last.
///
/// The lists are links between places, as indices of the map: millions of places are no millions of
/// allocations, and what they held can be given back.
#[derive(Debug)]
pub(crate) struct Board {
    places: IndexMap<RecordId, Place, IdHash>,
    lists: [List; 2],
}

/// Which of the two lists: that of sessions somebody signed in to, or that of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Anonymous,
    Authenticated,
}

#[derive(Debug)]
struct Place {
    slot: Arc<Slot>,
    /// When it was used last, in ticks of the shelf.
    used: u64,
    weight: u32,
    older: u32,
    newer: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u32,
    newest: u32,
}

impl Board {
    pub(crate) fn new(hash: IdHash) -> Self {
        let empty = List { oldest: NOWHERE, newest: NOWHERE };
        Self { places: IndexMap::with_hasher(hash), lists: [empty; 2] }
    }

    /// The slot of a record, which counts as a use.
    pub(crate) fn find(&mut self, id: RecordId, now: impl FnOnce() -> u64) -> Option<&Arc<Slot>> {
        let at = self.places.get_index_of(&id)? as u32;
        self.place_mut(at).used = now();
        if self.place(at).newer != NOWHERE {
            self.unlink(at);
            self.link(at);
        }
        Some(&self.place(at).slot)
    }

    /// Whether this slot is here, and not another one of its id or none.
    pub(crate) fn holds(&self, id: RecordId, slot: &Arc<Slot>) -> bool {
        self.places.get(&id).is_some_and(|place| Arc::ptr_eq(&place.slot, slot))
    }

    /// Puts a slot up, unless there is one of that id.
    pub(crate) fn add(
        &mut self,
        id: RecordId,
        slot: &Arc<Slot>,
        (kind, weight): (Kind, u32),
        now: u64,
    ) -> bool {
        if self.places.contains_key(&id) {
            return false;
        }
        if self.places.len() == self.places.capacity() {
            // An eighth, and not twice as much: most of what a small session takes is its place.
            self.places.reserve_exact(self.places.len() / 8 + 4);
        }
        let (slot, links) = (Arc::clone(slot), NOWHERE);
        let place = Place { slot, used: now, weight, older: links, newer: links, kind };
        let (at, _) = self.places.insert_full(id, place);
        self.link(at as u32);
        true
    }

    /// Puts a slot that is here on another list, or gives it another weight; says what it counted for.
    pub(crate) fn change(&mut self, id: RecordId, kind: Kind, weight: u32) -> Option<(Kind, u32)> {
        let at = self.places.get_index_of(&id)? as u32;
        let before = (self.place(at).kind, self.place(at).weight);
        self.place_mut(at).weight = weight;
        if before.0 != kind {
            self.unlink(at);
            self.place_mut(at).kind = kind;
            self.link(at);
        }
        Some(before)
    }

    /// Takes a slot down, and says what it counted for.
    pub(crate) fn remove(&mut self, id: RecordId) -> Option<(Kind, u32)> {
        let at = self.places.get_index_of(&id)?;
        let place = self.take(at as u32).1;
        Some((place.kind, place.weight))
    }

    /// Takes the slot down that was not used for the longest time; the last is what it counted for.
    pub(crate) fn remove_oldest(&mut self, kind: Kind) -> Option<(RecordId, Arc<Slot>, u32)> {
        let oldest = self.lists[kind as usize].oldest;
        (oldest != NOWHERE).then(|| {
            let (id, place) = self.take(oldest);
            (id, place.slot, place.weight)
        })
    }

    /// When the slot was used that was not used for the longest time.
    pub(crate) fn oldest(&self, kind: Kind) -> Option<u64> {
        let oldest = self.lists[kind as usize].oldest;
        (oldest != NOWHERE).then(|| self.place(oldest).used)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RecordId, Arc<Slot>)> {
        self.places.iter().map(|(id, place)| (*id, Arc::clone(&place.slot)))
    }

    /// The last place of the map moves to where this one was.
    fn take(&mut self, at: u32) -> (RecordId, Place) {
        self.unlink(at);
        let taken = self.places.swap_remove_index(at as usize).expect("links lead to places");
        if (at as usize) < self.places.len() {
            self.lead_to(at);
        }
        if self.places.len() < self.places.capacity() / 4 {
            self.places.shrink_to(self.places.len() * 2);
        }
        taken
    }

    /// Puts a place at the newest end of its list.
    fn link(&mut self, at: u32) {
        let newest = self.lists[self.place(at).kind as usize].newest;
        let place = self.place_mut(at);
        (place.older, place.newer) = (newest, NOWHERE);
        self.lead_to(at);
    }

    /// Takes a place off its list.
    fn unlink(&mut self, at: u32) {
        let Place { older, newer, kind, .. } = *self.place(at);
        *self.newer_of(kind, older) = newer;
        *self.older_of(kind, newer) = older;
    }

    /// Has the neighbours of a place lead to it.
    fn lead_to(&mut self, at: u32) {
        let Place { older, newer, kind, .. } = *self.place(at);
        *self.newer_of(kind, older) = at;
        *self.older_of(kind, newer) = at;
    }

    /// What is next after a place, or first on the list.
    fn newer_of(&mut self, kind: Kind, at: u32) -> &mut u32 {
        match at {
            NOWHERE => &mut self.lists[kind as usize].oldest,
            at => &mut self.place_mut(at).newer,
        }
    }

    /// What is next before a place, or last on the list.
    fn older_of(&mut self, kind: Kind, at: u32) -> &mut u32 {
        match at {
            NOWHERE => &mut self.lists[kind as usize].newest,
            at => &mut self.place_mut(at).older,
        }
    }

    fn place(&self, at: u32) -> &Place {
        &self.places[at as usize]
    }

    fn place_mut(&mut self, at: u32) -> &mut Place {
        &mut self.places[at as usize]
    }
}

/// The end of a list. There are fewer places than that: each has a record.
const NOWHERE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use steadfast_core::{KeyId, Record, SecretHash, Timestamp};

    use super::*;

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first() {
        let mut board = board(5);
        for n in [1, 3, 0, 1] {
            board.find(id(n), || 9);
        }
        assert_eq!(order(&mut board, Kind::Anonymous), [2, 4, 3, 0, 1]);
    }

    #[test]
    fn what_leaves_from_the_middle_leaves_the_order_as_it_was() {
        for gone in 0..5 {
            let mut board = board(5);
            assert_eq!(board.remove(id(gone)), Some((Kind::Anonymous, 7)));
            assert_eq!(board.remove(id(gone)), None);
            let rest: Vec<_> = (0..5).filter(|n| *n != gone).collect();
            assert_eq!(order(&mut board, Kind::Anonymous), rest);
        }
    }

    #[test]
    fn a_slot_that_changes_lists_is_the_newest_on_the_other() {
        let mut board = board(4);
        for n in [2, 0] {
            assert_eq!(board.change(id(n), Kind::Authenticated, 8), Some((Kind::Anonymous, 7)));
        }
        assert_eq!(board.oldest(Kind::Anonymous), Some(1));
        assert_eq!(order(&mut board, Kind::Authenticated), [2, 0]);
        assert_eq!(order(&mut board, Kind::Anonymous), [1, 3]);
    }

    #[test]
    fn an_id_is_taken_once() {
        let mut board = board(1);
        let slot = slot();
        assert!(!board.add(id(0), &slot, (Kind::Authenticated, 1), 1));
        assert!(!board.holds(id(0), &slot));
    }

    #[test]
    fn memory_is_given_back() {
        let mut board = board(200);
        let full = board.places.capacity();
        assert!(full <= 250, "{full}");
        order(&mut board, Kind::Anonymous);
        assert!(board.places.capacity() <= 8, "{}", board.places.capacity());
    }

    /// Slots 0 to `slots`, used in this order.
    fn board(slots: u8) -> Board {
        let mut board = Board::new(IdHash::new());
        for n in 0..slots {
            assert!(board.add(id(n), &slot(), (Kind::Anonymous, 7), n.into()));
        }
        board
    }

    /// Empties a list, the oldest first.
    fn order(board: &mut Board, kind: Kind) -> Vec<u8> {
        std::iter::from_fn(|| board.remove_oldest(kind)).map(|(id, ..)| id.as_bytes()[0]).collect()
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
