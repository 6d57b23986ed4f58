//! Entry points of the fuzz targets. No part of the interface: it changes with what it shows.

use std::time::Duration;

use steadfast_replication::member::Boot;
use steadfast_replication::wire::{self, Ends, Frame, Greeting};

use crate::detector::{BEAT, Detector};

/// The body of a frame as this version writes it; `None` if it is of no kind that it knows.
pub fn frame(body: &[u8]) -> Option<Vec<u8>> {
    match wire::decode(body, ENDS).ok()?? {
        Frame::Packet(packet) => Some(wire::encode(&packet, ENDS)),
        Frame::Gossip(gossip) => Some(wire::encode_gossip(gossip)),
    }
}

/// A greeting as this version writes it; `None` if the bytes are not one.
pub fn greeting(bytes: &[u8]) -> Option<Vec<u8>> {
    Greeting::decode(bytes).ok().map(|greeting| greeting.encode())
}

/// Returns the packets that a detector sends after a linked node has sent it these. It never
/// declares that node dead.
pub fn gossip<'p>(packets: impl IntoIterator<Item = &'p [u8]>) -> Vec<Vec<u8>> {
    let (mut detector, mut now) = (Detector::new(ENDS.to, 7), Duration::ZERO);
    detector.reached(now, ENDS.from);
    let mut sent = Vec::new();
    for packet in packets {
        now += BEAT;
        detector.pass(now);
        let _ = detector.heard(now, ENDS.from, packet);
        assert!(!detector.dead().contains(&ENDS.from), "a node with a link is alive");
        sent.extend(detector.take_gossip().into_iter().map(|(_, gossip)| gossip));
    }
    sent
}

const ENDS: Ends = Ends { from: Boot::new([1; 16]), to: Boot::new([2; 16]) };
