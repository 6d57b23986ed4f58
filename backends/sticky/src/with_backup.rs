//! A node with a backup: how each operation uses the backup and the local copies.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use steadfast_core::{
    Applied, Change, ClientState, Deleted, Deletion, Drained, Event, Found, LoginPolicy, Lookup,
    Outcome, Owner, Patch, Principal, Proof, Record, RecordId, RequestHint, Revocation, RouteLabel,
    Store, StoreError, Verdict,
};
use tokio::time::Instant;

use crate::checks::Checks;
use crate::feed::Feed;
use crate::metrics::Figures;
use crate::near_cache::{LocalCopy, NearCache, ReadEpoch};
use crate::peers::Peers;
use crate::rehoming::Rehoming;
use crate::routing_stats::RoutingStats;
use crate::write_behind::{Sent, Unsent, WriteBehind, WriteGuard};

/// Sessions in a backup that all nodes share, with local copies of those that this node serves.
///
/// The backup is the authority: every change is a patch to it, and this node only decides whether a
/// copy may answer instead. A record names its owner. A node that serves a record of another owner
/// takes it over with one patch, which increments the fence. Patches that the former owner still
/// sends with the earlier fence then get a conflict.
#[derive(Debug)]
pub(crate) struct WithBackup {
    pub(crate) backup: Arc<dyn Store>,
    pub(crate) peers: Arc<Peers>,
    routing_stats: Arc<RoutingStats>,
    label: RouteLabel,
    recheck: Duration,
    drain_within: Duration,
    cache: NearCache,
    checks: Checks,
    feed: Feed,
    deferred: Option<WriteBehind>,
    rehoming: Rehoming,
    is_draining: AtomicBool,
    /// True while a background task follows the change feed.
    is_kept: AtomicBool,
}

/// The settings of a node with a backup.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) recheck: Duration,
    pub(crate) follows_changes: bool,
    pub(crate) write_behind: Option<Duration>,
    pub(crate) drain_within: Duration,
    pub(crate) copies: u64,
}

impl WithBackup {
    pub(crate) fn new(
        label: RouteLabel,
        backup: Arc<dyn Store>,
        peers: Arc<Peers>,
        routing_stats: Arc<RoutingStats>,
        settings: &Settings,
    ) -> Self {
        let deferred = |window| WriteBehind::new(label.clone(), window);
        Self {
            deferred: settings.write_behind.map(deferred),
            backup,
            peers,
            routing_stats,
            label,
            recheck: settings.recheck,
            drain_within: settings.drain_within,
            cache: NearCache::new(settings.copies),
            checks: Checks::default(),
            feed: Feed::new(settings.follows_changes),
            rehoming: Rehoming::default(),
            is_draining: AtomicBool::new(false),
            is_kept: AtomicBool::new(false),
        }
    }

    pub(crate) async fn create(
        &self,
        id: RecordId,
        record: Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        let owner = Owner { label: self.label.clone(), fence: record.fence() + 1 };
        let record = Record { owner: Some(Box::new(owner)), ..record };
        let outcome = self.backup.create(id, record, policy).await?;
        Ok(self.with_client_state(id, &RequestHint::default(), outcome))
    }

    pub(crate) async fn load(
        self: &Arc<Self>,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        if let Some(found) = self.serve(id, proof, hint) {
            return Ok(found);
        }
        // Only wait for a check if the copy would answer this request. A request with a wrong proof
        // would otherwise delay those with the right one.
        let is_due = self.cache.find(id).is_some_and(|copy| self.answers(&copy, proof, hint));
        let _check = if is_due { self.checks.begin(id).await } else { None };
        if let Some(found) = self.serve(id, proof, hint).filter(|_| is_due) {
            return Ok(found);
        }
        let _guard = self.exclusive(id).await;
        self.fetch(id, proof, hint).await
    }

