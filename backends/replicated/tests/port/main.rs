//! The cluster port: who may open it, who may speak to it, and what can be read on the wire.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod strangers;
mod traffic;
mod secrets;
mod peers;

mod authority;
mod common;
mod tap;
