//! Write-behind: writes that are acknowledged before the backup has them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use steadfast_core::{
    Lookup, Op, Outcome, Patch, Record, RecordId, RequestHint, RouteLabel, SessionStore, StoreError,
};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::pace::Pace;

/// The acknowledged writes that the backup lacks: one queue per record, sent in order, one patch at
/// a time.
///
/// A synchronous write excludes deferred writes to its record: it starts when the queue is empty,
/// and none is queued until it has ended.
#[derive(Debug)]
pub(crate) struct WriteBehind {
    label: RouteLabel,
    window: Duration,
    queues: Mutex<Queues>,
    /// True once no write may be deferred. Set and read under the lock of the queues, so that no
    /// write is queued after a drain began to wait.
    is_closed: AtomicBool,
    changed: Notify,
    pace: Pace,
}

type Queues = HashMap<RecordId, Queue>;

#[derive(Debug, Default)]
struct Queue {
    unsent: VecDeque<Unsent>,
    /// The number of synchronous writes in progress.
    exclusive: usize,
    /// True if the sending task ended with its runtime.
    is_orphaned: bool,
}

/// A patch that this node has applied to its copy.
#[derive(Clone, Debug)]
pub(crate) struct Unsent {
    /// The patch in a form that can be applied twice with the same effect.
    patch: Patch,
    /// The record before the patch.
    before: Arc<Record>,
    since: Instant,
}

/// The result of sending a queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The backup has all patches.
    Whole,
    /// The backup has all patches, but the record's fence differs from the copy's.
    UnderAnotherFence,
    /// The record has another owner, has ended, or rejects a patch.
    Stopped,
}

impl Unsent {
    /// Binds the patch to the owner and the sign-in of the copy, even if the request did not: both
    /// may have changed by the time the patch arrives.
    pub(crate) fn new(patch: &Patch, before: &Arc<Record>) -> Self {
        let mut plain = Patch::from(patch.clone().into_writes());
        if let Some(deadline) = patch.idle_deadline() {
            plain.keep_until(deadline);
        }
        if let Some(rehash) = patch.rehashing() {
            plain.rehash(rehash.clone());
        }
        plain.within(before.sign_in);
        plain.fence(before.fence());
        Self { patch: plain, before: Arc::clone(before), since: Instant::now() }
    }

    /// Returns the patch with this fence, if the record has got a new one since.
    fn under(&self, fence: Option<u64>) -> Patch {
        let mut patch = self.patch.clone();
        fence.into_iter().for_each(|fence| patch.fence(fence.max(self.before.fence())));
        patch
    }
}

impl WriteBehind {
    pub(crate) fn new(label: RouteLabel, window: Duration) -> Self {
        Self {
            label,
            window,
            queues: Mutex::default(),
            is_closed: AtomicBool::new(false),
            changed: Notify::new(),
            pace: Pace::default(),
        }
    }

    /// Queues a patch. Returns whether it is the first, in which case the caller must start
    /// sending. Returns `None` if the write cannot be deferred: the oldest one exceeds the window,
    /// the queue is full, or a synchronous write is in progress.
    pub(crate) fn push(&self, id: RecordId, unsent: Unsent) -> Option<bool> {
        let mut queues = self.lock();
        let queue = queues.entry(id).or_default();
        let is_old = |oldest: &Unsent| oldest.since.elapsed() >= self.window;
        let is_full = queue.unsent.len() >= MOST_UNSENT;
        let is_closed = self.is_closed.load(Ordering::Acquire);
        let may_queue = queue.exclusive == 0 && !is_full && !is_closed;
        if !may_queue || queue.unsent.front().is_some_and(is_old) {
            return None;
        }
        queue.unsent.push_back(unsent);
        Some(queue.unsent.len() == 1)
    }

