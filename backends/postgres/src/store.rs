//! The store, as an application and the middleware see it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use steadfast_core::{
    Admission, ChangeStream, Deleted, Deletion, Env, Hint, Limits, Lookup, Operate, Outcome, Patch,
    Principal, Probe, Proof, Record, RecordId, Revocation, Scan, SessionInfo, SessionStore, Stats,
    StoreError,
};

use crate::address::{Address, Pooler};
use crate::changes::Changes;
use crate::check;
use crate::connection::{Binding, Login, Roots, Tls, TlsSettings};
use crate::error::SetupError;
use crate::hosts::{Hosts, Keepalive, Network, Terms};
use crate::names::Names;
use crate::pool::Pool;
use crate::schema;
use crate::sessions::Sessions;
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
pub struct PostgresStore(Arc<Sessions>);

impl PostgresStore {
    /// A store in the database at `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE`, to be set up.
    ///
    /// The parts are percent-encoded. Of several hosts the one is used that can be written to. A host may
    /// be the directory of a socket, `%2Frun%2Fpostgresql`. A user, password or database that is left out
    /// is taken from `PGUSER`, `PGPASSWORD` and `PGDATABASE`; the port is 5432 by default.
    pub fn builder(address: &str) -> PostgresStoreBuilder {
        PostgresStoreBuilder {
            address: address.to_owned(),
            env: Env::system(),
            limits: Limits::default(),
            tls: TlsSettings::default(),
            binding: Binding::default(),
            application_name: format!("steadfast/{}", Record::FORMAT),
            options: None,
            pooler: None,
            listen_at: None,
            connect_timeout: Duration::from_secs(2),
            network: Network::default(),
            schema: "steadfast".to_owned(),
            table: "sessions".to_owned(),
            connections: 10,
            timeout: Duration::from_secs(5),
            tells_changes: true,
            sweep_every: Some(Duration::from_secs(60)),
        }
    }
}

