//! What goes wrong: crashes, pauses, partitions in one or both directions, and wrong views.
//!
//! No more nodes are in trouble at a time than there are backups, repair time included: that is what
//! is promised. A partition cuts a node off, or a pair of nodes from each other.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Setup;
use super::world::{Random, World};
use crate::engine::config::Copies;

pub(super) struct Faults {
    random: Random,
    at_once: usize,
    in_trouble: BTreeSet<usize>,
    repairs: Vec<(Duration, Repair)>,
    next_at: Duration,
    count: u64,
}

#[derive(Clone)]
enum Repair {
    Restart(usize),
    Heal(Vec<(usize, usize)>),
}

impl Faults {
    pub(super) fn new(seed: u64, setup: Setup) -> Self {
        let backups = match setup.copies {
            Copies::All => setup.nodes - 1,
            Copies::Backups(k) => k,
        };
        let crashes = match setup.acks {
            crate::engine::config::Acks::One => 1,
            crate::engine::config::Acks::All => backups,
        };
        let at_once = crashes.min((setup.nodes - 1) / 2).max(1);
        Self {
            random: Random(seed ^ 0xfa17),
            at_once,
            in_trouble: BTreeSet::new(),
            repairs: Vec::new(),
            next_at: Duration::ZERO,
            count: 0,
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Repairs what is due, and breaks something if nothing was for a while.
    pub(super) fn next(&mut self, world: &mut World) {
        let (due, later) = std::mem::take(&mut self.repairs)
            .into_iter()
            .partition(|(at, _): &(Duration, Repair)| *at <= world.time);
        self.repairs = later;
        for (_, repair) in due {
            Self::repair(world, repair);
        }
        if self.repairs.is_empty() && !self.in_trouble.is_empty() && world.is_settled() {
            self.in_trouble.clear();
        }
        if world.time >= self.next_at && self.in_trouble.len() < self.at_once {
            self.next_at = world.time + self.random.micros(300_000, 2_000_000);
            self.strike(world);
        }
    }

    pub(super) fn heal(&mut self, world: &mut World) {
        for (_, repair) in std::mem::take(&mut self.repairs) {
            Self::repair(world, repair);
        }
        world.cut.clear();
    }

    fn strike(&mut self, world: &mut World) {
        let count = world.nodes.len() as u64;
        let (victim, other) =
            (self.random.below(count) as usize, self.random.below(count) as usize);
        if !world.is_up(victim) || !self.in_trouble.insert(victim) {
            return;
        }
        self.count += 1;
        let lasts = self.random.micros(100_000, 6_000_000);
        let until = world.time + lasts;
        match self.random.below(6) {
            0 => {
                world.crash(victim);
                self.repairs.push((until, Repair::Restart(victim)));
            }
            1 => world.pause(victim, until),
            2 if other != victim => self.cut(world, until, vec![(victim, other)]),
            3 if other != victim => self.cut(world, until, vec![(victim, other), (other, victim)]),
            4 => {
                let others = (0..world.nodes.len()).filter(|n| *n != victim);
                self.cut(world, until, others.flat_map(|n| [(n, victim), (victim, n)]).collect());
            }
            _ if other != victim && world.is_up(other) => world.take_for_dead(other, victim),
            _ => {}
        }
    }

    fn cut(&mut self, world: &mut World, until: Duration, directions: Vec<(usize, usize)>) {
        world.cut.extend(directions.iter().copied());
        self.repairs.push((until, Repair::Heal(directions)));
    }

    fn repair(world: &mut World, repair: Repair) {
        match repair {
            Repair::Restart(n) => world.start(n),
            Repair::Heal(directions) => {
                for direction in directions {
                    world.cut.remove(&direction);
                }
            }
        }
    }
}
