//! The server from outside: its program, its options, its routes.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod sessions;
mod failures;
mod test_routes;
mod control;
mod live;
mod options;

mod page;
mod browser;