impl PostgresStore {
    /// What is shared, at work.
    fn sessions(&self) -> &Sessions {
        if let Some(sweeper) = &self.0.sweeper {
            sweeper.keep_going(&self.0);
        }
        &self.0
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

/// Sets a [`PostgresStore`] up, or its tables.
#[derive(Clone)]
pub struct PostgresStoreBuilder {
    address: String,
    env: Env,
    limits: Limits,
    tls: TlsSettings,
    binding: Binding,
    application_name: String,
    options: Option<String>,
    pooler: Option<Pooler>,
    listen_at: Option<String>,
    connect_timeout: Duration,
    network: Network,
    schema: String,
    table: String,
    connections: usize,
    timeout: Duration,
    tells_changes: bool,
    sweep_every: Option<Duration>,
}

impl PostgresStoreBuilder {
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

    /// How connections are protected: [`Tls::VerifyFull`] by default, [`Tls::Off`] if every host is on
    /// this machine.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls.mode = Some(tls);
        self
    }

    /// A PEM file with the certificates of the authorities to believe, in place of the system's.
    #[must_use]
    pub fn root_certificate(mut self, file: impl AsRef<Path>) -> Self {
        self.tls.roots = Roots::File(file.as_ref().to_owned());
        self
    }

    /// Begins a connection with TLS instead of asking the server for it first, which saves a round trip:
    /// off by default. Servers since PostgreSQL 17 know this.
    #[must_use]
    pub fn direct_tls(mut self, is_direct: bool) -> Self {
        self.tls.is_direct = is_direct;
        self
    }

    /// Files with the certificate that this client shows, and its key, in PEM.
    #[must_use]
    pub fn client_certificate(mut self, file: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.tls.client = Some((file.as_ref().to_owned(), key.as_ref().to_owned()));
        self
    }

    /// Whether a login is bound to its TLS connection: [`Binding::Prefer`] by default.
    #[must_use]
    pub fn channel_binding(self, binding: Binding) -> Self {
        Self { binding, ..self }
    }

    /// The name of this application in `pg_stat_activity`: `steadfast/2` by default, where the number is
    /// the format that it writes. Nodes of release 0.1 are `steadfast`.
    #[must_use]
    pub fn application_name(self, name: &str) -> Self {
        Self { application_name: name.to_owned(), ..self }
    }

    /// Settings of the server for each connection, `-c name=value -c name=value`: none by default.
    #[must_use]
    pub fn session_options(self, options: &str) -> Self {
        Self { options: Some(options.to_owned()), ..self }
    }

    /// What stands between this store and the server: nothing by default. A pooler has to be announced,
    /// because it lends a connection of the server to several clients, one after the other.
    #[must_use]
    pub fn pooler(self, pooler: Pooler) -> Self {
        Self { pooler: Some(pooler), ..self }
    }

    /// The address of the server itself, for the connection that listens to changes, where there is a
    /// pooler at the other one: the same by default.
    #[must_use]
    pub fn listen_at(self, address: &str) -> Self {
        Self { listen_at: Some(address.to_owned()), ..self }
    }

    /// How long a host has to let this client in, 1 ms to 60 s: 2 s by default. Other hosts are asked
    /// after 200 ms.
    #[must_use]
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// How the system asks whether an idle connection lives: [`Keepalive::default`] by default. `None`
    /// never asks.
    #[must_use]
    pub fn keepalive(mut self, keepalive: Option<Keepalive>) -> Self {
        self.network.keepalive = keepalive;
        self
    }

    /// How long what was sent may stay unacknowledged before the system gives a connection up: its own
    /// default, by default. On Linux only.
    #[must_use]
    pub fn tcp_user_timeout(mut self, timeout: Duration) -> Self {
        self.network.user_timeout = timeout;
        self
    }

    /// The schema of the tables: `steadfast` by default. 1 to 31 of `a-z 0-9 _`.
    #[must_use]
    pub fn schema(self, schema: &str) -> Self {
        Self { schema: schema.to_owned(), ..self }
    }

    /// The table of the records: `sessions` by default. 1 to 31 of `a-z 0-9 _`. The others, and the
    /// functions, are named after it.
    #[must_use]
    pub fn table(self, table: &str) -> Self {
        Self { table: table.to_owned(), ..self }
    }

    /// How many connections there may be, 1 to 1,000: 10 by default. A statement takes one for as long
    /// as it runs. Listening to changes takes one more.
    #[must_use]
    pub fn connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// How long a call may take here and at the server, 1 ms to 60 s: 5 s by default. The middleware
    /// waits for less.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Whether changes are told to stores that listen, on any node: by default they are. What is changed
    /// is written down only while a store listens.
    #[must_use]
    pub fn tell_changes(self, tells_changes: bool) -> Self {
        Self { tells_changes, ..self }
    }

    /// How often this node takes expired records out of the table: about once a minute by default.
    /// `None` leaves it to calls of [`Operate::collect`].
    #[must_use]
    pub fn sweep_every(self, sweep_every: Option<Duration>) -> Self {
        Self { sweep_every, ..self }
    }

    /// Creates the tables and functions, or brings them to this version. As often as one likes, from
    /// several nodes at once; as a role that may create a schema, or in one that belongs to it.
    ///
    /// # Errors
    ///
    /// When the settings cannot be, or the database cannot be reached or refuses.
    pub async fn migrate(&self) -> Result<(), SetupError> {
        let names = Names::new(&self.schema, &self.table)?;
        let hosts = self.hosts(&self.address, self.pooler)?;
        schema::migrate(&mut hosts.connect().await?, &names, hosts.role()).await
    }

    /// The store, once the database answered, has the tables it needs, and lets this role do what
    /// requests will do: every statement is tried, and leaves nothing behind.
    ///
    /// # Errors
    ///
    /// When the settings cannot be, the database cannot be reached, its tables are missing, or the role
    /// lacks a privilege.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn build(self) -> Result<PostgresStore, SetupError> {
        let names = Names::new(&self.schema, &self.table)?;
        let hosts = Arc::new(self.hosts(&self.address, self.pooler)?);
        let statements = Statements::new(&names);
        let changes = match self.tells_changes {
            true => Some(self.changes(&hosts, &statements)?),
            false => None,
        };
        let mut connection = hosts.connect().await?;
        schema::check(&mut connection, &names, hosts.role()).await?;
        check::check(&mut connection, &statements, &names, hosts.role(), &self.env).await?;
        let pool = Pool::new(hosts, self.connections, self.timeout);
        pool.adopt(connection);
        let store = PostgresStore(Arc::new(Sessions {
            env: self.env,
            limits: self.limits,
            pool,
            shares: Shares::new(self.connections),
            statements,
            changes,
            sweeper: self.sweep_every.map(Sweeper::new),
            probe: Probe::default(),
        }));
        store.sessions();
        Ok(store)
    }

