//! The cost of a service over a period: the bytes that its processes exchange, and processor time.

use std::time::{Duration, Instant};

use crate::procfs::{Part, Usage};
use crate::service::Service;

/// The cost of a period.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// The length of the period.
    pub length: Duration,
    /// Bytes between nodes, and between nodes and server.
    pub bytes: f64,
    /// Processor time of all processes, in milliseconds.
    pub cpu_ms: f64,
}

/// Memory of a service.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Of a node on average, in bytes.
    pub node: f64,
    /// Of the server, in bytes, 0 without one.
    pub server: f64,
}

/// Measures the cost of a service while a future runs.
///
/// # Errors
///
/// If the system does not report the bytes.
pub async fn observe(
    service: &Service,
    happens: impl Future<Output = ()>,
) -> anyhow::Result<Observed> {
    let (bytes, usage, started) = (service.inner_bytes()?, Usage::now(), Instant::now());
    happens.await;
    let (length, usage_after) = (started.elapsed(), Usage::now());
    let bytes = service.inner_bytes()?.saturating_sub(bytes) as f64;
    Ok(Observed { length, bytes, cpu_ms: usage_after.all_milliseconds_since(&usage) })
}

impl Memory {
    /// The memory of all nodes and servers of this program.
    pub fn now() -> Self {
        let usage = Usage::now();
        let nodes = usage.processes(Part::Nodes).max(1) as f64;
        let bytes = |part| usage.kilobytes(part) as f64 * 1_024.0;
        Self { node: bytes(Part::Nodes) / nodes, server: bytes(Part::Server) }
    }
}
