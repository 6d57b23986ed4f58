//! The metrics of connections. The guide of `steadfast` lists them.

use std::sync::{Mutex, PoisonError};

use metrics::{describe_gauge, gauge};

/// An open connection. It is counted until this is dropped.
pub(crate) struct OpenConnection;

impl OpenConnection {
    pub(crate) fn new() -> Self {
        describe_gauge!("steadfast_redis_connections", "Connections to Redis for store calls");
        describe_gauge!("steadfast_redis_waiting", "Commands that wait for an answer of Redis");
        count(1);
        Self
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        count(-1);
    }
}

/// Updates the gauge, which is the sum over all stores of the process. It is set to an absolute
/// value, because the recorder may be installed after a connection was opened. The lock makes the
/// last update the newest one.
fn count(change: i64) {
    static OPEN: Mutex<i64> = Mutex::new(0);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    *open += change;
    gauge!("steadfast_redis_connections").set(*open as f64);
}
