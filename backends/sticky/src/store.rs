//! The store, as an application and the middleware see it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use steadfast_core::{
    Admission, ChangeStream, Deleted, Deletion, Description, Drained, Env, Hint, Limits, Lookup,
    Operate, Outcome, Patch, Principal, Proof, Record, RecordId, Rejection, Revocation, RouteLabel,
    Routed, Scan, SessionInfo, SessionStore, Stats, Store, StoreError,
};
use steadfast_memory::MemoryStore;

use crate::alone::Alone;
use crate::backed::{Backed, Settings};
use crate::peers::Peers;
use crate::traffic::Traffic;

/// Sessions on the node that their clients are sent to. Clones share them.
///
/// # Examples
///
/// A node called `n1`, with a backup that it shares with the others:
///
/// ```
/// use std::sync::Arc;
/// use steadfast_memory::MemoryStore;
/// use steadfast_sticky::StickyStore;
///
/// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
/// let backup = Arc::new(MemoryStore::new());
/// let store = StickyStore::builder("n1".parse()?).backup(backup).build();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StickyStore {
    label: RouteLabel,
    peers: Arc<Peers>,
    traffic: Arc<Traffic>,
    place: Place,
}

/// Where the sessions are.
#[derive(Clone, Debug)]
enum Place {
    Alone(Arc<Alone>),
    Backed(Arc<Backed>),
}

impl StickyStore {
    /// The store of the node with this label, to be set up.
    pub fn builder(label: RouteLabel) -> StickyStoreBuilder {
        StickyStoreBuilder {
            label,
            backup: None,
            env: Env::system(),
            memory: None,
            peers: Vec::new(),
            settings: Settings {
                recheck: Duration::from_secs(1),
                follows_changes: true,
                write_behind: None,
                drain_within: Duration::from_secs(10),
                copies: 256 << 20,
            },
        }
    }

    /// The label of this node.
    pub fn label(&self) -> &RouteLabel {
        &self.label
    }

    /// Moves a share of this node's sessions, 0 to 1, to the [`peers`](StickyStoreBuilder::peers), and
    /// says how many. Without peers that were set, to the nodes that sessions were taken over from.
    ///
    /// A session moves with the answer to its client's next request, which names the other node;
    /// nobody is signed out. It needs routes that travel with the client, so it moves nothing where the
    /// balancer keeps them by itself. A second call takes back what has not moved yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsupported`] without a backup: the sessions are nowhere else.
    pub fn rehome(&self, fraction: f64) -> Result<u64, StoreError> {
        self.rehome_to(fraction, &self.peers.all())
    }

    /// The same, to these nodes, for example to one that just joined.
    ///
    /// # Errors
    ///
    /// As [`rehome`](Self::rehome).
    pub fn rehome_to(&self, fraction: f64, nodes: &[RouteLabel]) -> Result<u64, StoreError> {
        match &self.place {
            Place::Alone(_) => Err(StoreError::Unsupported("moving sessions without a backup")),
            Place::Backed(node) => Ok(node.rehome(fraction, nodes)),
        }
    }

    fn is_draining(&self) -> bool {
        match &self.place {
            Place::Alone(node) => node.is_draining(),
            Place::Backed(node) => node.is_draining(),
        }
    }

    fn inner(&self) -> &dyn Store {
        match &self.place {
            Place::Alone(node) => &node.memory,
            Place::Backed(node) => &*node.backup,
        }
    }
}

/// Sets a [`StickyStore`] up.
#[derive(Debug)]
pub struct StickyStoreBuilder {
    label: RouteLabel,
    backup: Option<Arc<dyn Store>>,
    env: Env,
    memory: Option<MemoryStore>,
    peers: Vec<RouteLabel>,
    settings: Settings,
}

impl StickyStoreBuilder {
    /// The store that outlives this node, shared with the others: none by default, and then sessions
    /// end with the node.
    ///
    /// Every change is a patch to it. Its clock, its limits and its index are this store's.
    #[must_use]
    pub fn backup(self, backup: Arc<dyn Store>) -> Self {
        Self { backup: Some(backup), ..self }
    }

    /// The clock and the randomness of a node without a backup: the system's by default.
    #[must_use]
    pub fn env(self, env: Env) -> Self {
        Self { env, ..self }
    }

    /// Where sessions live without a backup: a [`MemoryStore`] with its defaults by default.
    #[must_use]
    pub fn memory(self, memory: MemoryStore) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// The labels of the nodes, this one may be among them: none by default. They are where
    /// [`rehome`](StickyStore::rehome) and a drain send sessions to, and tell a route to another node
    /// from a route to nowhere.
    #[must_use]
    pub fn peers(self, peers: impl IntoIterator<Item = RouteLabel>) -> Self {
        Self { peers: peers.into_iter().collect(), ..self }
    }

    /// How long a copy is served after it was checked: 1 s by default.
    ///
    /// A session in use costs one check of the backup in this time. A session that ended elsewhere is
    /// served for at most this long, however it ended, and usually for as long as the news takes. With
    /// 0, every request asks the backup. A backup in this process, such as `MemoryStore`, tells every
    /// change, and its copies need no check.
    #[must_use]
    pub fn recheck(mut self, recheck: Duration) -> Self {
        self.settings.recheck = recheck;
        self
    }

    /// Whether the backup's changes are listened to: yes by default. If not, what changes elsewhere
    /// shows after [`recheck`](Self::recheck).
    #[must_use]
    pub fn follow_changes(mut self, follow: bool) -> Self {
        self.settings.follows_changes = follow;
        self
    }

