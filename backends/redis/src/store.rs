//! The public store and its builder.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use redis::RedisConnectionInfo;
use redis::aio::ConnectionLike;
use steadfast_core::{
    ChangeStream, Deleted, Deletion, Endings, Env, Limits, LoginPolicy, Lookup, Operate, Outcome,
    Patch, Principal, Probe, Proof, Record, RecordId, RequestHint, Revocation, Scan, SessionInfo,
    SessionStore, Stats, StoreError,
};

use crate::address::{Address, Endpoint};
use crate::changes::Changes;
use crate::connection::{Dialer, Given, Sentinels, Servers};
use crate::endings::Queue;
use crate::error::SetupError;
use crate::keys::Prefix;
use crate::script::{Copies, Keeping, Script, Scripts};
use crate::seen::{Oldest, Seen};
use crate::sessions::Sessions;
use crate::tls::Tls;

/// Sessions in Redis, shared by all nodes of a service. Clones share the connections.
///
/// # Examples
///
/// ```no_run
/// use steadfast_redis::{Address, RedisStore};
///
/// # async fn open() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::builder()
///     .user("sessions", "correct horse battery staple")
///     .prefix("shop".parse()?)
///     .standalone(Address::new("localhost", 6379))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisStore(pub(crate) Arc<Sessions>);

impl RedisStore {
    /// Returns a builder.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_redis::RedisStore;
    ///
    /// let builder = RedisStore::builder().password("correct horse battery staple");
    /// ```
    pub fn builder() -> RedisStoreBuilder {
        RedisStoreBuilder::default()
    }

    /// Builds a store, with the defaults, on a connection that the application already has: see
    /// [`RedisStoreBuilder::with_connection`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use steadfast_redis::RedisStore;
    ///
    /// # async fn open() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = redis::Client::open("redis://localhost")?;
    /// let connection = client.get_multiplexed_async_connection().await?;
    /// let store = RedisStore::with_connection(connection);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_connection(
        connection: impl ConnectionLike + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::builder().over(Servers::given(Given::new(connection)))
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}

/// Configures a [`RedisStore`]. It connects at the first call.
#[derive(Clone)]
pub struct RedisStoreBuilder {
    env: Env,
    limits: Limits,
    prefix: Prefix,
    login: RedisConnectionInfo,
    database: u32,
    sentinel_login: RedisConnectionInfo,
    tls: Option<Tls>,
    copies: Option<Copies>,
    is_split: bool,
}

impl RedisStoreBuilder {
    /// Sets the clock and the source of randomness. Default: the system's.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Env, ManualClock};
    /// use steadfast_redis::RedisStore;
    ///
    /// let builder = RedisStore::builder().env(Env::with_clock(ManualClock::default()));
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
    /// use steadfast_core::Limits;
    /// use steadfast_redis::RedisStore;
    ///
    /// let builder = RedisStore::builder().limits(Limits { keys: 8, ..Limits::default() });
    /// ```
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets the prefix of all keys. Default: `steadfast`. Applications that share a server need
    /// different prefixes.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_redis::{Prefix, RedisStore};
    ///
    /// let builder = RedisStore::builder().prefix("shop".parse().unwrap());
    /// assert!("a prefix".parse::<Prefix>().is_err());
    /// ```
    #[must_use]
    pub fn prefix(self, prefix: Prefix) -> Self {
        Self { prefix, ..self }
    }

