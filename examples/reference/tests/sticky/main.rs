//! Three sticky nodes as processes, over one Redis, with the balancers whose configurations are
//! shipped: that they stick, and that nothing is lost when a node ends, returns, stands still or drains.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod service;

mod balancers;
mod failures;
mod astray;
