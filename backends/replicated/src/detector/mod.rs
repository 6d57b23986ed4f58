//! Which nodes are there: a failure detector, by SWIM.
//!
//! It is no authority: what it reports makes the engine ask the node itself.

mod gossip;
mod swim;

use std::time::Duration;

pub(crate) use self::swim::Detector;

/// How often time passes for a detector.
pub(crate) const BEAT: Duration = Duration::from_millis(50);
