//! Numbers drawn from a seed, so that a run can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64.
pub struct Draw(u64);

impl Draw {
    /// Uses the seed in the environment variable `NETWORK_SEED`, or a random one. Prints it.
    pub fn seeded() -> Self {
        let given = std::env::var("NETWORK_SEED").ok().and_then(|seed| seed.parse().ok());
        let fresh = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
            now.as_nanos() as u64
        };
        let seed = given.unwrap_or_else(fresh);
        println!("NETWORK_SEED={seed}");
        Self(seed)
    }

    pub fn from(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    /// Returns some of these, in random order.
    pub fn some<T>(&mut self, count: usize, mut from: Vec<T>) -> Vec<T> {
        let mut drawn = Vec::new();
        while drawn.len() < count && !from.is_empty() {
            drawn.push(from.swap_remove(self.below(from.len())));
        }
        drawn
    }
}
