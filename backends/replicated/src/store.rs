//! The store, as an application and the middleware see it.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};
use steadfast_core::{
    Admission, Change, ChangeStream, Deleted, Deletion, Drained, Env, Event, Hint, Limits, Lookup,
    Operate, Outcome, Patch, Principal, Proof, Record, RecordId, Revocation, Scan, SessionInfo,
    SessionStore, Stats, StoreError,
};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::engine::{Engine, Failure, Reply, Request};
use crate::node::Node;
use crate::open::ReplicatedStoreBuilder;

/// Sessions in the memory of the application's own nodes. Clones share them.
#[derive(Clone)]
pub struct ReplicatedStore {
    node: Arc<Node>,
    limits: Limits,
}

impl ReplicatedStore {
    /// A store to be set up.
    pub fn builder() -> ReplicatedStoreBuilder {
        ReplicatedStoreBuilder::new()
    }

    pub(crate) fn of(node: Arc<Node>, limits: Limits) -> Self {
        Self { node, limits }
    }

    /// Waits until this many nodes hold sessions together, and know it of each other.
    ///
    /// # Errors
    ///
    /// When the store was dropped meanwhile.
    pub async fn wait_for(&self, nodes: usize) -> Result<(), StoreError> {
        let mut health = self.node.health();
        let is_there = health.wait_for(|health| health.members >= nodes && health.is_agreed).await;
        is_there.map(drop).map_err(StoreError::unavailable)
    }

    /// How many copies of records are missing at nodes that should hold them: 0 at rest, and again
    /// seconds after a node was lost.
    pub fn under_replicated(&self) -> usize {
        self.node.look().under_replicated
    }

    #[cfg(test)]
    pub(crate) fn health(&self) -> crate::engine::Health {
        self.node.look()
    }

    async fn outcome(&self, request: Request, within: Duration) -> Result<Outcome, StoreError> {
        match self.node.call(request, within).await? {
            Reply::Outcome(outcome) => {
                if let Outcome::Applied(applied) = &outcome
                    && applied.degraded
                {
                    Event::Degraded.emit(None);
                }
                Ok(outcome)
            }
            _ => Err(moving()),
        }
    }
}

impl fmt::Debug for ReplicatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicatedStore").field("node", &self.node).finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for ReplicatedStore {
    fn env(&self) -> &Env {
        &self.node.env
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn carries(&self) -> bool {
        true
    }

    /// Where one node is lost, so are the answers about its records, until they have a new owner.
    fn fails_as_a_whole(&self) -> bool {
        false
    }

    /// Draws ids until this node would own the record, 64 at most: with sticky clients, the node that
    /// serves a session then owns it.
    fn mint(&self) -> Result<RecordId, StoreError> {
        let mut id = RecordId::random(self.env())?;
        for _ in 1..MINTED {
            if self.node.drive(|engine, _| engine.would_own(id)) {
                break;
            }
            id = RecordId::random(self.env())?;
        }
        Ok(id)
    }

    async fn create(
        &self,
        id: RecordId,
        record: Record,
        admission: Admission,
    ) -> Result<Outcome, StoreError> {
        self.outcome(Request::Create { id, record: Box::new(record), admission }, END_WITHIN).await
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &Hint,
    ) -> Result<Lookup, StoreError> {
        let request = Request::Load { id, proof: proof.cloned(), seen: hint.seen };
        match self.node.call(request, WITHIN).await? {
            Reply::Lookup(lookup) => Ok(lookup),
            _ => Err(moving()),
        }
    }

    async fn update(&self, id: RecordId, patch: &Patch, _: &Hint) -> Result<Outcome, StoreError> {
        let within = if patch.rotation().is_some() { END_WITHIN } else { WITHIN };
        self.outcome(Request::Update { id, patch: Box::new(patch.clone()) }, within).await
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        match self.node.call(Request::delete(id, deletion), END_WITHIN).await? {
            Reply::Ended(deleted) => Ok(deleted),
            _ => Err(moving()),
        }
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        let request = Request::List { principal: principal.clone() };
        match self.node.call(request, END_WITHIN).await? {
            Reply::Listed(sessions) => Ok(sessions),
            _ => Err(moving()),
        }
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        Revocation { except, epoch, reason }: Revocation,
    ) -> Result<u64, StoreError> {
        let request = Request::DeleteAll { principal: principal.clone(), except, epoch, reason };
        match self.node.call(request, END_WITHIN).await? {
            Reply::Count(count) => Ok(count),
            _ => Err(moving()),
        }
    }

    /// Up to 1,024 changes wait for a slow listener; then it gets `Change::Missed`. While the link to a
    /// node that is not counted as down is broken, the stream is `Change::Down`.
    fn changes(&self) -> Option<ChangeStream> {
        let (receiver, hears_all) = self.node.listen();
        let first = (!hears_all).then_some(Change::Down);
        let listening = Listening { receiver, node: Arc::downgrade(&self.node) };
        Some(ChangeStream::new(
            stream::iter(first).chain(stream::unfold(listening, Listening::next)),
        ))
    }
}

#[async_trait]
impl Operate for ReplicatedStore {
    /// Whether this node has joined, and where it needs a majority, sees one and is counted in it. Once
    /// it is ready, the next node can be restarted.
    async fn ready(&self) -> Result<(), StoreError> {
        match self.node.look().is_ready {
            true => Ok(()),
            false => Err(StoreError::unavailable(Failure::NoMajority)),
        }
    }

    async fn drain(&self) -> Result<Drained, StoreError> {
        self.node.drain().await
    }

    async fn collect(&self) -> Result<u64, StoreError> {
        Ok(self.node.drive(Engine::collect))
    }

    /// The copies of this node.
    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        Ok(self.node.drive(|engine, _| engine.scan(after, limit)))
    }

    /// Of the copies of this node.
    async fn stats(&self) -> Result<Stats, StoreError> {
        Ok(self.node.drive(|engine, _| engine.stats()))
    }
}

/// One listener.
struct Listening {
    receiver: Receiver<Change>,
    node: Weak<Node>,
}

impl Listening {
    async fn next(mut self) -> Option<(Change, Self)> {
        let change = match self.receiver.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => {
                // One of the changes that are gone may have been `Down`.
                let (receiver, hears_all) = self.node.upgrade()?.listen();
                self.receiver = receiver;
                if hears_all { Change::Missed } else { Change::Down }
            }
            Err(RecvError::Closed) => return None,
        };
        Some((change, self))
    }
}

fn moving() -> StoreError {
    StoreError::unavailable(Failure::Moving)
}

/// How many ids are drawn at most for one that lands here.
const MINTED: usize = 64;

/// How long a load and a plain update may take.
const WITHIN: Duration = Duration::from_millis(950);

/// How long a create, an end and a new secret may take: what is not confirmed by then goes on.
const END_WITHIN: Duration = Duration::from_millis(2_900);
