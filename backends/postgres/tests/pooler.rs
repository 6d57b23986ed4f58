//! A store with PgBouncer in front of the server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use common::{Service, server, visitor};
use futures_util::future::join_all;
use steadfast_core::conformance::Subject;
use steadfast_core::{
    Change, Deletion, EndReason, Env, LoginPolicy, Lookup, Operate, Outcome, Patch, RecordId,
    RequestHint, SessionStore, Store,
};
use steadfast_postgres::{Pooler, PostgresStore, PostgresStoreBuilder, SetupError};
use testkit::postgres::PgBouncer;
use testkit::{eventually, within};

/// Three nodes that share the connections of one pooler.
struct Pooled(Service);

#[async_trait]
impl Subject for Pooled {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        static POOLER: OnceLock<PgBouncer> = OnceLock::new();
        let pooler = POOLER.get_or_init(|| transactions(&["default_pool_size = 20"]));
        let mut nodes: Vec<Arc<dyn Store>> = Vec::new();
        for _ in 0..3 {
            let builder = announced(&self.0, pooler).env(env.clone());
            nodes.push(Arc::new(builder.build().await.unwrap()));
        }
        nodes
    }

    async fn corrupt(&self, id: RecordId) -> bool {
        self.0.corrupt(id);
        true
    }

    async fn set_format(&self, id: RecordId, format: u16) -> bool {
        self.0.set_format(id, format);
        true
    }
}

steadfast_core::conformance_tests!(Pooled(Service::new()), cases = 16);

#[tokio::test]
async fn a_pooled_connection_keeps_no_settings() {
    let service = Service::new();
    let pooler = transactions(&["default_pool_size = 1"]);
    let state = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings
        WHERE source IN ('session', 'override', 'client') AND name NOT IN
            ('application_name', 'client_encoding', 'server_encoding', 'transaction_isolation',
            'transaction_read_only', 'transaction_deferrable', 'session_authorization', 'role',
            'is_superuser', 'lc_collate', 'lc_ctype', 'data_checksums', 'wal_buffers',
            'DateStyle', 'TimeZone', 'IntervalStyle', 'standard_conforming_strings')
        UNION ALL SELECT count(*)::text FROM pg_prepared_statements
        UNION ALL SELECT count(*)::text FROM pg_listening_channels()
        UNION ALL SELECT count(*)::text FROM pg_locks
            WHERE pid = pg_backend_pid() AND locktype = 'advisory'";
    let before = pooler.sql("app", "app", state);
    let owner = builder(&service, &pooler, "owner").pooler(Pooler::Transaction);
    owner.table("more").migrate().await.unwrap();
    let store = announced(&service, &pooler).build().await.unwrap();
    let mut changes = store.changes().unwrap();
    let id = create(&store).await;
    increment(&store, id).await;
    store.ready().await.unwrap();
    store.collect().await.unwrap();
    within(changes.next()).await.unwrap();
    within(changes.next()).await.unwrap();
    store.delete(id, &Deletion::LOGOUT).await.unwrap();
    within(changes.next()).await.unwrap();
    assert_eq!(pooler.sql("app", "app", state), before);
}

#[tokio::test]
async fn many_callers_share_two_connections() {
    let service = Service::new();
    let pooler = transactions(&["default_pool_size = 2"]);
    let store = announced(&service, &pooler).connections(20).build().await.unwrap();
    let id = create(&store).await;
    join_all((0..200).map(|_| increment(&store, id))).await;
    let Ok(Lookup::Found(found)) = store.load(id, None, &HINT).await else {
        panic!("the record is live");
    };
    assert_eq!(found.record.values.get("visits"), Some(b"200".as_slice()));
}

#[tokio::test]
async fn changes_arrive_despite_a_pooler() {
    let service = Service::new();
    let pooler = transactions(&[]);
    let writer = announced(&service, &pooler).build().await.unwrap();
    let direct = format!("postgres://app@{}/app", server().address());
    for listener in [announced(&service, &pooler), announced(&service, &pooler).listen_at(&direct)]
    {
        let listener = listener.build().await.unwrap();
        let mut changes = listener.changes().unwrap();
        assert_eq!(within(changes.next()).await, Some(Change::Down));
        assert_eq!(within(changes.next()).await, Some(Change::Missed));
        for _ in 0..3 {
            let id = create(&writer).await;
            let ended = writer.delete(id, &Deletion::LOGOUT).await;
            assert!(ended.unwrap().is_ended(), "a logout that happened is told so");
            let expected = Change::Ended(id, EndReason::Logout);
            assert_eq!(within(changes.next()).await, Some(expected));
        }
    }
}

