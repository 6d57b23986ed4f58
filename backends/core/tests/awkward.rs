//! The conformance tests pass on an awkward store, with copies on each node that lag behind the
//! authority.
//!
//! A node answers a load from its copy if the copy is live, opens for the proof, and has at least
//! the version that the client has seen. All other answers come from the authority. A record that
//! ended, or whose secret was replaced, is removed from every node before the call returns.

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use common::{SimpleStore, found};
use steadfast_core::conformance::Subject;
use steadfast_core::{
    ChangeStream, Deleted, Deletion, Env, Found, Limits, LoginPolicy, Lookup, Operate, Outcome,
    Patch, Principal, Proof, Record, RecordId, RequestHint, Revocation, Scan, SessionInfo,
    SessionStore, Stats, Store, StoreError, Verdict,
};
use tokio::task::yield_now;

steadfast_core::conformance_tests!(Awkward);

struct Awkward;

#[async_trait]
impl Subject for Awkward {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let authority = Arc::new(SimpleStore::new(env));
        let copies: Arc<[Copies; 2]> = Arc::default();
        let node = |number| {
            let (authority, copies) = (Arc::clone(&authority), Arc::clone(&copies));
            Arc::new(AwkwardStore { authority, copies, number }) as Arc<dyn Store>
        };
        vec![node(0), node(1)]
    }
}

/// A node. Its copies are stored under its number.
#[derive(Clone, Debug)]
struct AwkwardStore {
    authority: Arc<SimpleStore>,
    copies: Arc<[Copies; 2]>,
    number: usize,
}

impl AwkwardStore {
    fn copy(&self, id: RecordId, proof: Option<&Proof>, hint: &RequestHint) -> Option<Found> {
        let now = self.env().now();
        let record = self.copies[self.number].kept().records.get(&id).cloned()?;
        let opens = proof.is_none_or(|proof| record.verify(proof, now) == Verdict::Right);
        let serves = opens && !record.is_expired(now) && Some(record.version) >= hint.min_version;
        serves.then(|| found(id, record))
    }

    /// Removes records from every node, and prevents loads in progress from adding them again.
    async fn invalidate(&self, ids: &[RecordId]) {
        for copies in &*self.copies {
            delay().await;
            let mut kept = copies.kept();
            kept.generation += 1;
            for id in ids {
                kept.records.remove(id);
            }
        }
    }
}

#[async_trait]
impl SessionStore for AwkwardStore {
    fn env(&self) -> &Env {
        self.authority.env()
    }

    fn limits(&self) -> &Limits {
        self.authority.limits()
    }

    async fn create(
        &self,
        id: RecordId,
        record: Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        let node = self.clone();
        detached(async move {
            delay().await;
            let outcome = node.authority.try_create(id, &record, policy);
            node.invalidate(ended(&outcome)).await;
            Ok(outcome)
        })
        .await
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        delay().await;
        if let Some(found) = self.copy(id, proof, hint) {
            return Ok(Lookup::Found(found));
        }
        let generation = self.copies[self.number].kept().generation;
        delay().await;
        let lookup = self.authority.look_up(id, proof)?;
        delay().await;
        let mut kept = self.copies[self.number].kept();
        match &lookup {
            // The copy is kept only if nothing was invalidated since the load began: it might have
            // been this record.
            Lookup::Found(found) if kept.generation == generation => {
                kept.records.insert(id, Arc::clone(&found.record));
            }
            _ => {}
        }
        Ok(lookup)
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        _: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        let (node, patch) = (self.clone(), patch.clone());
        detached(async move {
            delay().await;
            let outcome = node.authority.try_update(id, &patch)?;
            node.invalidate(ended(&outcome)).await;
            if patch.rotation().is_some() {
                node.invalidate(&[id]).await;
            }
            Ok(outcome)
        })
        .await
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        let (node, proof) = (self.clone(), deletion.proof.cloned());
        let (sign_in, reason) = (deletion.sign_in, deletion.reason);
        detached(async move {
            delay().await;
            let deletion = Deletion { proof: proof.as_ref(), sign_in, reason };
            let deleted = node.authority.end(id, &deletion)?;
            // Invalidate even if the record was not live: the call that ended it may not have done
            // so yet.
            node.invalidate(&[id]).await;
            Ok(deleted)
        })
        .await
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        delay().await;
        self.authority.list(principal).await
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        let (node, principal) = (self.clone(), principal.clone());
        detached(async move {
            delay().await;
            let ended = node.authority.end_all(&principal, revocation);
            node.invalidate(&ended).await;
            Ok(ended.len() as u64)
        })
        .await
    }

    fn changes(&self) -> Option<ChangeStream> {
        self.authority.changes()
    }
}

#[async_trait]
impl Operate for AwkwardStore {
    async fn collect(&self) -> Result<u64, StoreError> {
        self.authority.collect().await
    }

    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        self.authority.scan(after, limit).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.authority.stats().await
    }
}

/// The copies of one node.
#[derive(Debug, Default)]
struct Copies(Mutex<Kept>);

impl Copies {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("no call panics while it holds the lock")
    }
}

#[derive(Debug, Default)]
struct Kept {
    records: HashMap<RecordId, Arc<Record>>,
    /// Incremented with every invalidation.
    generation: u64,
}

/// Finishes a change even if the caller is dropped. If the authority changed and the copies were
/// not invalidated, two secrets would be live.
async fn detached<T: Send + 'static>(
    change: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::spawn(change).await;
    done.map_err(StoreError::unavailable)?
}

fn ended(outcome: &Outcome) -> &[RecordId] {
    match outcome {
        Outcome::Applied(applied) => &applied.ended,
        _ => &[],
    }
}

/// Simulates a network.
async fn delay() {
    for _ in 0..3 {
        yield_now().await;
    }
}