    /// Returns the answer of the copy, if it may answer.
    fn serve(
        self: &Arc<Self>,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &RequestHint,
    ) -> Option<Lookup> {
        // News first: it may forbid the copy to answer.
        let since = self.catch_up(Instant::now());
        let copy = self.cache.find(id)?;
        let may_answer = self.is_fresh(&copy, since) && self.answers(&copy, proof, hint);
        may_answer.then(|| found(id, &copy.record, self.routes(id, hint, &[])))
    }

    pub(crate) async fn update(
        self: &Arc<Self>,
        id: RecordId,
        patch: &Patch,
        hint: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        let since = self.catch_up(Instant::now());
        if let Some(outcome) = self.defer(id, patch, hint, since) {
            return Ok(outcome);
        }
        let _guard = self.exclusive(id).await;
        let mut write = Write::begin(self, id);
        let mut sent = self.fenced(id, patch);
        let mut outcome = write.known(self.backup.update(id, &sent, hint).await)?;
        if is_fenced(&sent, patch) && matches!(outcome, Outcome::Conflict) {
            // Another node may have taken the record over. A patch describes changes, not the
            // record, so it is just as valid there.
            self.cache.forget(id);
            sent = self.owning(patch);
            outcome = write.known(self.backup.update(id, &sent, hint).await)?;
        }
        write.end(&sent, &outcome);
        // A patch that neither checked nor changed the owner, such as a touch without a copy,
        // does not show that this node serves the record, so its answer must not name this node.
        if is_fenced(&sent, patch) || sent.owner().is_some() {
            Ok(self.with_client_state(id, hint, outcome))
        } else {
            Ok(outcome)
        }
    }

    pub(crate) async fn delete(
        &self,
        id: RecordId,
        deletion: &Deletion<'_>,
    ) -> Result<Deleted, StoreError> {
        // If the call is dropped or fails, the record may still have been deleted: drop the copy in
        // any case.
        let mut write = Write::begin(self, id);
        let deleted = write.known(self.backup.delete(id, deletion).await)?;
        if deleted == Deleted::Ended {
            self.rehoming.forget(id);
        }
        Ok(deleted)
    }

