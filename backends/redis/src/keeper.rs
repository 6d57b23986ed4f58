//! The scripts and queues of a store that keeps endings.

use std::sync::atomic::{AtomicU8, Ordering};

use steadfast_core::RecordId;

use crate::script::{Keeping, QueueScripts, Scripts};

/// The parts of a store that keep endings.
pub(crate) struct Keeper {
    pub(crate) scripts: Scripts,
    pub(crate) queue: QueueScripts,
    /// The number of queues: a cluster spreads them over its servers.
    pub(crate) queues: u8,
    /// The queue that the next claim begins with.
    next: AtomicU8,
}

impl Keeper {
    pub(crate) fn new(is_split: bool) -> Self {
        let keeping = if is_split { Keeping::Elsewhere } else { Keeping::Here };
        Self {
            scripts: Scripts::new(keeping),
            queue: QueueScripts::new(),
            queues: if is_split { QUEUES } else { 1 },
            next: AtomicU8::new(0),
        }
    }

    /// Returns the number of a record's queue. Ids are random.
    pub(crate) fn queue_of(&self, id: RecordId) -> u8 {
        id.as_bytes()[15] % self.queues
    }

    /// Returns the numbers of all queues, beginning with another one at each call.
    pub(crate) fn all(&self) -> impl Iterator<Item = u8> + use<> {
        let (first, count) = (self.next.fetch_add(1, Ordering::Relaxed), self.queues);
        (0..count).map(move |n| first.wrapping_add(n) % count)
    }
}

/// The number of queues in a cluster.
const QUEUES: u8 = 16;
