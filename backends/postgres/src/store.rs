//! The public store and its builder.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use steadfast_core::{
    ChangeStream, Deleted, Deletion, Ending, Endings, Env, Limits, LoginPolicy, Lookup, Operate,
    Outcome, Patch, Principal, Probe, Proof, Record, RecordId, RequestHint, Revocation, Scan,
    SessionInfo, SessionStore, Stats, StoreError,
};

use crate::address::Pooler;
use crate::changes::Changes;
use crate::check;
use crate::connection::{Binding, Roots, Tls};
use crate::database::{Connections, Database};
use crate::endings::Keeper;
use crate::error::SetupError;
use crate::given::GivenPool;
use crate::hosts::Keepalive;
use crate::names::Names;
use crate::pool::Pool;
use crate::schema;
use crate::sessions::Sessions;
use crate::settings::{Settings, is_in_bounds};
use crate::shares::Shares;
use crate::statements::Statements;
use crate::sweep::{self, Sweeper};

/// Sessions in a PostgreSQL database. Clones share its connections.
///
/// # Examples
///
/// ```no_run
/// use steadfast_postgres::PostgresStore;
///
/// # async fn open() -> Result<(), steadfast_postgres::SetupError> {
/// let address = "postgres://app:secret@db-1,db-2/shop";
/// PostgresStore::builder("postgres://owner:secret@db-1,db-2/shop").migrate().await?;
/// let store = PostgresStore::builder(address).build().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore {
    sessions: Arc<Sessions>,
    sweeper: Option<Arc<Sweeper>>,
}

impl PostgresStore {
    /// Returns a builder for the database at
    /// `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE`.
    ///
    /// The parts are percent-encoded. With several hosts, the writable one is used. A host may be
    /// the directory of a socket, `%2Frun%2Fpostgresql`. A missing user, password or database is
    /// taken from `PGUSER`, `PGPASSWORD` and `PGDATABASE`. The default port is 5432.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").connections(20);
    /// ```
    pub fn builder(address: &str) -> PostgresStoreBuilder {
        PostgresStoreBuilder::new(Target::Address(address.to_owned()))
    }

    /// Returns a builder for a store that runs on the application's own pool, instead of opening
    /// connections.
    ///
    /// The pool must lead to the primary of a database, as a role with the privileges that the
    /// crate's page lists. It keeps its settings, so those of the builder that concern connections
    /// must not be set. A statement takes a connection of the pool while it runs. Changes are
    /// polled ten times per second while anything listens.
    ///
    /// A pool does not report what was sent before a connection broke. A write that was interrupted
    /// therefore fails more often than with [`builder`](Self::builder), and only reads, touches,
    /// deletions and rotations are repeated. While the server is down, calls wait for the pool: set
    /// its `acquire_timeout` to about 2 s.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use sqlx_0_8::PgPool;
    /// use steadfast_postgres::PostgresStore;
    ///
    /// # async fn open() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = PgPool::connect("postgres://app:secret@db-1/shop").await?;
    /// let store = PostgresStore::with_pool(pool).build().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "sqlx-0_8")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sqlx-0_8")))]
    pub fn with_pool(pool: sqlx_0_8::PgPool) -> PostgresStoreBuilder {
        PostgresStoreBuilder::new(Target::Pool(Arc::new(pool)))
    }
}

