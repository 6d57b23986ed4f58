//! Server errors: privileges, memory, and calls that cannot be served.

use std::time::Duration;

use steadfast_core::{
    Deletion, Lookup, Outcome, Patch, RequestHint, Revocation, SessionStore, StoreError,
};
use steadfast_redis::RedisStore;
use testkit::redis::{PASSWORD, Redis, USER};

use crate::fixture::{Visitor, builder, on, principal, store, until_ok};

#[tokio::test]
async fn a_full_server_only_refuses_memory_growth() {
    let server = Redis::start();
    let store = store(&server);
    let member = Visitor::arrive(&store).await.log_in(&store, "alice").await;
    let other = Visitor::arrive(&store).await.log_in(&store, "alice").await;
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    // A restarted server has forgotten the scripts.
    server.ask(&["SCRIPT", "FLUSH"]);
    takes_no_writes(Visitor::new(&store).create(&store).await);
    takes_no_writes(member.count(&store).await);
    let (login, _) = member.login(&store, "bob", Default::default());
    takes_no_writes(store.update(member.id, &login, &RequestHint::default()).await);
    assert!(member.is_live(&store).await);
    assert_eq!(store.list(&principal("alice")).await.unwrap().len(), 2);
    assert!(store.delete(member.id, &Deletion::LOGOUT).await.unwrap().is_ended());
    let revocation = Revocation { epoch: Some(1), ..Revocation::LOGOUT };
    assert_eq!(store.delete_all(&principal("alice"), revocation).await.unwrap(), 1);
    assert!(!other.is_live(&store).await);
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    Visitor::arrive(&store).await;
}

#[tokio::test]
async fn a_server_without_replicas_or_disk_serves_reads() {
    let server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    server.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    takes_no_writes(visitor.count(&store).await);
    assert!(visitor.is_live(&store).await);
    server.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    visitor.count(&store).await.unwrap();

    server.lose_disk();
    takes_no_writes(visitor.count(&store).await);
    assert!(visitor.is_live(&store).await);
    // Also on a new connection.
    server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert!(visitor.is_live(&store).await);
    takes_no_writes(visitor.count(&store).await);
}

#[tokio::test]
async fn a_replica_never_accepts_writes() {
    let mut primary = Redis::start();
    let replica = Redis::configured(&format!("replicaof {}", primary.address().replace(':', " ")));
    let both = builder();
    let visitor = Visitor::arrive(&on(&primary, both.clone())).await;
    let store = on(&replica, both);
    until_ok(async || found(visitor.load(&store).await)).await;
    takes_no_writes(visitor.count(&store).await);
    replica.ask(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    primary.kill();
    until_ok(async || unavailable(visitor.load(&store).await)).await;
}

#[tokio::test]
async fn a_server_with_an_endless_script_is_unavailable() {
    let server = Redis::configured("busy-reply-threshold 1");
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    let endless = server.ask_without_waiting(&["EVAL", "while true do end", "0"]);
    until_ok(async || unavailable(visitor.load(&store).await)).await;
    unavailable(visitor.count(&store).await).unwrap();
    assert!(server.ask(&["SCRIPT", "KILL"]).is("OK"));
    drop(endless);
    until_ok(async || visitor.count(&store).await).await;
}

#[tokio::test]
async fn a_server_with_too_many_clients_is_unavailable() {
    let server = Redis::start();
    server.ask(&["CONFIG", "SET", "maxclients", "1"]);
    let _only = server.monitor();
    unavailable(Visitor::new(&store(&server)).create(&store(&server)).await).unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let server = Redis::start();
    let builder = RedisStore::builder;
    for builder in [
        builder().user(USER, "wrong"),
        builder().user("stranger", PASSWORD),
        builder().password(PASSWORD),
        builder(),
        builder().user(USER, PASSWORD).database(99),
    ] {
        let store = on(&server, builder);
        refused(Visitor::new(&store).create(&store).await);
    }
}

#[tokio::test]
async fn a_missing_privilege_is_refused() {
    let server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    for rule in ["-evalsha", "-hset", "resetkeys"] {
        server.ask(&["ACL", "SETUSER", USER, rule]);
        refused(visitor.write(&store, 1).await);
    }
    refused(visitor.load(&store).await);
    let elsewhere = builder().prefix("other".parse().unwrap());
    refused(Visitor::new(&store).create(&on(&server, elsewhere)).await);
}

#[tokio::test]
async fn a_cluster_node_is_not_a_single_server() {
    let cluster = &*crate::fixture::CLUSTER;
    let store = store(&cluster.servers[0]);
    let refusals = (0..32).map(|_| async {
        matches!(Visitor::new(&store).create(&store).await, Err(StoreError::Refused(_)))
    });
    assert!(
        futures_util::future::join_all(refusals).await.contains(&true),
        "most slots are elsewhere"
    );
}

#[tokio::test]
async fn a_lost_slot_of_a_cluster_is_unavailable() {
    let node = Redis::configured("cluster-enabled yes\n");
    node.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
    let store = builder().cluster(vec![node.address().parse().unwrap()]).unwrap();
    let visitor = Visitor::new(&store);
    let answer = tokio::time::timeout(Duration::from_secs(2), visitor.create(&store)).await;
    unavailable(answer.expect("it is answered soon")).unwrap();
}

#[tokio::test]
async fn a_key_of_another_type_is_corrupt() {
    let server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    let key = server.ask(&["KEYS", "*:r:*"]).list()[0].text();
    server.ask(&["SET", &key, "junk"]);
    assert!(matches!(visitor.load(&store).await, Ok(Lookup::Absent(_))));
    let corrupt = store.update(visitor.id, &Patch::new(), &RequestHint::default()).await;
    assert!(matches!(corrupt, Err(StoreError::Corrupt(_))), "{corrupt:?}");
    store.delete(visitor.id, &Deletion::LOGOUT).await.unwrap();
    assert!(matches!(visitor.count(&store).await, Ok(Outcome::Gone)));
}

#[track_caller]
fn takes_no_writes<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
    let error = answer.expect_err("it is refused");
    assert!(matches!(error, StoreError::WritesRefused(_)), "{error:?}");
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
    let error = answer.expect_err("it is refused");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
}

fn unavailable<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> Result<(), String> {
    match answer {
        Err(StoreError::Unavailable(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn found(answer: Result<Lookup, StoreError>) -> Result<(), String> {
    match answer {
        Ok(Lookup::Found(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
