//! One reliable stream of messages per ordered pair of boots, over all links that lead from one to the
//! other.
//!
//! A message is sent until the receiver covers its number, and handled once, in the order of the numbers
//! (rule N1). It belongs to an epoch: the change of an epoch drops what is queued on both sides, and the
//! numbers go on. Where everything is covered, nothing is sent.

mod horizon;
mod inbox;
mod outbox;
mod packet;
mod route;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use self::horizon::{Age, Horizon};
use self::inbox::Inbox;
use self::outbox::Outbox;
pub use self::packet::{Content, Covered, Packet};
use self::route::{Links, Route};
use crate::epoch::{Epoch, EpochId};
use crate::member::Boot;
use crate::rules::Rules;

/// One node's ends of all streams.
///
/// It is given messages, packets, the state of links and the time, and answers with messages in order
/// ([`next_message`](Self::next_message)) and packets to send ([`take_packets`](Self::take_packets)).
#[derive(Clone, Debug)]
pub struct Paths<M> {
    me: Boot,
    rules: Rules,
    horizon: Horizon,
    links: Links,
    peers: BTreeMap<Boot, Peer<M>>,
    /// The number of streams that this boot began: it never reuses the number of a stream.
    streams: u64,
    /// The boot whose message was handled last: the others have their turn first.
    turn: Boot,
    outgoing: Outgoing<M>,
}

/// Both streams between this node and another one.
#[derive(Clone, Debug)]
struct Peer<M> {
    outbox: Outbox<M>,
    inbox: Inbox<M>,
    route: Route,
}

#[derive(Clone, Debug)]
struct Outgoing<M> {
    packets: Vec<(Boot, Packet<M>)>,
    relayed: u64,
}

/// The sender's part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Arrival {
    /// It is in the epoch of this node.
    Current,
    /// It is in an epoch that this node left or skipped: its message is dropped, and it has to be sent the
    /// newer one.
    Behind,
    /// It is in an epoch that this node has not learned: its message waits until then, and the epoch has to
    /// be fetched.
    Ahead,
    /// Nothing: the packet was for another boot.
    Relayed,
}

impl<M: Clone> Paths<M> {
    /// A node without links that has learned no epoch.
    pub fn new(me: Boot, rules: Rules) -> Self {
        Self {
            me,
            rules,
            horizon: Horizon::default(),
            links: Links::default(),
            peers: BTreeMap::new(),
            streams: 0,
            turn: me,
            outgoing: Outgoing { packets: Vec::new(), relayed: 0 },
        }
    }

    /// Queues a message, with its size in bytes. It is dropped unless `epoch` is that of this node and
    /// lists the receiver.
    pub fn send(&mut self, to: Boot, epoch: EpochId, message: M, size: usize) {
        if Some(epoch) == self.horizon.current() && self.horizon.lists(to) && to != self.me {
            self.peer(to).outbox.push(message, size);
        }
    }

    /// Changes messages that wait to be sent, or to be sent again: what became pointless is not to arrive late.
    pub fn amend(&mut self, change: impl Fn(&mut M)) {
        self.peers.values_mut().for_each(|peer| peer.outbox.amend(&change));
    }

    /// Takes a packet that came over the link to a boot.
    pub fn receive(&mut self, link: Boot, packet: Packet<M>, now: Duration) -> Arrival {
        if packet.to != self.me || packet.from == self.me {
            self.relay(link, packet);
            return Arrival::Relayed;
        }
        let age = self.horizon.age(packet.epoch);
        // A boot keeps the messages of members in whose epoch it is not listed yet.
        if age == Age::Unknown || self.horizon.lists(packet.from) {
            self.take_in(packet, now);
        }
        match age {
            Age::Earlier => Arrival::Behind,
            Age::Current => Arrival::Current,
            Age::Unknown => Arrival::Ahead,
        }
    }

    /// Passes a packet on. One that was passed on before is dropped: one hop, and no circles.
    fn relay(&mut self, link: Boot, packet: Packet<M>) {
        let to = packet.to;
        if link == packet.from && to != link && self.links.are_open_to(to) {
            self.outgoing.relayed += 1;
            self.outgoing.packets.push((to, packet));
        }
    }

    fn take_in(&mut self, packet: Packet<M>, now: Duration) {
        let rules = self.rules;
        let Packet { from, epoch, stream, first, covered, content, .. } = packet;
        let peer = self.peer(from);
        peer.outbox.cover(covered);
        if peer.inbox.follow(stream, first)
            && let Some(content) = content
        {
            let was_covered = peer.inbox.has_covered(content.number);
            peer.inbox.keep(content, epoch, now, rules);
            if was_covered && let Some(link) = self.link(from, now) {
                self.on_loss(link, from, now);
            }
        }
    }

