//! A node with a backup: what each operation does here and there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use steadfast_core::{
    Admission, Applied, Carry, Change, Deleted, Deletion, Drained, Event, Found, Hint, Lookup,
    Outcome, Owner, Patch, Principal, Proof, Record, RecordId, Revocation, RouteLabel, Store,
    StoreError, Verdict,
};
use tokio::time::Instant;

use crate::behind::{Ahead, Behind, Sent, Unsent};
use crate::checks::Checks;
use crate::copies::{Copies, LocalCopy, Ticket};
use crate::feed::Feed;
use crate::metrics::Figures;
use crate::peers::Peers;
use crate::shed::Shed;
use crate::traffic::Traffic;

/// Sessions in a backup that all nodes share, with copies here of those that this node serves.
///
/// The backup is the authority: every change is a patch there, and what is decided here is only whether
/// a copy may answer instead. A record names its owner. A node that serves a record of another owner
/// takes it over with one patch, which raises the fence, so that what the former owner still sends under
/// the fence before is a conflict there.
#[derive(Debug)]
pub(crate) struct Backed {
    pub(crate) backup: Arc<dyn Store>,
    pub(crate) peers: Arc<Peers>,
    traffic: Arc<Traffic>,
    label: RouteLabel,
    recheck: Duration,
    drain_within: Duration,
    copies: Copies,
    checks: Checks,
    feed: Feed,
    behind: Option<Behind>,
    shed: Shed,
    is_draining: AtomicBool,
    /// Whether a task hears what changes.
    is_kept: AtomicBool,
}

/// What a node with a backup is built from.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) recheck: Duration,
    pub(crate) follows_changes: bool,
    pub(crate) write_behind: Option<Duration>,
    pub(crate) drain_within: Duration,
    pub(crate) copies: u64,
}

impl Backed {
    pub(crate) fn new(
        label: RouteLabel,
        backup: Arc<dyn Store>,
        peers: Arc<Peers>,
        traffic: Arc<Traffic>,
        settings: &Settings,
    ) -> Self {
        let behind = |window| Behind::new(label.clone(), window);
        Self {
            behind: settings.write_behind.map(behind),
            backup,
            peers,
            traffic,
            label,
            recheck: settings.recheck,
            drain_within: settings.drain_within,
            copies: Copies::new(settings.copies),
            checks: Checks::default(),
            feed: Feed::new(settings.follows_changes),
            shed: Shed::default(),
            is_draining: AtomicBool::new(false),
            is_kept: AtomicBool::new(false),
        }
    }

    pub(crate) async fn create(
        &self,
        id: RecordId,
        record: Record,
        admission: Admission,
    ) -> Result<Outcome, StoreError> {
        let owner = Owner { label: self.label.clone(), fence: record.fence() + 1 };
        let record = Record { owner: Some(Box::new(owner)), ..record };
        let outcome = self.backup.create(id, record, admission).await?;
        Ok(self.told(id, &Hint::default(), outcome))
    }

    pub(crate) async fn load(
        self: &Arc<Self>,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &Hint,
    ) -> Result<Lookup, StoreError> {
        if let Some(found) = self.serve(id, proof, hint) {
            return Ok(found);
        }
        // Only for a copy that would answer: a stranger holds nobody up.
        let is_due = self.copies.find(id).is_some_and(|copy| self.answers(&copy, proof, hint));
        let _check = if is_due { self.checks.begin(id).await } else { None };
        if let Some(found) = self.serve(id, proof, hint).filter(|_| is_due) {
            return Ok(found);
        }
        let _ahead = self.ahead(id).await;
        self.fetch(id, proof, hint).await
    }

    /// The copy's answer, if it may answer.
    fn serve(self: &Arc<Self>, id: RecordId, proof: Option<&Proof>, hint: &Hint) -> Option<Lookup> {
        let since = self.catch_up(Instant::now());
        let copy = self.copies.find(id)?;
        let may_answer = self.is_fresh(&copy, since) && self.answers(&copy, proof, hint);
        may_answer.then(|| found(id, &copy.record, self.routes(id, hint, &[])))
    }

    pub(crate) async fn update(
        self: &Arc<Self>,
        id: RecordId,
        patch: &Patch,
        hint: &Hint,
    ) -> Result<Outcome, StoreError> {
        let since = self.catch_up(Instant::now());
        if let Some(outcome) = self.write_behind(id, patch, hint, since) {
            return Ok(outcome);
        }
        let _ahead = self.ahead(id).await;
        let mut write = Write::begin(self, id);
        let mut sent = self.fenced(id, patch);
        let mut outcome = write.known(self.backup.update(id, &sent, hint).await)?;
        if is_fenced(&sent, patch) && matches!(outcome, Outcome::Conflict) {
            // Another node may have taken the record over. The patch says what to change, and not
            // what the record was, so it is as good there.
            self.copies.forget(id);
            sent = self.owning(patch);
            outcome = write.known(self.backup.update(id, &sent, hint).await)?;
        }
        write.end(&sent, &outcome);
        match is_fenced(&sent, patch) || sent.owner().is_some() {
            true => Ok(self.told(id, hint, outcome)),
            false => Ok(outcome),
        }
    }

