//! What goes wrong: crashes, pauses, partitions in one or both directions, wrong views, nodes that
//! are drained and restarted, and one that joins and leaves.
//!
//! No more nodes are in trouble at a time than there are backups, repair time included: that is what
//! is promised. A partition cuts a node off, or a pair of nodes from each other.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Setup;
use super::world::{Random, World};
use crate::engine::config::{Acks, Copies, Partition};

pub(super) struct Faults {
    random: Random,
    setup: Setup,
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
    /// Ends a node, once it is drained.
    Stop(usize),
}

impl Faults {
    pub(super) fn new(seed: u64, setup: Setup) -> Self {
        let backups = match setup.copies {
            Copies::All => setup.nodes - 1,
            Copies::Backups(k) => k,
        };
        let crashes = match setup.acks {
            Acks::One => 1,
            Acks::All => backups,
        };
        Self {
            random: Random(seed ^ 0xfa17),
            setup,
            at_once: crashes.min((setup.nodes - 1) / 2).max(1),
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
            self.repair(world, repair);
        }
        if self.repairs.is_empty() && !self.in_trouble.is_empty() && world.is_settled() {
            self.in_trouble.clear();
        }
        if world.time >= self.next_at && self.in_trouble.len() < self.at_once {
            self.next_at = world.time + self.random.micros(300_000, 2_000_000);
            self.strike(world);
        }
    }

    /// Repairs everything; what is being drained comes to its end first.
    pub(super) fn heal(&mut self, world: &mut World) -> Result<(), String> {
        let is_stop = |(_, repair): &(Duration, Repair)| matches!(repair, Repair::Stop(_));
        let (stops, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.repairs).into_iter().partition(is_stop);
        for (_, repair) in others {
            self.repair(world, repair);
        }
        world.cut.clear();
        self.repairs = stops;
        let end = world.time + Duration::from_secs(60);
        while !self.repairs.is_empty() {
            if world.time >= end {
                return Err("a drain never ends".to_owned());
            }
            world.step(Duration::from_millis(100));
            for (_, repair) in std::mem::take(&mut self.repairs) {
                self.repair(world, repair);
            }
        }
        Ok(())
    }

    fn strike(&mut self, world: &mut World) {
        let count = world.nodes.len() as u64;
        let (victim, other) =
            (self.random.below(count) as usize, self.random.below(count) as usize);
        let kinds = if self.setup.spares > 0 { 10 } else { 6 };
        let kind = self.random.below(kinds);
        let victim = if kind >= 8 { self.setup.nodes } else { victim };
        let is_new = kind >= 8 && !world.nodes[victim].belongs;
        if !(is_new || world.is_up(victim)) || !self.in_trouble.insert(victim) {
            return;
        }
        self.count += 1;
        let lasts = self.random.micros(100_000, 6_000_000);
        let until = world.time + lasts;
        match kind {
            0 if self.setup.partition == Partition::Fail => {
                world.crash(victim);
                self.repairs.push((until, Repair::Restart(victim)));
            }
            0 | 1 => world.pause(victim, until),
            2 if other != victim => self.cut(world, until, vec![(victim, other)]),
            3 if other != victim => self.cut(world, until, vec![(victim, other), (other, victim)]),
            4 => {
                let others = (0..world.nodes.len()).filter(|n| *n != victim);
                self.cut(world, until, others.flat_map(|n| [(n, victim), (victim, n)]).collect());
            }
            5 if other != victim && world.is_up(other) => world.take_for_dead(other, victim),
            8.. if is_new => world.join(victim),
            6.. => {
                world.drain(victim);
                self.repairs.push((until, Repair::Stop(victim)));
            }
            _ => {}
        }
    }

    fn cut(&mut self, world: &mut World, until: Duration, directions: Vec<(usize, usize)>) {
        world.cut.extend(directions.iter().copied());
        self.repairs.push((until, Repair::Heal(directions)));
    }

    fn repair(&mut self, world: &mut World, repair: Repair) {
        match repair {
            Repair::Restart(n) => world.start(n),
            Repair::Heal(directions) => {
                for direction in directions {
                    world.cut.remove(&direction);
                }
            }
            Repair::Stop(n) if !world.nodes[n].is_drained => {
                self.repairs.push((world.time, repair));
            }
            Repair::Stop(n) => {
                world.crash(n);
                world.nodes[n].belongs = n < self.setup.nodes;
                if world.nodes[n].belongs {
                    let away = self.random.micros(100_000, 6_000_000);
                    self.repairs.push((world.time + away, Repair::Restart(n)));
                }
            }
        }
    }
}
