//! The tests of tower-sessions 0.14, and the examples of its documentation, over a bridge.

#![allow(
    missing_docs,
    unexpected_cfgs,
    unused_imports,
    unused_variables,
    unreachable_pub,
    clippy::all
)]
#![allow(
    clippy::dbg_macro,
    clippy::uninlined_format_args,
    clippy::unwrap_used,
    reason = "they are tests of others"
)]

extern crate tower_sessions_0_14 as tower_sessions;

#[macro_use]
mod upstream;

tests_of_tower_sessions!(
    "/common_0_14.rs",
    "/service_0_14.rs",
    "/documentation_0_14.rs",
    over: memory, sticky, redis, postgres, replicated
);
