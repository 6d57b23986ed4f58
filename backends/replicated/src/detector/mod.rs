//! A failure detector: finds out by SWIM which nodes are alive.
//!
//! It decides nothing: its reports only make the engine ask the node itself.

mod gossip;
mod swim;

use std::time::Duration;

pub(crate) use self::swim::Detector;

/// The interval of a detector's timer.
pub(crate) const BEAT: Duration = Duration::from_millis(50);
