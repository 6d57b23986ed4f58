//! A hash for record ids: keyed, and a few instructions long.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Draws one key per store, so that ids cannot be chosen to collide.
///
/// Most stores only hold ids they generated, which are random. The key protects stores whose ids
/// come from elsewhere.
#[derive(Clone)]
pub(crate) struct IdHash {
    keys: [u64; 2],
}

impl IdHash {
    pub(crate) fn new() -> Self {
        let random = RandomState::new();
        Self { keys: [random.hash_one(0), random.hash_one(1)] }
    }
}

impl BuildHasher for IdHash {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        let [state, key] = self.keys;
        IdHasher { state, key }
    }
}

/// Folds 16 bytes at a time into 64 bits with one multiplication.
pub(crate) struct IdHasher {
    state: u64,
    key: u64,
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(16) {
            let mut block = [0; 16];
            block[..chunk.len()].copy_from_slice(chunk);
            let block = u128::from_le_bytes(block);
            let (low, high) = (block as u64, (block >> 64) as u64);
            self.state = fold(low ^ self.state, high ^ self.key);
        }
    }

    /// Ignores the length, which is the same for all ids.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        fold(self.state, self.key | 1)
    }
}

fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use steadfast_core::RecordId;

    use super::*;

    #[test]
    fn ids_that_count_up_spread_over_all_bits() {
        let hash = IdHash::new();
        let ids = (0..10_000_u128).map(|n| RecordId::from_bytes(n.to_be_bytes()));
        let hashes: HashSet<_> = ids.map(|id| hash.hash_one(id)).collect();
        let ends =
            |shift: u32| hashes.iter().map(|hash| hash >> shift & 0xff).collect::<HashSet<_>>();
        assert_eq!((hashes.len(), ends(0).len(), ends(56).len()), (10_000, 256, 256));
    }

    #[test]
    fn every_store_has_a_key_of_its_own() {
        let id = RecordId::from_bytes([7; 16]);
        assert_ne!(IdHash::new().hash_one(id), IdHash::new().hash_one(id));
    }
}
