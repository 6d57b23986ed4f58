//! What the fuzz targets reach. No part of the interface: it changes with what it shows.

use std::time::Duration;

use crate::membership::{BEAT, Membership, SwimMembership};
use crate::placement::Name;
use crate::wire::{self, Frame, Hello};

/// The body of a frame as this version writes it; `None` if it is none that it knows.
pub fn frame(body: &[u8]) -> Option<Vec<u8>> {
    match wire::decode(body).ok()?? {
        Frame::Message(message) => Some(wire::encode(&message)),
        Frame::Gossip(gossip) => Some(wire::encode_gossip(&gossip)),
    }
}

/// A hello as this version writes it; `None` if it is none.
pub fn hello(bytes: &[u8]) -> Option<Vec<u8>> {
    Hello::decode(bytes).ok().map(|hello| hello.encode())
}

/// What a membership that hears these packets from a node that is linked says to others. It never
/// takes that node for dead.
pub fn gossip<'p>(packets: impl IntoIterator<Item = &'p [u8]>) -> Vec<Vec<u8>> {
    let [me, peer] = ["n0", "n1"].map(|name| name.parse::<Name>().expect("a label"));
    let (mut members, mut now) = (SwimMembership::new(me, 1, 7), Duration::ZERO);
    members.reached(now, &peer);
    let mut said = Vec::new();
    for packet in packets {
        now += BEAT;
        members.pass(now);
        let _ = members.heard(now, &peer, packet);
        assert!(!members.dead().contains(&peer), "who is linked is alive");
        said.extend(members.take_gossip().into_iter().map(|(_, gossip)| gossip));
    }
    said
}
