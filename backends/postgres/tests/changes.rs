//! The changes that a listener receives, and those it may have missed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Service, server, visitor};
use futures_util::FutureExt;
use steadfast_core::{
    Authentication, Change, ChangeStream, Deletion, EndReason, Env, LoginPolicy, ManualClock,
    Operate, Outcome, Patch, Principal, Realm, Record, RecordId, RequestHint, Revocation, Rotation,
    SessionStore,
};
use steadfast_postgres::PostgresStore;
use testkit::postgres::{Postgres, Proxy};
use testkit::{eventually, within};

#[tokio::test]
async fn a_listener_hears_what_other_nodes_do() {
    let (service, clock) = (Service::new(), ManualClock::default());
    let env = Env::with_clock(clock.clone());
    let (listener, writer) = (service.store(env.clone()).await, service.store(env).await);
    let mut changes = listening(&listener).await;
    let [alice, bob] = ["alice", "bob"].map(|id| Principal::new(Realm::default(), id).unwrap());

    let id = create(&writer, [0; 32]).await;
    let version = applied(&writer, id, &put()).await;
    assert_eq!(heard(&mut changes).await, Change::Patched(id, version));
    // A touch is not reported.
    applied(&writer, id, &Patch::touch(writer.env().now() + Duration::from_secs(60))).await;
    let version = applied(&writer, id, &login(&writer, 0, 1, &alice)).await;
    assert_eq!(heard(&mut changes).await, Change::SignedIn(id, version));
    let version = applied(&writer, id, &login(&writer, 1, 2, &alice)).await;
    assert_eq!(heard(&mut changes).await, Change::Patched(id, version));
    let version = applied(&writer, id, &login(&writer, 2, 3, &bob)).await;
    assert_eq!(heard(&mut changes).await, Change::SignedIn(id, version));

    let newer = create(&writer, [7; 32]).await;
    let version = applied(&writer, newer, &login(&writer, 7, 8, &bob)).await;
    assert_eq!(heard(&mut changes).await, Change::SignedIn(newer, version));
    assert_eq!(heard(&mut changes).await, Change::Ended(id, EndReason::Cap));
    let admin = Revocation::for_reason(EndReason::Admin);
    writer.delete_all(&bob, admin).await.unwrap();
    assert_eq!(heard(&mut changes).await, Change::Ended(newer, EndReason::Admin));

    for reason in [EndReason::Logout, EndReason::Evicted] {
        let id = create(&writer, [0; 32]).await;
        writer.delete(id, &Deletion::for_reason(reason)).await.unwrap();
        assert_eq!(heard(&mut changes).await, Change::Ended(id, reason));
    }
    let id = create(&writer, [0; 32]).await;
    clock.advance(Duration::from_secs(3_600));
    writer.collect().await.unwrap();
    assert_eq!(heard(&mut changes).await, Change::Ended(id, EndReason::Expired));
    drop(listener);
    assert_eq!(within(changes.next()).await, None);
}

#[tokio::test]
async fn nothing_is_written_down_where_nothing_listens() {
    let service = Service::new();
    let store = service.store(Env::system()).await;
    let id = create(&store, [0; 32]).await;
    applied(&store, id, &put()).await;
    assert_eq!(service.sql("SELECT count(*) FROM {changes}"), "0");
    let listener = service.store(Env::system()).await;
    let mut changes = listening(&listener).await;
    applied(&store, id, &put()).await;
    assert!(matches!(heard(&mut changes).await, Change::Patched(..)));
    // The registration of a dropped listener stays valid for a while.
    drop((changes, listener));
    service.sql("UPDATE {listeners} SET until = clock_timestamp()");
    applied(&store, id, &put()).await;
    assert_eq!(service.sql("SELECT count(*) FROM {changes}"), "1");
    store.collect().await.unwrap();
    assert_eq!(service.sql("SELECT count(*) FROM {changes}"), "0");
}

