//! The parts of the end-to-end tests: the reference server as a process, and clients that drive it
//! over HTTP.
//!
//! Everything that is started here ends with the value that stands for it. A test that uses it belongs
//! to the package `reference`, so that the program it drives is the one just built.

#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test kit fails by panicking"
)]

pub mod server;
pub mod client;
pub mod raw;
pub mod events;
pub mod example;
pub mod shopper;
pub mod nginx;
pub mod haproxy;
pub mod cluster;
pub mod network_faults;
pub mod faults;
pub mod sieve;
pub mod messages;
pub mod balancer;
pub mod load;
pub mod ports;
pub mod eventually;

pub mod postgres;
pub mod redis;

pub use balancer::{Balancer, Policy};
pub use client::{Client, Reply};
pub use cluster::Cluster;
pub use events::Events;
pub use eventually::{eventually, within};
pub use example::Example;
pub use haproxy::Haproxy;
pub use load::Load;
pub use network_faults::Wires;
pub use nginx::Nginx;
pub use postgres::Postgres;
pub use raw::Raw;
pub use server::Server;
pub use shopper::Shopper;