#[tokio::test]
async fn an_undeclared_pooler_is_reported_with_the_remedy() {
    let service = Service::new();
    for mode in ["transaction", "session"] {
        let pooler = PgBouncer::start(server(), &ROLES, &[&format!("pool_mode = {mode}")]);
        let error = builder(&service, &pooler, "app").build().await.unwrap_err();
        let SetupError::Unreachable(why) = error else { panic!("{error}") };
        assert!(why.to_string().contains("set `pooler=transaction`"), "{why}");
        // No settings leak to the connections that other clients use.
        let set = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'";
        assert_eq!(pooler.sql("app", "app", set), "0");
    }
}

#[tokio::test]
async fn a_session_pooler_can_be_declared() {
    let service = Service::new();
    let pooler = PgBouncer::start(server(), &ROLES, &["pool_mode = session"]);
    let builder = builder(&service, &pooler, "app").pooler(Pooler::Session);
    let store = builder.build().await.unwrap();
    let id = create(&store).await;
    increment(&store, id).await;
    let mut changes = store.changes().unwrap();
    assert_eq!(within(changes.next()).await, Some(Change::Down));
    assert_eq!(within(changes.next()).await, Some(Change::Missed));
    increment(&store, id).await;
    assert!(matches!(within(changes.next()).await, Some(Change::Patched(..))));
}

#[tokio::test]
async fn connections_that_a_pooler_lost_fail_no_increment() {
    let service = Service::new();
    let role = service.role("");
    let pooler = PgBouncer::start(server(), &[&role, "postgres"], &["pool_mode = transaction"]);
    let address = format!("postgres://{role}@{}/app", pooler.address());
    let builder = PostgresStore::builder(&address).schema(&service.schema);
    let store = builder.pooler(Pooler::Transaction).build().await.unwrap();
    let id = create(&store).await;
    for _ in 0..4 {
        increment(&store, id).await;
        let terminate = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity";
        server().sql("postgres", "app", &format!("{terminate} WHERE usename = '{role}'"));
        let servers = || pooler.sql("postgres", "pgbouncer", "SHOW SERVERS");
        eventually(async || !servers().contains(&role)).await;
        increment(&store, id).await;
    }
}

#[tokio::test]
async fn a_restart_of_the_pooler_fails_no_increment() {
    let service = Service::new();
    let mut pooler = transactions(&[]);
    let store = announced(&service, &pooler).build().await.unwrap();
    let id = create(&store).await;
    for _ in 0..3 {
        join_all((0..4).map(|_| increment(&store, id))).await;
        pooler.restart();
        increment(&store, id).await;
    }
}

/// A pooler that assigns connections for a transaction.
fn transactions(settings: &[&str]) -> PgBouncer {
    PgBouncer::start(server(), &ROLES, &[&["pool_mode = transaction"], settings].concat())
}

const ROLES: [&str; 3] = ["app", "owner", "postgres"];

fn announced(service: &Service, pooler: &PgBouncer) -> PostgresStoreBuilder {
    builder(service, pooler, "app").pooler(Pooler::Transaction)
}

fn builder(service: &Service, pooler: &PgBouncer, role: &str) -> PostgresStoreBuilder {
    service.builder_at(role, &pooler.address()).timeout(Duration::from_secs(5))
}

async fn create(store: &PostgresStore) -> RecordId {
    let id = store.mint().unwrap();
    store.create(id, visitor(store, [0; 32]), LoginPolicy::default()).await.unwrap();
    id
}

async fn increment(store: &PostgresStore, id: RecordId) {
    let mut add = Patch::new();
    add.add("visits", 1).unwrap();
    let outcome = store.update(id, &add, &HINT).await;
    assert!(matches!(outcome, Ok(Outcome::Applied(_))), "{outcome:?}");
}

static HINT: RequestHint = RequestHint { routes: Vec::new(), min_version: None };
