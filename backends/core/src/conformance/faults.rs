//! A store that fails on demand, for these tests, for tests of the middleware, and for drills.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::description::Description;
use crate::endings::{Ending, Endings};
use crate::error::StoreError;
use crate::event::Event;
use crate::forward_calls;
use crate::operate::{Drained, Operate, Scan, Stats, Store};
use crate::outcome::{Deleted, Deletion, Outcome, Revocation};
use crate::patch::{LoginPolicy, Patch};
use crate::principal::Principal;
use crate::proof::Proof;
use crate::record::Record;
use crate::store::{Absence, Lookup, RequestHint, SessionInfo, SessionStore};
use crate::token::RecordId;

/// A wrapper around a store that counts its calls and makes them fail on demand.
///
/// Without a fault it only forwards calls. Clones share the faults and the counts.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use steadfast_core::conformance::faults::{Call, Fault, FaultyStore};
/// # fn drill(store: Arc<dyn steadfast_core::Store>) {
/// let store = FaultyStore::new(store);
/// store.set(Call::Load, Fault::Down);
/// assert_eq!(store.calls(Call::Load), 0);
/// store.heal();
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FaultyStore(Arc<Inner>);

impl FaultyStore {
    /// Wraps `store`, without a fault.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(Arc::new(Inner { store, faults: Mutex::default(), calls: Default::default() }))
    }

    /// Sets the fault of a call until another is set. [`Fault::None`] clears it.
    pub fn set(&self, call: Call, fault: Fault) {
        self.faults().insert(call, Rule { fault, once: false });
    }

    /// Sets the fault of a call for its next use only.
    pub fn once(&self, call: Call, fault: Fault) {
        self.faults().insert(call, Rule { fault, once: true });
    }

    /// Sets the fault of all calls.
    pub fn set_all(&self, fault: &Fault) {
        for call in Call::ALL {
            self.set(call, fault.clone());
        }
    }

    /// Clears all faults. Calls that hang already stay so; paused calls still wait for their
    /// [`Pause`].
    pub fn heal(&self) {
        self.faults().clear();
    }

    /// Returns the number of calls made, including failed ones.
    pub fn calls(&self, call: Call) -> u64 {
        self.0.calls[call as usize].load(Ordering::SeqCst)
    }

    /// Pauses each such call before it reaches the store, until the pause is released.
    pub fn pause_before(&self, call: Call) -> Pause {
        let pause = Pause::new();
        self.set(call, Fault::PauseBefore(pause.clone()));
        pause
    }

    /// Pauses the answer to each such call, until the pause is released.
    pub fn pause_after(&self, call: Call) -> Pause {
        let pause = Pause::new();
        self.set(call, Fault::PauseAfter(pause.clone()));
        pause
    }

    /// Makes one call under its fault. `corrupt` is the answer for a corrupt record.
    async fn run<T>(
        &self,
        call: Call,
        corrupt: impl FnOnce() -> Result<T, StoreError>,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.0.calls[call as usize].fetch_add(1, Ordering::SeqCst);
        match self.take(call) {
            Fault::None => work.await,
            Fault::Down => Err(StoreError::unavailable("the fault `down` is set")),
            Fault::ReadOnly => Err(StoreError::writes_refused("the fault `read only` is set")),
            Fault::Busy => Err(StoreError::busy("the fault `busy` is set")),
            Fault::Slow(by) => {
                tokio::time::sleep(by).await;
                work.await
            }
            Fault::Hang => std::future::pending().await,
            Fault::Corrupt => corrupt(),
            Fault::AckLost => work.await.and(Err(StoreError::Timeout)),
            Fault::PauseBefore(pause) => {
                pause.wait().await;
                work.await
            }
            Fault::PauseAfter(pause) => {
                let answer = work.await;
                pause.wait().await;
                answer
            }
        }
    }

    fn take(&self, call: Call) -> Fault {
        let mut faults = self.faults();
        let Some(rule) = faults.get(&call) else {
            return Fault::None;
        };
        let fault = rule.fault.clone();
        if rule.once {
            faults.remove(&call);
        }
        fault
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, HashMap<Call, Rule>> {
        self.0.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SessionStore for FaultyStore {
    forward_calls!(this => this.0.store, except create, load, update, delete, list, delete_all, endings);

    async fn create(
        &self,
        id: RecordId,
        record: Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        let work = self.0.store.create(id, record, policy);
        self.run(Call::Create, corrupt_error, work).await
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        let absent = || {
            Event::CorruptRecord.emit(Some(id));
            Ok(Lookup::Absent(Absence::Unknown))
        };
        let work = self.0.store.load(id, proof, hint);
        self.run(Call::Load, absent, work).await
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        hint: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        let corrupt = || {
            Event::CorruptRecord.emit(Some(id));
            corrupt_error()
        };
        let work = self.0.store.update(id, patch, hint);
        self.run(Call::Update, corrupt, work).await
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        let work = self.0.store.delete(id, deletion);
        self.run(Call::Delete, corrupt_error, work).await
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        let work = self.0.store.list(principal);
        self.run(Call::List, corrupt_error, work).await
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        let work = self.0.store.delete_all(principal, revocation);
        self.run(Call::DeleteAll, corrupt_error, work).await
    }

    fn endings(&self) -> Option<Arc<dyn Endings>> {
        let queue = self.0.store.endings()?;
        Some(Arc::new(FaultyQueue { store: self.clone(), queue }))
    }
}

/// The queue of a [`FaultyStore`].
#[derive(Debug)]
struct FaultyQueue {
    store: FaultyStore,
    queue: Arc<dyn Endings>,
}

#[async_trait]
impl Endings for FaultyQueue {
    async fn claim(&self, limit: usize) -> Result<Vec<Ending>, StoreError> {
        self.store.run(Call::Claim, corrupt_error, self.queue.claim(limit)).await
    }

    async fn acknowledge(&self, ids: &[RecordId]) -> Result<(), StoreError> {
        self.store.run(Call::Acknowledge, corrupt_error, self.queue.acknowledge(ids)).await
    }
}

#[async_trait]
impl Operate for FaultyStore {
    /// Fails while loads are [`Fault::Down`] or [`Fault::Hang`], so that a health check sees the
    /// outage.
    async fn ready(&self) -> Result<(), StoreError> {
        let fault = self.faults().get(&Call::Load).map(|rule| rule.fault.clone());
        if let Some(Fault::Down | Fault::Hang) = fault {
            return Err(StoreError::unavailable("a fault is set"));
        }
        self.0.store.ready().await
    }

    async fn drain(&self) -> Result<Drained, StoreError> {
        self.0.store.drain().await
    }

    async fn collect(&self) -> Result<u64, StoreError> {
        self.0.store.collect().await
    }

    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        self.0.store.scan(after, limit).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.0.store.stats().await
    }

    async fn describe(&self) -> Result<Description, StoreError> {
        self.0.store.describe().await
    }
}

/// The calls of [`SessionStore`] and its queue of endings that can be given a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`SessionStore::create`].
    Create,
    /// [`SessionStore::load`].
    Load,
    /// [`SessionStore::update`].
    Update,
    /// [`SessionStore::delete`].
    Delete,
    /// [`SessionStore::list`].
    List,
    /// [`SessionStore::delete_all`].
    DeleteAll,
    /// [`Endings::claim`].
    Claim,
    /// [`Endings::acknowledge`].
    Acknowledge,
}

