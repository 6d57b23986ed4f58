//! One execution each: what threads do at the same time, and what must hold afterwards.

pub mod breaker;
pub mod memory;