impl PostgresStore {
    /// Returns the shared state, and keeps the background sweep running.
    fn sessions(&self) -> &Sessions {
        if let Some(sweeper) = &self.sweeper {
            sweeper.keep_going(&self.sessions);
        }
        &self.sessions
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

/// Configures a [`PostgresStore`], or migrates its tables.
#[derive(Clone)]
pub struct PostgresStoreBuilder {
    target: Target,
    settings: Settings,
    env: Env,
    limits: Limits,
    schema: String,
    table: String,
    timeout: Duration,
    tells_changes: bool,
    sweep_every: Option<Duration>,
}

/// The database to use.
#[derive(Clone)]
enum Target {
    Address(String),
    #[cfg_attr(not(feature = "sqlx-0_8"), expect(dead_code, reason = "a feature constructs it"))]
    Pool(GivenPool),
}

impl PostgresStoreBuilder {
    fn new(target: Target) -> Self {
        Self {
            target,
            settings: Settings::default(),
            env: Env::system(),
            limits: Limits::default(),
            schema: "steadfast".to_owned(),
            table: "sessions".to_owned(),
            timeout: Duration::from_secs(5),
            tells_changes: true,
            sweep_every: Some(Duration::from_secs(60)),
        }
    }

    /// Sets the clock and the source of randomness. Default: the system's.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Env, ManualClock};
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").env(Env::with_clock(ManualClock::default()));
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
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").limits(Limits { keys: 8, ..Limits::default() });
    /// ```
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets the protection of connections. Default: [`Tls::VerifyFull`], or [`Tls::Off`] if every
    /// host is on this machine.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::{PostgresStore, Tls};
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").tls(Tls::VerifyCa);
    /// ```
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.settings.tls.mode = Some(tls);
        self
    }

    /// Trusts the authorities in this PEM file instead of the system's.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").root_certificate("/etc/ssl/db-ca.pem");
    /// ```
    #[must_use]
    pub fn root_certificate(mut self, file: impl AsRef<Path>) -> Self {
        self.settings.tls.roots = Roots::File(file.as_ref().to_owned());
        self
    }

    /// Starts connections with TLS immediately instead of negotiating it, which saves a round trip.
    /// Default: off. Servers support it since PostgreSQL 17.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").direct_tls(true);
    /// ```
    #[must_use]
    pub fn direct_tls(mut self, is_direct: bool) -> Self {
        self.settings.tls.is_direct = is_direct;
        self
    }

    /// Presents this client certificate, from PEM files with the certificate and its key.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").client_certificate("/etc/ssl/app.pem", "/etc/ssl/app.key");
    /// ```
    #[must_use]
    pub fn client_certificate(mut self, file: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.settings.tls.client = Some((file.as_ref().to_owned(), key.as_ref().to_owned()));
        self
    }

    /// Sets the binding of logins to their TLS connections. Default: [`Binding::Prefer`].
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::{Binding, PostgresStore};
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").channel_binding(Binding::Require);
    /// ```
    #[must_use]
    pub fn channel_binding(mut self, binding: Binding) -> Self {
        self.settings.binding = binding;
        self
    }

    /// Sets the name of this application in `pg_stat_activity`. Default: `steadfast/2`, where the
    /// number is the format that it writes. Nodes of release 0.1 are named `steadfast`.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").application_name("shop");
    /// ```
    #[must_use]
    pub fn application_name(mut self, name: &str) -> Self {
        self.settings.application_name = name.to_owned();
        self
    }

    /// Sets server settings for each connection: `-c name=value -c name=value`. Default: none.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").session_options("-c work_mem=8MB");
    /// ```
    #[must_use]
    pub fn session_options(mut self, options: &str) -> Self {
        self.settings.options = Some(options.to_owned());
        self
    }

    /// Sets the kind of pooler between this store and the server. Default: none. A pooler must be
    /// declared, because it shares a server connection among clients.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::{Pooler, PostgresStore};
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").pooler(Pooler::Transaction);
    /// ```
    #[must_use]
    pub fn pooler(mut self, pooler: Pooler) -> Self {
        self.settings.pooler = Some(pooler);
        self
    }

    /// Sets the address of the server itself, for the connection that listens to changes, if the
    /// other address is that of a pooler. Default: the same address.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").listen_at("postgres://app@db-1:5432/shop");
    /// ```
    #[must_use]
    pub fn listen_at(mut self, address: &str) -> Self {
        self.settings.listen_at = Some(address.to_owned());
        self
    }

    /// Sets the time to open a connection to a host, 1 ms to 60 s. Default: 2 s. Other hosts are
    /// tried after 200 ms.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").connect_timeout(Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.settings.connect_timeout = connect_timeout;
        self
    }

