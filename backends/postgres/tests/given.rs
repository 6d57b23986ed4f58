//! A store on a pool of the application.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::{Service, server, visitor};
use sqlx_0_8::postgres::{PgPool, PgPoolOptions};
use steadfast_core::conformance::Subject;
use steadfast_core::{
    Change, Deleted, Deletion, EndReason, Env, LoginPolicy, Lookup, Operate, Outcome, Patch,
    RecordId, RequestHint, SessionStore, Store, StoreError,
};
use steadfast_postgres::{Binding, Pooler, PostgresStore, PostgresStoreBuilder, SetupError, Tls};
use testkit::postgres::Proxy;
use testkit::{eventually, within};

/// Three nodes, each with a pool of its own.
struct OnPools(Service);

#[async_trait]
impl Subject for OnPools {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let mut nodes: Vec<Arc<dyn Store>> = Vec::new();
        for _ in 0..3 {
            nodes
                .push(Arc::new(store_on(&self.0, pool(5)).env(env.clone()).build().await.unwrap()));
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

steadfast_core::conformance_tests!(OnPools(Service::new()), cases = 8);

#[tokio::test]
async fn one_connection_suffices_for_everything() {
    let service = Service::new();
    let owner = pool_at("owner", &server().address(), 1);
    let more = |pool| store_on(&service, pool).table("more");
    more(owner.clone()).migrate().await.unwrap();
    let store = more(owner).build().await.unwrap();
    let mut changes = store.changes().unwrap();
    assert_eq!(within(changes.next()).await, Some(Change::Down));
    assert_eq!(within(changes.next()).await, Some(Change::Missed));
    let id = create(&store).await;
    store.update(id, &put(), &HINT).await.unwrap();
    assert!(matches!(within(changes.next()).await, Some(Change::Patched(..))));
    store.ready().await.unwrap();
    store.collect().await.unwrap();
}

#[tokio::test]
async fn both_kinds_of_stores_hear_each_other() {
    let service = Service::new();
    let given = store_on(&service, pool(5)).build().await.unwrap();
    let own = service.store(Env::system()).await;
    for (writer, listener) in [(&given, &own), (&own, &given)] {
        let mut changes = listener.changes().unwrap();
        assert_eq!(within(changes.next()).await, Some(Change::Down));
        assert_eq!(within(changes.next()).await, Some(Change::Missed));
        let id = create(writer).await;
        writer.delete(id, &Deletion::LOGOUT).await.unwrap();
        assert_eq!(within(changes.next()).await, Some(Change::Ended(id, EndReason::Logout)));
    }
}

#[tokio::test]
async fn an_interrupted_write_is_not_repeated() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    let store = store_on(&service, pool_at("app", proxy.address(), 5)).build().await.unwrap();
    let other = service.store(Env::system()).await;
    let id = create(&other).await;
    let lock = service.hold(&format!("SELECT FROM {{sessions}} WHERE id = '{id}' FOR UPDATE"));
    let first = tokio::spawn(async move { store.update(id, &put(), &HINT).await });
    eventually(async || is_waiting(&service)).await;
    proxy.cut();
    let answer = within(first).await.unwrap();
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    drop(lock);
}

#[tokio::test]
async fn an_interrupted_deletion_is_repeated() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    let store = store_on(&service, pool_at("app", proxy.address(), 5)).build().await.unwrap();
    let id = create(&store).await;
    let lock = service.hold(&format!("SELECT FROM {{sessions}} WHERE id = '{id}' FOR UPDATE"));
    let deletion = tokio::spawn(async move { store.delete(id, &Deletion::LOGOUT).await });
    eventually(async || is_waiting(&service)).await;
    proxy.cut();
    drop(lock);
    let deleted = within(deletion).await.unwrap().unwrap();
    assert!(matches!(deleted, Deleted::Ended | Deleted::Gone), "{deleted:?}");
}

#[tokio::test]
async fn a_dead_connection_fails_no_read() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    let store = store_on(&service, pool_at("app", proxy.address(), 5)).build().await.unwrap();
    let id = create(&store).await;
    for _ in 0..5 {
        proxy.cut();
        assert!(matches!(store.load(id, None, &HINT).await, Ok(Lookup::Found(_))));
    }
}