    pub(crate) async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        let ended = self.backup.delete_all(principal, revocation).await;
        // Even after an error: the sessions may have ended.
        self.cache.forget_all(principal);
        ended
    }

    /// Returns true if the node accepts no new sessions.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Stops accepting new sessions and routes clients to other nodes with their next answer.
    /// Returns once the backup has every acknowledged write, or `drain_within` has passed.
    pub(crate) async fn drain(&self) -> Drained {
        self.is_draining.store(true, Ordering::Release);
        let mut moved = self.owned();
        self.rehoming.assign(&moved, &self.peers.all());
        let lost = match &self.deferred {
            Some(deferred) => deferred.all_sent(self.drain_within).await,
            None => Vec::new(),
        };
        lost.iter().for_each(|id| self.cache.forget(*id));
        moved.retain(|id| !lost.contains(id));
        Drained { moved: moved.len() as u64, lost: lost.len() as u64 }
    }

    /// Routes this share of the sessions to these nodes. Returns the number of sessions.
    pub(crate) fn rehome(&self, fraction: f64, nodes: &[RouteLabel]) -> u64 {
        let owned = self.owned();
        let count = (owned.len() as f64 * fraction.clamp(0.0, 1.0)).round() as usize;
        let leaving = if nodes.is_empty() { &[][..] } else { &owned[..count] };
        self.rehoming.assign(leaving, nodes);
        leaving.len() as u64
    }

    /// Returns true if a copy still equals the backup's record: either it was checked recently, or
    /// a complete feed has missed nothing since.
    fn is_fresh(&self, copy: &LocalCopy, since: Option<Instant>) -> bool {
        let is_followed = since.is_some_and(|since| copy.checked >= since);
        copy.is_latest() && (is_followed || copy.checked.elapsed() < self.recheck)
    }

    /// Returns true if a copy can answer a request: it is at least as new as the client has seen,
    /// live, and opens for the proof. Every other answer is the authority's.
    fn answers(&self, copy: &LocalCopy, proof: Option<&Proof>, hint: &RequestHint) -> bool {
        let now = self.backup.env().now();
        let is_right = |proof: &Proof| copy.record.verify(proof, now) == Verdict::Right;
        Some(copy.record.version) >= hint.min_version
            && !copy.record.is_expired(now)
            && proof.is_none_or(is_right)
    }

    /// Loads from the backup, and takes the record over if another node owned it.
    async fn fetch(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        let epoch = self.cache.read_epoch(id, Instant::now());
        let there = match self.backup.load(id, proof, hint).await? {
            Lookup::Found(there) => there,
            lookup => {
                self.doubt(id, proof);
                return Ok(lookup);
            }
        };
        if Some(there.record.version) < hint.min_version {
            Event::RolledBack.emit(Some(id));
        }
        if self.owns(&there.record) {
            self.cache.fill(id, epoch, &there.record);
            return Ok(found(id, &there.record, self.routes(id, hint, &there.client_state.routes)));
        }
        self.rehoming.forget(id);
        match self.take_over(id, &there.record, epoch).await {
            Some(record) => {
                Ok(found(id, &record, self.routes(id, hint, &there.client_state.routes)))
            }
            None => self.read_elsewhere(id, proof, hint).await,
        }
    }

    /// Makes this node the owner of the record. Returns `None` if another node was faster.
    async fn take_over(
        &self,
        id: RecordId,
        record: &Arc<Record>,
        epoch: ReadEpoch,
    ) -> Option<Arc<Record>> {
        if self.is_draining() {
            return None;
        }
        let mut patch = Patch::new();
        patch.fence(record.fence());
        patch.own(self.label.clone());
        let answer = self.backup.update(id, &patch, &RequestHint::default()).await;
        let Ok(Outcome::Applied(applied)) = answer else {
            tracing::debug!(target: "steadfast", session = %id, ?answer, "failed to take over a session");
            return None;
        };
        if let Some(owner) = &record.owner {
            self.peers.saw(&owner.label);
        }
        let node = self.label.as_str().to_owned();
        metrics::counter!("steadfast_takeovers_total", "node" => node).increment(1);
        let env = self.backup.env();
        let own = record.apply(&patch, env.now(), self.backup.limits()).ok()?.record;
        let own = Some(Arc::new(own)).filter(|own| own.version == applied.version)?;
        self.cache.fill(id, epoch, &own);
        Some(own)
    }

    /// Loads the record without taking it over. The answer routes the client to the owner.
    async fn read_elsewhere(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        let lookup = self.backup.load(id, proof, hint).await?;
        let Lookup::Found(there) = lookup else { return Ok(lookup) };
        let owner = there.record.owner.as_ref().map(|owner| owner.label.clone());
        let routes = owner.map(|label| ranked(label, &there.client_state.routes));
        Ok(found(id, &there.record, routes.unwrap_or_default()))
    }

    /// Returns the patch with the fence of the copy, or a patch that takes the record over.
    fn fenced(&self, id: RecordId, patch: &Patch) -> Patch {
        match self.cache.find(id) {
            Some(copy) if self.owns(&copy.record) && is_plain(patch) => {
                let mut fenced = patch.clone();
                fenced.fence(copy.record.fence());
                fenced
            }
            _ => self.owning(patch),
        }
    }

    /// Returns the patch with a change of owner. A touch stays a touch: a takeover is not worth
    /// turning it into a write.
    fn owning(&self, patch: &Patch) -> Patch {
        let mut owning = patch.clone();
        if is_plain(patch) && !patch.is_touch() && !self.is_draining() {
            owning.own(self.label.clone());
        }
        owning
    }

    /// Applies a patch to a fresh copy and queues it for the backup. Returns `None` if the write
    /// cannot be deferred.
    fn defer(
        self: &Arc<Self>,
        id: RecordId,
        patch: &Patch,
        hint: &RequestHint,
        since: Option<Instant>,
    ) -> Option<Outcome> {
        let deferred = self.deferred.as_ref()?;
        let is_repeatable = patch.rotation().is_none() && !patch.is_once_only();
        let may_wait = patch.writes() && is_repeatable && is_plain(patch);
        let copy = self.cache.find(id).filter(|copy| {
            may_wait && self.is_fresh(copy, since) && self.answers(copy, patch.proof(), hint)
        })?;
        let may_lead = self.owns(&copy.record) && !self.is_draining();
        let (env, limits) = (self.backup.env(), self.backup.limits());
        let patched = copy.record.apply(patch, env.now(), limits).ok().filter(|_| may_lead)?;
        let unsent = Unsent::new(patch, &copy.record);
        let version = patched.record.version;
        let push = || deferred.push(id, unsent);
        if self.cache.advance_locally(id, &copy, patched.record, push)? {
            self.send_deferred(id);
        }
        Some(self.with_client_state(id, hint, Outcome::Applied(Applied::at(version))))
    }

    fn send_deferred(self: &Arc<Self>, id: RecordId) {
        let node = Arc::clone(self);
        tokio::spawn(async move {
            let Some(deferred) = &node.deferred else { return };
            let sending = deferred.sending(id);
            match deferred.send(&*node.backup, id).await {
                Sent::Whole => {}
                Sent::UnderAnotherFence => node.cache.forget(id),
                Sent::Stopped => {
                    // The merge needs a queue that does not grow, and without a copy no write is
                    // deferred.
                    node.cache.forget(id);
                    deferred.merge(&*node.backup, id).await;
                }
            }
            sending.end();
        });
    }

    /// Waits until the backup has all deferred writes to a record.
    async fn exclusive(&self, id: RecordId) -> Option<WriteGuard<'_>> {
        match &self.deferred {
            Some(deferred) => Some(deferred.exclusive(id).await),
            None => None,
        }
    }

    /// Drops a copy after the authority refused a request. The copy is kept only if it refuses the
    /// same proof: that request says nothing about the record.
    fn doubt(&self, id: RecordId, proof: Option<&Proof>) {
        let now = self.backup.env().now();
        let is_wrong_here = |proof: &Proof| {
            let copy = self.cache.find(id);
            copy.is_some_and(|copy| copy.record.verify(proof, now) != Verdict::Right)
        };
        if !proof.is_some_and(is_wrong_here) {
            self.cache.forget(id);
        }
    }

    /// Applies the feed's news. Returns the time since which nothing was missed. The first call
    /// starts the background task.
    fn catch_up(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        // The load keeps the common path free of a write to a shared cache line.
        if !self.is_kept.load(Ordering::Acquire) && !self.is_kept.swap(true, Ordering::AcqRel) {
            self.feed.open(|| self.backup.changes());
            tokio::spawn(keep(Keeping(Arc::downgrade(self))));
        }
        self.hear(now)
    }

    fn hear(&self, now: Instant) -> Option<Instant> {
        self.feed.catch_up(now, |change| match change {
            Change::Patched(id, version) | Change::SignedIn(id, version) => {
                self.cache.heard(id, version);
            }
            Change::Ended(id, _) => self.cache.forget(id),
            Change::Missed | Change::Down => {}
        })
    }

    /// Resumes the queues whose sending task ended with its runtime.
    fn adopt_orphans(self: &Arc<Self>) {
        let orphans = self.deferred.iter().flat_map(WriteBehind::take_orphans);
        orphans.for_each(|id| self.send_deferred(id));
    }

    fn figures(&self) -> Figures {
        Figures {
            is_feed_up: self.feed.is_up(),
            feed_gaps: self.feed.take_gaps(),
            copies: self.cache.count(),
            queued: self.deferred.as_ref().map(WriteBehind::queued),
        }
    }

    /// Returns the sessions that this node owns.
    fn owned(&self) -> Vec<RecordId> {
        self.hear(Instant::now());
        self.cache.owned_by(&self.label)
    }

    fn owns(&self, record: &Record) -> bool {
        record.owner.as_ref().is_some_and(|owner| owner.label == self.label)
    }

    /// Adds the hints for the client to an answer of this node.
    fn with_client_state(&self, id: RecordId, hint: &RequestHint, outcome: Outcome) -> Outcome {
        let Outcome::Applied(mut applied) = outcome else { return outcome };
        applied.ended.iter().for_each(|ended| self.cache.forget(*ended));
        let routes = self.routes(id, hint, &applied.client_state.routes);
        applied.client_state = ClientState { routes, version: Some(applied.version) };
        Outcome::Applied(applied)
    }

    /// Returns the route to this node, or to another one if the session is to move, followed by the
    /// backup's own route.
    fn routes(&self, id: RecordId, hint: &RequestHint, backup: &[RouteLabel]) -> Vec<RouteLabel> {
        let target = self.rehoming.target(id, hint.routes.first());
        ranked(target.unwrap_or_else(|| self.label.clone()), backup)
    }
}