    pub(crate) async fn delete(
        &self,
        id: RecordId,
        deletion: &Deletion<'_>,
    ) -> Result<Deleted, StoreError> {
        // Dropped or failed, it may have happened: the copy is given up in any case.
        let mut write = Write::begin(self, id);
        let deleted = write.known(self.backup.delete(id, deletion).await)?;
        if deleted == Deleted::Ended {
            self.shed.forget(id);
        }
        Ok(deleted)
    }

    pub(crate) async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        let ended = self.backup.delete_all(principal, revocation).await;
        self.copies.forget_all(principal);
        ended
    }

    /// Whether it takes no new sessions.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Takes no new sessions, sends clients to other nodes with their next answer, and returns when
    /// the backup has all that this node acknowledged, or has had its time for that.
    pub(crate) async fn drain(&self) -> Drained {
        self.is_draining.store(true, Ordering::Release);
        let mut moved = self.owned();
        self.shed.assign(&moved, &self.peers.all());
        let lost = match &self.behind {
            Some(behind) => behind.all_sent(self.drain_within).await,
            None => Vec::new(),
        };
        lost.iter().for_each(|id| self.copies.forget(*id));
        moved.retain(|id| !lost.contains(id));
        Drained { moved: moved.len() as u64, lost: lost.len() as u64 }
    }

    /// Sends this share of the sessions to these nodes, and says how many.
    pub(crate) fn rehome(&self, fraction: f64, nodes: &[RouteLabel]) -> u64 {
        let owned = self.owned();
        let count = (owned.len() as f64 * fraction.clamp(0.0, 1.0)).round() as usize;
        let leaving = if nodes.is_empty() { &[][..] } else { &owned[..count] };
        self.shed.assign(leaving, nodes);
        leaving.len() as u64
    }

    /// Whether a copy is still what the backup has: that was checked a moment ago, or nothing can have
    /// been missed since.
    fn is_fresh(&self, copy: &LocalCopy, since: Option<Instant>) -> bool {
        let is_followed = since.is_some_and(|since| copy.checked >= since);
        copy.is_latest() && (is_followed || copy.checked.elapsed() < self.recheck)
    }

    /// Whether a copy is enough for a request: it is no older than what the client has seen, and has
    /// nothing but good news. The rest is the authority's to say.
    fn answers(&self, copy: &LocalCopy, proof: Option<&Proof>, hint: &Hint) -> bool {
        let now = self.backup.env().now();
        let is_right = |proof: &Proof| copy.record.verify(proof, now) == Verdict::Right;
        Some(copy.record.version) >= hint.seen
            && !copy.record.is_expired(now)
            && proof.is_none_or(is_right)
    }

    /// Asks the backup, and takes the record over if another node had it.
    async fn fetch(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &Hint,
    ) -> Result<Lookup, StoreError> {
        let ticket = self.copies.ticket(id, Instant::now());
        let there = match self.backup.load(id, proof, hint).await? {
            Lookup::Found(there) => there,
            lookup => {
                self.doubt(id, proof);
                return Ok(lookup);
            }
        };
        if Some(there.record.version) < hint.seen {
            Event::RolledBack.emit(Some(id));
        }
        if self.owns(&there.record) {
            self.copies.fill(id, ticket, &there.record);
            return Ok(found(id, &there.record, self.routes(id, hint, &there.carry.routes)));
        }
        self.shed.forget(id);
        match self.take_over(id, &there.record, ticket).await {
            Some(record) => Ok(found(id, &record, self.routes(id, hint, &there.carry.routes))),
            None => self.read_elsewhere(id, proof, hint).await,
        }
    }

    /// The record as this node's own, if no other was faster.
    async fn take_over(
        &self,
        id: RecordId,
        record: &Arc<Record>,
        ticket: Ticket,
    ) -> Option<Arc<Record>> {
        if self.is_draining() {
            return None;
        }
        let mut patch = Patch::new();
        patch.fence(record.fence());
        patch.own(self.label.clone());
        let answer = self.backup.update(id, &patch, &Hint::default()).await;
        let Ok(Outcome::Applied(applied)) = answer else {
            tracing::debug!(target: "steadfast", session = %id, ?answer, "not taken over");
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
        self.copies.fill(id, ticket, &own);
        Some(own)
    }

    /// The record as it is in the backup, whoever has it; the route is its owner's.
    async fn read_elsewhere(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &Hint,
    ) -> Result<Lookup, StoreError> {
        let lookup = self.backup.load(id, proof, hint).await?;
        let Lookup::Found(there) = lookup else { return Ok(lookup) };
        let owner = there.record.owner.as_ref().map(|owner| owner.label.clone());
        let routes = owner.map(|label| ranked(label, &there.carry.routes));
        Ok(found(id, &there.record, routes.unwrap_or_default()))
    }

    /// The patch under the fence of the copy, or one that takes the record over.
    fn fenced(&self, id: RecordId, patch: &Patch) -> Patch {
        match self.copies.find(id) {
            Some(copy) if self.owns(&copy.record) && is_plain(patch) => {
                let mut fenced = patch.clone();
                fenced.fence(copy.record.fence());
                fenced
            }
            _ => self.owning(patch),
        }
    }

    /// The patch, and the record with it. A touch is not worth that: it would no longer be one.
    fn owning(&self, patch: &Patch) -> Patch {
        let mut owning = patch.clone();
        if is_plain(patch) && !patch.is_touch() && !self.is_draining() {
            owning.own(self.label.clone());
        }
        owning
    }

    /// Applies a patch to a fresh copy and has it sent behind the answer; `None` if it must not wait.
    fn write_behind(
        self: &Arc<Self>,
        id: RecordId,
        patch: &Patch,
        hint: &Hint,
        since: Option<Instant>,
    ) -> Option<Outcome> {
        let behind = self.behind.as_ref()?;
        let is_repeatable = patch.rotation().is_none() && !patch.is_once_only();
        let may_wait = patch.writes() && is_repeatable && is_plain(patch);
        let copy = self.copies.find(id).filter(|copy| {
            may_wait && self.is_fresh(copy, since) && self.answers(copy, patch.proof(), hint)
        })?;
        let may_lead = self.owns(&copy.record) && !self.is_draining();
        let (env, limits) = (self.backup.env(), self.backup.limits());
        let patched = copy.record.apply(patch, env.now(), limits).ok().filter(|_| may_lead)?;
        let unsent = Unsent::new(patch, &copy.record);
        let version = patched.record.version;
        let push = || behind.push(id, unsent);
        if self.copies.lead(id, &copy, patched.record, push)? {
            self.send_behind(id);
        }
        Some(self.told(id, hint, Outcome::Applied(Applied::at(version))))
    }

    fn send_behind(self: &Arc<Self>, id: RecordId) {
        let node = Arc::clone(self);
        tokio::spawn(async move {
            let Some(behind) = &node.behind else { return };
            let sending = behind.sending(id);
            match behind.send(&*node.backup, id).await {
                Sent::Whole => {}
                Sent::UnderAnotherFence => node.copies.forget(id),
                Sent::Stopped => {
                    // Without a copy, nothing is queued any more.
                    node.copies.forget(id);
                    behind.merge(&*node.backup, id).await;
                }
            }
            sending.end();
        });
    }

    /// Waits until the backup has what was acknowledged of a record.
    async fn ahead(&self, id: RecordId) -> Option<Ahead<'_>> {
        match &self.behind {
            Some(behind) => Some(behind.ahead(id).await),
            None => None,
        }
    }

    /// The authority said no to a proof that the copy accepts, or to nobody in particular.
    fn doubt(&self, id: RecordId, proof: Option<&Proof>) {
        let now = self.backup.env().now();
        let is_wrong_here = |proof: &Proof| {
            let copy = self.copies.find(id);
            copy.is_some_and(|copy| copy.record.verify(proof, now) != Verdict::Right)
        };
        if !proof.is_some_and(is_wrong_here) {
            self.copies.forget(id);
        }
    }

    /// Hears what changed, and says since when nothing was missed. The first call has it listened to
    /// from then on.
    fn catch_up(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        if !self.is_kept.load(Ordering::Acquire) && !self.is_kept.swap(true, Ordering::AcqRel) {
            self.feed.open(|| self.backup.changes());
            tokio::spawn(keep(Keeping(Arc::downgrade(self))));
        }
        self.hear(now)
    }

    fn hear(&self, now: Instant) -> Option<Instant> {
        self.feed.catch_up(now, |change| match change {
            Change::Patched(id, version) | Change::SignedIn(id, version) => {
                self.copies.heard(id, version);
            }
            Change::Ended(id, _) => self.copies.forget(id),
            Change::Missed | Change::Down => {}
        })
    }

    /// Has the writes sent whose task ended with its runtime.
    fn adopt_orphans(self: &Arc<Self>) {
        let orphans = self.behind.iter().flat_map(Behind::take_orphans);
        orphans.for_each(|id| self.send_behind(id));
    }

    fn figures(&self) -> Figures {
        Figures {
            is_feed_up: self.feed.is_up(),
            feed_gaps: self.feed.take_gaps(),
            copies: self.copies.count(),
            queued: self.behind.as_ref().map(Behind::queued),
        }
    }

    /// The sessions that this node serves.
    fn owned(&self) -> Vec<RecordId> {
        self.hear(Instant::now());
        self.copies.owned_by(&self.label)
    }

    fn owns(&self, record: &Record) -> bool {
        record.owner.as_ref().is_some_and(|owner| owner.label == self.label)
    }

    /// What the client is to carry of a record of this node.
    fn told(&self, id: RecordId, hint: &Hint, outcome: Outcome) -> Outcome {
        let Outcome::Applied(mut applied) = outcome else { return outcome };
        applied.ended.iter().for_each(|ended| self.copies.forget(*ended));
        let routes = self.routes(id, hint, &applied.carry.routes);
        applied.carry = Carry { routes, version: Some(applied.version) };
        Outcome::Applied(applied)
    }

    /// This node, unless the session is to move, and where the backup keeps it.
    fn routes(&self, id: RecordId, hint: &Hint, backup: &[RouteLabel]) -> Vec<RouteLabel> {
        let target = self.shed.target(id, hint.routes.first());
        ranked(target.unwrap_or_else(|| self.label.clone()), backup)
    }
}

