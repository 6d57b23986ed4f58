//! Sharing connections: dead connections, too few of them, and locked records.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::{Service, server, visitor};
use futures_util::future::join_all;
use steadfast_core::{
    Deletion, Env, LoginPolicy, Lookup, Outcome, Patch, RecordId, RequestHint, SessionStore,
    StoreError,
};
use steadfast_postgres::PostgresStore;
use testkit::postgres::{Postgres, Proxy};
use testkit::{eventually, within};

#[tokio::test]
async fn a_closed_connection_is_never_lent() {
    let service = Service::new();
    let role = service.role("SET idle_session_timeout = '50ms'");
    let store = service.builder(&role).connections(4).build().await.unwrap();
    let id = create(&store).await;
    for _ in 0..4 {
        join_all((0..4).map(|_| load(&store, id))).await;
        eventually(async || sessions_of(&role) == "0").await;
        increment(&store, id).await;
    }
}

#[tokio::test]
async fn no_connection_is_lent_that_an_operator_terminated() {
    let service = Service::new();
    let role = service.role("");
    let store = service.builder(&role).connections(4).build().await.unwrap();
    let id = create(&store).await;
    for _ in 0..4 {
        join_all((0..4).map(|_| load(&store, id))).await;
        // The runtime is blocked here, so it has not noticed.
        let terminate = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity";
        server().sql("postgres", "app", &format!("{terminate} WHERE usename = '{role}'"));
        increment(&store, id).await;
    }
}

#[tokio::test]
async fn no_connection_is_lent_that_a_restart_ended() {
    let mut server = Postgres::start(&[]);
    let store = store_on(&server).await;
    let id = create(&store).await;
    for _ in 0..3 {
        join_all((0..4).map(|_| load(&store, id))).await;
        server.kill();
        server.restart();
        increment(&store, id).await;
    }
}

#[tokio::test]
async fn no_connection_is_lent_that_a_proxy_closed() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    let builder = service.builder_at("app", proxy.address()).connections(4);
    let store = builder.build().await.unwrap();
    let id = create(&store).await;
    for _ in 0..4 {
        join_all((0..4).map(|_| load(&store, id))).await;
        proxy.cut();
        eventually(async || proxy.traffic().open == 0).await;
        increment(&store, id).await;
    }
}

#[tokio::test]
async fn a_silent_connection_is_pinged_first() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    let builder = service.builder_at("app", proxy.address()).timeout(Duration::from_millis(200));
    let store = builder.connections(4).build().await.unwrap();
    let id = create(&store).await;
    join_all((0..4).map(|_| load(&store, id))).await;
    // From now on, the existing connections are dead.
    proxy.swallow();
    assert!(matches!(store.load(id, None, &HINT).await, Err(StoreError::Timeout)));
    let longer = service.builder_at("app", proxy.address()).connections(4).build().await.unwrap();
    drop(longer);
    // The first one is given up after a second. The others are not used after that.
    eventually(async || store.load(id, None, &HINT).await.is_ok()).await;
    increment(&store, id).await;
}

#[tokio::test]
async fn a_waiting_statement_is_not_repeated() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    let cut_off = service.builder_at("app", proxy.address()).build().await.unwrap();
    let other = service.store(Env::system()).await;
    let id = create(&other).await;
    let lock = service.hold(&format!("SELECT FROM {{sessions}} WHERE id = '{id}' FOR UPDATE"));
    let first = tokio::spawn(async move { cut_off.update(id, &put("n", 1), &HINT).await });
    eventually(async || waiting(1)).await;
    proxy.cut();
    let answer = within(first).await.unwrap();
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    let second = tokio::spawn({
        let other = other.clone();
        async move { other.update(id, &put("n", 2), &HINT).await }
    });
    eventually(async || waiting(2)).await;
    drop(lock);
    second.await.unwrap().unwrap();
    assert_eq!(value(&other, id, "n").await, "2");
}

#[tokio::test]
async fn a_harmless_statement_is_repeated() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    let store = service.builder_at("app", proxy.address()).build().await.unwrap();
    let id = create(&store).await;
    proxy.cut();
    load(&store, id).await;
    proxy.cut();
    let touch = Patch::touch(store.env().now() + Duration::from_secs(7_200));
    assert!(matches!(store.update(id, &touch, &HINT).await, Ok(Outcome::Applied(_))));
    proxy.cut();
    assert!(store.delete(id, &Deletion::LOGOUT).await.is_ok());
}

#[tokio::test]
async fn a_role_with_too_few_connections_serves_everybody() {
    let service = Service::new();
    let role = service.role("CONNECTION LIMIT 5");
    let store = service.builder(&role).connections(10).build().await.unwrap();
    let id = create(&store).await;
    let clients = (0..40).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..25 {
                load(&store, id).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        within(client).await.unwrap();
    }
    let refused = service.builder(&role).connections(10).build().await;
    assert_eq!(sessions_of(&role), "5", "{refused:?}");
    // The server allows more, and the pool soon has more.
    server().sql("postgres", "app", &format!("ALTER ROLE {role} CONNECTION LIMIT 8"));
    eventually(async || {
        join_all((0..40).map(|_| load(&store, id))).await;
        sessions_of(&role) == "8"
    })
    .await;
}

