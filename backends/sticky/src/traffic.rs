//! Whether the balancer follows the routes, seen from one node.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use metrics::Gauge;
use steadfast_core::{RouteLabel, Routed};
use tokio::time::Instant;

/// Counts requests with a route, and those of them whose route names other nodes only.
///
/// Their share of the last full [`WINDOW`] is the gauge `steadfast_astray_share`, by node. Where it stays
/// high for two windows, a warning says once what is likely wrong: after the end of a node it falls
/// again, because every session goes astray once.
pub(crate) struct Traffic {
    label: RouteLabel,
    routed: AtomicU32,
    astray: AtomicU32,
    window: Mutex<Window>,
}

struct Window {
    end: Instant,
    is_high: bool,
    is_hinted: bool,
}

impl Traffic {
    pub(crate) fn new(label: RouteLabel) -> Self {
        let window = Window { end: Instant::now() + WINDOW, is_high: false, is_hinted: false };
        Self { label, routed: 0.into(), astray: 0.into(), window: Mutex::new(window) }
    }

    pub(crate) fn count(&self, routed: Routed) {
        self.roll();
        if routed != Routed::None {
            self.routed.fetch_add(1, Ordering::Relaxed);
            self.astray.fetch_add(routed.is_astray().into(), Ordering::Relaxed);
        }
    }

    /// Ends the window if it is over. Somebody else who is at it does as well.
    pub(crate) fn roll(&self) {
        let mut window = match self.window.try_lock() {
            Ok(window) => window,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let now = Instant::now();
        if now < window.end {
            return;
        }
        window.end = now + WINDOW;
        let routed = self.routed.swap(0, Ordering::Relaxed);
        let astray = self.astray.swap(0, Ordering::Relaxed);
        let share = f64::from(astray) / f64::from(routed.max(1));
        self.gauge().set(share);
        let was_high = std::mem::replace(&mut window.is_high, routed >= ENOUGH && share >= HIGH);
        if was_high && window.is_high && !std::mem::replace(&mut window.is_hinted, true) {
            tracing::warn!(target: "steadfast", node = self.label.as_str(), routed, astray,
                "requests keep coming with the routes of other nodes: does the balancer route by \
                 the label that this cookie carries, under the labels that the nodes were given?");
        }
    }

    /// Looked up when it is set: the recorder may have been installed after the store was built.
    fn gauge(&self) -> Gauge {
        metrics::gauge!("steadfast_astray_share", "node" => self.label.as_str().to_owned())
    }
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traffic").field("label", &self.label).finish_non_exhaustive()
    }
}

/// Two of them are over within ten seconds.
const WINDOW: Duration = Duration::from_secs(4);

/// Fewer requests say nothing.
const ENOUGH: u32 = 10;

/// Between the share of a balancer that ignores the routes of two nodes, a half, and what the end of
/// one node among many brings for longer than a moment.
const HIGH: f64 = 0.3;
