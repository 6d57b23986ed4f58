//! Services of several nodes over every store, and clients of theirs, within this process.

#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::unused_async,
    clippy::missing_panics_doc,
    reason = "a test kit fails by panicking, and every service is opened in the same way"
)]

mod client;
mod service;

pub use client::{Client, Reply};
pub use service::Service;
