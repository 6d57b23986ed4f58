//! The Redis store's effect on its servers, and its behaviour when they fail.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod fixture;

mod costs;
mod privileges;
mod checks;
mod index;
mod endings;
mod formats;
mod limits;
mod changes;
mod errors;
mod outages;
mod connections;
mod given;
mod failover;
mod resharding;
mod tls;
