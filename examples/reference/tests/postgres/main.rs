//! Three processes that share their sessions in PostgreSQL, and what becomes of them when it fails.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod service;
mod load;

mod sharing;
mod outages;