#[tokio::test]
async fn a_late_commit_is_reported() {
    let service = Service::new();
    let store = service.store(Env::system()).await;
    let id = create(&store, [0; 32]).await;
    let mut changes = listening(&store).await;
    let sql = "SELECT {sessions}_tell('ended admin', ARRAY['ID'::uuid], NULL)";
    let open = service.hold(&sql.replace("ID", &id.to_string()));
    let after = create(&store, [0; 32]).await;
    store.delete(after, &Deletion::LOGOUT).await.unwrap();
    assert_eq!(heard(&mut changes).await, Change::Ended(after, EndReason::Logout));
    open.commit();
    assert_eq!(heard(&mut changes).await, Change::Ended(id, EndReason::Admin));
}

#[tokio::test]
async fn a_feed_waits_for_earlier_writers() {
    let service = Service::new();
    let store = service.store(Env::system()).await;
    let id = create(&store, [0; 32]).await;
    let writer = service.hold(&format!("UPDATE {{sessions}} SET version = 9 WHERE id = '{id}'"));
    let mut changes = store.changes().unwrap();
    assert_eq!(within(changes.next()).await, Some(Change::Down));
    eventually(async || service.sql("SELECT count(*) FROM {listeners}") == "1").await;
    let early = tokio::time::timeout(Duration::from_millis(300), changes.next()).await;
    assert!(early.is_err(), "the writer may have looked for listeners before");
    drop(writer);
    assert_eq!(within(changes.next()).await, Some(Change::Missed));
}

#[tokio::test]
async fn a_feed_that_is_cut_says_so() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    let listener = service.builder_at("app", proxy.address()).build().await.unwrap();
    let writer = service.store(Env::system()).await;
    let mut changes = listening(&listener).await;
    for _ in 0..3 {
        proxy.cut();
        assert_eq!(heard(&mut changes).await, Change::Down);
        assert_eq!(heard(&mut changes).await, Change::Missed);
        let id = create(&writer, [0; 32]).await;
        writer.delete(id, &Deletion::LOGOUT).await.unwrap();
        assert_eq!(heard(&mut changes).await, Change::Ended(id, EndReason::Logout));
    }
}

#[tokio::test]
async fn a_listener_whose_registration_lapsed_starts_again() {
    let service = Service::new();
    let store = service.store(Env::system()).await;
    let mut changes = listening(&store).await;
    service.sql("UPDATE {listeners} SET until = clock_timestamp()");
    assert_eq!(heard(&mut changes).await, Change::Down);
    assert_eq!(heard(&mut changes).await, Change::Missed);
    service.sql("DELETE FROM {listeners}");
    assert_eq!(heard(&mut changes).await, Change::Down);
    assert_eq!(heard(&mut changes).await, Change::Missed);
}

#[tokio::test]
async fn a_crash_of_the_server_is_a_gap() {
    let mut server = Postgres::start(&[]);
    let address = format!("postgres://postgres@{}/postgres", server.address());
    let builder = PostgresStore::builder(&address);
    builder.migrate().await.unwrap();
    let store = builder.build().await.unwrap();
    let mut changes = listening(&store).await;
    server.kill();
    server.restart();
    assert_eq!(heard(&mut changes).await, Change::Down);
    assert_eq!(heard(&mut changes).await, Change::Missed);
    let id = create(&store, [0; 32]).await;
    applied(&store, id, &put()).await;
    assert!(matches!(heard(&mut changes).await, Change::Patched(..)));
}

#[tokio::test]
async fn a_change_without_a_notification_is_reported() {
    let service = Service::new();
    let store = service.store(Env::system()).await;
    let mut changes = listening(&store).await;
    let id = create(&store, [0; 32]).await;
    // Like a node that dies before it notifies.
    let sql = "SELECT {sessions}_end('ID', 0, true, NULL, NULL, 'logout')";
    service.sql(&sql.replace("ID", &id.to_string()));
    assert_eq!(heard(&mut changes).await, Change::Ended(id, EndReason::Logout));
}

