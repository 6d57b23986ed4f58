//! Nodes with links between them that lose, double, reorder and delay packets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::epoch::tests::{boot, grown, joining, next};
use crate::epoch::{Change, Epoch};
use crate::member::Boot;
use crate::paths::{Packet, Paths};
use crate::rules::Rules;

/// The size of each message, in bytes.
pub(super) const SIZE: usize = 10;

/// The number of epochs that a test can pass through. Node 3 is a member except in the third one.
pub(super) const EPOCHS: usize = 6;

static CHAIN: LazyLock<Vec<Arc<Epoch>>> = LazyLock::new(|| {
    let changes = [
        Change::Drain(boot(3)),
        Change::Leave(boot(3)),
        Change::Join(joining(3)),
        Change::SetAside(boot(1)),
        Change::ComeBack(boot(1)),
    ];
    let mut chain = vec![grown(4)];
    for change in changes {
        let last = chain.last().expect("it begins with one");
        chain.push(next(last, &[change]).expect("each applies"));
    }
    chain.into_iter().map(Arc::new).collect()
});

pub(super) fn epoch(n: usize) -> &'static Epoch {
    &CHAIN[n]
}

/// A message: in which epoch it was sent, and how many were sent to the same node in it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) epoch: usize,
    pub(super) nth: u64,
}

/// The nodes 0 to 3, or some of them, by number.
pub(super) struct Net {
    pub(super) now: Duration,
    nodes: BTreeMap<usize, Node>,
    flying: Vec<Flight>,
    /// Links that lose all packets in this direction, unnoticed.
    holes: BTreeSet<(usize, usize)>,
    sent: BTreeMap<(usize, usize, usize), u64>,
    handled: Vec<(usize, usize, Label)>,
}

struct Node {
    paths: Paths<Label>,
    epoch: Option<usize>,
    linked: BTreeSet<usize>,
}

#[derive(Clone)]
pub(super) struct Flight {
    pub(super) over: (usize, usize),
    pub(super) packet: Packet<Label>,
}

impl Net {
    /// Nodes that all have links to each other, in no epoch.
    pub(super) fn new(numbers: &[usize], rules: Rules) -> Self {
        let node = |n: &usize| {
            let paths = Paths::new(boot(*n), rules);
            (*n, Node { paths, epoch: None, linked: BTreeSet::new() })
        };
        let nodes = numbers.iter().map(node).collect();
        let mut net = Self {
            now: Duration::from_secs(100),
            nodes,
            flying: Vec::new(),
            holes: BTreeSet::new(),
            sent: BTreeMap::new(),
            handled: Vec::new(),
        };
        net.mend_all();
        net
    }

    /// The same, in the first epoch.
    pub(super) fn started(numbers: &[usize]) -> Self {
        let mut net = Self::new(numbers, Rules::default());
        net.all_learn(0);
        net
    }

    pub(super) fn paths(&mut self, n: usize) -> &mut Paths<Label> {
        &mut self.node(n).paths
    }

    fn node(&mut self, n: usize) -> &mut Node {
        self.nodes.get_mut(&n).expect("it is one of the net")
    }

    pub(super) fn numbers(&self) -> Vec<usize> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn learn(&mut self, n: usize, number: usize) {
        let node = self.node(n);
        if node.epoch.is_none_or(|known| known < number) {
            node.epoch = Some(number);
            node.paths.on_epoch(epoch(number));
        }
    }

    pub(super) fn all_learn(&mut self, number: usize) {
        self.numbers().into_iter().for_each(|n| self.learn(n, number));
    }

    /// Learns the epochs after the one that is known.
    pub(super) fn learn_later(&mut self, n: usize, by: usize) {
        let number = self.node(n).epoch.map_or(0, |known| known + by);
        self.learn(n, number.min(EPOCHS - 1));
    }

    pub(super) fn send(&mut self, from: usize, to: usize) {
        let Some(number) = self.node(from).epoch else {
            return;
        };
        if from == to || epoch(number).member(boot(to)).is_none() {
            return;
        }
        let nth = self.sent.entry((from, to, number)).or_default();
        let label = Label { epoch: number, nth: *nth };
        *nth += 1;
        self.paths(from).send(boot(to), epoch(number).id(), label, SIZE);
        self.collect();
    }

    /// Takes what the nodes want to send.
    pub(super) fn collect(&mut self) {
        for (n, node) in &mut self.nodes {
            for (link, packet) in node.paths.take_packets(self.now) {
                let over = (*n, number(link));
                assert!(node.linked.contains(&over.1), "there is no such link");
                if !self.holes.contains(&over) {
                    self.flying.push(Flight { over, packet });
                }
            }
        }
    }

    pub(super) fn flying(&mut self) -> &mut Vec<Flight> {
        self.collect();
        &mut self.flying
    }

    pub(super) fn arrive(&mut self, flight: Flight) {
        let (now, (sender, receiver)) = (self.now, flight.over);
        let _ = self.paths(receiver).receive(boot(sender), flight.packet, now);
    }

    pub(super) fn handle(&mut self, n: usize) {
        let now = self.now;
        while let Some((from, label)) = self.paths(n).next_message(now) {
            self.handled.push((number(from), n, label));
        }
    }

    /// Lets packets arrive, in order, until none is under way.
    pub(super) fn settle(&mut self) {
        while !self.flying().is_empty() {
            for flight in std::mem::take(&mut self.flying) {
                self.arrive(flight);
            }
            self.numbers().into_iter().for_each(|n| self.handle(n));
        }
    }

    pub(super) fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        let now = self.now;
        self.nodes.values_mut().for_each(|node| node.paths.tick(now));
        self.collect();
    }

    /// Time passes while packets arrive. Returns how many there were.
    pub(super) fn run(&mut self, milliseconds: u64) -> usize {
        let mut packets = 0;
        for _ in 0..milliseconds / 10 {
            self.pass(10);
            packets += self.flying().len();
            self.settle();
        }
        packets
    }

    pub(super) fn cut(&mut self, one: usize, other: usize) {
        for (n, peer) in [(one, other), (other, one)] {
            if self.node(n).linked.remove(&peer) {
                self.paths(n).disconnected(boot(peer));
            }
        }
        self.flying.retain(|flight| ![(one, other), (other, one)].contains(&flight.over));
    }

    pub(super) fn mend(&mut self, one: usize, other: usize) {
        for (n, peer) in [(one, other), (other, one)] {
            self.holes.remove(&(n, peer));
            if n != peer && self.node(n).linked.insert(peer) {
                self.paths(n).connected(boot(peer));
            }
        }
    }

    pub(super) fn mend_all(&mut self) {
        let numbers = self.numbers();
        for one in &numbers {
            numbers.iter().for_each(|other| self.mend(*one, *other));
        }
    }

    /// Makes a link lose all packets in one direction.
    pub(super) fn break_silently(&mut self, from: usize, to: usize) {
        self.holes.insert((from, to));
    }

    /// Returns the messages of another node that a node handled.
    pub(super) fn handled(&self, from: usize, to: usize) -> Vec<Label> {
        let own = self.handled.iter().filter(|(f, t, _)| (*f, *t) == (from, to));
        own.map(|(_, _, label)| *label).collect()
    }

    pub(super) fn sent(&self, from: usize, to: usize, number: usize) -> u64 {
        self.sent.get(&(from, to, number)).copied().unwrap_or_default()
    }
}

fn number(of: Boot) -> usize {
    (0..4).find(|n| boot(*n) == of).expect("there are four nodes")
}