#[tokio::test]
async fn a_closed_pool_is_unavailable() {
    let (service, pool) = (Service::new(), pool(5));
    let store = store_on(&service, pool.clone()).build().await.unwrap();
    let id = create(&store).await;
    pool.close().await;
    let answer = store.load(id, None, &HINT).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
}

#[tokio::test]
async fn an_exhausted_pool_is_unavailable() {
    let service = Service::new();
    let options = PgPoolOptions::new().max_connections(1);
    let pool = options.acquire_timeout(Duration::from_millis(100)).connect_lazy(&url()).unwrap();
    let store = store_on(&service, pool.clone()).tell_changes(false).build().await.unwrap();
    let id = create(&store).await;
    let taken = pool.acquire().await.unwrap();
    let answer = store.load(id, None, &HINT).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    drop(taken);
    assert!(matches!(store.load(id, None, &HINT).await, Ok(Lookup::Found(_))));
}

#[tokio::test]
async fn a_refused_migration_leaves_no_transaction() {
    let service = Service::new();
    let pool = pool(1);
    let refused = store_on(&service, pool.clone()).schema("forbidden").migrate().await;
    assert!(matches!(refused, Err(SetupError::Refused(_))), "{refused:?}");
    sqlx_0_8::query("SELECT 1").execute(&pool).await.unwrap();
    let open = "SELECT count(*) FROM pg_stat_activity
        WHERE usename = 'app' AND state LIKE 'idle in transaction%' AND query LIKE '%forbidden%'";
    eventually(async || service.sql(open) == "0").await;
}

#[tokio::test]
async fn settings_of_connections_are_refused() {
    let service = Service::new();
    let settings: [fn(PostgresStoreBuilder) -> PostgresStoreBuilder; 7] = [
        |builder| builder.tls(Tls::VerifyCa),
        |builder| builder.channel_binding(Binding::Require),
        |builder| builder.application_name("shop"),
        |builder| builder.pooler(Pooler::Transaction),
        |builder| builder.listen_at("postgres://app@db-1/shop"),
        |builder| builder.keepalive(None),
        |builder| builder.connections(3),
    ];
    for set in settings {
        let built = set(store_on(&service, pool(1))).build().await;
        assert!(matches!(built, Err(SetupError::PoolSettings)), "{built:?}");
    }
    let built = store_on(&service, pool(1)).timeout(Duration::ZERO).build().await;
    assert!(matches!(built, Err(SetupError::Bounds)), "{built:?}");
}

#[tokio::test]
async fn a_pool_without_a_server_is_told() {
    let options = PgPoolOptions::new().acquire_timeout(Duration::from_millis(100));
    let pool = options.connect_lazy("postgres://app@127.0.0.1:1/app").unwrap();
    let built = PostgresStore::with_pool(pool).build().await;
    assert!(matches!(built, Err(SetupError::Pool(_))), "{built:?}");
}

fn store_on(service: &Service, pool: PgPool) -> PostgresStoreBuilder {
    PostgresStore::with_pool(pool).schema(&service.schema)
}

fn pool(connections: u32) -> PgPool {
    pool_at("app", &server().address(), connections)
}

fn pool_at(role: &str, address: &str, connections: u32) -> PgPool {
    let url = format!("postgres://{role}@{address}/app?sslmode=disable");
    PgPoolOptions::new().max_connections(connections).connect_lazy(&url).unwrap()
}

fn url() -> String {
    format!("postgres://app@{}/app?sslmode=disable", server().address())
}

/// Returns true if a statement waits for a lock of these tables.
fn is_waiting(service: &Service) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    service.sql(&format!("{sql} AND query LIKE '%\"{}\".%'", service.schema)) == "1"
}

async fn create(store: &PostgresStore) -> RecordId {
    let id = store.mint().unwrap();
    let created = store.create(id, visitor(store, [0; 32]), LoginPolicy::default()).await;
    assert!(matches!(created, Ok(Outcome::Applied(_))), "{created:?}");
    id
}

fn put() -> Patch {
    let mut patch = Patch::new();
    patch.put("n", 1.into()).unwrap();
    patch
}

static HINT: RequestHint = RequestHint { routes: Vec::new(), min_version: None };
