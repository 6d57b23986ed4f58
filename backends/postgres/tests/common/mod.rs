//! One server a test binary, one schema a test.

#![allow(dead_code, clippy::unwrap_used, reason = "not every test file has a use for all of it")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rig::Postgres;
use steadfast_core::Env;
use steadfast_postgres::{PostgresStore, PostgresStoreBuilder};

/// Tables of their own in a server that all tests share.
pub(crate) struct Service {
    pub(crate) schema: String,
}

impl Service {
    /// Tables that their owner made, and that a role without any other right may use.
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
        let address = format!("postgres://{role}@{}/app", server().address());
        PostgresStore::builder(&address).schema(&self.schema)
    }

    /// Runs SQL as somebody who may do everything. `{sessions}` and `{principals}` are the tables.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let sessions = format!("{}.sessions", self.schema);
        let sql = sql.replace("{principals}", &format!("{sessions}_principals"));
        server().sql("postgres", "app", &sql.replace("{sessions}", &sessions))
    }
}

/// The server of this test binary, with a database and two roles.
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
        server
    })
}