/// A write to the backup. Dropped before its end, it may have happened, so the copy counts no more.
struct Write<'n> {
    node: &'n Backed,
    id: RecordId,
    ticket: Ticket,
    is_known: bool,
}

impl<'n> Write<'n> {
    fn begin(node: &'n Backed, id: RecordId) -> Self {
        let ticket = node.copies.ticket(id, Instant::now());
        Self { node, id, ticket, is_known: false }
    }

    /// Passes an answer on, and notes if it says that nothing happened.
    fn known<T>(&mut self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.is_known |= matches!(answer, Err(StoreError::UnknownKey(_)));
        answer
    }

    fn end(mut self, patch: &Patch, outcome: &Outcome) {
        let (node, id) = (self.node, self.id);
        match outcome {
            Outcome::Applied(applied) => {
                let at = (node.backup.env().now(), node.backup.limits());
                node.copies.advance(id, self.ticket, patch, applied.version, at);
            }
            Outcome::Gone | Outcome::Superseded => node.doubt(id, patch.proof()),
            Outcome::Conflict | Outcome::Exists => node.copies.forget(id),
            Outcome::Rejected(_) => {}
        }
        self.is_known = true;
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        if !self.is_known {
            self.node.copies.forget(self.id);
        }
    }
}

/// Held by the task that hears what changes. When the task's runtime ends before the node, the next
/// call starts another one.
struct Keeping(Weak<Backed>);

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(node) = self.0.upgrade() {
            node.is_kept.store(false, Ordering::Release);
        }
    }
}

