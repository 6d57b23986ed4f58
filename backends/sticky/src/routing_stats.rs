//! Routing statistics: whether the load balancer follows the routes, as seen from one node.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use metrics::Gauge;
use steadfast_core::{RouteLabel, Routed};
use tokio::time::Instant;

/// Counts requests with a route, and those whose route only names other nodes.
///
/// The share of misrouted requests in the last full [`WINDOW`] is the gauge
/// `steadfast_astray_share`, by node. If it stays high for two windows, a warning names the likely
/// cause, once. One high window is normal after a node has ended, because each of its sessions is
/// then misrouted once.
pub(crate) struct RoutingStats {
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

impl RoutingStats {
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

    /// Ends the window if it is over. If another thread holds the lock, that thread does it.
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

    /// Looked up on each use: the recorder may be installed after the store was built.
    fn gauge(&self) -> Gauge {
        metrics::gauge!("steadfast_astray_share", "node" => self.label.as_str().to_owned())
    }
}

impl std::fmt::Debug for RoutingStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoutingStats").field("label", &self.label).finish_non_exhaustive()
    }
}

/// A misconfiguration is reported after two windows, within 10 s.
const WINDOW: Duration = Duration::from_secs(4);

/// A share of fewer requests is not meaningful.
const ENOUGH: u32 = 10;

/// A load balancer that ignores the routes of two nodes misroutes half of the requests. The end of
/// one node among many misroutes fewer, and only briefly. The threshold is in between.
const HIGH: f64 = 0.3;
