//! One server per test binary, one schema per test.

#![allow(dead_code, reason = "not every test file has a use for all of it")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use steadfast_core::{Env, KeyId, Lifetime, Record, RecordId, SecretHash, SessionStore};
use steadfast_postgres::{PostgresStore, PostgresStoreBuilder};
use testkit::postgres::Postgres;

/// Separate tables on a server that all tests share.
pub(crate) struct Service {
    pub(crate) schema: String,
}

impl Service {
    /// Creates tables, with an owner, and a role that has only the documented privileges.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let service = Self { schema: format!("s{}", COUNT.fetch_add(1, Ordering::Relaxed)) };
        let owner = service.builder("owner");
        let migration = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(owner.migrate())
        });
        migration.join().unwrap().unwrap();
        let grants = include_str!("../../src/sql/grants.sql");
        server().sql("owner", "app", &grants.replace("steadfast", &service.schema));
        service
    }

    pub(crate) async fn store(&self, env: Env) -> PostgresStore {
        self.builder("app").env(env).build().await.unwrap()
    }

    pub(crate) fn builder(&self, role: &str) -> PostgresStoreBuilder {
        self.builder_at(role, &server().address())
    }

    /// Returns a builder for an address in front of the server.
    pub(crate) fn builder_at(&self, role: &str, address: &str) -> PostgresStoreBuilder {
        let address = format!("postgres://{role}@{address}/app");
        PostgresStore::builder(&address).schema(&self.schema)
    }

    /// Creates another role that may use the tables.
    pub(crate) fn role(&self, options: &str) -> String {
        let role = format!("{}_app", self.schema);
        let (login, set) = match options.strip_prefix("SET") {
            Some(set) => ("", format!("ALTER ROLE {role} SET {set};")),
            None => (options, String::new()),
        };
        let grants = include_str!("../../src/sql/grants.sql").replace("steadfast", &self.schema);
        let grants = grants.replace("TO app", &format!("TO {role}"));
        let create = format!("CREATE ROLE {role} LOGIN {login}; {set} {grants}");
        server().sql("postgres", "app", &create);
        role
    }

    /// Returns the number of statements sent to the server so far that name these tables.
    pub(crate) fn statements(&self) -> u64 {
        let sql = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements
            WHERE query LIKE '%\"SCHEMA\".%'";
        self.sql(&sql.replace("SCHEMA", &self.schema)).parse().unwrap()
    }

    /// Returns the number of pages that patches of these tables have read and changed so far,
    /// including the functions they call.
    pub(crate) fn pages_of_patches(&self) -> u64 {
        let sql =
            "SELECT coalesce(sum(shared_blks_hit + shared_blks_read + shared_blks_dirtied), 0)
            FROM pg_stat_statements WHERE query LIKE '%\"SCHEMA\".\"sessions_patch\"%'";
        self.sql(&sql.replace("SCHEMA", &self.schema)).parse().unwrap()
    }

    /// Runs SQL as a superuser. `{sessions}`, `{principals}` and so on stand for the tables.
    pub(crate) fn sql(&self, sql: &str) -> String {
        server().sql("postgres", "app", &self.fill(sql))
    }

    pub(crate) fn try_sql(&self, role: &str, sql: &str) -> Result<String, String> {
        server().try_sql(role, "app", &self.fill(sql))
    }

    /// Damages the values of a record.
    pub(crate) fn corrupt(&self, id: RecordId) {
        let junk = format!(r#"UPDATE {{sessions}} SET values = '{{"n": [1]}}' WHERE id = '{id}'"#);
        self.sql(&junk);
    }

    /// Marks a record as written in this format.
    pub(crate) fn set_format(&self, id: RecordId, format: u16) {
        self.sql(&format!("UPDATE {{sessions}} SET format = {format} WHERE id = '{id}'"));
    }

    /// Holds the locks of a statement until the returned value is dropped.
    pub(crate) fn hold(&self, sql: &str) -> testkit::postgres::Transaction {
        server().hold("app", &self.fill(sql))
    }

    /// Returns the number of updates of records by stores that were dropped, and the number of
    /// those that changed no index.
    pub(crate) async fn updates(&self) -> (u64, u64) {
        // A connection only reports its statistics when it ends.
        let sql = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
            WHERE relid = '{sessions}'::regclass";
        let last = std::cell::RefCell::new(String::new());
        testkit::eventually(async || {
            let said = self.sql(sql);
            last.replace(said.clone()) == said && said != "0|0"
        })
        .await;
        let last = last.into_inner();
        let (updates, hot) = last.split_once('|').unwrap();
        (updates.parse().unwrap(), hot.parse().unwrap())
    }

    fn fill(&self, sql: &str) -> String {
        let sessions = format!("{}.sessions", self.schema);
        let tables = ["principals", "changes", "listeners"];
        let sql = tables.iter().fold(sql.to_owned(), |sql, table| {
            sql.replace(&format!("{{{table}}}"), &format!("{sessions}_{table}"))
        });
        sql.replace("{sessions}", &sessions)
    }
}

/// Returns a record that begins now, with idle 30 min and absolute 8 h.
pub(crate) fn visitor(store: &PostgresStore, secret: impl Into<Hash>) -> Record {
    let (now, lifetime, Hash(secret)) = (store.env().now(), Lifetime::default(), secret.into());
    Record::new(secret, now, lifetime.idle_deadline(now), lifetime.absolute_deadline(now))
}

/// A hash, or the digest of one without a key.
pub(crate) struct Hash(SecretHash);

impl From<SecretHash> for Hash {
    fn from(hash: SecretHash) -> Self {
        Self(hash)
    }
}

impl From<[u8; 32]> for Hash {
    fn from(digest: [u8; 32]) -> Self {
        Self(SecretHash::from_parts(KeyId::NONE, digest))
    }
}

/// Returns the server of this test binary, with a database and two roles.
pub(crate) fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let settings = ["shared_preload_libraries=pg_stat_statements"];
        let server = Postgres::start(&settings);
        server.sql(
            "postgres",
            "postgres",
            "CREATE ROLE owner LOGIN; CREATE ROLE app LOGIN; CREATE DATABASE app;
            GRANT CREATE ON DATABASE app TO owner",
        );
        server.sql("postgres", "app", "CREATE EXTENSION pg_stat_statements");
        server
    })
}
