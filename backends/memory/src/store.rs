//! The public store and its builder.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use steadfast_core::{
    Budget, ChangeStream, Deleted, Deletion, Drained, Ending, Endings, Env, Limits, LoginPolicy,
    Lookup, Operate, Outcome, Patch, Principal, Proof, Record, RecordId, Rejection, RequestHint,
    Revocation, Scan, SessionInfo, SessionStore, Stats, StoreError,
};

use crate::lru_cache::ShardedLru;
use crate::sessions::Sessions;

/// Sessions in the memory of this process. Clones share them.
///
/// The sessions end with the process and are invisible to other nodes. Use this store for a service
/// with one node, for development and for tests. Calls never wait and never fail.
///
/// # Examples
///
/// ```
/// use steadfast_memory::{Budget, MemoryStore};
///
/// let store = MemoryStore::builder()
///     .anonymous(Budget { records: 10_000, bytes: 16 << 20 })
///     .build();
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Sessions>);

impl MemoryStore {
    /// Creates a store with the default budgets and limits, and the system's clock.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Limits, SessionStore};
    /// use steadfast_memory::MemoryStore;
    ///
    /// assert_eq!(MemoryStore::new().limits(), &Limits::default());
    /// ```
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Budget;
    /// use steadfast_memory::MemoryStore;
    ///
    /// let visitors = Budget { records: 50_000, bytes: 64 << 20 };
    /// let store = MemoryStore::builder().anonymous(visitors).build();
    /// ```
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder::default()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

/// Configures a [`MemoryStore`].
#[derive(Clone, Debug)]
pub struct MemoryStoreBuilder {
    env: Env,
    limits: Limits,
    anonymous: Budget,
    authenticated: Budget,
}

impl MemoryStoreBuilder {
    /// Sets the clock and the source of randomness. Default: the system's.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Clock, Env, ManualClock, SessionStore};
    /// use steadfast_memory::MemoryStore;
    ///
    /// let clock = ManualClock::default();
    /// let store = MemoryStore::builder().env(Env::with_clock(clock.clone())).build();
    /// assert_eq!(store.env().now(), clock.now());
    /// ```
    #[must_use]
    pub fn env(self, env: Env) -> Self {
        Self { env, ..self }
    }

    /// Sets the limits of a record. Default: [`Limits::default`].
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Limits, SessionStore};
    /// use steadfast_memory::MemoryStore;
    ///
    /// let limits = Limits { keys: 8, ..Limits::default() };
    /// let store = MemoryStore::builder().limits(limits).build();
    /// assert_eq!(store.limits().keys, 8);
    /// ```
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets the budget of anonymous sessions. Default: [`Budget::ANONYMOUS`].
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Budget;
    /// use steadfast_memory::MemoryStore;
    ///
    /// let budget = Budget { records: 50_000, bytes: 64 << 20 };
    /// let store = MemoryStore::builder().anonymous(budget).build();
    /// ```
    #[must_use]
    pub fn anonymous(self, anonymous: Budget) -> Self {
        Self { anonymous, ..self }
    }

    /// Sets the budget of signed-in sessions. Default: [`Budget::AUTHENTICATED`].
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Budget;
    /// use steadfast_memory::MemoryStore;
    ///
    /// let budget = Budget { records: 50_000, bytes: 64 << 20 };
    /// let store = MemoryStore::builder().authenticated(budget).build();
    /// ```
    #[must_use]
    pub fn authenticated(self, authenticated: Budget) -> Self {
        Self { authenticated, ..self }
    }

    /// Builds the store.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Limits, SessionStore};
    /// use steadfast_memory::MemoryStore;
    ///
    /// let store = MemoryStore::builder().build();
    /// assert_eq!(store.limits().keys, Limits::default().keys);
    /// ```
    pub fn build(self) -> MemoryStore {
        let cache = ShardedLru::new(self.anonymous, self.authenticated);
        MemoryStore(Arc::new(Sessions::new(self.env, self.limits, cache)))
    }
}

impl Default for MemoryStoreBuilder {
    fn default() -> Self {
        Self {
            env: Env::system(),
            limits: Limits::default(),
            anonymous: Budget::ANONYMOUS,
            authenticated: Budget::AUTHENTICATED,
        }
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    fn env(&self) -> &Env {
        &self.0.env
    }

    fn limits(&self) -> &Limits {
        &self.0.limits
    }

    async fn create(
        &self,
        id: RecordId,
        record: Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        Ok(self.0.create(id, record, policy))
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        _: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        self.0.load(id, proof)
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        _: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        self.0.update(id, patch)
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        self.0.delete(id, deletion)
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        Ok(self.0.list(principal))
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        Ok(self.0.delete_all(principal, revocation))
    }

    /// A slow listener falls behind by at most 1,024 changes, then receives `Change::Missed`.
    fn changes(&self) -> Option<ChangeStream> {
        Some(self.0.changes.listen())
    }

    /// The queue holds at most 100,000 endings, then drops the oldest. It ends with the process.
    fn endings(&self) -> Option<Arc<dyn Endings>> {
        self.0.endings.listen();
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Endings for MemoryStore {
    async fn claim(&self, limit: usize) -> Result<Vec<Ending>, StoreError> {
        // Also ends what is due while no request arrives.
        Ok(self.0.endings.claim(limit, self.0.begin()))
    }

    async fn acknowledge(&self, ids: &[RecordId]) -> Result<(), StoreError> {
        self.0.endings.acknowledge(ids);
        Ok(())
    }
}

#[async_trait]
impl Operate for MemoryStore {
    /// Returns an error only while the store drains.
    async fn ready(&self) -> Result<(), StoreError> {
        if self.0.is_closed() { Err(StoreError::refused(Rejection::Draining)) } else { Ok(()) }
    }

    /// Stops accepting new sessions. No other node holds the existing ones, so all are lost.
    async fn drain(&self) -> Result<Drained, StoreError> {
        self.0.close();
        self.0.collect();
        let lost = self.0.cache.stats().records;
        Ok(Drained { moved: 0, lost })
    }

    async fn collect(&self) -> Result<u64, StoreError> {
        Ok(self.0.collect())
    }

    /// Each page reads every record: use it for administration, not while serving a request.
    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        Ok(self.0.scan(after, limit))
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.0.finish_evictions();
        Ok(self.0.cache.stats())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use steadfast_core::{KeyId, SecretHash, Timestamp};

    use super::*;

    #[test]
    fn clones_share_their_sessions_and_debug_shows_none() {
        let store = MemoryStore::new();
        let id = create(&store);
        let shared = ready(store.clone().load(id, None, &RequestHint::default()));
        assert!(matches!(shared, Lookup::Found(_)));
        assert_eq!(format!("{store:?}"), "MemoryStore { .. }");
    }

    #[test]
    fn a_drain_loses_every_session() {
        let store = MemoryStore::new();
        for _ in 0..3 {
            create(&store);
        }
        ready(store.ready());
        assert_eq!(ready(store.drain()), Drained { moved: 0, lost: 3 });
        assert!(store.ready().now_or_never().unwrap().is_err(), "no sign-in works from then on");
    }

    fn create(store: &MemoryStore) -> RecordId {
        let id = store.mint().unwrap();
        let hash = SecretHash::from_parts(KeyId::NONE, [0; 32]);
        let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let record = Record::new(hash, start, end, end);
        ready(store.create(id, record, LoginPolicy::default()));
        id
    }

    /// Unwraps the result of a call. Calls of this store never wait.
    fn ready<T>(answer: impl Future<Output = Result<T, StoreError>>) -> T {
        answer.now_or_never().unwrap().unwrap()
    }
}
