//! The memory that malicious bytes can take.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use steadfast_replication::member::Boot;
use steadfast_replication::wire::{Ends, decode};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The fields of a frame that are lists, maps or messages, by the tags that lead to them.
const PATHS: &[&[u8]] = &[
    &[1],
    &[2],
    &[2, 3, 5, 1],
    &[2, 3, 6, 1],
    &[2, 3, 7, 1],
    &[2, 3, 8],
    &[2, 3, 9],
    &[2, 3, 10, 1],
    &[2, 12, 2],
    &[2, 15, 1],
    &[2, 22, 2],
    &[1, 10, 1, 4, 2, 4],
    &[1, 10, 1, 6, 2, 5],
    &[1, 10, 1, 6, 2, 8],
    &[1, 10, 1, 5, 2],
    &[1, 10, 2, 2, 1, 2],
    &[1, 10, 2, 2, 1, 4, 1],
    &[1, 10, 4, 5, 1],
    &[1, 10, 4, 3, 2, 5],
    &[1, 10, 4, 4, 3, 5, 1],
    &[1, 10, 11, 3, 1],
    &[1, 10, 14, 2, 1],
    &[1, 10, 33, 3, 5, 1],
    &[1, 10, 34, 1],
];

// One test, since memory is counted for the whole process.
/// Shows CL-07.
#[test]
fn a_flood_of_elements_takes_little_memory() {
    for path in PATHS {
        for element in [&[][..], &[0], &[1; 40]] {
            let (tag, outer) = path.split_last().expect("a path has a field");
            let element = field(*tag, element);
            let flood = element.repeat((1 << 20) / element.len());
            let frame = outer.iter().rev().fold(flood, |inner, tag| field(*tag, &inner));
            let region = Region::new(ALLOCATOR);
            let decoded = decode(&frame, ENDS);
            let allocated = region.change().bytes_allocated;
            drop(decoded);
            let limit = 32 * frame.len() + (4 << 20);
            assert!(allocated <= limit, "{path:?}: {allocated} for {}", frame.len());
        }
    }
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = varint(usize::from(tag) << 3 | 2);
    bytes.extend(varint(content.len()));
    bytes.extend(content);
    bytes
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

const ENDS: Ends = Ends { from: Boot::new([1; 16]), to: Boot::new([2; 16]) };