    /// Waits until the record's queue is empty. Nothing is queued until the returned guard is
    /// dropped.
    pub(crate) async fn exclusive(&self, id: RecordId) -> WriteGuard<'_> {
        self.until(|queues| {
            let queue = queues.entry(id).or_default();
            let is_empty = queue.unsent.is_empty();
            queue.exclusive += usize::from(is_empty);
            is_empty
        })
        .await;
        WriteGuard { queues: self, id }
    }

    /// Waits at most `within` until the backup has everything. The remaining writes are given up.
    /// Returns their records.
    pub(crate) async fn all_sent(&self, within: Duration) -> Vec<RecordId> {
        {
            let _queues = self.lock();
            self.is_closed.store(true, Ordering::Release);
        }
        self.pace.hurry();
        let is_all_sent = |queues: &mut Queues| queues.values().all(|q| q.unsent.is_empty());
        if timeout(within, self.until(is_all_sent)).await.is_ok() {
            return Vec::new();
        }
        let mut given_up = Vec::new();
        for (id, queue) in self.lock().iter_mut().filter(|(_, queue)| !queue.unsent.is_empty()) {
            let lost = std::mem::take(&mut queue.unsent).len();
            given_up.push((*id, lost));
        }
        // Synchronous writes may be waiting for these queues.
        self.changed.notify_waiters();
        for (id, lost) in &given_up {
            self.lose(*id, *lost, "the backup did not take them before the end of the drain");
        }
        given_up.into_iter().map(|(id, _)| id).collect()
    }

    /// Marks the queue as being sent by the calling task. If that task is cut off, another one
    /// takes over.
    pub(crate) fn sending(&self, id: RecordId) -> Sending<'_> {
        Sending { queues: self, id }
    }

    /// Takes the records whose queues no task is sending.
    pub(crate) fn take_orphans(&self) -> Vec<RecordId> {
        let mut queues = self.lock();
        let orphans = queues.iter_mut().filter(|(_, queue)| queue.is_orphaned);
        orphans.map(|(id, queue)| (*id, queue.is_orphaned = false).0).collect()
    }

    /// Returns the number of patches that the backup lacks.
    pub(crate) fn queued(&self) -> usize {
        self.lock().values().map(|queue| queue.unsent.len()).sum()
    }

    /// Sends a queue until it is empty or the backup refuses a patch. Removing the last patch and
    /// ending the loop is one step under the lock, so a patch that is queued later starts a new
    /// task.
    pub(crate) async fn send(&self, backup: &dyn SessionStore, id: RecordId) -> Sent {
        let mut fence = None;
        while let Some(next) = self.front(id) {
            let (patch, hint) = (next.under(fence), RequestHint::default());
            match in_time(backup.update(id, &patch, &hint)).await {
                Ok(Outcome::Applied(_)) if self.pop(id) => {}
                Ok(Outcome::Applied(_)) => break,
                Ok(outcome) => {
                    tracing::debug!(target: "steadfast", session = %id, ?outcome, "write-behind stopped");
                    return Sent::Stopped;
                }
                Err(error) => {
                    tracing::debug!(
                        target: "steadfast", session = %id, %error, "write-behind failed, retrying"
                    );
                    fence = self.fence_anew(backup, id).await;
                    if fence.is_none() {
                        return Sent::Stopped;
                    }
                }
            }
        }
        if fence.is_some() { Sent::UnderAnotherFence } else { Sent::Whole }
    }

    /// Gives a record of this node a new fence before a patch is sent again: the first attempt may
    /// still be on its way, and must not arrive after later patches. Retries until the backup
    /// answers. Returns `None` if the record is no longer the one of the copy.
    async fn fence_anew(&self, backup: &dyn SessionStore, id: RecordId) -> Option<u64> {
        let mut failures = 0;
        loop {
            let turn = self.pace.turn(backup.env()).await;
            let before = self.front(id)?.before;
            match in_time(fenced_anew(backup, id, &self.label, before.sign_in)).await {
                Ok(fence) => {
                    turn.succeeded();
                    return fence;
                }
                Err(error) if is_final(&error) => return None,
                Err(error) => {
                    failures += 1;
                    turn.failed(error.scope(), failures, backup.env()).await;
                }
            }
        }
    }

    /// Merges the rest of a queue into the current record, keeping changes by other nodes. Retries
    /// until the backup answers. Call it once nothing can be queued any more.
    pub(crate) async fn merge(&self, backup: &dyn SessionStore, id: RecordId) {
        let (mut conflicts, mut failures) = (0, 0);
        while let Some(leftover) = self.leftover(id) {
            let turn = self.pace.turn(backup.env()).await;
            match in_time(leftover.merge(backup, id, &self.label)).await {
                Ok(Merged::Conflict) if conflicts < MOST_CONFLICTS => conflicts += 1,
                Ok(merged) => self.settle(id, &merged),
                Err(error) if is_final(&error) => {
                    tracing::error!(target: "steadfast", session = %id, %error, "write-behind failed");
                    self.give_up(id, "the backup cannot take them");
                }
                Err(error) => {
                    tracing::debug!(
                        target: "steadfast", session = %id, %error, "write-behind failed, retrying"
                    );
                    failures += 1;
                    turn.failed(error.scope(), failures, backup.env()).await;
                    continue;
                }
            }
            turn.succeeded();
        }
    }

    /// Ends a queue after its rest was merged.
    fn settle(&self, id: RecordId, merged: &Merged) {
        match merged {
            Merged::Done { lost } => {
                self.lose(id, *lost, "another node wrote to the same keys");
                self.change(id, |queue| queue.unsent.clear());
            }
            Merged::Conflict => self.give_up(id, "other nodes keep writing to it"),
            Merged::Refused(why) => self.give_up(id, why),
        }
    }

    fn front(&self, id: RecordId) -> Option<Unsent> {
        self.lock().get(&id)?.unsent.front().cloned()
    }

    /// Returns the rest of a queue; `None` if it is empty or was given up.
    fn leftover(&self, id: RecordId) -> Option<Leftover> {
        let unsent = self.lock().get(&id)?.unsent.clone();
        let before = Arc::clone(&unsent.front()?.before);
        Some(Leftover { patches: unsent.into_iter().map(|unsent| unsent.patch).collect(), before })
    }

    /// Removes a patch that was sent. Returns whether another one is waiting.
    fn pop(&self, id: RecordId) -> bool {
        let mut is_last = true;
        self.change(id, |queue| {
            queue.unsent.pop_front();
            is_last = queue.unsent.is_empty();
        });
        !is_last
    }

    fn give_up(&self, id: RecordId, why: &str) {
        let mut lost = 0;
        self.change(id, |queue| lost = std::mem::take(&mut queue.unsent).len());
        self.lose(id, lost, why);
    }

    fn lose(&self, id: RecordId, lost: usize, why: &str) {
        if lost > 0 {
            tracing::error!(target: "steadfast", session = %id, lost, why, "acknowledged writes were lost");
            self.count_lost(lost as u64);
        }
    }

    /// Counts acknowledged writes that will never reach the backup.
    pub(crate) fn count_lost(&self, lost: u64) {
        let node = self.label.as_str().to_owned();
        metrics::counter!("steadfast_write_behind_lost_total", "node" => node).increment(lost);
    }

    /// Changes a queue, and removes it when it is no longer needed.
    fn change(&self, id: RecordId, change: impl FnOnce(&mut Queue)) {
        let mut queues = self.lock();
        if let Entry::Occupied(mut queue) = queues.entry(id) {
            change(queue.get_mut());
            if queue.get().unsent.is_empty() {
                if queue.get().exclusive == 0 {
                    queue.remove();
                }
                self.changed.notify_waiters();
            }
        }
    }

    async fn until(&self, mut is_so: impl FnMut(&mut Queues) -> bool) {
        loop {
            // Registered before the condition is checked: a change in between would otherwise be missed.
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

/// A synchronous write, which excludes deferred writes to the same record.
#[derive(Debug)]
pub(crate) struct WriteGuard<'b> {
    queues: &'b WriteBehind,
    id: RecordId,
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        self.queues.change(self.id, |queue| queue.exclusive -= 1);
    }
}

