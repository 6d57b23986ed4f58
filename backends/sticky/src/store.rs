//! The public store and its builder.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use steadfast_core::{
    ChangeStream, Deleted, Deletion, Description, Drained, Endings, Env, Limits, LoginPolicy,
    Lookup, Operate, Outcome, Patch, Principal, Proof, Record, RecordId, Rejection, RequestHint,
    Revocation, RouteLabel, Routed, Scan, SessionInfo, SessionStore, Stats, Store, StoreError,
};
use steadfast_memory::MemoryStore;

use crate::peers::Peers;
use crate::routing_stats::RoutingStats;
use crate::standalone::Standalone;
use crate::with_backup::{Settings, WithBackup};

/// Sessions on the node that their clients are routed to. Clones share them.
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
    routing_stats: Arc<RoutingStats>,
    place: Place,
}

/// The place where the sessions are.
#[derive(Clone, Debug)]
enum Place {
    Standalone(Arc<Standalone>),
    WithBackup(Arc<WithBackup>),
}

impl StickyStore {
    /// Returns a builder for the node with this label.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
    /// let store = StickyStore::builder("n1".parse()?).build();
    /// # Ok(())
    /// # }
    /// ```
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

    /// Returns the label of this node.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
    /// let store = StickyStore::builder("n1".parse()?).build();
    /// assert_eq!(store.label().as_str(), "n1");
    /// # Ok(())
    /// # }
    /// ```
    pub fn label(&self) -> &RouteLabel {
        &self.label
    }

    /// Moves a share of this node's sessions, 0 to 1, to the [`peers`](StickyStoreBuilder::peers),
    /// and returns their number. Without configured peers, they move to the nodes from which this
    /// node took sessions over.
    ///
    /// A session moves with the answer to its client's next request, which names the other node.
    /// The user stays signed in. This needs routes that travel with the client: it has no effect if
    /// the load balancer keeps its own routes. A second call cancels moves that have not happened
    /// yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use steadfast_memory::MemoryStore;
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let backup = Arc::new(MemoryStore::new());
    /// let store = StickyStore::builder("n1".parse()?).backup(backup).peers(["n2".parse()?]).build();
    /// assert_eq!(store.rehome(0.5)?, 0, "this node has no sessions yet");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsupported`] without a backup: the sessions are nowhere else.
    pub fn rehome(&self, fraction: f64) -> Result<u64, StoreError> {
        self.rehome_to(fraction, &self.peers.all())
    }

    /// Moves a share of this node's sessions to these nodes, for example to one that just joined.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use steadfast_memory::MemoryStore;
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let backup = Arc::new(MemoryStore::new());
    /// let store = StickyStore::builder("n1".parse()?).backup(backup).peers(["n2".parse()?]).build();
    /// assert_eq!(store.rehome_to(0.5, &["n2".parse()?])?, 0, "this node has no sessions yet");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`rehome`](Self::rehome).
    pub fn rehome_to(&self, fraction: f64, nodes: &[RouteLabel]) -> Result<u64, StoreError> {
        match &self.place {
            Place::Standalone(_) => {
                Err(StoreError::Unsupported("moving sessions without a backup"))
            }
            Place::WithBackup(node) => Ok(node.rehome(fraction, nodes)),
        }
    }

    fn is_draining(&self) -> bool {
        match &self.place {
            Place::Standalone(node) => node.is_draining(),
            Place::WithBackup(node) => node.is_draining(),
        }
    }

    fn inner(&self) -> &dyn Store {
        match &self.place {
            Place::Standalone(node) => &node.memory,
            Place::WithBackup(node) => &*node.backup,
        }
    }
}