/// A write to the backup. If it is dropped before it ends, the write may have happened, so the copy
/// is dropped too.
struct Write<'n> {
    node: &'n WithBackup,
    id: RecordId,
    epoch: ReadEpoch,
    is_known: bool,
}

impl<'n> Write<'n> {
    fn begin(node: &'n WithBackup, id: RecordId) -> Self {
        let epoch = node.cache.read_epoch(id, Instant::now());
        Self { node, id, epoch, is_known: false }
    }

    /// Passes an answer on. An unknown key proves that nothing changed.
    fn known<T>(&mut self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.is_known |= matches!(answer, Err(StoreError::UnknownKey(_)));
        answer
    }

    fn end(mut self, patch: &Patch, outcome: &Outcome) {
        let (node, id) = (self.node, self.id);
        match outcome {
            Outcome::Applied(applied) => {
                let at = (node.backup.env().now(), node.backup.limits());
                node.cache.advance(id, self.epoch, patch, applied.version, at);
            }
            Outcome::Gone | Outcome::Superseded => node.doubt(id, patch.proof()),
            Outcome::Conflict | Outcome::Exists => node.cache.forget(id),
            Outcome::Rejected(_) => {}
        }
        self.is_known = true;
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        if !self.is_known {
            self.node.cache.forget(self.id);
        }
    }
}

