//! What an operator sees of the connections. The guide of `steadfast` lists it.

use std::sync::{Mutex, PoisonError};

use metrics::{describe_gauge, gauge};

/// A connection, as metrics show it until this is dropped.
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

/// The stores of a process add up. Set and not changed, since the recorder may be younger than a
/// connection, and under a lock, so that the last one to set it has the newest count.
fn count(change: i64) {
    static OPEN: Mutex<i64> = Mutex::new(0);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    *open += change;
    gauge!("steadfast_redis_connections").set(*open as f64);
}
