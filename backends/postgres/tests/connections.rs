//! Connections: protected, few, with one round trip per statement, and never blocking a request.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::{Service, server, visitor};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, poll};
use steadfast_core::{
    Authentication, Deletion, LoginPolicy, Lookup, Operate, Outcome, Patch, Principal, Proof,
    RawJson, Realm, Record, RecordId, RequestHint, Revocation, Rotation, SessionStore, StoreError,
    Values,
};
use steadfast_postgres::{PostgresStore, PostgresStoreBuilder, SetupError, Tls};
use testkit::postgres::{Certificates, Postgres, Proxy};
use testkit::{eventually, within};

/// Shows ST-10.
#[tokio::test]
async fn a_server_that_cannot_be_verified_is_refused() {
    let certificates = Certificates::issue("localhost");
    let other = Certificates::issue("localhost");
    let settings = certificates.settings();
    let server = Postgres::start(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    let address = |host: &str| format!("postgres://postgres@{host}:{}/postgres", server.port());
    let builder = |host: &str| PostgresStore::builder(&address(host));
    let trusting = |host: &str| builder(host).root_certificate(certificates.root());

    trusting("localhost").tls(Tls::VerifyFull).migrate().await.unwrap();
    let store = trusting("localhost").tls(Tls::VerifyFull).build().await.unwrap();
    create(&store).await;
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name LIKE 'steadfast/%'";
    assert_eq!(server.sql("postgres", "postgres", encrypted), "t");

    builder("127.0.0.1").tls(Tls::Require).build().await.unwrap();
    trusting("127.0.0.1").tls(Tls::VerifyCa).build().await.unwrap();
    for refused in [
        trusting("127.0.0.1").tls(Tls::VerifyFull),
        builder("localhost").tls(Tls::VerifyFull),
        builder("localhost").tls(Tls::VerifyFull).root_certificate(other.root()),
        builder("localhost").tls(Tls::VerifyCa),
        builder("localhost").tls(Tls::VerifyCa).root_certificate(other.root()),
    ] {
        assert!(matches!(refused.build().await, Err(SetupError::Unreachable(_))));
    }
    let nowhere = builder("localhost").tls(Tls::VerifyFull).root_certificate("/nowhere");
    let error = nowhere.build().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot use the certificates of /nowhere");
}

/// Shows ST-10.
#[tokio::test]
async fn a_server_without_tls_gets_no_plaintext() {
    for tls in [Tls::Require, Tls::VerifyFull] {
        let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
        let builder = through(&service, &proxy).tls(tls);
        let error = builder.build().await.unwrap_err();
        let SetupError::Unreachable(why) = error else { panic!("{error}") };
        assert!(why.to_string().contains("does not support TLS"), "{why}");
        // Only the request for TLS was sent.
        assert_eq!(proxy.traffic().sent, 8);
    }
}

#[tokio::test]
async fn every_call_takes_one_round_trip() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    // From version 18 on, the server merges the statistics of a role's statements on tables with
    // the same name.
    let builder = service.builder_at(&service.role(""), proxy.address());
    let store = builder.connections(1).build().await.unwrap();
    // The first run of each statement prepares it, which takes another round trip.
    let calls = Calls::new(&store);
    for (_, call) in calls.each(&store) {
        call.await;
    }
    let calls = Calls::new(&store);
    for (name, call) in calls.each(&store) {
        let (traffic, statements) = (proxy.traffic(), service.statements());
        call.await;
        let after = proxy.traffic();
        let (sent, received) = (after.sent - traffic.sent, after.received - traffic.received);
        println!("{name}: {sent} bytes there, {received} back");
        assert_eq!(after.round_trips - traffic.round_trips, 1, "{name}");
        assert_eq!(service.statements() - statements, 1, "{name}");
        assert!(sent < 500 && received < 700, "{name}: {sent} and {received} bytes");
    }
    assert_eq!(proxy.traffic().connections, 1, "the one that checked the tables works on");
}

