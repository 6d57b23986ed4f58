//! The store, as an application and the middleware see it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use steadfast_core::{
    Admission, ChangeStream, Deleted, Deletion, Env, Hint, Limits, Lookup, Operate, Outcome, Patch,
    Principal, Proof, Record, RecordId, Revocation, Scan, SessionInfo, SessionStore, Stats,
    StoreError,
};

use crate::address::{Address, Tls, TlsSettings};
use crate::changes::Changes;
use crate::error::SetupError;
use crate::hosts::Hosts;
use crate::names::Names;
use crate::pool::Pool;
use crate::sessions::Sessions;
use crate::statements::Statements;
use crate::{schema, sweep};

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
    /// The parts are percent-encoded. Of several hosts the one counts that can be written to. A host may
    /// be the directory of a socket, `%2Frun%2Fpostgresql`. What is left out comes from the variables
    /// that `libpq` reads, `PGPASSWORD` for example; the port is 5432.
    pub fn builder(address: &str) -> PostgresStoreBuilder {
        PostgresStoreBuilder {
            address: address.to_owned(),
            env: Env::system(),
            limits: Limits::default(),
            tls: TlsSettings::default(),
            schema: "steadfast".to_owned(),
            table: "sessions".to_owned(),
            connections: 10,
            timeout: Duration::from_secs(5),
            tells_changes: true,
            sweep_every: Some(Duration::from_secs(60)),
        }
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

    /// A file with certificates of authorities to trust, in PEM, beside the system's.
    #[must_use]
    pub fn root_certificate(mut self, file: impl AsRef<Path>) -> Self {
        self.tls.root = Some(file.as_ref().to_owned());
        self
    }

    /// Files with the certificate that this client shows, and its key, in PEM.
    #[must_use]
    pub fn client_certificate(mut self, file: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.tls.client = Some((file.as_ref().to_owned(), key.as_ref().to_owned()));
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

    /// Whether changes are told to who listens on other nodes: by default they are. The commits of a
    /// database that tells of something queue behind each other, so turn it off, on every node, where
    /// nobody listens and writes are many.
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
        schema::migrate(&mut self.connect().await?, &names).await
    }

    /// The store, once the database answered and has the tables it needs.
    ///
    /// # Errors
    ///
    /// When the settings cannot be, the database cannot be reached, or its tables are missing.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn build(self) -> Result<PostgresStore, SetupError> {
        let names = Names::new(&self.schema, &self.table)?;
        let hosts = self.hosts()?;
        schema::check(&mut hosts.connect().await?, &names).await?;
        let sessions = Arc::new(Sessions {
            env: self.env,
            limits: self.limits,
            pool: Pool::new(hosts, self.connections, self.timeout),
            statements: Statements::new(&names, self.tells_changes),
            changes: Changes::default(),
        });
        if let Some(every) = self.sweep_every {
            let sweeping = sweep::keep_sweeping(Arc::downgrade(&sessions), every);
            sessions.pool.runtime().spawn(sweeping);
        }
        Ok(PostgresStore(sessions))
    }

    async fn connect(&self) -> Result<PgConnection, SetupError> {
        Ok(self.hosts()?.connect().await?)
    }

    fn hosts(&self) -> Result<Hosts, SetupError> {
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(60));
        let fits =
            (1..=1_000).contains(&self.connections) && (least..=most).contains(&self.timeout);
        if !fits {
            return Err(SetupError::Bounds);
        }
        let address = Address::parse(&self.address)?;
        Ok(Hosts::new(address.options(&self.tls), self.timeout))
    }
}

impl fmt::Debug for PostgresStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStoreBuilder")
            .field("tls", &self.tls)
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
        Revocation { except, epoch, .. }: Revocation,
    ) -> Result<u64, StoreError> {
        self.0.delete_all(principal, except, epoch).await
    }

    /// Begins with `Change::Missed` once it listens, and says it again when the connection was lost.
    fn changes(&self) -> Option<ChangeStream> {
        let channel = self.0.statements.channel.as_ref()?;
        Some(self.0.changes.listen(&self.0.pool, channel))
    }
}

/// A drain has nothing to do: the database has every session.
#[async_trait]
impl Operate for PostgresStore {
    async fn ready(&self) -> Result<(), StoreError> {
        self.0.pool.check().await
    }

    async fn collect(&self) -> Result<u64, StoreError> {
        sweep::sweep(&self.0, self.0.env.now()).await
    }

    async fn scan(&self, after: Option<RecordId>, limit: usize) -> Result<Scan, StoreError> {
        self.0.scan(after, limit).await
    }

    /// Looks at every record: for an administrator, not for a request.
    async fn stats(&self) -> Result<Stats, StoreError> {
        self.0.stats().await
    }
}
