//! The store, as an application and the middleware see it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::RedisConnectionInfo;
use redis::aio::ConnectionLike;
use steadfast_core::{
    Admission, ChangeStream, Deleted, Deletion, Env, Hint, Limits, Lookup, Operate, Outcome, Patch,
    Principal, Probe, Proof, Record, RecordId, Revocation, Scan, SessionInfo, SessionStore, Stats,
    StoreError,
};

use crate::address::{Address, Endpoint};
use crate::changes::Changes;
use crate::connection::{Copies, Dialer, Given, Sentinels, Servers};
use crate::error::SetupError;
use crate::keys::Prefix;
use crate::script::{Script, Scripts};
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
    /// A store to be set up.
    pub fn builder() -> RedisStoreBuilder {
        RedisStoreBuilder::default()
    }

    /// A store over a connection that the application has already, with the defaults: see
    /// [`RedisStoreBuilder::with_connection`].
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

/// Sets a [`RedisStore`] up. Nothing is connected before the first call.
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
    /// The clock and the randomness: the system's by default.
    #[must_use]
    pub fn env(self, env: Env) -> Self {
        Self { env, ..self }
    }

    /// How much a record may hold: [`Limits::default`] by default.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// What the names of all keys begin with: `steadfast` by default. Applications that share a server
    /// have prefixes of their own.
    #[must_use]
    pub fn prefix(self, prefix: Prefix) -> Self {
        Self { prefix, ..self }
    }

    /// Who the store is to the servers: the user `default` without a password by default.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.login = self.login.set_username(name).set_password(password);
        self
    }

    /// The password of the user `default`, for servers without others.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.login = self.login.set_password(password);
        self
    }

    /// Who the store is to the sentinels: nobody by default.
    #[must_use]
    pub fn sentinel_user(mut self, name: &str, password: &str) -> Self {
        self.sentinel_login = self.sentinel_login.set_username(name).set_password(password);
        self
    }

    /// The number of the database: 0 by default.
    #[must_use]
    pub fn database(mut self, number: u32) -> Self {
        self.login = self.login.set_db(number.into());
        Self { database: number, ..self }
    }

    /// Encrypts the connections to servers and sentinels: plain TCP by default.
    #[must_use]
    pub fn tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Has `replicas` replicas confirm what ends a session or replaces its secret, `within` a time
    /// below the middleware's deadline: none by default, and then a failover may undo a logout of the
    /// last moment. With fewer confirmations the call fails, so that nobody is told that it is done.
    ///
    /// 0 replicas are as none.
    #[must_use]
    pub fn wait(self, replicas: usize, within: Duration) -> Self {
        Self { copies: (replicas > 0).then_some(Copies { replicas, within }), ..self }
    }

    /// Treats one address as several servers, each with some of the keys: for a proxy, or a service that
    /// hides its shards. Every command then has one key, as in a cluster, and a login costs one round
    /// trip more. One server has all keys by default.
    #[must_use]
    pub fn split(self) -> Self {
        Self { is_split: true, ..self }
    }

    /// The store on one server.
    ///
    /// # Errors
    ///
    /// When it cannot be set up like this.
    pub fn standalone(self, address: Address) -> Result<RedisStore, SetupError> {
        let servers = Servers::standalone(self.dialer(&self.login), address.into());
        Ok(self.over(servers))
    }

    /// The store over a connection that the application has already: one of the crate
    /// [`redis`](https://docs.rs/redis/1) that can be cloned, such as its `MultiplexedConnection` or
    /// `ConnectionManager`, or anything that implements its `ConnectionLike`.
    ///
    /// The store then opens no connection of its own, and sees the server as the application does: with
    /// its TLS, its proxy, its short-lived credentials. In return, it relies on that connection:
    ///
    /// - It opens it again after it broke, as a `ConnectionManager` does, and never sends a command a second
    ///   time by itself, as a `ClusterConnection` does: an addition would count twice. What has no answer is
    ///   not confirmed, and the store repeats only what can be repeated.
    /// - It goes to the primary. What a server that hangs holds up waits for the deadline of each call.
    /// - A command that blocks, `WAIT` for example, blocks sessions too: leave those to another connection.
    ///   [`wait`](Self::wait) is refused.
    ///
    /// The store tells others of changes, and cannot listen itself, which takes a connection of its own:
    /// [`changes`](SessionStore::changes) is `None`, so that streams notice the end of a session within
    /// 10 s. Where that is too late, have the store open its own connections.
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
    /// When a user, a password, a database, TLS or replicas to wait for are set here: they are the
    /// connection's.
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

    /// The store on one server of this machine, by the path of its Unix socket.
    ///
    /// # Errors
    ///
    /// When it cannot be set up like this: with TLS, for example.
    #[cfg(unix)]
    pub fn unix_socket(self, path: impl Into<PathBuf>) -> Result<RedisStore, SetupError> {
        if self.tls.is_some() {
            return Err(SetupError::TlsOverUnixSocket);
        }
        let endpoint = Endpoint::Unix(path.into());
        let servers = Servers::standalone(self.dialer(&self.login), endpoint);
        Ok(self.over(servers))
    }

    /// The store on the primary that these sentinels know under the name of a service.
    ///
    /// # Errors
    ///
    /// When there is no sentinel.
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

    /// The store on the cluster that some of these servers belong to.
    ///
    /// # Errors
    ///
    /// When there is no server, or a database other than 0 is wanted.
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
            scripts: Scripts::new(),
            user: self.login.username().unwrap_or("default").to_owned(),
            copies: self.copies,
            servers,
            changes,
        }))
    }
}

impl Default for RedisStoreBuilder {
    fn default() -> Self {
        // The name of the library would cost a command that the least privileges do not hold.
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
        admission: Admission,
    ) -> Result<Outcome, StoreError> {
        self.0.create(id, &record, admission).await
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        _: &Hint,
    ) -> Result<Lookup, StoreError> {
        self.0.load(id, proof).await
    }

    async fn update(&self, id: RecordId, patch: &Patch, _: &Hint) -> Result<Outcome, StoreError> {
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

    /// Begins with `Change::Down` until it is heard what is published; up to 1,024 changes wait for a
    /// slow listener. `None` over a connection that was given to the store.
    fn changes(&self) -> Option<ChangeStream> {
        if !self.0.servers.can_be_heard() {
            return None;
        }
        self.0.changes.listen(&self.0.env).ok()
    }
}

/// A drain has nothing to do here: every session is safe elsewhere from the moment it is confirmed.
#[async_trait]
impl Operate for RedisStore {
    async fn ready(&self) -> Result<(), StoreError> {
        self.0.probe.check(self).await
    }

    /// Looks at every record. Redis gives back by itself, an hour behind the deadline, what nobody
    /// collects.
    async fn collect(&self) -> Result<u64, StoreError> {
        self.0.collect().await
    }

    /// Every page looks at every key: for an administrator, not for a request.
    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        self.0.scan(after, limit).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.0.stats().await
    }
}