/// One call of each kind, on one small session.
struct Calls {
    id: RecordId,
    record: Record,
    patches: Vec<(&'static str, Patch)>,
    proof: Proof,
    who: Principal,
}

impl Calls {
    fn new(store: &PostgresStore) -> Self {
        let record = Record { values: small(), ..visitor(store, [0; 32]) };
        let who = Principal::new(Realm::default(), "alice").unwrap();
        let (mut put, mut add, mut login) = (Patch::new(), Patch::new(), Patch::new());
        put.put("n", 1.into()).unwrap();
        add.add("visits", 1).unwrap();
        let authentication = Authentication {
            at: record.created,
            absolute_deadline: record.absolute_deadline,
            principal: Some(who.clone()),
            facts: None,
            policy: LoginPolicy::default(),
        };
        let hash = visitor(store, [1; 32]).secret;
        let rotation = Rotation { hash, authentication: Some(authentication) };
        login.rotate(record.secret.into(), rotation);
        let touch = Patch::touch(record.idle_deadline + Duration::from_secs(90));
        Self {
            id: store.mint().unwrap(),
            proof: record.secret.into(),
            patches: vec![("put", put), ("add", add), ("touch", touch), ("login", login)],
            record,
            who,
        }
    }

    fn each<'c>(&'c self, store: &'c PostgresStore) -> Vec<(&'static str, BoxFuture<'c, ()>)> {
        let create = store.create(self.id, self.record.clone(), LoginPolicy::default());
        let mut calls = vec![
            ("create", create.map(done).boxed()),
            ("load", store.load(self.id, Some(&self.proof), &HINT).map(done).boxed()),
        ];
        for (name, patch) in &self.patches {
            calls.push((name, store.update(self.id, patch, &HINT).map(done).boxed()));
        }
        calls.push(("list", store.list(&self.who).map(done).boxed()));
        calls.push(("delete", store.delete(self.id, &Deletion::LOGOUT).map(done).boxed()));
        calls.push((
            "delete_all",
            store.delete_all(&self.who, Revocation::LOGOUT).map(done).boxed(),
        ));
        calls
    }
}

fn done<T>(answer: Result<T, StoreError>) {
    answer.unwrap();
}

static HINT: RequestHint = RequestHint { routes: Vec::new(), min_version: None };

fn small() -> Values {
    [("cart", br#"["green tea","oolong"]"#.as_slice()), ("theme", b"\"dark\""), ("visits", b"41")]
        .into_iter()
        .collect()
}

#[tokio::test]
async fn a_dropped_call_keeps_its_connection() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    let store = through(&service, &proxy).connections(2).build().await.unwrap();
    let id = create(&store).await;
    for polls in 0..40 {
        let mut load = store.load(id, None, &HINT);
        for _ in 0..polls {
            if poll!(&mut load).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(load);
        assert!(matches!(store.load(id, None, &HINT).await, Ok(Lookup::Found(_))));
    }
    assert!(proxy.traffic().connections <= 3, "{:?}", proxy.traffic());
}

/// Shows ST-09.
#[tokio::test]
async fn only_the_first_calls_wait_for_hung_servers() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    let timeout = Duration::from_millis(200);
    let builder = through(&service, &proxy).connections(4).timeout(timeout);
    let store = builder.build().await.unwrap();
    let id = create(&store).await;
    let connections = proxy.traffic().connections;
    proxy.stop();
    let start = Instant::now();
    let calls = (0..200).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.load(id, None, &HINT).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(matches!(call.await.unwrap(), Err(StoreError::Timeout)));
    }
    assert!(start.elapsed() < 10 * timeout, "{:?}", start.elapsed());
    assert!(store.ready().await.is_err());
    let made = proxy.traffic().connections - connections;
    assert!(made <= 8, "a storm of {made} connections");
    proxy.go_on();
    within(eventually(async || store.load(id, None, &HINT).await.is_ok())).await;
}

#[tokio::test]
async fn calls_fail_fast_without_a_server() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    let store = through(&service, &proxy).build().await.unwrap();
    let id = create(&store).await;
    drop(proxy);
    let start = Instant::now();
    let mut refused = 0;
    while start.elapsed() < Duration::from_millis(350) {
        assert!(matches!(store.load(id, None, &HINT).await, Err(StoreError::Unavailable(_))));
        refused += 1;
        tokio::task::yield_now().await;
    }
    assert!(refused > 20, "whoever comes in between is told at once: {refused}");
}