#[tokio::test]
async fn callers_wait_for_a_free_connection() {
    let service = Service::new();
    let role = service.role("CONNECTION LIMIT 1");
    let store = service.builder(&role).build().await.unwrap();
    let id = create(&store).await;
    // Another program takes the only connection.
    let terminate = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity";
    server().sql("postgres", "app", &format!("{terminate} WHERE usename = '{role}'"));
    let other = service.builder(&role).build().await.unwrap();
    let loading = tokio::spawn({
        let store = store.clone();
        async move { load(&store, id).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!loading.is_finished());
    drop(other);
    within(loading).await.unwrap();
}

#[tokio::test]
async fn a_locked_record_occupies_two_connections() {
    let service = Service::new();
    let store = service.builder("app").connections(10).build().await.unwrap();
    let (stuck, free) = (create(&store).await, create(&store).await);
    let lock = service.hold(&format!("SELECT FROM {{sessions}} WHERE id = '{stuck}' FOR UPDATE"));
    let start = Instant::now();
    let waiting: Vec<_> = (0..12)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.update(stuck, &put("n", 1), &HINT).await })
        })
        .collect();
    let mut served = 0;
    while served < 88 {
        load(&store, free).await;
        applied(&store, free, &put("n", served)).await;
        load(&store, stuck).await;
        served += 1;
    }
    let (elapsed, still) = (start.elapsed(), waiting.iter().any(|call| !call.is_finished()));
    for call in waiting {
        let answer = within(call).await.unwrap();
        assert!(matches!(answer, Err(StoreError::Busy(_))), "{answer:?}");
    }
    // All callers were answered before the middleware would have timed out.
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(still || elapsed > Duration::from_millis(400), "nothing was held up by anything");
    drop(lock);
    applied(&store, stuck, &put("n", 2)).await;
}

#[test]
fn a_store_outlives_its_first_runtime() {
    let service = Service::new();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    let (store, id) = first.block_on(async {
        let builder = service.builder("app").sweep_every(Some(Duration::from_millis(20)));
        let store = builder.build().await.unwrap();
        let id = create(&store).await;
        join_all((0..4).map(|_| load(&store, id))).await;
        (store, id)
    });
    let mut changes = store_changes(&first, &store);
    drop(first);
    for _ in 0..2 {
        let next = runtime();
        next.block_on(async {
            increment(&store, id).await;
            join_all((0..20).map(|_| load(&store, id))).await;
            within(changes.next()).await.expect("it listens again");
        });
    }
    let last = runtime();
    last.block_on(async {
        let expired = create(&store).await;
        let sql = "UPDATE {sessions} SET idle_end = 1, hour = 0 WHERE id = 'ID'";
        service.sql(&sql.replace("ID", &expired.to_string()));
        eventually(async || service.sql("SELECT count(*) FROM {sessions}") == "1").await;
    });
}

#[test]
fn two_runtimes_use_one_store_in_turn() {
    let service = Service::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (one, other) = (runtime(), runtime());
    let store = one.block_on(service.builder("app").connections(2).build()).unwrap();
    let id = one.block_on(create(&store));
    for _ in 0..3 {
        one.block_on(join_all((0..4).map(|_| load(&store, id))));
        other.block_on(join_all((0..4).map(|_| load(&store, id))));
    }
}

fn store_changes(
    runtime: &tokio::runtime::Runtime,
    store: &PostgresStore,
) -> steadfast_core::ChangeStream {
    runtime.block_on(async {
        let mut changes = store.changes().unwrap();
        within(changes.next()).await.unwrap();
        changes
    })
}

async fn store_on(server: &Postgres) -> PostgresStore {
    let address = format!("postgres://postgres@{}/postgres", server.address());
    let builder = PostgresStore::builder(&address).connections(4);
    builder.migrate().await.unwrap();
    builder.build().await.unwrap()
}

async fn create(store: &PostgresStore) -> RecordId {
    let id = store.mint().unwrap();
    store.create(id, visitor(store, [0; 32]), LoginPolicy::default()).await.unwrap();
    id
}

async fn load(store: &PostgresStore, id: RecordId) {
    let lookup = store.load(id, None, &HINT).await;
    assert!(matches!(lookup, Ok(Lookup::Found(_))), "{lookup:?}");
}

async fn increment(store: &PostgresStore, id: RecordId) {
    let mut add = Patch::new();
    add.add("visits", 1).unwrap();
    applied(store, id, &add).await;
}

async fn applied(store: &PostgresStore, id: RecordId, patch: &Patch) {
    let outcome = store.update(id, patch, &HINT).await;
    assert!(matches!(outcome, Ok(Outcome::Applied(_))), "{outcome:?}");
}

async fn value(store: &PostgresStore, id: RecordId, key: &str) -> String {
    let Ok(Lookup::Found(found)) = store.load(id, None, &HINT).await else {
        panic!("the record is live");
    };
    String::from_utf8(found.record.values.get(key).unwrap().to_vec()).unwrap()
}

fn put(key: &str, value: i64) -> Patch {
    let mut put = Patch::new();
    put.put(key, value.into()).unwrap();
    put
}

/// Returns true if this many statements wait for the lock of a row.
fn waiting(statements: u32) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND query LIKE '%_patch%'";
    server().sql("postgres", "app", sql) == statements.to_string()
}

fn sessions_of(role: &str) -> String {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
    server().sql("postgres", "app", &sql)
}

static HINT: RequestHint = RequestHint { routes: Vec::new(), min_version: None };