    /// Sets the credentials for the servers. Default: the user `default` without a password.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_redis::RedisStore;
    ///
    /// let builder = RedisStore::builder().user("sessions", "correct horse battery staple");
    /// ```
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.login = self.login.set_username(name).set_password(password);
        self
    }

    /// Sets the password of the user `default`, for servers without named users.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_redis::RedisStore;
    ///
    /// let builder = RedisStore::builder().password("correct horse battery staple");
    /// ```
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.login = self.login.set_password(password);
        self
    }

    /// Sets the credentials for the sentinels. Default: none.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_redis::RedisStore;
    ///
    /// let builder = RedisStore::builder().sentinel_user("sessions", "correct horse battery staple");
    /// ```
    #[must_use]
    pub fn sentinel_user(mut self, name: &str, password: &str) -> Self {
        self.sentinel_login = self.sentinel_login.set_username(name).set_password(password);
        self
    }

    /// Sets the number of the database. Default: 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_redis::RedisStore;
    ///
    /// let builder = RedisStore::builder().database(2);
    /// ```
    #[must_use]
    pub fn database(mut self, number: u32) -> Self {
        self.login = self.login.set_db(number.into());
        Self { database: number, ..self }
    }

    /// Encrypts the connections to servers and sentinels. Default: plain TCP.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use steadfast_redis::{RedisStore, SetupError, Tls};
    ///
    /// # fn main() -> Result<(), SetupError> {
    /// let builder = RedisStore::builder().tls(Tls::system()?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Requires `replicas` replicas to confirm each operation that ends a session or replaces its
    /// secret, `within` a time below the middleware's timeout. Default: none; a failover may then
    /// undo the last logouts. With too few confirmations the call fails, and the client is not told
    /// that it was done.
    ///
    /// 0 replicas disable it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_redis::RedisStore;
    ///
    /// let builder = RedisStore::builder().wait(1, Duration::from_millis(500));
    /// ```
    #[must_use]
    pub fn wait(self, replicas: usize, within: Duration) -> Self {
        Self { copies: (replicas > 0).then_some(Copies { replicas, within }), ..self }
    }

    /// Treats one address as several servers with some of the keys each: for a proxy, or a service
    /// that hides its shards. Every command then has one key, as in a cluster, and a login costs
    /// one more round trip. Default: one server has all keys.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_redis::RedisStore;
    ///
    /// let builder = RedisStore::builder().split();
    /// ```
    #[must_use]
    pub fn split(self) -> Self {
        Self { is_split: true, ..self }
    }

    /// Builds a store on one server.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use steadfast_redis::{Address, RedisStore, SetupError};
    ///
    /// # async fn open() -> Result<(), SetupError> {
    /// let store = RedisStore::builder().standalone(Address::new("localhost", 6379))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the settings are invalid.
    pub fn standalone(self, address: Address) -> Result<RedisStore, SetupError> {
        let servers = Servers::standalone(self.dialer(&self.login), address.into());
        Ok(self.over(servers))
    }

    /// Builds a store on a connection that the application already has: a cloneable one of the crate
    /// [`redis`](https://docs.rs/redis/1), such as its `MultiplexedConnection` or `ConnectionManager`,
    /// or any other type that implements its `ConnectionLike`.
    ///
    /// The store then opens no connections, and reaches the server as the application does: with its
    /// TLS, its proxy and its short-lived credentials. In return, it relies on that connection:
    ///
    /// - It must reopen itself after it breaks, like a `ConnectionManager`, and never repeat a command
    ///   by itself, like a `ClusterConnection`, because an addition would count twice. A command without
    ///   an answer is not confirmed, and the store repeats it only if that is safe.
    /// - It must lead to the primary. If a server hangs, each call waits for its timeout.
    /// - Commands that block, such as `WAIT`, also block sessions: use another connection for them.
    ///   [`wait`](Self::wait) is rejected.
    ///
    /// The store publishes changes but cannot listen, which takes a separate connection:
    /// [`changes`](SessionStore::changes) is `None`, so that streams notice the end of a session within
    /// 10 s. If that is too late, let the store open its own connections.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use steadfast_redis::RedisStore;
    ///
    /// # async fn open() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = redis::Client::open("redis://localhost")?;
    /// let connection = client.get_multiplexed_async_connection().await?;
    /// let store = RedisStore::builder().prefix("shop".parse()?).with_connection(connection)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when a user, a password, a database, TLS or replicas to wait for are set:
    /// the connection already has them.
    pub fn with_connection(
        self,
        connection: impl ConnectionLike + Clone + Send + Sync + 'static,
    ) -> Result<RedisStore, SetupError> {
        let has_login = self.login.username().is_some() || self.login.password().is_some();
        if has_login || self.database != 0 || self.tls.is_some() || self.copies.is_some() {
            return Err(SetupError::GivenConnection);
        }
        Ok(self.over(Servers::given(Given::new(connection))))
    }

    /// Builds a store on one server of this machine, by the path of its Unix socket.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use steadfast_redis::{RedisStore, SetupError};
    ///
    /// # async fn open() -> Result<(), SetupError> {
    /// let store = RedisStore::builder().unix_socket("/run/redis/redis.sock")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the settings are invalid, for example with TLS.
    #[cfg(unix)]
    pub fn unix_socket(self, path: impl Into<PathBuf>) -> Result<RedisStore, SetupError> {
        if self.tls.is_some() {
            return Err(SetupError::TlsOverUnixSocket);
        }
        let endpoint = Endpoint::Unix(path.into());
        let servers = Servers::standalone(self.dialer(&self.login), endpoint);
        Ok(self.over(servers))
    }

    /// Builds a store on the primary of a service, as the sentinels report it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use steadfast_redis::{Address, RedisStore, SetupError};
    ///
    /// # async fn open() -> Result<(), SetupError> {
    /// let sentinels = vec![Address::new("sentinel-1", 26379), Address::new("sentinel-2", 26379)];
    /// let store = RedisStore::builder().sentinel(sentinels, "sessions")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when no sentinel is given.
    pub fn sentinel(
        self,
        addresses: Vec<Address>,
        service: &str,
    ) -> Result<RedisStore, SetupError> {
        if addresses.is_empty() {
            return Err(SetupError::NoAddress);
        }
        let sentinels = Sentinels {
            dialer: self.dialer(&self.sentinel_login),
            addresses,
            service: service.to_owned(),
        };
        let servers = Servers::behind_sentinels(self.dialer(&self.login), sentinels);
        Ok(self.over(servers))
    }

    /// Builds a store on the cluster that these servers belong to.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use steadfast_redis::{Address, RedisStore, SetupError};
    ///
    /// # async fn open() -> Result<(), SetupError> {
    /// let seeds = vec![Address::new("redis-1", 6379), Address::new("redis-2", 6379)];
    /// let store = RedisStore::builder().cluster(seeds)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when no server is given, or a database other than 0 is set.
    pub fn cluster(self, seeds: Vec<Address>) -> Result<RedisStore, SetupError> {
        if seeds.is_empty() {
            return Err(SetupError::NoAddress);
        }
        if self.database != 0 {
            return Err(SetupError::Database(self.database));
        }
        let servers = Servers::cluster(self.dialer(&self.login), seeds);
        Ok(self.over(servers))
    }

    fn dialer(&self, login: &RedisConnectionInfo) -> Dialer {
        Dialer { login: login.clone(), tls: self.tls.as_ref().map(|tls| Arc::clone(&tls.0)) }
    }

    fn over(self, servers: Servers) -> RedisStore {
        let servers = Arc::new(if self.is_split { servers.split() } else { servers });
        let changes = Changes::new(self.prefix.channel(), Arc::clone(&servers), Script::publish());
        RedisStore(Arc::new(Sessions {
            env: self.env,
            limits: self.limits,
            prefix: self.prefix,
            seen: Seen::default(),
            oldest: Oldest::default(),
            probe: Probe::default(),
            scripts: Scripts::new(Keeping::Nothing),
            endings: OnceLock::new(),
            user: self.login.username().unwrap_or("default").to_owned(),
            copies: self.copies,
            servers,
            changes,
        }))
    }
}

