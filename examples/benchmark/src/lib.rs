//! Measures the cost of sessions: steadfast beside its peers, in one run. `README.md` describes the
//! methods and the figures.

pub mod cases;
pub mod client;
pub mod peers;
pub mod servers;
pub mod node;
pub mod service;

pub mod measure;
pub mod report;