/// Hears what changes while nobody asks, opens the feed again when it ended, and shows how it goes.
async fn keep(keeping: Keeping) {
    let mut shown_at = None;
    while let Some(node) = keeping.0.upgrade() {
        node.hear(Instant::now());
        node.feed.open(|| node.backup.changes());
        node.traffic.roll();
        node.adopt_orphans();
        if shown_at.is_none_or(|at: Instant| at.elapsed() >= TICK) {
            node.figures().show(&node.label);
            shown_at = Some(Instant::now());
        }
        let bell = node.feed.bell();
        drop(node);
        crate::feed::rung(bell, TICK).await;
    }
}

fn found(id: RecordId, record: &Arc<Record>, routes: Vec<RouteLabel>) -> Lookup {
    let carry = Carry { routes, version: Some(record.version) };
    Lookup::Found(Found { id, record: Arc::clone(record), carry })
}

/// A route that begins with one label and goes on with the others.
fn ranked(first: RouteLabel, others: &[RouteLabel]) -> Vec<RouteLabel> {
    let others: Vec<_> = others.iter().filter(|label| **label != first).cloned().collect();
    [vec![first], others].concat()
}

/// Whether a patch leaves the owner to this crate.
fn is_plain(patch: &Patch) -> bool {
    patch.owner().is_none() && patch.expected_fence().is_none()
}

/// Whether a patch was sent under the fence of a copy.
fn is_fenced(sent: &Patch, patch: &Patch) -> bool {
    sent.expected_fence() != patch.expected_fence()
}

const TICK: Duration = Duration::from_secs(1);