    /// Sets the keepalive probes of idle connections. Default: [`Keepalive::default`]. `None`
    /// disables them.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").keepalive(None);
    /// ```
    #[must_use]
    pub fn keepalive(mut self, keepalive: Option<Keepalive>) -> Self {
        self.settings.network.keepalive = keepalive;
        self
    }

    /// Sets the time that sent data may remain unacknowledged before the operating system closes a
    /// connection. Default: the system's. Linux only.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").tcp_user_timeout(Duration::from_secs(10));
    /// ```
    #[must_use]
    pub fn tcp_user_timeout(mut self, timeout: Duration) -> Self {
        self.settings.network.user_timeout = timeout;
        self
    }

    /// Sets the schema of the tables: 1 to 31 of `a-z 0-9 _`. Default: `steadfast`.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").schema("shop");
    /// ```
    #[must_use]
    pub fn schema(self, schema: &str) -> Self {
        Self { schema: schema.to_owned(), ..self }
    }

    /// Sets the table of the records: 1 to 31 of `a-z 0-9 _`. Default: `sessions`. The other tables
    /// and the functions are named after it.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").table("visits");
    /// ```
    #[must_use]
    pub fn table(self, table: &str) -> Self {
        Self { table: table.to_owned(), ..self }
    }

    /// Sets the highest number of connections, 1 to 1,000. Default: 10. A statement takes one while
    /// it runs. Listening to changes takes one more.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").connections(20);
    /// ```
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.settings.connections = connections;
        self
    }

    /// Sets the time limit of a call, here and at the server, 1 ms to 60 s. Default: 5 s. The
    /// middleware's timeout is shorter.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").timeout(Duration::from_secs(2));
    /// ```
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sets whether changes are reported to listening stores on all nodes. Default: true. Changes
    /// are only recorded while a store listens.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").tell_changes(false);
    /// ```
    #[must_use]
    pub fn tell_changes(self, tells_changes: bool) -> Self {
        Self { tells_changes, ..self }
    }

    /// Sets how often this node removes expired records. Default: about once per minute. `None`
    /// leaves it to calls of [`Operate::collect`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_postgres::PostgresStore;
    ///
    /// let builder = PostgresStore::builder("postgres://app@db-1,db-2/shop").sweep_every(Some(Duration::from_secs(10)));
    /// ```
    #[must_use]
    pub fn sweep_every(self, sweep_every: Option<Duration>) -> Self {
        Self { sweep_every, ..self }
    }

    /// Creates the tables and functions, or migrates them to this version. It may be called
    /// repeatedly and from several nodes concurrently, by a role that may create a schema, or that
    /// owns it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use steadfast_postgres::{PostgresStore, SetupError};
    ///
    /// # async fn open() -> Result<(), SetupError> {
    /// PostgresStore::builder("postgres://owner@db-1/shop").migrate().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the settings are invalid, or the database is unreachable or refuses.
    pub async fn migrate(&self) -> Result<(), SetupError> {
        let names = Names::new(&self.schema, &self.table)?;
        let database = self.database()?;
        schema::migrate(&mut database.connect().await?, &names, &database.role()).await
    }

    /// Builds the store, after checking that the database answers, has the tables, and lets this
    /// role run every statement. The check leaves no trace.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use steadfast_postgres::{PostgresStore, SetupError};
    ///
    /// # async fn open() -> Result<(), SetupError> {
    /// let store = PostgresStore::builder("postgres://app@db-1,db-2/shop").build().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error when the settings are invalid, the database is unreachable, its tables are
    /// missing, or the role lacks a privilege.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub async fn build(self) -> Result<PostgresStore, SetupError> {
        let names = Names::new(&self.schema, &self.table)?;
        let statements = Statements::new(&names);
        let database = self.database()?;
        let changes = if self.tells_changes {
            let access = database.access(&self.settings, self.timeout)?;
            Some(Changes::new(access, statements.feed.clone(), self.env.clone()))
        } else {
            None
        };
        let mut connection = database.connect().await?;
        schema::check(&mut connection, &names, &database.role()).await?;
        check::check(&mut connection, &statements, &names, &database.role(), &self.env).await?;
        database.adopt(connection);
        let sessions = Arc::new(Sessions {
            env: self.env,
            limits: self.limits,
            shares: Shares::new(database.size()),
            database,
            statements,
            changes,
            keeper: Keeper::default(),
            probe: Probe::default(),
        });
        let sweeper = self.sweep_every.map(Sweeper::new).map(Arc::new);
        let store = PostgresStore { sessions, sweeper };
        store.sessions();
        Ok(store)
    }

    fn database(&self) -> Result<Database, SetupError> {
        if !is_in_bounds(self.timeout) {
            return Err(SetupError::Bounds);
        }
        let connections = match &self.target {
            Target::Address(address) => {
                let hosts = Arc::new(self.settings.hosts(address, self.timeout)?);
                Connections::Own(Pool::new(hosts, self.settings.connections))
            }
            Target::Pool(_) if self.settings != Settings::default() => {
                return Err(SetupError::PoolSettings);
            }
            Target::Pool(pool) => Connections::Given(pool.clone()),
        };
        Ok(Database::new(connections, self.timeout))
    }
}

