//! Measures sessions: steadfast beside its peers, in one run. `README.md` says how, and what the
//! figures mean.

pub mod cases;
pub mod client;
pub mod peers;
pub mod servers;
pub mod node;
pub mod service;

pub mod measure;
pub mod report;
