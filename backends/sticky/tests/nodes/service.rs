//! A service with several nodes. Its backup counts calls and can be made to fail.

use std::sync::Arc;

use steadfast_core::conformance::faults::{Call, FaultyStore};
use steadfast_core::{
    ClientState, Env, KeyId, Lifetime, LoginPolicy, Lookup, ManualClock, Outcome, Patch, Proof,
    RawJson, Record, RecordId, RequestHint, Rotation, RouteLabel, SecretHash, SessionStore, Store,
    Version,
};
use steadfast_memory::MemoryStore;
use steadfast_sticky::{StickyStore, StickyStoreBuilder};

use crate::server::Server;

pub struct Service {
    pub backup: FaultyStore,
    pub nodes: Vec<StickyStore>,
}

impl Service {
    /// Creates two nodes, `n1` and `n2`.
    pub fn new() -> Self {
        Self::with(2, |node| node)
    }

    pub fn with(nodes: usize, set_up: impl Fn(StickyStoreBuilder) -> StickyStoreBuilder) -> Self {
        let env = Env::with_clock(ManualClock::default());
        Self::over(Arc::new(MemoryStore::builder().env(env).build()), nodes, set_up)
    }

    /// Creates nodes over a backup that others change, too.
    pub fn over_a_server(
        nodes: usize,
        set_up: impl Fn(StickyStoreBuilder) -> StickyStoreBuilder,
    ) -> (Self, Arc<Server>) {
        let server = Arc::new(Server::new(Env::with_clock(ManualClock::default())));
        (Self::over(server.clone(), nodes, set_up), server)
    }

    fn over(
        backup: Arc<dyn Store>,
        nodes: usize,
        set_up: impl Fn(StickyStoreBuilder) -> StickyStoreBuilder,
    ) -> Self {
        let backup = FaultyStore::new(backup);
        let node = |n| {
            let builder = StickyStore::builder(label(&format!("n{n}")));
            set_up(builder.backup(Arc::new(backup.clone()))).build()
        };
        Self { nodes: (1..=nodes).map(node).collect(), backup }
    }

    /// Creates a session on the first node and reads it there.
    pub async fn session(&self) -> RecordId {
        let id = self.fresh().await;
        assert!(self.nodes[0].opens(id).await);
        id
    }

    /// Creates a session on the first node.
    pub async fn fresh(&self) -> RecordId {
        let id = self.nodes[0].mint().unwrap();
        let record = record(self.nodes[0].env());
        let outcome = self.nodes[0].create(id, record, LoginPolicy::default()).await.unwrap();
        assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
        id
    }

    /// Returns the number of calls to the backup so far.
    pub fn calls(&self) -> u64 {
        Call::ALL.iter().map(|call| self.backup.calls(*call)).sum()
    }

    /// Returns the record in the backup.
    pub async fn kept(&self, id: RecordId) -> Arc<Record> {
        match self.backup.load(id, None, &RequestHint::default()).await.unwrap() {
            Lookup::Found(found) => found.record,
            other => panic!("{other:?}"),
        }
    }
}

/// Shorthands for calls to a node.
pub trait Node: SessionStore {
    async fn seen(&self, id: RecordId, seen: Option<Version>) -> Lookup {
        let hint = RequestHint { min_version: seen, ..RequestHint::default() };
        self.load(id, Some(&proof()), &hint).await.unwrap()
    }

    async fn opens(&self, id: RecordId) -> bool {
        matches!(self.seen(id, None).await, Lookup::Found(_))
    }

    /// Returns the value under `n`, as served to a client that has seen this version.
    async fn n(&self, id: RecordId, seen: Option<Version>) -> Option<i64> {
        match self.seen(id, seen).await {
            Lookup::Found(found) => {
                found.record.values.get("n").map(|json| RawJson::copied(json).decode().unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Returns the route that the node gives a client.
    async fn route(&self, id: RecordId, carried: &[&str]) -> String {
        let hint = RequestHint {
            routes: carried.iter().map(|name| label(name)).collect(),
            min_version: None,
        };
        match self.load(id, Some(&proof()), &hint).await.unwrap() {
            Lookup::Found(found) => said(&found.client_state),
            other => panic!("{other:?}"),
        }
    }

    async fn patch(&self, id: RecordId, patch: &Patch) -> Outcome {
        self.update(id, patch, &RequestHint::default()).await.unwrap()
    }

    /// Applies a patch. Returns the version that the client has seen then.
    async fn write(&self, id: RecordId, patch: &Patch) -> Option<Version> {
        match self.patch(id, patch).await {
            Outcome::Applied(applied) => applied.client_state.version,
            other => panic!("{other:?}"),
        }
    }
}

impl<S: SessionStore> Node for S {}

pub fn put(key: &str, value: i64) -> Patch {
    let mut patch = Patch::new();
    patch.put(key, value.into()).unwrap();
    patch
}

pub fn add(key: &str, by: i64) -> Patch {
    let mut patch = Patch::new();
    patch.add(key, by).unwrap();
    patch
}

pub fn rotate(to: SecretHash) -> Patch {
    let mut patch = Patch::new();
    patch.rotate(proof(), Rotation { hash: to, authentication: None });
    patch
}

pub fn proof() -> Proof {
    hash(0).into()
}

pub fn hash(byte: u8) -> SecretHash {
    SecretHash::from_parts(KeyId::NONE, [byte; 32])
}

pub fn record(env: &Env) -> Record {
    let (now, lifetime) = (env.now(), Lifetime::default());
    Record::new(hash(0), now, lifetime.idle_deadline(now), lifetime.absolute_deadline(now))
}

pub fn label(name: &str) -> RouteLabel {
    name.parse().unwrap()
}

pub fn said(client_state: &ClientState) -> String {
    let labels: Vec<_> = client_state.routes.iter().map(RouteLabel::as_str).collect();
    labels.join(".")
}