impl fmt::Debug for PostgresStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStoreBuilder")
            .field("tls", &self.settings.tls)
            .field("pooler", &self.settings.pooler)
            .field("schema", &self.schema)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for PostgresStore {
    fn env(&self) -> &Env {
        &self.sessions.env
    }

    fn limits(&self) -> &Limits {
        &self.sessions.limits
    }

    async fn create(
        &self,
        id: RecordId,
        record: Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        self.sessions().create(id, &record, policy).await
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        _: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        self.sessions().load(id, proof).await
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        _: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        self.sessions().update(id, patch).await
    }

    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError> {
        self.sessions().delete(id, deletion).await
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        self.sessions().list(principal).await
    }

    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        self.sessions().delete_all(principal, revocation).await
    }

    /// Begins with [`Change::Down`](steadfast_core::Change::Down) until it is connected.
    fn changes(&self) -> Option<ChangeStream> {
        self.sessions.changes.as_ref().map(Changes::listen)
    }

    /// The queue is a table. What was not acknowledged within a day after it ended is dropped.
    ///
    /// A session that expired is in the queue once a node has removed its row: five minutes after its
    /// deadline or somewhat later, or at a call of [`Operate::collect`].
    fn endings(&self) -> Option<Arc<dyn Endings>> {
        self.sessions.keeper.want();
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Endings for PostgresStore {
    async fn claim(&self, limit: usize) -> Result<Vec<Ending>, StoreError> {
        self.sessions().claim_endings(limit).await
    }

    async fn acknowledge(&self, ids: &[RecordId]) -> Result<(), StoreError> {
        self.sessions().acknowledge_endings(ids).await
    }
}

/// A drain has nothing to do: the database has every session.
#[async_trait]
impl Operate for PostgresStore {
    async fn ready(&self) -> Result<(), StoreError> {
        self.sessions.probe.check(self).await
    }

    async fn collect(&self) -> Result<u64, StoreError> {
        sweep::sweep(self.sessions(), self.sessions.env.now()).await
    }

    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        self.sessions().scan(after, limit).await
    }

    /// Scans all records: use it for administration, not while serving a request.
    async fn stats(&self) -> Result<Stats, StoreError> {
        self.sessions().stats().await
    }
}