impl Default for RedisStoreBuilder {
    fn default() -> Self {
        // The driver would otherwise announce its name, with a command that the minimal privileges
        // do not include.
        let login = RedisConnectionInfo::default().set_skip_set_lib_name();
        Self {
            env: Env::system(),
            limits: Limits::default(),
            prefix: Prefix::default(),
            sentinel_login: login.clone(),
            login,
            database: 0,
            tls: None,
            copies: None,
            is_split: false,
        }
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("prefix", &self.prefix)
            .field("database", &self.database)
            .field("tls", &self.tls.is_some())
            .field("copies", &self.copies)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for RedisStore {
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
        self.0.create(id, &record, policy).await
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        _: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        self.0.load(id, proof).await
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        _: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        self.0.update(id, patch).await
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        self.0.delete(id, deletion).await
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        self.0.list(principal).await
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        self.0.delete_all(principal, revocation).await
    }

    /// Begins with `Change::Down` until the subscriptions work. A slow listener falls behind by at
    /// most 1,024 changes. `None` on a given connection.
    fn changes(&self) -> Option<ChangeStream> {
        if !self.0.servers.can_be_heard() {
            return None;
        }
        self.0.changes.listen(&self.0.env).ok()
    }

    /// See [the crate](crate#endings) for what the queue costs and what it may miss.
    fn endings(&self) -> Option<Arc<dyn Endings>> {
        Some(Arc::new(Queue::of(&self.0)))
    }
}

/// A drain has nothing to do: each session is safe on the servers once it is confirmed.
#[async_trait]
impl Operate for RedisStore {
    async fn ready(&self) -> Result<(), StoreError> {
        self.0.probe.check(self).await
    }

    /// Scans all records. Without it, Redis removes expired records by itself, an hour after their
    /// deadline.
    ///
    /// Once the store keeps endings, it only makes expired sessions due for a report, and counts them. An
    /// acknowledgement removes them.
    async fn collect(&self) -> Result<u64, StoreError> {
        self.0.collect().await
    }

    /// Each page scans all keys: use it for administration, not while serving a request. Expired records
    /// are included until they are removed.
    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        self.0.scan(after, limit).await
    }

    /// Also counts expired records that were not removed yet.
    async fn stats(&self) -> Result<Stats, StoreError> {
        self.0.stats().await
    }
}