impl Call {
    /// All calls.
    pub const ALL: [Self; 8] = [
        Self::Create,
        Self::Load,
        Self::Update,
        Self::Delete,
        Self::List,
        Self::DeleteAll,
        Self::Claim,
        Self::Acknowledge,
    ];
}

/// A fault of a call.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Fault {
    /// The call works.
    #[default]
    None,
    /// The call returns [`StoreError::Unavailable`] and does not reach the store.
    Down,
    /// The call returns [`StoreError::WritesRefused`] and does not reach the store.
    ReadOnly,
    /// The call returns [`StoreError::Busy`] and does not reach the store.
    Busy,
    /// The call reaches the store after this delay, by Tokio's clock.
    Slow(Duration),
    /// The call does not reach the store and never returns.
    Hang,
    /// The call is answered as for a corrupt record and does not reach the store: a load is
    /// [`Lookup::Absent`], everything else [`StoreError::Corrupt`].
    Corrupt,
    /// The call takes effect, but its answer is lost: [`StoreError::Timeout`].
    AckLost,
    /// The call waits before it reaches the store.
    PauseBefore(Pause),
    /// The call takes effect, but its answer waits.
    PauseAfter(Pause),
}

/// Holds calls until a test has seen them arrive and releases them. Clones are the same pause.
#[derive(Clone, Debug)]
pub struct Pause {
    arrived: watch::Sender<u64>,
    released: watch::Sender<bool>,
}

impl Pause {
    /// Creates a pause that holds calls.
    pub fn new() -> Self {
        Self { arrived: watch::Sender::new(0), released: watch::Sender::new(false) }
    }

    /// Waits until `calls` calls have arrived, including those that have left again.
    pub async fn arrived(&self, calls: u64) {
        let mut arrived = self.arrived.subscribe();
        let reached = arrived.wait_for(|count| *count >= calls).await;
        reached.expect("the pause itself keeps the channel open");
    }

    /// Releases all calls, now and later.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    pub(crate) async fn wait(&self) {
        self.arrived.send_modify(|count| *count += 1);
        let mut released = self.released.subscribe();
        let passed = released.wait_for(|released| *released).await;
        passed.expect("the pause itself keeps the channel open");
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    faults: Mutex<HashMap<Call, Rule>>,
    calls: [AtomicU64; Call::ALL.len()],
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    once: bool,
}

fn corrupt_error<T>() -> Result<T, StoreError> {
    Err(StoreError::corrupt("the fault `corrupt` is set"))
}