/// Held by the task that sends a queue.
#[derive(Debug)]
pub(crate) struct Sending<'b> {
    queues: &'b WriteBehind,
    id: RecordId,
}

impl Sending<'_> {
    /// Marks the queue as sent to its end.
    pub(crate) fn end(self) {
        // Skips `drop`, which would mark the queue as orphaned.
        std::mem::forget(self);
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.queues.change(self.id, |queue| queue.is_orphaned = true);
    }
}

/// The rest of a queue that stopped.
struct Leftover {
    patches: Vec<Patch>,
    /// The record before the patches.
    before: Arc<Record>,
}

/// The result of merging a leftover.
enum Merged {
    /// The record has all patches except `lost` of them.
    Done { lost: usize },
    /// The record changed in between.
    Conflict,
    /// The record must not get them.
    Refused(&'static str),
}

impl Leftover {
    async fn merge(
        &self,
        backup: &dyn SessionStore,
        id: RecordId,
        label: &RouteLabel,
    ) -> Result<Merged, StoreError> {
        let Lookup::Found(found) = backup.load(id, None, &RequestHint::default()).await? else {
            // The session has ended, and its values with it.
            return Ok(Merged::Done { lost: 0 });
        };
        if found.record.sign_in != self.before.sign_in {
            return Ok(Merged::Refused("another user signed in"));
        }
        let (rest, overwritten) = self.rest(&found.record, label);
        Ok(match backup.update(id, &rest, &RequestHint::default()).await? {
            Outcome::Applied(_) | Outcome::Gone => {
                Merged::Done { lost: self.patches_of(&overwritten) }
            }
            Outcome::Conflict => Merged::Conflict,
            Outcome::Superseded => Merged::Refused("another user signed in"),
            _ => Merged::Refused("the backup rejects them"),
        })
    }

