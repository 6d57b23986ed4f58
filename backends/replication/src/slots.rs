//! The shares of all record ids, and sets of them.

use std::fmt;
use std::sync::Arc;

use siphasher::sip::SipHasher24;
use siphasher::sip128::SipHasher24 as SipHasher24Of128;
use steadfast_core::{Principal, RecordId};

/// The number of slots.
pub const SLOTS: usize = 4_096;

/// One of [`SLOTS`] shares of all record ids. Ownership is by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of a record.
    pub fn of(id: RecordId, key: &HashKey) -> Self {
        Self::at(key.hash(id.as_bytes()) as usize % SLOTS)
    }

    /// The slot with this index; indices from [`SLOTS`] on wrap around.
    pub fn at(index: usize) -> Self {
        Self((index % SLOTS) as u16)
    }

    /// All slots, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).map(Self::at)
    }

    /// Its index, below [`SLOTS`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The key of all hashes of a service: without it, a client cannot choose ids that fall into one slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashKey([u8; 16]);

impl HashKey {
    /// A key of random bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// SipHash-2-4, which nodes of different releases have to agree on.
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        SipHasher24::new_with_key(&self.0).hash(bytes)
    }
}

impl HashKey {
    /// The id of the list of a principal's sessions: a UUID of version 8, which no session has.
    pub fn list_of(&self, principal: &Principal) -> RecordId {
        let mut bytes = principal.realm().as_str().as_bytes().to_vec();
        bytes.push(0);
        bytes.extend(principal.id().as_bytes());
        let hash = SipHasher24Of128::new_with_key(&self.0).hash(&bytes);
        let mut id = hash.as_u128().to_be_bytes();
        id[6] = 0x80 | (id[6] & 0x0f);
        id[8] = 0x80 | (id[8] & 0x3f);
        RecordId::from_bytes(id)
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey")
    }
}

/// A set of slots. Clones share their memory until one of them changes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SlotSet(Arc<[u64; WORDS]>);

const WORDS: usize = SLOTS / 64;

impl SlotSet {
    /// The set without any slot.
    pub fn new() -> Self {
        Self(Arc::new([0; WORDS]))
    }

    /// Returns true if the set contains a slot.
    pub fn contains(&self, slot: Slot) -> bool {
        self.0[slot.index() / 64] & bit(slot) != 0
    }

    /// Returns true if the set contains all slots of another one.
    pub fn contains_all(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0.iter()).all(|(own, others)| others & !own == 0)
    }

    /// Returns true if the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Returns the number of slots in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Its slots, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        Slot::all().filter(|slot| self.contains(*slot))
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: Slot) {
        Arc::make_mut(&mut self.0)[slot.index() / 64] |= bit(slot);
    }

    /// Takes a slot out.
    pub fn remove(&mut self, slot: Slot) {
        Arc::make_mut(&mut self.0)[slot.index() / 64] &= !bit(slot);
    }

    /// Adds all slots of another set.
    pub fn insert_all(&mut self, other: &Self) {
        self.merge(other, |own, others| own | others);
    }

    /// Takes all slots of another set out.
    pub fn remove_all(&mut self, other: &Self) {
        self.merge(other, |own, others| own & !others);
    }

    fn merge(&mut self, other: &Self, word: impl Fn(u64, u64) -> u64) {
        for (own, others) in Arc::make_mut(&mut self.0).iter_mut().zip(other.0.iter()) {
            *own = word(*own, *others);
        }
    }
}

fn bit(slot: Slot) -> u64 {
    1 << (slot.index() % 64)
}

impl Default for SlotSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::new();
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first: Vec<_> = self.iter().take(4).map(Slot::index).collect();
        write!(f, "{} slots {first:?}", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_of_slots_is_a_set(
            ones in proptest::collection::vec(0..SLOTS, 0..50),
            others in proptest::collection::vec(0..SLOTS, 0..50),
        ) {
            let (one, other) = (model(&ones), model(&others));
            let (mut set, others) = (set(&one), set(&other));
            prop_assert_eq!(set.len(), one.len());
            prop_assert_eq!(set.is_empty(), one.is_empty());
            prop_assert_eq!(set.contains_all(&others), one.is_superset(&other));
            let before = set.clone();
            set.insert_all(&others);
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), &one | &other);
            set.remove_all(&others);
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), &one - &other);
            prop_assert_eq!(before.iter().collect::<BTreeSet<_>>(), one, "a clone keeps its own");
        }
    }

    fn model(indices: &[usize]) -> BTreeSet<Slot> {
        indices.iter().copied().map(Slot::at).collect()
    }

    fn set(slots: &BTreeSet<Slot>) -> SlotSet {
        slots.iter().copied().collect()
    }

    #[test]
    fn the_hash_is_siphash_2_4() {
        // The first two vectors of the reference implementation (Aumasson and Bernstein, 2012).
        let key = HashKey::new(std::array::from_fn(|n| n as u8));
        assert_eq!(key.hash(&[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(key.hash(&[0]), 0x74f8_39c5_93dc_67fd);
    }
}