    fn changes(&self, hosts: &Arc<Hosts>, statements: &Statements) -> Result<Changes, SetupError> {
        let (hosts, can_be_rung) = match &self.listen_at {
            Some(address) => (Arc::new(self.hosts(address, None)?), true),
            None => (Arc::clone(hosts), self.pooler != Some(Pooler::Transaction)),
        };
        Ok(Changes::new(hosts, can_be_rung, statements.feed.clone(), self.env.clone()))
    }

    fn hosts(&self, address: &str, pooler: Option<Pooler>) -> Result<Hosts, SetupError> {
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(60));
        let mut times = [self.timeout, self.connect_timeout].into_iter();
        let fits = (1..=1_000).contains(&self.connections)
            && times.all(|time| (least..=most).contains(&time));
        if !fits {
            return Err(SetupError::Bounds);
        }
        let Address { hosts, user, password, database, is_local } = Address::parse(address)?;
        let default = if is_local { Tls::Off } else { Tls::VerifyFull };
        let mode = self.tls.mode.unwrap_or(default);
        if mode != Tls::Off {
            // Found out here, what is wrong with a file is told by its name.
            self.tls.config(mode)?;
        }
        let login = Login {
            user,
            password,
            database,
            application_name: self.application_name.clone(),
            options: self.options.clone(),
            binding: self.binding,
        };
        let terms = Terms {
            login,
            mode,
            tls: self.tls.clone(),
            pooler,
            opens_within: self.connect_timeout,
            statement_timeout: self.timeout,
            network: self.network,
        };
        Ok(Hosts::new(hosts, terms))
    }
}

impl fmt::Debug for PostgresStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStoreBuilder")
            .field("tls", &self.tls)
            .field("pooler", &self.pooler)
            .field("schema", &self.schema)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for PostgresStore {
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
        self.sessions().create(id, &record, admission).await
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        _: &Hint,
    ) -> Result<Lookup, StoreError> {
        self.sessions().load(id, proof).await
    }

    async fn update(&self, id: RecordId, patch: &Patch, _: &Hint) -> Result<Outcome, StoreError> {
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

    /// Begins with [`Change::Down`](steadfast_core::Change::Down) while it is not connected.
    fn changes(&self) -> Option<ChangeStream> {
        self.0.changes.as_ref().map(Changes::listen)
    }
}

/// A drain has nothing to do: the database has every session.
#[async_trait]
impl Operate for PostgresStore {
    async fn ready(&self) -> Result<(), StoreError> {
        self.0.probe.check(self).await
    }

    async fn collect(&self) -> Result<u64, StoreError> {
        sweep::sweep(self.sessions(), self.0.env.now()).await
    }

    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        self.sessions().scan(after, limit).await
    }

    /// Looks at every record: for an administrator, not for a request.
    async fn stats(&self) -> Result<Stats, StoreError> {
        self.sessions().stats().await
    }
}