/// Configures a [`StickyStore`].
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
    /// Sets the store that outlives this node and is shared with the others. Default: none;
    /// sessions then end with the node.
    ///
    /// Every change is a patch to the backup. Its clock, limits and index become those of this
    /// store.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use steadfast_core::SessionStore;
    /// use steadfast_memory::MemoryStore;
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
    /// let backup = Arc::new(MemoryStore::new());
    /// let store = StickyStore::builder("n1".parse()?).backup(backup).build();
    /// assert!(store.places_sessions());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn backup(self, backup: Arc<dyn Store>) -> Self {
        Self { backup: Some(backup), ..self }
    }

    /// Sets the clock and the source of randomness of a node without a backup. Default: the
    /// system's.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Clock, Env, ManualClock, SessionStore};
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
    /// let clock = ManualClock::default();
    /// let env = Env::with_clock(clock.clone());
    /// let store = StickyStore::builder("n1".parse()?).env(env).build();
    /// assert_eq!(store.env().now(), clock.now());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn env(self, env: Env) -> Self {
        Self { env, ..self }
    }

    /// Sets the store of a node without a backup. Default: a [`MemoryStore`] with its defaults.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Limits, SessionStore};
    /// use steadfast_memory::MemoryStore;
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
    /// let memory = MemoryStore::builder().limits(Limits { keys: 8, ..Limits::default() }).build();
    /// let store = StickyStore::builder("n1".parse()?).memory(memory).build();
    /// assert_eq!(store.limits().keys, 8);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn memory(self, memory: MemoryStore) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// Sets the labels of the nodes, which may include this one. Default: none. They are the targets
    /// of [`rehome`](StickyStore::rehome) and of a drain, and they distinguish a route to another
    /// node from a route to an unknown node.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Routed, SessionStore};
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
    /// let store = StickyStore::builder("n1".parse()?).peers(["n1".parse()?, "n2".parse()?]).build();
    /// assert_eq!(store.routed(&["n2".parse()?]), Some(Routed::Misrouted));
    /// assert_eq!(store.routed(&["n9".parse()?]), Some(Routed::Unknown));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn peers(self, peers: impl IntoIterator<Item = RouteLabel>) -> Self {
        Self { peers: peers.into_iter().collect(), ..self }
    }

    /// Sets the time that a copy is served after a check. Default: 1 s.
    ///
    /// A session in use costs one check of the backup in this time. A session that ended elsewhere
    /// is served for at most this long, however it ended, and usually only until the change feed
    /// reports its end. With 0, every request asks the backup. A backup in this process, such as
    /// `MemoryStore`, reports every change, so its copies need no checks.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
    /// let store = StickyStore::builder("n1".parse()?).recheck(Duration::from_millis(500)).build();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn recheck(mut self, recheck: Duration) -> Self {
        self.settings.recheck = recheck;
        self
    }

    /// Sets whether to follow the backup's change feed. Default: true. Without it, changes made
    /// elsewhere show after [`recheck`](Self::recheck).
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
    /// let store = StickyStore::builder("n1".parse()?).follow_changes(false).build();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn follow_changes(mut self, follow: bool) -> Self {
        self.settings.follows_changes = follow;
        self
    }

    /// Acknowledges writes before the backup has them. Default: off.
    ///
    /// A crash of this node then loses at most the writes of the last `window`. Once the oldest
    /// deferred write exceeds it, further writes wait for the backup. Some writes are never
    /// deferred: `increment`, `update`, and every call that creates or ends a session or replaces
    /// its token.
    ///
    /// Without a crash, an acknowledged write is lost if another node wrote to the same key,
    /// another user signed in to the session, or the backup rejects it. Each loss is counted in
    /// `steadfast_write_behind_lost_total` and logged with the session's id.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
    /// let store = StickyStore::builder("n1".parse()?).write_behind(Duration::from_secs(1)).build();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn write_behind(mut self, window: Duration) -> Self {
        self.settings.write_behind = Some(window);
        self
    }

    /// Sets the time that a drain waits for the backup to get all deferred writes. Default: 10 s.
    /// Writes that are still missing then are lost, and [`Drained::lost`] counts their sessions.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
    /// let store = StickyStore::builder("n1".parse()?).drain_within(Duration::from_secs(5)).build();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn drain_within(mut self, time: Duration) -> Self {
        self.settings.drain_within = time;
        self
    }

    /// Sets the memory for local copies in bytes. Default: 256 MiB. Evicted copies are loaded
    /// again.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
    /// let store = StickyStore::builder("n1".parse()?).copies(64 << 20).build();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn copies(mut self, bytes: u64) -> Self {
        self.settings.copies = bytes;
        self
    }

    /// Builds the store.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Routed, SessionStore};
    /// use steadfast_sticky::StickyStore;
    ///
    /// # fn main() -> Result<(), steadfast_core::RouteLabelError> {
    /// let store = StickyStore::builder("n1".parse()?).build();
    /// assert_eq!(store.routed(&["n1".parse()?]), Some(Routed::Hit));
    /// # Ok(())
    /// # }
    /// ```
    pub fn build(self) -> StickyStore {
        let Self { label, backup, env, memory, peers, settings } = self;
        let peers = Arc::new(Peers::new(&label, peers));
        let routing_stats = Arc::new(RoutingStats::new(label.clone()));
        let place = match backup {
            None => {
                let memory = memory.unwrap_or_else(|| MemoryStore::builder().env(env).build());
                Place::Standalone(Arc::new(Standalone::new(memory, label.clone())))
            }
            Some(backup) => {
                let (peers, routing_stats) = (Arc::clone(&peers), Arc::clone(&routing_stats));
                let node = WithBackup::new(label.clone(), backup, peers, routing_stats, &settings);
                Place::WithBackup(Arc::new(node))
            }
        };
        StickyStore { label, peers, routing_stats, place }
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

    fn places_sessions(&self) -> bool {
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
        self.routing_stats.count(routed);
        Some(routed)
    }

    fn mint(&self) -> Result<RecordId, StoreError> {
        self.inner().mint()
    }

    async fn create(
        &self,
        id: RecordId,
        record: Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        match &self.place {
            _ if self.is_draining() => Ok(Outcome::Rejected(Rejection::Draining)),
            Place::Standalone(node) => node.create(id, record, policy).await,
            Place::WithBackup(node) => node.create(id, record, policy).await,
        }
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        match &self.place {
            Place::Standalone(node) => node.load(id, proof, hint).await,
            Place::WithBackup(node) => node.load(id, proof, hint).await,
        }
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        hint: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        match &self.place {
            Place::Standalone(node) => node.update(id, patch, hint).await,
            Place::WithBackup(node) => node.update(id, patch, hint).await,
        }
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        match &self.place {
            Place::Standalone(node) => node.memory.delete(id, deletion).await,
            Place::WithBackup(node) => node.delete(id, deletion).await,
        }
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        match &self.place {
            Place::Standalone(_) => {
                Err(StoreError::Unsupported("a list of sessions without a backup"))
            }
            Place::WithBackup(node) => node.backup.list(principal).await,
        }
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        match &self.place {
            Place::Standalone(_) => {
                Err(StoreError::Unsupported("ending all sessions without a backup"))
            }
            Place::WithBackup(node) => node.delete_all(principal, revocation).await,
        }
    }

    fn changes(&self) -> Option<ChangeStream> {
        self.inner().changes()
    }

    /// The queue of the backup; without a backup, that of this node's memory.
    fn endings(&self) -> Option<Arc<dyn Endings>> {
        self.inner().endings()
    }
}

#[async_trait]
impl Operate for StickyStore {
    /// Fails while the node drains, so that the load balancer sends new clients elsewhere.
    async fn ready(&self) -> Result<(), StoreError> {
        if self.is_draining() {
            return Err(StoreError::unavailable(Draining));
        }
        self.inner().ready().await
    }

    /// Stops accepting new sessions. With a backup, later answers name other nodes. The call returns
    /// once the backup has every acknowledged write, or after
    /// [`drain_within`](StickyStoreBuilder::drain_within). Without a backup, sessions live on until
    /// the node ends, and are then lost.
    async fn drain(&self) -> Result<Drained, StoreError> {
        match &self.place {
            Place::Standalone(node) => node.drain().await,
            Place::WithBackup(node) => Ok(node.drain().await),
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

    /// Describes the nodes of the backup.
    async fn describe(&self) -> Result<Description, StoreError> {
        self.inner().describe().await
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the node is draining and accepts no new sessions")]
struct Draining;
