//! Writes that are acknowledged before the backup has them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use steadfast_core::{Counters, Hint, Lookup, Op, Outcome, Patch, Record, RecordId, SessionStore};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What the backup does not have yet: a queue a record, sent in order, one patch at a time.
///
/// Writes that wait for the backup have a record to themselves: they begin when its queue is empty, and
/// nothing is queued before they ended.
#[derive(Debug)]
pub(crate) struct Behind {
    window: Duration,
    queues: Mutex<Queues>,
    changed: Notify,
}

type Queues = HashMap<RecordId, Queue>;

#[derive(Debug, Default)]
struct Queue {
    unsent: VecDeque<Unsent>,
    /// Writes under way that wait for the backup.
    ahead: usize,
}

/// A patch that this node applied to its copy.
#[derive(Clone, Debug)]
pub(crate) struct Unsent {
    /// In words that may be sent twice: counters have become values.
    patch: Patch,
    /// The record before it.
    before: Arc<Record>,
    since: Instant,
}

/// How the sending of a queue ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The backup has all of it.
    Whole,
    /// Another node has the record, or it is no more.
    Stopped,
}

impl Unsent {
    pub(crate) fn new(patch: &Patch, counters: &Counters, before: &Arc<Record>) -> Self {
        let mut plain = Patch::new();
        plain.then(patch.clone(), counters);
        if let Some(deadline) = patch.idle_deadline() {
            plain.keep_until(deadline);
        }
        plain.fence(before.fence());
        Self { patch: plain, before: Arc::clone(before), since: Instant::now() }
    }
}

impl Behind {
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, queues: Mutex::default(), changed: Notify::new() }
    }

    /// Queues a patch, and says whether it is the first: then the queue has to be sent. `None` if it
    /// must not wait: another one waits for longer than the window, too many do, or none may.
    pub(crate) fn push(&self, id: RecordId, unsent: Unsent) -> Option<bool> {
        let mut queues = self.lock();
        let queue = queues.entry(id).or_default();
        let is_old = |oldest: &Unsent| oldest.since.elapsed() >= self.window;
        let is_full = queue.unsent.len() >= MOST_UNSENT;
        if queue.ahead > 0 || is_full || queue.unsent.front().is_some_and(is_old) {
            return None;
        }
        queue.unsent.push_back(unsent);
        Some(queue.unsent.len() == 1)
    }

    /// Waits until the backup has all that was queued of a record, and lets nothing be queued until
    /// what this returns is dropped.
    pub(crate) async fn ahead(&self, id: RecordId) -> Ahead<'_> {
        self.until(|queues| {
            let queue = queues.entry(id).or_default();
            let is_empty = queue.unsent.is_empty();
            queue.ahead += usize::from(is_empty);
            is_empty
        })
        .await;
        Ahead { behind: self, id }
    }

    /// Waits until the backup has everything.
    pub(crate) async fn all_sent(&self) {
        self.until(|queues| queues.values().all(|queue| queue.unsent.is_empty())).await;
    }

    /// Sends a queue to its end, as long as the backup takes. Where it ends is decided with the last
    /// patch taken out: what is queued after that is another's to send.
    pub(crate) async fn send(&self, backup: &dyn SessionStore, id: RecordId) -> Sent {
        while let Some(next) = self.front(id) {
            match backup.update(id, &next.patch, &Hint::default()).await {
                Ok(Outcome::Applied(_)) if self.pop(id) => {}
                Ok(Outcome::Applied(_)) => break,
                Ok(outcome) => {
                    tracing::debug!(target: "steadfast", session = %id, ?outcome, "not backed up");
                    return Sent::Stopped;
                }
                Err(error) => {
                    tracing::debug!(target: "steadfast", session = %id, %error, "not backed up yet");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Sent::Whole
    }

    /// Brings what is left of a queue into a record that another node has by now: what was changed there
    /// stays. To be called when nothing can be queued any more.
    pub(crate) async fn merge(&self, backup: &dyn SessionStore, id: RecordId) {
        let unsent = self.lock().get(&id).map(|queue| queue.unsent.clone()).unwrap_or_default();
        if let Some(first) = unsent.front() {
            let mut all = Patch::new();
            for unsent in &unsent {
                all.then(unsent.patch.clone(), &Counters::new());
            }
            if !merged(backup, id, &all, &first.before).await {
                tracing::error!(target: "steadfast", session = %id, "acknowledged writes were lost");
            }
        }
        self.change(id, |queue| queue.unsent.clear());
    }

    fn front(&self, id: RecordId) -> Option<Unsent> {
        self.lock().get(&id)?.unsent.front().cloned()
    }

    /// Takes a patch out that was sent, and says whether there is another.
    fn pop(&self, id: RecordId) -> bool {
        let mut is_last = true;
        self.change(id, |queue| {
            queue.unsent.pop_front();
            is_last = queue.unsent.is_empty();
        });
        !is_last
    }

    /// Changes a queue, and forgets it if nothing is left.
    fn change(&self, id: RecordId, change: impl FnOnce(&mut Queue)) {
        let mut queues = self.lock();
        if let Entry::Occupied(mut queue) = queues.entry(id) {
            change(queue.get_mut());
            if queue.get().unsent.is_empty() {
                if queue.get().ahead == 0 {
                    queue.remove();
                }
                self.changed.notify_waiters();
            }
        }
    }

    async fn until(&self, mut is_so: impl FnMut(&mut Queues) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_so(&mut self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A write that waits for the backup, and has the record to itself.
#[derive(Debug)]
pub(crate) struct Ahead<'b> {
    behind: &'b Behind,
    id: RecordId,
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        self.behind.change(self.id, |queue| queue.ahead -= 1);
    }
}

/// Whether a patch to an earlier state reached the record, or there is no record any more.
async fn merged(backup: &dyn SessionStore, id: RecordId, patch: &Patch, before: &Record) -> bool {
    for _ in 0..MERGES {
        let there = match backup.load(id, None, &Hint::default()).await {
            Ok(Lookup::Found(found)) => found.record,
            Ok(_) => return true,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match backup.update(id, &rest(patch, before, &there), &Hint::default()).await {
            Ok(Outcome::Applied(_) | Outcome::Gone) => return true,
            Ok(Outcome::Conflict) => {}
            Ok(_) => return false,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    false
}

/// What is left of a patch where the record went another way since: the keys that nobody else changed,
/// and only while nobody does.
fn rest(patch: &Patch, before: &Record, now: &Record) -> Patch {
    let cleared = before.values.iter().map(|(key, _)| key).filter(|_| patch.is_clear());
    let removed = cleared.filter(|key| patch.op(key).is_none()).map(|key| (key, &Op::Remove));
    let mut rest = Patch::new();
    for (key, op) in patch.ops().chain(removed) {
        let there = now.values.get(key);
        if there != before.values.get(key) {
            continue;
        }
        let expected = there.map(steadfast_core::RawJson::copied);
        let known = rest.expect(key, expected).and_then(|()| match op {
            Op::Put(value) => rest.put(key, value.clone()),
            Op::Remove | Op::Add(_) => rest.remove(key),
        });
        known.expect("the key was accepted before");
    }
    rest
}

/// So that a backup that is away costs no memory without end.
const MOST_UNSENT: usize = 64;

/// Before what was not confirmed is sent again.
const PAUSE: Duration = Duration::from_millis(50);

/// Tries against a node that keeps writing, and a backup that is away.
const MERGES: u32 = 100;
