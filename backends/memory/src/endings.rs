//! The queue of sessions that ended without a request.

use std::collections::{HashSet, VecDeque};
use std::sync::OnceLock;

use steadfast_core::{CLAIMED_FOR, Ending, RecordId, Timestamp};

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The queue, from the first call of `listen` on. Until then, an ending costs one atomic read.
///
/// The lock is a leaf: no other lock is taken while it is held.
#[derive(Debug, Default)]
pub(crate) struct EndingQueue(OnceLock<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    /// The next one to claim is the first. Those whose claim lapsed wait at the end again.
    waiting: VecDeque<Ending>,
    /// Each with the time at which its claim lapses. The earliest is the first, unless the clock was
    /// set back.
    claimed: VecDeque<(Timestamp, Ending)>,
}

impl EndingQueue {
    /// Keeps endings from now on.
    pub(crate) fn listen(&self) {
        self.0.get_or_init(Mutex::default);
    }

    /// Keeps an ending. `ending` is only called if someone listens.
    pub(crate) fn keep(&self, ending: impl FnOnce() -> Ending) {
        if let Some(queue) = self.0.get() {
            let mut queue = lock(queue);
            // More than that wait after claims lapsed.
            while queue.waiting.len() >= KEPT {
                queue.waiting.pop_front();
            }
            queue.waiting.push_back(ending());
        }
    }

    pub(crate) fn claim(&self, limit: usize, now: Timestamp) -> Vec<Ending> {
        let Some(queue) = self.0.get() else {
            return Vec::new();
        };
        let mut queue = lock(queue);
        while queue.claimed.front().is_some_and(|(until, _)| *until <= now) {
            let lapsed = queue.claimed.pop_front();
            queue.waiting.extend(lapsed.map(|(_, ending)| ending));
        }
        let count = limit.min(queue.waiting.len());
        let claimed: Vec<_> = queue.waiting.drain(..count).collect();
        let until = now + CLAIMED_FOR;
        queue.claimed.extend(claimed.iter().map(|ending| (until, ending.clone())));
        claimed
    }

    pub(crate) fn acknowledge(&self, ids: &[RecordId]) {
        if let Some(queue) = self.0.get() {
            let ids: HashSet<_> = ids.iter().collect();
            let mut queue = lock(queue);
            queue.claimed.retain(|(_, ending)| !ids.contains(&ending.id));
            queue.waiting.retain(|ending| !ids.contains(&ending.id));
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of endings that can wait. Beyond it, the oldest are dropped.
pub(crate) const KEPT: usize = 100_000;