#[tokio::test]
async fn an_unsafe_statement_is_not_repeated() {
    let (service, proxy) = (Service::new(), Proxy::start(&server().address()).await);
    let store = through(&service, &proxy).connections(1).build().await.unwrap();
    let id = create(&store).await;
    let (mut add, mut expecting, mut fenced) = (Patch::new(), Patch::new(), Patch::new());
    add.add("n", 1).unwrap();
    expecting.put("a", 1.into()).unwrap();
    expecting.expect("b", None).unwrap();
    fenced.fence(0);
    for patch in [add, expecting, fenced] {
        proxy.cut();
        let answer = store.update(id, &patch, &HINT).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
        assert!(matches!(store.update(id, &patch, &HINT).await, Ok(Outcome::Applied(_))));
    }
}

#[tokio::test]
async fn a_locked_row_costs_a_call_its_timeout() {
    let service = Service::new();
    let builder = service.builder("app").timeout(Duration::from_millis(300));
    let store = builder.build().await.unwrap();
    let id = create(&store).await;
    let lock = service.hold(&format!("SELECT FROM {{sessions}} WHERE id = '{id}' FOR UPDATE"));
    let mut put = Patch::new();
    put.put("n", RawJson::from(1)).unwrap();
    assert!(matches!(store.update(id, &put, &HINT).await, Err(StoreError::Timeout)));
    assert!(matches!(store.load(id, None, &HINT).await, Ok(Lookup::Found(_))));
    drop(lock);
    assert!(matches!(store.update(id, &put, &HINT).await, Ok(Outcome::Applied(_))));
}

#[tokio::test]
async fn the_writable_host_of_several_is_used() {
    let mut primary = Postgres::start(&[]);
    let standby = primary.standby();
    let hosts = format!("{},{}", standby.address(), primary.address());
    let builder = PostgresStore::builder(&format!("postgres://postgres@{hosts}/postgres"));
    builder.migrate().await.unwrap();
    let store = builder.build().await.unwrap();
    let id = create(&store).await;
    assert!(matches!(store.load(id, None, &HINT).await, Ok(Lookup::Found(_))));
    primary.wait_until_followed();

    primary.kill();
    standby.promote();
    within(eventually(async || store.load(id, None, &HINT).await.is_ok())).await;
    let mut put = Patch::new();
    put.put("n", 1.into()).unwrap();
    assert!(matches!(store.update(id, &put, &HINT).await, Ok(Outcome::Applied(_))));
    // The old primary comes back as a primary, but no client returns to it.
    primary.restart();
    assert!(matches!(store.update(id, &put, &HINT).await, Ok(Outcome::Applied(_))));
    let version = "SELECT version FROM steadfast.sessions";
    assert_eq!(standby.sql("postgres", "postgres", version), "3");
}

#[tokio::test]
async fn a_silent_host_delays_no_caller() {
    let (service, hung) = (Service::new(), Proxy::start(&server().address()).await);
    let hosts = format!("{},{}", hung.address(), server().address());
    let store = service.builder_at("app", &hosts).connections(2).build().await.unwrap();
    let id = create(&store).await;
    hung.stop();
    // Statements in progress run into their timeout, then the next host is found.
    let builder = service.builder_at("app", &hosts).timeout(Duration::from_secs(1));
    within(builder.build()).await.unwrap();
    within(eventually(async || {
        let load = tokio::time::timeout(Duration::from_secs(1), store.load(id, None, &HINT)).await;
        matches!(load, Ok(Ok(Lookup::Found(_))))
    }))
    .await;
    assert!(hung.traffic().connections <= 6, "{:?}", hung.traffic());
}

#[tokio::test]
async fn a_standby_alone_is_no_database() {
    let primary = Postgres::start(&[]);
    let standby = primary.standby();
    let address = format!("postgres://postgres@{}/postgres", standby.address());
    let error = PostgresStore::builder(&address).build().await.unwrap_err();
    let SetupError::Unreachable(why) = error else { panic!("{error}") };
    let said = format!("no primary among {} (the server is a standby)", standby.address());
    assert_eq!(why.to_string(), said);
}

async fn create(store: &PostgresStore) -> RecordId {
    let id = store.mint().unwrap();
    store.create(id, visitor(store, [0; 32]), LoginPolicy::default()).await.unwrap();
    id
}

fn through(service: &Service, proxy: &Proxy) -> PostgresStoreBuilder {
    service.builder_at("app", proxy.address())
}
