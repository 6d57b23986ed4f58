//! A node without a backup. Its sessions end with it, and it reports that they are lost.

use std::sync::atomic::{AtomicBool, Ordering};

use steadfast_core::{
    Absence, ClientState, Drained, LoginPolicy, Lookup, Operate, Outcome, Patch, Proof, Record,
    RecordId, RequestHint, RouteLabel, SessionStore, StoreError, Version,
};
use steadfast_memory::MemoryStore;

/// Sessions in the memory of this node only.
#[derive(Debug)]
pub(crate) struct Standalone {
    pub(crate) memory: MemoryStore,
    label: RouteLabel,
    /// The first version of this process: microseconds since 1970 at its start. A client with a
    /// lower version comes with a session of an earlier process.
    start: Version,
    is_draining: AtomicBool,
}

impl Standalone {
    pub(crate) fn new(memory: MemoryStore, label: RouteLabel) -> Self {
        let start = u64::try_from(memory.env().now().as_millis()).unwrap_or_default();
        let start = Version(start.saturating_mul(1_000));
        Self { memory, label, start, is_draining: AtomicBool::new(false) }
    }

    pub(crate) async fn create(
        &self,
        id: RecordId,
        record: Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        let record = Record { version: record.version.max(self.start), ..record };
        self.memory.create(id, record, policy).await.map(|outcome| self.labelled(outcome))
    }

    pub(crate) async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        Ok(match self.memory.load(id, proof, hint).await? {
            Lookup::Found(mut found) => {
                found.client_state = self.client_state(found.record.version);
                Lookup::Found(found)
            }
            Lookup::Absent(Absence::Unknown) if self.is_lost(hint) => Lookup::Absent(Absence::Lost),
            lookup => lookup,
        })
    }

    pub(crate) async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        hint: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        self.memory.update(id, patch, hint).await.map(|outcome| self.labelled(outcome))
    }

    /// Returns true if the node accepts no new sessions.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    pub(crate) async fn drain(&self) -> Result<Drained, StoreError> {
        self.is_draining.store(true, Ordering::Release);
        self.memory.drain().await
    }

    /// Returns true if the client's hint shows that a missing session was lost: its route names
    /// another node, or its version is from before this process.
    fn is_lost(&self, hint: &RequestHint) -> bool {
        let is_elsewhere = !hint.routes.is_empty() && !hint.routes.contains(&self.label);
        is_elsewhere || hint.min_version.is_some_and(|seen| seen < self.start)
    }

    fn labelled(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Applied(mut applied) => {
                applied.client_state = self.client_state(applied.version);
                Outcome::Applied(applied)
            }
            outcome => outcome,
        }
    }

    fn client_state(&self, version: Version) -> ClientState {
        ClientState { routes: vec![self.label.clone()], version: Some(version) }
    }
}
