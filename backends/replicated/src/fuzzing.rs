//! What the fuzz targets reach. No part of the interface: it changes with what it shows.

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