    /// Acknowledges writes before the backup has them: off by default.
    ///
    /// A crash of this node then loses the writes of at most `window` of time; once the oldest that the
    /// backup lacks is older, writes wait for it again. Some never go behind: `increment`, `update`, and
    /// everything that creates or ends a session or replaces its token.
    ///
    /// Without a crash, an acknowledged write is lost where another node wrote to the same key, another
    /// user signed in to the session, or the backup cannot take it. That is counted in
    /// `steadfast_write_behind_lost_total`, and logged with the session's id.
    #[must_use]
    pub fn write_behind(mut self, window: Duration) -> Self {
        self.settings.write_behind = Some(window);
        self
    }

    /// How long a drain waits until the backup has what was written behind: 10 s by default. What it
    /// lacks then is lost, and [`Drained::lost`] says of how many sessions.
    #[must_use]
    pub fn drain_within(mut self, time: Duration) -> Self {
        self.settings.drain_within = time;
        self
    }

    /// The bytes of memory for local copies: 256 MiB by default. What does not fit is asked for again.
    #[must_use]
    pub fn copies(mut self, bytes: u64) -> Self {
        self.settings.copies = bytes;
        self
    }

    /// The store.
    pub fn build(self) -> StickyStore {
        let Self { label, backup, env, memory, peers, settings } = self;
        let peers = Arc::new(Peers::new(&label, peers));
        let traffic = Arc::new(Traffic::new(label.clone()));
        let place = match backup {
            None => {
                let memory = memory.unwrap_or_else(|| MemoryStore::builder().env(env).build());
                Place::Alone(Arc::new(Alone::new(memory, label.clone())))
            }
            Some(backup) => {
                let (peers, traffic) = (Arc::clone(&peers), Arc::clone(&traffic));
                let node = Backed::new(label.clone(), backup, peers, traffic, &settings);
                Place::Backed(Arc::new(node))
            }
        };
        StickyStore { label, peers, traffic, place }
    }
}

#[async_trait]
impl SessionStore for StickyStore {
    fn env(&self) -> &Env {
        self.inner().env()
    }

    fn limits(&self) -> &Limits {
        self.inner().limits()
    }

    fn carries(&self) -> bool {
        true
    }

    fn routed(&self, routes: &[RouteLabel]) -> Option<Routed> {
        let routed = match routes {
            [] => Routed::None,
            [first, ..] if *first == self.label => Routed::Hit,
            routes if routes.contains(&self.label) => Routed::Backup,
            routes if routes.iter().any(|label| self.peers.knows(label)) => Routed::Misrouted,
            _ => Routed::Unknown,
        };
        self.traffic.count(routed);
        Some(routed)
    }

    fn mint(&self) -> Result<RecordId, StoreError> {
        self.inner().mint()
    }

    async fn create(
        &self,
        id: RecordId,
        record: Record,
        admission: Admission,
    ) -> Result<Outcome, StoreError> {
        match &self.place {
            _ if self.is_draining() => Ok(Outcome::Rejected(Rejection::Draining)),
            Place::Alone(node) => node.create(id, record, admission).await,
            Place::Backed(node) => node.create(id, record, admission).await,
        }
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &Hint,
    ) -> Result<Lookup, StoreError> {
        match &self.place {
            Place::Alone(node) => node.load(id, proof, hint).await,
            Place::Backed(node) => node.load(id, proof, hint).await,
        }
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        hint: &Hint,
    ) -> Result<Outcome, StoreError> {
        match &self.place {
            Place::Alone(node) => node.update(id, patch, hint).await,
            Place::Backed(node) => node.update(id, patch, hint).await,
        }
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        match &self.place {
            Place::Alone(node) => node.memory.delete(id, deletion).await,
            Place::Backed(node) => node.delete(id, deletion).await,
        }
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        match &self.place {
            Place::Alone(_) => Err(StoreError::Unsupported("a list of sessions without a backup")),
            Place::Backed(node) => node.backup.list(principal).await,
        }
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        match &self.place {
            Place::Alone(_) => Err(StoreError::Unsupported("ending all sessions without a backup")),
            Place::Backed(node) => node.delete_all(principal, revocation).await,
        }
    }

    fn changes(&self) -> Option<ChangeStream> {
        self.inner().changes()
    }
}

#[async_trait]
impl Operate for StickyStore {
    /// Fails while the node drains, so that the balancer sends new clients elsewhere.
    async fn ready(&self) -> Result<(), StoreError> {
        if self.is_draining() {
            return Err(StoreError::unavailable(Draining));
        }
        self.inner().ready().await
    }

    /// Stops taking new sessions. With a backup, the answers from then on name other nodes, and this
    /// returns when the backup has every write that was acknowledged here, or after
    /// [`drain_within`](StickyStoreBuilder::drain_within). Without one, the sessions go on until the
    /// node ends, and are lost then.
    async fn drain(&self) -> Result<Drained, StoreError> {
        match &self.place {
            Place::Alone(node) => node.drain().await,
            Place::Backed(node) => Ok(node.drain().await),
        }
    }

    async fn collect(&self) -> Result<u64, StoreError> {
        self.inner().collect().await
    }

    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        self.inner().scan(after, limit).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.inner().stats().await
    }

    /// The nodes of the backup.
    async fn describe(&self) -> Result<Description, StoreError> {
        self.inner().describe().await
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the node drains: it takes no new sessions")]
struct Draining;
