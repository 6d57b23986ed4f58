//! The metrics of the pool. The guide of `steadfast` lists them.

use std::sync::{Mutex, PoisonError};

use metrics::{describe_gauge, gauge};

/// The state of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) idle: usize,
    pub(crate) lent: usize,
    pub(crate) opening: usize,
    /// The number of callers that wait for a connection.
    pub(crate) waiting: usize,
}

/// The metrics of a pool, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Shown(Figures);

impl Shown {
    /// Updates the metrics. Call it under the pool's lock.
    pub(crate) fn show(&mut self, figures: Figures) {
        if figures != self.0 {
            Totals::change(self.0, figures);
            self.0 = figures;
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.show(Figures::default());
    }
}

/// The sum over all pools of the process.
#[derive(Default)]
struct Totals {
    idle: usize,
    lent: usize,
    opening: usize,
    waiting: usize,
}

impl Totals {
    /// Updates the changed metrics, under a lock, so that the last update is the newest. Gauges are
    /// set to absolute values, because the recorder may be installed after a pool was built.
    fn change(before: Figures, now: Figures) {
        static TOTALS: Mutex<Totals> =
            Mutex::new(Totals { idle: 0, lent: 0, opening: 0, waiting: 0 });
        let mut totals = TOTALS.lock().unwrap_or_else(PoisonError::into_inner);
        totals.idle = totals.idle - before.idle + now.idle;
        totals.lent = totals.lent - before.lent + now.lent;
        totals.opening = totals.opening - before.opening + now.opening;
        totals.waiting = totals.waiting - before.waiting + now.waiting;
        totals.show(before, now);
    }

    fn show(&self, before: Figures, now: Figures) {
        // A rare event, used to describe the metrics again and to set all of them.
        let is_rare = before.opening != now.opening;
        if is_rare {
            describe();
            gauge!("steadfast_postgres_connections", "state" => "opening").set(self.opening as f64);
        }
        if is_rare || before.idle != now.idle {
            gauge!("steadfast_postgres_connections", "state" => "idle").set(self.idle as f64);
        }
        if is_rare || before.lent != now.lent {
            gauge!("steadfast_postgres_connections", "state" => "lent").set(self.lent as f64);
        }
        if is_rare || before.waiting != now.waiting {
            gauge!("steadfast_postgres_waiting").set(self.waiting as f64);
        }
    }
}

fn describe() {
    describe_gauge!("steadfast_postgres_connections", "Connections to PostgreSQL in the pool");
    describe_gauge!("steadfast_postgres_waiting", "Store calls that wait for a connection");
}
