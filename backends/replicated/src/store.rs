//! The store, as applications and the middleware see it.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};
use steadfast_core::{
    Change, ChangeStream, Deleted, Deletion, Description, Drained, Ending, Endings, Env, Event,
    Limits, LoginPolicy, Lookup, Operate, Outcome, Patch, Principal, Proof, Record, RecordId,
    RequestHint, Revocation, Scan, SessionInfo, SessionStore, Stats, StoreError,
};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use steadfast_replication::call::{Reply, Request};
use steadfast_replication::engine::Engine;
use steadfast_replication::membership::Problem;
use tokio::time::Instant;

use crate::credentials::{Credentials, Secret};
use crate::error::OpenError;
use crate::links::Links;
use crate::node::{Broken, Node};
use crate::{ClusterSettings, DrainMode, describe};

/// Sessions in the memory of the application's own nodes. Clones share them.
#[derive(Clone)]
pub struct ReplicatedStore {
    node: Arc<Node>,
    links: Arc<Links>,
    settings: Arc<Settings>,
}

/// The settings of a store.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) drain: DrainMode,
    /// The name of the service.
    pub(crate) cluster: String,
}

impl ReplicatedStore {
    pub(crate) fn of(node: Arc<Node>, links: Arc<Links>, settings: Settings) -> Self {
        Self { node, links, settings: Arc::new(settings) }
    }

    /// Waits until this many nodes hold sessions together, and none of them lacks any.
    ///
    /// # Errors
    ///
    /// If the node ended.
    pub async fn wait_for(&self, nodes: usize) -> Result<(), StoreError> {
        let mut status = self.node.status();
        let is_there = status.wait_for(|status| {
            let agreement = status.agreement;
            agreement.full_members >= nodes && agreement.is_settled
        });
        is_there.await.map(drop).map_err(StoreError::unavailable)
    }

    /// Returns the number of copies that are missing at nodes that should hold them: 0 at rest, and
    /// 0 again within seconds of losing a node.
    pub fn under_replicated(&self) -> usize {
        self.node.look().under_replicated
    }

    /// Has connections from now on authenticated with other secrets: the first one identifies this node,
    /// all of them are accepted. Connections that are open stay. See
    /// [`secret`](crate::ReplicatedStoreBuilder::secret) for the rounds in which a service moves to another one.
    ///
    /// # Errors
    ///
    /// If there is no secret, or one is shorter than 32 bytes.
    pub fn replace_secrets(
        &self,
        secrets: impl IntoIterator<Item = impl Into<Vec<u8>>>,
    ) -> Result<(), OpenError> {
        let secrets: Vec<_> = secrets.into_iter().map(Secret::new).collect();
        let credentials = Credentials::new(&self.settings.cluster, &secrets, &self.node.env)?;
        self.links.replace_credentials(credentials);
        Ok(())
    }

    /// Gives the service another configuration while it runs: how many nodes hold a record, how many
    /// acknowledgements a write waits for, and what happens without a majority. Nodes that start later have to
    /// be configured alike.
    pub fn reconfigure(&self, settings: ClusterSettings) {
        self.node.with_engine(|engine, now| engine.reconfigure(now, settings));
    }

