//! Any bytes as gossip of a node that is linked: they kill neither it nor the one that hears them, and
//! what that says then fits into a packet.

#![no_main]

use libfuzzer_sys::fuzz_target;
use steadfast_replicated::fuzzing::gossip;

fuzz_target!(|bytes: &[u8]| {
    let packets = bytes.split(|byte| *byte == 0xfe);
    for said in gossip(packets) {
        assert!(said.len() <= 4_096);
    }
});
