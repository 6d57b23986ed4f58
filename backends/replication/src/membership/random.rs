//! Random numbers from a seed.

use std::time::Duration;

use crate::epoch::Lineage;
use crate::slots::HashKey;

/// A stream of random numbers, as hard to guess as its seed.
#[derive(Clone, Debug)]
pub(super) struct Random {
    seed: HashKey,
    drawn: u64,
}

impl Random {
    pub(super) fn new(seed: [u8; 16]) -> Self {
        Self { seed: HashKey::new(seed), drawn: 0 }
    }

    pub(super) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_micros() as u64 + 1;
        least + Duration::from_micros(self.next() % span)
    }

    pub(super) fn lineage(&mut self) -> Lineage {
        Lineage::new(self.bytes())
    }

    pub(super) fn key(&mut self) -> HashKey {
        HashKey::new(self.bytes())
    }

    fn bytes(&mut self) -> [u8; 16] {
        let halves = u128::from(self.next()) << 64 | u128::from(self.next());
        halves.to_be_bytes()
    }

    fn next(&mut self) -> u64 {
        self.drawn += 1;
        self.seed.hash(&self.drawn.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_the_seed() {
        let mut one = Random::new([1; 16]);
        assert_ne!(one.lineage(), one.lineage());
        assert_eq!(Random::new([1; 16]).key(), Random::new([1; 16]).key());
        assert_ne!(Random::new([1; 16]).key(), Random::new([2; 16]).key());
    }

    #[test]
    fn times_are_within_their_bounds() {
        let (least, most) = (Duration::from_millis(10), Duration::from_millis(50));
        let mut random = Random::new([1; 16]);
        let drawn: Vec<_> = (0..100).map(|_| random.between(least, most)).collect();
        assert!(drawn.iter().all(|time| (least..=most).contains(time)));
        assert!(drawn.iter().any(|time| *time < most / 2));
        assert!(drawn.iter().any(|time| *time > most / 2));
    }
}