    /// The next message in order of any boot, and its sender. Messages of an epoch that this node has not
    /// learned wait.
    pub fn next_message(&mut self, now: Duration) -> Option<(Boot, M)> {
        let after = (Bound::Excluded(self.turn), Bound::Unbounded);
        let others: Vec<Boot> = self.peers.range(after).map(|(boot, _)| *boot).collect();
        let rest = self.peers.range(..=self.turn).map(|(boot, _)| *boot);
        for from in others.into_iter().chain(rest.collect::<Vec<_>>()) {
            let peer = self.peers.get_mut(&from)?;
            if let Some(message) = peer.inbox.pop(from, &self.horizon, now) {
                self.turn = from;
                return Some((from, message));
            }
        }
        None
    }

    /// Enters an epoch: drops queued messages, and forgets boots that are not members.
    pub fn on_epoch(&mut self, epoch: &Epoch) {
        self.horizon.enter(epoch);
        let horizon = &self.horizon;
        self.peers.retain(|boot, _| horizon.lists(*boot));
        for peer in self.peers.values_mut() {
            peer.outbox.clear();
            peer.inbox.on_epoch(horizon);
        }
    }

    /// A direct link to a boot is there.
    pub fn connected(&mut self, boot: Boot) {
        self.links.open(boot);
        if let Some(peer) = self.peers.get_mut(&boot) {
            peer.route.reset();
        }
    }

    /// The direct link to a boot is gone: what was sent over it goes another way immediately.
    pub fn disconnected(&mut self, boot: Boot) {
        self.links.close(boot);
        self.outgoing.packets.retain(|(link, _)| *link != boot);
        for peer in self.peers.values_mut() {
            peer.outbox.on_link_lost(boot);
        }
    }

    /// Returns true if a boot is suspected: it relays only if no other can.
    pub fn suspect(&mut self, boot: Boot, is_suspected: bool) {
        self.links.suspect(boot, is_suspected);
    }

    /// Sends again what was not covered in time, and says what was handled. To be called every 10 to 25 ms,
    /// after all packets that wait.
    pub fn tick(&mut self, now: Duration) {
        for to in self.peers.keys().copied().collect::<Vec<_>>() {
            let over = self.peers.get(&to).and_then(|peer| peer.outbox.overdue(now));
            if let Some(link) = over {
                self.on_loss(link, to, now);
            }
        }
        self.transmit(now, Outbox::take_overdue, |inbox| inbox.is_due(now));
    }

    /// Takes the packets to send, each with the boot whose link it goes over.
    pub fn take_packets(&mut self, now: Duration) -> Vec<(Boot, Packet<M>)> {
        self.transmit(now, Outbox::take_unsent, Inbox::owes_many);
        std::mem::take(&mut self.outgoing.packets)
    }

    fn transmit(
        &mut self,
        now: Duration,
        take: impl Fn(&mut Outbox<M>, Boot, Duration) -> Vec<Content<M>>,
        is_due: impl Fn(&Inbox<M>) -> bool,
    ) {
        let Some(epoch) = self.horizon.current() else {
            return;
        };
        for (to, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.is_at_rest()) {
            let Some(link) = peer.route.link(*to, &self.links, &self.horizon, now) else {
                continue;
            };
            let contents = take(&mut peer.outbox, link, now);
            let bare = contents.is_empty() && is_due(&peer.inbox);
            for content in contents.into_iter().map(Some).chain(bare.then_some(None)) {
                let packet = peer.packet((self.me, *to), epoch, content);
                self.outgoing.packets.push((link, packet));
            }
        }
    }

    /// Notes that a packet to a boot over a link, or its answer, was lost.
    fn on_loss(&mut self, link: Boot, to: Boot, now: Duration) {
        if self.link(to, now) == Some(link)
            && let Some(peer) = self.peers.get_mut(&to)
        {
            peer.route.on_loss(link, to, now);
        }
    }

    fn link(&self, to: Boot, now: Duration) -> Option<Boot> {
        self.peers.get(&to)?.route.link(to, &self.links, &self.horizon, now)
    }

    fn peer(&mut self, boot: Boot) -> &mut Peer<M> {
        let streams = &mut self.streams;
        self.peers.entry(boot).or_insert_with(|| {
            *streams += 1;
            Peer { outbox: Outbox::new(*streams), inbox: Inbox::new(), route: Route::default() }
        })
    }

    /// The size of all messages to a boot that it has not covered, in bytes.
    pub fn backlog(&self, to: Boot) -> usize {
        self.peers.get(&to).map_or(0, |peer| peer.outbox.backlog())
    }

    /// Returns the number of other boots' packets that this node passed on.
    pub fn relayed(&self) -> u64 {
        self.outgoing.relayed
    }
}

impl<M: Clone> Peer<M> {
    fn packet(
        &mut self,
        (from, to): (Boot, Boot),
        epoch: EpochId,
        content: Option<Content<M>>,
    ) -> Packet<M> {
        let (stream, first) = (self.outbox.stream(), self.outbox.first());
        let covered = self.inbox.cover();
        Packet { from, to, epoch, stream, first, covered, content }
    }

    fn is_at_rest(&self) -> bool {
        self.outbox.is_empty() && !self.inbox.owes()
    }
}
