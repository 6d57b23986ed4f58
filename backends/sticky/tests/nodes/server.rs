//! A backup as a server is one: its feed tells what stores do, and not what others do to its records.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::{StreamExt, future};
use steadfast_core::{
    Admission, Change, ChangeStream, Deleted, Deletion, Env, Hint, Limits, Lookup, Operate,
    Outcome, Patch, Principal, Proof, Record, RecordId, Revocation, SessionInfo, SessionStore,
    StoreError,
};
use steadfast_memory::MemoryStore;

#[derive(Debug)]
pub struct Server {
    memory: MemoryStore,
    vanished: Arc<Mutex<HashSet<RecordId>>>,
}

impl Server {
    pub fn new(env: Env) -> Self {
        Self { memory: MemoryStore::builder().env(env).build(), vanished: Arc::default() }
    }

    /// Deletes a record as a person or an eviction does.
    pub async fn vanish(&self, id: RecordId) {
        self.vanished.lock().unwrap().insert(id);
        assert!(self.memory.delete(id, &Deletion::LOGOUT).await.unwrap().is_ended());
    }
}

#[async_trait]
impl SessionStore for Server {
    fn env(&self) -> &Env {
        self.memory.env()
    }

    fn limits(&self) -> &Limits {
        self.memory.limits()
    }

    async fn create(
        &self,
        id: RecordId,
        record: Record,
        admission: Admission,
    ) -> Result<Outcome, StoreError> {
        self.memory.create(id, record, admission).await
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &Hint,
    ) -> Result<Lookup, StoreError> {
        self.memory.load(id, proof, hint).await
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        hint: &Hint,
    ) -> Result<Outcome, StoreError> {
        self.memory.update(id, patch, hint).await
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        self.memory.delete(id, deletion).await
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        self.memory.list(principal).await
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        self.memory.delete_all(principal, revocation).await
    }

    fn changes(&self) -> Option<ChangeStream> {
        let vanished = Arc::clone(&self.vanished);
        let is_told = move |change: &Change| match change {
            Change::Patched(id, _) | Change::SignedIn(id, _) | Change::Ended(id, _) => {
                future::ready(!vanished.lock().unwrap().contains(id))
            }
            Change::Missed | Change::Down => future::ready(true),
        };
        self.memory.changes().map(|changes| ChangeStream::new(changes.filter(is_told)))
    }
}

#[async_trait]
impl Operate for Server {}