    /// Returns the reason why this node is not ready, if it has been so for 500 ms.
    async fn problem(&self) -> Result<Option<Problem>, StoreError> {
        let until = Instant::now() + READY_WITHIN;
        while !self.node.is_broken() {
            // A node at rest has no lease: the first question asks for one.
            let problem = self.node.with_engine(|engine, now| {
                let is_ready = engine.is_ready(now);
                engine.problem(now).filter(|_| !is_ready)
            });
            if problem.is_none() || Instant::now() >= until {
                return Ok(problem);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Err(StoreError::unavailable(Broken))
    }

    /// Waits until it is known whether this node's clock is right, if it has just jumped.
    async fn clocks_are_known(&self) {
        while self.node.with_engine(Engine::awaits_clocks) {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> crate::status::Status {
        self.node.status().borrow().clone()
    }

    async fn call(&self, request: Request, within: Duration) -> Result<Reply, StoreError> {
        self.node.call(|engine, now| engine.call(now, request, within)).await
    }

    async fn outcome(&self, request: Request, within: Duration) -> Result<Outcome, StoreError> {
        match self.call(request, within).await? {
            Reply::Outcome(outcome) => {
                if let Outcome::Applied(applied) = &outcome
                    && applied.degraded
                {
                    Event::Degraded.emit(None);
                }
                Ok(outcome)
            }
            _ => Err(unexpected()),
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
        &self.settings.limits
    }

    fn places_sessions(&self) -> bool {
        true
    }

    /// A lost node delays the answers about its own records only.
    fn shares_fate(&self) -> bool {
        false
    }

    /// Draws ids until this node would own the record, 64 at most: with sticky clients, the node that
    /// serves a session then owns it.
    fn mint(&self) -> Result<RecordId, StoreError> {
        let mut id = RecordId::random(self.env())?;
        for _ in 1..MINTED {
            if self.node.with_engine(|engine, _| engine.would_own(id)) {
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
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        self.outcome(Request::Create { id, record: Box::new(record), policy }, END_WITHIN).await
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        let request = Request::Load { id, proof: proof.cloned(), seen: hint.min_version };
        match self.call(request, WITHIN).await? {
            Reply::Lookup(lookup) => Ok(lookup),
            _ => Err(unexpected()),
        }
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        _: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        let within = if patch.rotation().is_some() { END_WITHIN } else { WITHIN };
        self.outcome(Request::Update { id, patch: Box::new(patch.clone()) }, within).await
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        let (proof, sign_in) = (deletion.proof.cloned(), deletion.sign_in);
        let request = Request::Delete { id, proof, sign_in, reason: deletion.reason };
        match self.call(request, END_WITHIN).await? {
            Reply::Deleted(deleted) => Ok(deleted),
            _ => Err(unexpected()),
        }
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        let principal = principal.clone();
        let listed = self.node.call(|engine, now| engine.list(now, principal, END_WITHIN));
        match listed.await? {
            Reply::Listed(sessions) => Ok(sessions),
            _ => Err(unexpected()),
        }
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        let principal = principal.clone();
        let ended =
            self.node.call(|engine, now| engine.delete_all(now, principal, revocation, END_WITHIN));
        match ended.await? {
            Reply::Count(count) => Ok(count),
            _ => Err(unexpected()),
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

    /// Each node keeps the endings of sessions that it owns from its own first call, and hands them
    /// out: call this on every node when it starts, and claim on every node. Backups hold the queue,
    /// too, so that it outlives as many crashes as sessions do. An ending is dropped after 24 h. A node
    /// that holds 100,000 of them, for itself and as a backup, keeps no further ones.
    fn endings(&self) -> Option<Arc<dyn Endings>> {
        self.node.with_engine(|engine, _| engine.keep_endings());
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Endings for ReplicatedStore {
    /// Claims endings of sessions that this node owns.
    async fn claim(&self, limit: usize) -> Result<Vec<Ending>, StoreError> {
        if self.node.is_broken() {
            return Err(StoreError::unavailable(Broken));
        }
        self.clocks_are_known().await;
        Ok(self.node.with_engine(|engine, now| engine.claim_endings(now, limit)))
    }

    /// Also removes endings of sessions that other nodes own.
    async fn acknowledge(&self, ids: &[RecordId]) -> Result<(), StoreError> {
        let report = |id: &RecordId| self.call(Request::MarkReported { id: *id }, END_WITHIN);
        let mut reports = stream::iter(ids.iter().map(report)).buffer_unordered(REPORTED);
        while let Some(reply) = reports.next().await {
            match reply? {
                Reply::Done => {}
                _ => return Err(unexpected()),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Operate for ReplicatedStore {
    /// Returns true if this node is a full member, serves its records, and had the votes of a
    /// majority within the last 5 s. Once it is ready, the next node can be restarted.
    async fn ready(&self) -> Result<(), StoreError> {
        match self.problem().await? {
            None => Ok(()),
            Some(problem) => Err(StoreError::unavailable(problem)),
        }
    }

    async fn drain(&self) -> Result<Drained, StoreError> {
        self.node.drain(self.settings.drain).await
    }

    async fn collect(&self) -> Result<u64, StoreError> {
        self.clocks_are_known().await;
        Ok(self.node.with_engine(Engine::collect))
    }

    /// The copies of this node.
    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        Ok(self.node.with_engine(|engine, _| engine.scan(after, limit)))
    }

    /// Counts the copies of this node.
    async fn stats(&self) -> Result<Stats, StoreError> {
        Ok(self.node.with_engine(|engine, _| engine.stats()))
    }

    /// The node, and the cluster as it sees it. The problem is the one that keeps
    /// [`ready`](Self::ready) from success.
    async fn describe(&self) -> Result<Description, StoreError> {
        let problem = self.problem().await?.map(|problem| problem.to_string());
        let look = |engine: &mut Engine, now| (engine.describe(now), engine.figures(now).health);
        let (description, health) = self.node.with_engine(look);
        Ok(Description { problem, ..describe::node(description, &health) })
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

fn unexpected() -> StoreError {
    StoreError::refused("the owner of the record answered another question")
}

/// The highest number of ids drawn to find one that this node owns.
const MINTED: usize = 64;

/// The number of endings that are acknowledged at the same time.
const REPORTED: usize = 64;

/// The time that a readiness check waits for a lease, and the interval at which it polls.
const READY_WITHIN: Duration = Duration::from_millis(500);
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// The time limit of a load or a plain update.
const WITHIN: Duration = Duration::from_millis(950);

/// The time limit of a create, an end or a new secret: a write that is not confirmed by then goes
/// on.
const END_WITHIN: Duration = Duration::from_millis(2_900);
