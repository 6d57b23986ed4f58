//! Faults: crashes, restarts, partitions in one or both directions, and packets held back.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use turmoil::Sim;

use super::{Setup, host};

pub(super) struct Faults {
    random: SmallRng,
    setup: Setup,
    /// The faults under way, and the time when each ends; the run is over when the nodes are at
    /// rest afterwards.
    trouble: Option<(Duration, Trouble)>,
    count: u64,
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    Crash(usize),
    /// A direction: from the first host to the second.
    OneWay(usize, usize),
    Pair(usize, usize),
    CutOff(usize),
    Hold(usize, usize),
    /// It is over, but not repaired yet.
    Past,
}

impl Faults {
    pub(super) fn new(seed: u64, setup: Setup) -> Self {
        let random = SmallRng::seed_from_u64(seed ^ 0xfa17);
        Self { random, setup, trouble: None, count: 0 }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Ends what is due, and breaks something while the nodes are at rest.
    pub(super) fn next(&mut self, sim: &mut Sim<'_>, is_at_rest: bool) {
        match self.trouble {
            None if self.random.random_range(0..50) == 0 => self.strike(sim),
            Some((_, Trouble::Past)) if is_at_rest => self.trouble = None,
            Some((until, trouble)) if until <= sim.elapsed() => {
                self.end(sim, trouble);
                self.trouble = Some((until, Trouble::Past));
            }
            Some(_) | None => {}
        }
    }

    pub(super) fn heal(&mut self, sim: &mut Sim<'_>) {
        if let Some((_, trouble)) = self.trouble.take() {
            self.end(sim, trouble);
        }
    }

    fn strike(&mut self, sim: &mut Sim<'_>) {
        let victim = self.random.random_range(0..self.setup.nodes);
        let other = (victim + self.random.random_range(1..self.setup.nodes)) % self.setup.nodes;
        let (first, second) = (host::name(victim), host::name(other));
        self.count += 1;
        let first_kind = if self.setup.crashes { 0 } else { 2 };
        let trouble = match self.random.random_range(first_kind..6) {
            0 => {
                sim.crash(first);
                Trouble::Crash(victim)
            }
            1 => {
                sim.bounce(first);
                Trouble::Past
            }
            2 => {
                sim.partition_oneway(first, second);
                Trouble::OneWay(victim, other)
            }
            3 => {
                sim.partition(first, second);
                Trouble::Pair(victim, other)
            }
            4 => {
                self.others(victim).for_each(|other| sim.partition(host::name(victim), other));
                Trouble::CutOff(victim)
            }
            _ => {
                sim.hold(first, second);
                Trouble::Hold(victim, other)
            }
        };
        let lasts = Duration::from_millis(self.random.random_range(100..5_000));
        self.trouble = Some((sim.elapsed() + lasts, trouble));
    }

    fn end(&self, sim: &mut Sim<'_>, trouble: Trouble) {
        match trouble {
            Trouble::Crash(n) => sim.bounce(host::name(n)),
            Trouble::OneWay(from, to) => sim.repair_oneway(host::name(from), host::name(to)),
            Trouble::Pair(a, b) => sim.repair(host::name(a), host::name(b)),
            Trouble::CutOff(n) => {
                self.others(n).for_each(|other| sim.repair(host::name(n), other));
            }
            Trouble::Hold(a, b) => sim.release(host::name(a), host::name(b)),
            Trouble::Past => {}
        }
    }

    fn others(&self, n: usize) -> impl Iterator<Item = String> {
        (0..self.setup.nodes).filter(move |other| *other != n).map(host::name)
    }
}