    /// Returns the patch that the record still lacks, which only applies to the record as loaded,
    /// and the keys that others have changed. A record that this node still owns gets a new fence:
    /// a patch that was sent before may still be on its way, and must not arrive after later ones.
    fn rest<'l>(&'l self, now: &Record, label: &RouteLabel) -> (Patch, BTreeSet<&'l str>) {
        let (mut rest, mut overwritten) = (Patch::new(), BTreeSet::new());
        for (key, wanted) in self.wanted() {
            let there = now.values.get(key);
            if there == wanted {
                continue;
            }
            if there != self.before.values.get(key) {
                overwritten.insert(key);
                continue;
            }
            let expected = there.map(steadfast_core::RawJson::copied);
            let known = rest.expect(key, expected).and_then(|()| match wanted {
                Some(json) => rest.put(key, steadfast_core::RawJson::copied(json)),
                None => rest.remove(key),
            });
            known.expect("the key was accepted before");
        }
        let deadlines = self.patches.iter().filter_map(Patch::idle_deadline);
        deadlines.for_each(|deadline| rest.keep_until(deadline));
        rest.within(now.sign_in);
        rest.fence(now.fence());
        if now.owner.as_ref().is_some_and(|owner| owner.label == *label) {
            rest.own(label.clone());
        }
        (rest, overwritten)
    }

    /// Returns each key that the patches change, with its final value.
    fn wanted(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let mut wanted = HashMap::new();
        for patch in &self.patches {
            if patch.is_clear() {
                wanted.extend(self.before.values.iter().map(|(key, _)| (key, None)));
                wanted.values_mut().for_each(|value| *value = None);
            }
            wanted.extend(patch.ops().map(|(key, op)| match op {
                Op::Put(value) => (key, Some(value.as_bytes())),
                Op::Remove | Op::Add(_) => (key, None),
            }));
        }
        wanted.into_iter()
    }

    /// Returns the number of patches that changed any of these keys.
    fn patches_of(&self, keys: &BTreeSet<&str>) -> usize {
        let is_of = |patch: &&Patch| {
            !keys.is_empty() && (patch.is_clear() || patch.ops().any(|(key, _)| keys.contains(key)))
        };
        self.patches.iter().filter(is_of).count()
    }
}

/// Takes a record over again to give it a new fence, and returns the fence. Returns `None` if
/// another node owns the record, it has ended, or another user has signed in.
async fn fenced_anew(
    backup: &dyn SessionStore,
    id: RecordId,
    label: &RouteLabel,
    sign_in: u64,
) -> Result<Option<u64>, StoreError> {
    let hint = RequestHint::default();
    let Lookup::Found(found) = backup.load(id, None, &hint).await? else {
        return Ok(None);
    };
    let (fence, owner) = (found.record.fence(), found.record.owner.as_deref());
    if found.record.sign_in != sign_in || owner.is_none_or(|owner| owner.label != *label) {
        return Ok(None);
    }
    let mut patch = Patch::new();
    patch.within(sign_in);
    patch.fence(fence);
    patch.own(label.clone());
    let outcome = backup.update(id, &patch, &hint).await?;
    Ok(matches!(outcome, Outcome::Applied(_)).then_some(fence + 1))
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(TRY_WITHIN, answer).await.unwrap_or(Err(StoreError::Timeout))
}

/// Returns true if retrying cannot help.
fn is_final(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Corrupt(_) | StoreError::NewerFormat { .. } | StoreError::Unsupported(_)
    )
}

/// The longest queue of a record. It bounds the memory during an outage of the backup.
const MOST_UNSENT: usize = 64;

/// The time that the backup has to answer.
const TRY_WITHIN: Duration = Duration::from_secs(5);

/// The number of attempts while other nodes keep changing the record.
const MOST_CONFLICTS: u32 = 100;