/// Held by the background task. If the task's runtime ends before the node, the next call starts
/// another task.
struct Keeping(Weak<WithBackup>);

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(node) = self.0.upgrade() {
            node.is_kept.store(false, Ordering::Release);
        }
    }
}

/// Follows the feed between requests, reopens it when it ends, and publishes the metrics.
async fn keep(keeping: Keeping) {
    let mut shown_at = None;
    while let Some(node) = keeping.0.upgrade() {
        node.hear(Instant::now());
        node.feed.open(|| node.backup.changes());
        node.routing_stats.roll();
        node.adopt_orphans();
        if shown_at.is_none_or(|at: Instant| at.elapsed() >= TICK) {
            node.figures().show(&node.label);
            shown_at = Some(Instant::now());
        }
        let bell = node.feed.bell();
        // The task must not keep the node alive while it waits.
        drop(node);
        crate::feed::rung(bell, TICK).await;
    }
}

fn found(id: RecordId, record: &Arc<Record>, routes: Vec<RouteLabel>) -> Lookup {
    let client_state = ClientState { routes, version: Some(record.version) };
    Lookup::Found(Found { id, record: Arc::clone(record), client_state })
}

/// Returns a route with `first` in front of the other labels.
fn ranked(first: RouteLabel, others: &[RouteLabel]) -> Vec<RouteLabel> {
    let others: Vec<_> = others.iter().filter(|label| **label != first).cloned().collect();
    [vec![first], others].concat()
}

/// Returns true if the patch neither sets nor requires an owner.
fn is_plain(patch: &Patch) -> bool {
    patch.owner().is_none() && patch.expected_fence().is_none()
}

/// Returns true if the patch was sent with the fence of a copy.
fn is_fenced(sent: &Patch, patch: &Patch) -> bool {
    sent.expected_fence() != patch.expected_fence()
}

const TICK: Duration = Duration::from_secs(1);
