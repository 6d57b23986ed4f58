//! The links between nodes.
//!
//! A link keeps the order of its packets, and loses none while it is open. In a cut direction,
//! packets wait. If that takes too long, the link breaks and they are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use steadfast_replication::member::Boot;

use crate::random::Random;

/// A pair of nodes: from, to.
pub type Direction = (usize, usize);

/// The open ends of links, and the cut directions.
#[derive(Debug)]
pub(super) struct Network<P> {
    ends: BTreeMap<Direction, End<P>>,
    cuts: BTreeMap<Direction, u32>,
    last_link: u64,
    /// The smallest delay of packets in each direction.
    distances: BTreeMap<Direction, Duration>,
    random: Random,
}

/// One end of a link, which sends packets in one direction.
#[derive(Debug)]
struct End<P> {
    link: u64,
    /// The process at the other end.
    peer: Boot,
    last_arrival: Duration,
    waiting: Vec<P>,
    /// The time since which packets wait, and the longest time that they may.
    stuck: Option<(Duration, Duration)>,
}

/// The fate of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent<P> {
    /// It arrives over a link, at a time.
    Arrives(u64, Duration, P),
    /// It waits for a cut to end.
    Waits,
    /// There is no link.
    Lost,
}

impl<P> Network<P> {
    /// Creates a network without links.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            ends: BTreeMap::new(),
            cuts: BTreeMap::new(),
            last_link: 0,
            distances: BTreeMap::new(),
            random: Random::new(seed, 2),
        }
    }

    /// Cuts directions, until each cut is ended.
    pub(super) fn cut(&mut self, directions: &[Direction]) {
        for direction in directions {
            *self.cuts.entry(*direction).or_default() += 1;
        }
    }

    /// Ends one cut of each direction.
    pub(super) fn heal(&mut self, directions: &[Direction]) {
        for direction in directions {
            if let Some(times) = self.cuts.get_mut(direction) {
                *times -= 1;
            }
        }
        self.cuts.retain(|_, times| *times > 0);
    }

    /// Ends all cuts.
    pub(super) fn heal_all(&mut self) {
        self.cuts.clear();
    }

    /// Returns true if a direction is cut.
    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// Returns true if packets get through both ways.
    pub(super) fn is_reached(&self, a: usize, b: usize) -> bool {
        !self.is_cut(a, b) && !self.is_cut(b, a)
    }

    /// Returns true if the end of a link at `from` is open.
    pub(super) fn is_open(&self, from: usize, to: usize) -> bool {
        self.ends.contains_key(&(from, to))
    }

    /// Returns the process at the other end, if the end at `from` belongs to this link.
    pub(super) fn peer(&self, from: usize, to: usize, link: u64) -> Option<Boot> {
        self.ends.get(&(from, to)).filter(|end| end.link == link).map(|end| end.peer)
    }

    /// Opens a link between two nodes with their boots, and returns its number.
    pub(super) fn open(&mut self, a: (usize, Boot), b: (usize, Boot), time: Duration) -> u64 {
        self.last_link += 1;
        for (from, to, peer) in [(a.0, b.0, b.1), (b.0, a.0, a.1)] {
            let distance = self.random.between(Duration::from_micros(80), Duration::from_millis(1));
            self.distances.entry((from, to)).or_insert(distance);
            let (link, waiting) = (self.last_link, Vec::new());
            let end = End { link, peer, last_arrival: time, waiting, stuck: None };
            self.ends.insert((from, to), end);
        }
        self.last_link
    }

    /// Delays all arrivals in a direction until a time.
    pub(super) fn hold(&mut self, from: usize, to: usize, until: Duration) {
        if let Some(end) = self.ends.get_mut(&(from, to)) {
            end.last_arrival = end.last_arrival.max(until);
        }
    }

    /// Closes the end at `from`. Returns the link, the process at the other end, and the time at
    /// which that notices, if packets get there.
    pub(super) fn close(
        &mut self,
        from: usize,
        to: usize,
        time: Duration,
    ) -> Option<(u64, Boot, Duration)> {
        let end = self.ends.remove(&(from, to))?;
        let seen = (time + self.delay(from, to)).max(end.last_arrival + Duration::from_micros(1));
        Some((end.link, end.peer, seen))
    }

    /// Returns the ends whose other end is closed.
    pub(super) fn half_open(&self) -> Vec<Direction> {
        let is_half = |(from, to): &&Direction| {
            let link = |at| self.ends.get(&at).map(|end| end.link);
            link((*from, *to)) != link((*to, *from))
        };
        self.ends.keys().filter(is_half).copied().collect()
    }

    /// Returns the open ends at a node.
    pub(super) fn peers(&self, node: usize) -> Vec<usize> {
        self.ends.keys().filter(|(from, _)| *from == node).map(|(_, to)| *to).collect()
    }

    /// Sends a packet.
    pub(super) fn send(&mut self, from: usize, to: usize, time: Duration, packet: P) -> Sent<P> {
        let delay = self.delay(from, to);
        let patience = self.random.millis(500, 4_000);
        let is_cut = self.is_cut(from, to);
        let Some(end) = self.ends.get_mut(&(from, to)) else {
            return Sent::Lost;
        };
        if is_cut || !end.waiting.is_empty() {
            end.waiting.push(packet);
            end.stuck.get_or_insert((time, patience));
            return Sent::Waits;
        }
        let arrival = (time + delay).max(end.last_arrival + Duration::from_micros(1));
        end.last_arrival = arrival;
        Sent::Arrives(end.link, arrival, packet)
    }

    /// Returns the directions whose packets have waited too long, so that their links are broken.
    pub(super) fn broken(&self, time: Duration) -> Vec<Direction> {
        let is_broken =
            |end: &End<P>| end.stuck.is_some_and(|(since, patience)| time >= since + patience);
        self.ends.iter().filter(|(_, end)| is_broken(end)).map(|(at, _)| *at).collect()
    }

    /// Returns, in order, the packets whose cut has ended, with their directions.
    pub(super) fn released(&mut self) -> Vec<(Direction, P)> {
        let cuts: BTreeSet<_> = self.cuts.keys().copied().collect();
        let mut released = Vec::new();
        for (direction, end) in self.ends.iter_mut().filter(|(at, _)| !cuts.contains(at)) {
            end.stuck = None;
            released.extend(std::mem::take(&mut end.waiting).into_iter().map(|p| (*direction, p)));
        }
        released
    }

    /// Draws a delay: mostly short, sometimes as long as a retransmission.
    pub(super) fn delay(&mut self, from: usize, to: usize) -> Duration {
        let distance = self.distances.get(&(from, to)).copied().unwrap_or_default();
        distance
            + match self.random.below(100) {
                0 => self.random.millis(5, 60),
                1..=9 => self.random.millis(1, 5),
                _ => self.random.between(Duration::from_micros(20), Duration::from_micros(400)),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    fn boot(n: u8) -> Boot {
        Boot::new([n; 16])
    }

    #[test]
    fn a_link_keeps_the_order_of_its_packets() {
        let mut network = Network::new(1);
        network.open((0, boot(0)), (1, boot(1)), SOON);
        let mut last = Duration::ZERO;
        for n in 0..1_000 {
            let Sent::Arrives(_, at, _) = network.send(0, 1, SOON * n, n) else {
                panic!("the link is open");
            };
            assert!(at > last && at >= SOON * n);
            last = at;
        }
    }

    #[test]
    fn packets_wait_while_a_direction_is_cut() {
        let mut network = Network::new(1);
        network.open((0, boot(0)), (1, boot(1)), SOON);
        network.cut(&[(0, 1)]);
        assert_eq!(network.send(0, 1, SOON, 'a'), Sent::Waits);
        assert!(matches!(network.send(1, 0, SOON, 'b'), Sent::Arrives(..)));
        assert_eq!(network.released(), []);
        network.heal(&[(0, 1)]);
        assert_eq!(network.released(), [((0, 1), 'a')]);
        assert_eq!(network.broken(SOON * 10_000), []);
    }

    #[test]
    fn a_link_breaks_that_is_cut_for_long() {
        let mut network = Network::new(1);
        network.open((0, boot(0)), (1, boot(1)), SOON);
        network.cut(&[(0, 1)]);
        network.send(0, 1, SOON, 'a');
        assert_eq!(network.broken(SOON * 400), []);
        assert_eq!(network.broken(SOON * 4_001), [(0, 1)]);
        network.close(0, 1, SOON * 4_001);
        assert_eq!(network.send(0, 1, SOON * 4_001, 'b'), Sent::Lost);
    }

    #[test]
    fn a_link_stays_cut_until_every_cut_heals() {
        let mut network = Network::<()>::new(1);
        network.cut(&[(0, 1)]);
        network.cut(&[(0, 1)]);
        network.heal(&[(0, 1)]);
        assert!(network.is_cut(0, 1));
        network.heal(&[(0, 1)]);
        assert!(network.is_reached(0, 1));
    }
}