#[tokio::test]
async fn a_store_without_recording_has_no_feed() {
    let service = Service::new();
    let store = service.builder("app").tell_changes(false).build().await.unwrap();
    assert!(store.changes().is_none());
    let listener = service.store(Env::system()).await;
    let mut changes = listening(&listener).await;
    store.delete(create(&store, [0; 32]).await, &Deletion::LOGOUT).await.unwrap();
    let id = create(&listener, [0; 32]).await;
    listener.delete(id, &Deletion::LOGOUT).await.unwrap();
    assert_eq!(heard(&mut changes).await, Change::Ended(id, EndReason::Logout));
}

#[test]
fn a_stream_outlives_the_runtime_that_listened() {
    let service = Service::new();
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let first = runtime();
    let (store, mut changes) = first.block_on(async {
        let store = service.store(Env::system()).await;
        let changes = listening(&store).await;
        (store, changes)
    });
    drop(first);
    runtime().block_on(async {
        assert_eq!(heard(&mut changes).await, Change::Down);
        assert_eq!(heard(&mut changes).await, Change::Missed);
        let writer = service.store(Env::system()).await;
        let id = create(&writer, [0; 32]).await;
        writer.delete(id, &Deletion::LOGOUT).await.unwrap();
        assert_eq!(heard(&mut changes).await, Change::Ended(id, EndReason::Logout));
        drop(store);
        assert_eq!(within(changes.next()).await, None);
    });
}

#[test]
fn a_stream_ends_while_its_runtime_shuts_down() {
    let service = Service::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_store, mut changes) = runtime.block_on(async {
        let store = service.store(Env::system()).await;
        let changes = listening(&store).await;
        (store, changes)
    });
    let handle = runtime.handle().clone();
    drop(runtime);
    // In a thread: a stream that tries to listen again forever must not hang the test.
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _in_the_runtime = handle.enter();
        // A busy machine may have cut the feed before.
        let past = |change: &Option<Option<Change>>| matches!(change, Some(Some(_)));
        let last = (0..10).map(|_| changes.next().now_or_never()).find(|change| !past(change));
        let _ = told.send(last);
    });
    assert_eq!(heard.recv_timeout(Duration::from_secs(10)), Ok(Some(Some(None))));
}

/// Returns a feed that is up.
async fn listening(store: &PostgresStore) -> ChangeStream {
    let mut changes = store.changes().unwrap();
    assert_eq!(within(changes.next()).await, Some(Change::Down));
    assert_eq!(within(changes.next()).await, Some(Change::Missed));
    changes
}

async fn heard(changes: &mut ChangeStream) -> Change {
    within(changes.next()).await.unwrap()
}

async fn create(store: &PostgresStore, secret: [u8; 32]) -> RecordId {
    let id = store.mint().unwrap();
    store.create(id, visitor(store, secret), LoginPolicy::default()).await.unwrap();
    id
}

async fn applied(store: &PostgresStore, id: RecordId, patch: &Patch) -> steadfast_core::Version {
    match store.update(id, patch, &RequestHint::default()).await.unwrap() {
        Outcome::Applied(applied) => applied.version,
        other => panic!("{other:?}"),
    }
}

fn put() -> Patch {
    let mut put = Patch::new();
    put.put("n", 1.into()).unwrap();
    put
}

/// Returns a login with a cap of one session.
fn login(store: &PostgresStore, from: u8, to: u8, principal: &Principal) -> Patch {
    let Record { created, absolute_deadline, secret, .. } = visitor(store, [from; 32]);
    let authentication = Authentication {
        at: created,
        absolute_deadline,
        principal: Some(principal.clone()),
        facts: None,
        policy: LoginPolicy::capped(1),
    };
    let hash = visitor(store, [to; 32]).secret;
    let mut login = Patch::new();
    login.rotate(secret.into(), Rotation { hash, authentication: Some(authentication) });
    login
}
