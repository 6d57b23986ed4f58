//! Does one job with a counting allocator, which would slow down the other jobs.

use std::alloc::System;

use benchmark::measure::{CountingJob, Heap, job};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> anyhow::Result<()> {
    println!("{}", job::<CountingJob>()?.run(&heap)?);
    Ok(())
}

fn heap() -> Heap {
    let stats = ALLOCATOR.stats();
    Heap {
        allocations: stats.allocations + stats.reallocations,
        live: stats.bytes_allocated as i64 - stats.bytes_deallocated as i64,
    }
}
