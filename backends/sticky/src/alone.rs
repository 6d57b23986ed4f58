//! A node without a backup: its sessions end with it, and that shows.

use std::sync::atomic::{AtomicBool, Ordering};

use steadfast_core::{
    Absence, Admission, Carry, Drained, Hint, Lookup, Operate, Outcome, Patch, Proof, Record,
    RecordId, RouteLabel, SessionStore, StoreError, Version,
};
use steadfast_memory::MemoryStore;

/// Sessions in the memory of this node alone.
#[derive(Debug)]
pub(crate) struct Alone {
    pub(crate) memory: MemoryStore,
    label: RouteLabel,
    /// Versions count from the start of the process on, in microseconds, so that a client whose
    /// version is below this one is known to bring a session of an earlier process.
    start: Version,
    is_draining: AtomicBool,
}

impl Alone {
    pub(crate) fn new(memory: MemoryStore, label: RouteLabel) -> Self {
        let start = u64::try_from(memory.env().now().as_millis()).unwrap_or_default();
        let start = Version(start.saturating_mul(1_000));
        Self { memory, label, start, is_draining: AtomicBool::new(false) }
    }

    pub(crate) async fn create(
        &self,
        id: RecordId,
        record: Record,
        admission: Admission,
    ) -> Result<Outcome, StoreError> {
        let record = Record { version: record.version.max(self.start), ..record };
        self.memory.create(id, record, admission).await.map(|outcome| self.labelled(outcome))
    }

    pub(crate) async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &Hint,
    ) -> Result<Lookup, StoreError> {
        Ok(match self.memory.load(id, proof, hint).await? {
            Lookup::Found(mut found) => {
                found.carry = self.carry(found.record.version);
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
        hint: &Hint,
    ) -> Result<Outcome, StoreError> {
        self.memory.update(id, patch, hint).await.map(|outcome| self.labelled(outcome))
    }

    /// Whether it takes no new sessions.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    pub(crate) async fn drain(&self) -> Result<Drained, StoreError> {
        self.is_draining.store(true, Ordering::Release);
        self.memory.drain().await
    }

    /// What a client carries of a session that is not here says where it was: on another node, or in
    /// this one before it was started again.
    fn is_lost(&self, hint: &Hint) -> bool {
        let is_elsewhere = !hint.routes.is_empty() && !hint.routes.contains(&self.label);
        is_elsewhere || hint.seen.is_some_and(|seen| seen < self.start)
    }

    fn labelled(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Applied(mut applied) => {
                applied.carry = self.carry(applied.version);
                Outcome::Applied(applied)
            }
            outcome => outcome,
        }
    }

    fn carry(&self, version: Version) -> Carry {
        Carry { routes: vec![self.label.clone()], version: Some(version) }
    }
}
