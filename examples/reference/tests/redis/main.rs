//! Three nodes that share their sessions in Redis, and a Redis that dies, hangs and is replaced.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod fixture;

mod costs;
mod sharing;
mod outages;
mod failover;
mod operation;
