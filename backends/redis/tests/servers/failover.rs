//! Primaries that die or hang, and are replaced.

use std::time::Duration;

use steadfast_core::{
    Deletion, LoginPolicy, Outcome, Realm, RequestHint, Revocation, SessionStore, StoreError,
};
use testkit::redis::{RedisCluster, RedisWithSentinels};
use testkit::within;

use crate::fixture::{Visitor, across, behind, builder, until_ok};

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_logout_survives_a_change_of_primary() {
    let mut servers = RedisWithSentinels::start();
    let store = behind(&servers, builder().wait(1, Duration::from_secs(2)));
    let [live, out] = [Visitor::arrive(&store).await, Visitor::arrive(&store).await];
    let rotated = Visitor::arrive(&store).await;
    let (patch, new) = rotated.login(&store, "alice", steadfast_core::LoginPolicy::default());
    servers.wait_for_replica();
    assert!(store.delete(out.id, &Deletion::LOGOUT).await.unwrap().is_ended());
    store.update(rotated.id, &patch, &steadfast_core::RequestHint::default()).await.unwrap();
    servers.servers[0].kill();
    let (_, took) = until_ok(async || live.load(&store).await).await;
    println!("the store was away for {took:?}");
    assert!(live.is_live(&store).await);
    assert!(!out.is_live(&store).await, "a logout that two servers have outlives one");
    assert!(new.is_live(&store).await && !rotated.is_live(&store).await, "so does a new secret");
    let alone = store.delete(live.id, &Deletion::LOGOUT).await;
    assert!(matches!(alone, Err(StoreError::WritesRefused(_))), "no replica is left: {alone:?}");
}

/// Shows ST-06.
#[tokio::test(flavor = "multi_thread")]
async fn without_wait_a_failover_may_undo_a_logout() {
    let mut servers = RedisWithSentinels::start();
    let store = behind(&servers, builder());
    let visitor = Visitor::arrive(&store).await;
    servers.wait_for_replica();
    within(until_replicated(&servers)).await;
    servers.servers[1].pause();
    // Data in transit to the replica is lost, too.
    servers.servers[0].ask(&["CLIENT", "KILL", "TYPE", "replica"]);
    assert!(
        store.delete(visitor.id, &Deletion::LOGOUT).await.unwrap().is_ended(),
        "the primary confirms it"
    );
    servers.servers[0].kill();
    servers.servers[1].resume();
    let (_, _) = until_ok(async || visitor.load(&store).await).await;
    assert!(visitor.is_live(&store).await, "and the one that replaced it never had it");
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_refuses_a_logout_without_a_replica() {
    let servers = RedisWithSentinels::start();
    let store = behind(&servers, builder().wait(1, Duration::from_millis(200)));
    let visitor = Visitor::arrive(&store).await;
    servers.servers[1].pause();
    let alone = store.delete(visitor.id, &Deletion::LOGOUT).await;
    assert!(matches!(alone, Err(StoreError::WritesRefused(_))), "{alone:?}");
    servers.servers[1].resume();
    let (was_live, _) = until_ok(async || store.delete(visitor.id, &Deletion::LOGOUT).await).await;
    assert!(!was_live.is_ended(), "it had been ended on the primary");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_also_confirms_a_repeated_call() {
    let servers = RedisWithSentinels::start();
    let store = behind(&servers, builder().wait(1, Duration::from_millis(50)));
    let [out, member] = [Visitor::arrive(&store).await, Visitor::arrive(&store).await];
    let alice = steadfast_core::Principal::new(Realm::default(), "alice").unwrap();
    let (login, _) = member.login(&store, "alice", LoginPolicy::default());
    let hint = RequestHint::default();
    servers.wait_for_replica();
    within(until_replicated(&servers)).await;
    servers.servers[1].pause();
    // More calls than connections: `WAIT` on one connection must not count another one's writes.
    for _ in 0..20 {
        let ended = store.delete(out.id, &Deletion::LOGOUT).await;
        assert!(matches!(ended, Err(StoreError::WritesRefused(_))), "{ended:?}");
        let signed_in = store.update(member.id, &login, &hint).await;
        assert!(matches!(signed_in, Err(StoreError::WritesRefused(_))), "{signed_in:?}");
        let closed = Revocation { epoch: Some(1), ..Revocation::LOGOUT };
        let closed = Revocation { except: Some(member.id), ..closed };
        let closed = store.delete_all(&alice, closed).await;
        assert!(matches!(closed, Err(StoreError::WritesRefused(_))), "{closed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_primary_is_abandoned_once_replaced() {
    let servers = RedisWithSentinels::start();
    let both = builder();
    let (idle, busy) = (behind(&servers, both.clone()), behind(&servers, both));
    let visitor = Visitor::arrive(&idle).await;
    within(until_replicated(&servers)).await;
    servers.servers[0].pause();
    servers.wait_for_primary(1);
    let ((), _) =
        until_ok(async || busy.delete(visitor.id, &Deletion::LOGOUT).await.map(drop)).await;
    servers.servers[0].resume();
    assert!(!visitor.is_live(&idle).await, "the old primary would say that it is live");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_sentinel_does_not_hide_the_primary() {
    let mut servers = RedisWithSentinels::start();
    let store = behind(&servers, builder());
    let visitor = Visitor::arrive(&store).await;
    within(until_replicated(&servers)).await;
    servers.pause_a_sentinel();
    servers.servers[0].kill();
    until_ok(async || in_time(visitor.load(&store)).await).await;
    assert!(visitor.is_live(&store).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_cluster_primary_is_abandoned_once_replaced() {
    let cluster = RedisCluster::start();
    let store = across(&cluster, builder());
    let mut visitors = Vec::new();
    for _ in 0..12 {
        visitors.push(Visitor::arrive(&store).await);
    }
    tokio::time::timeout(Duration::from_secs(5), cluster_in_step(&cluster)).await.unwrap();
    cluster.servers[0].pause();
    for visitor in &visitors {
        until_ok(async || in_time(visitor.load(&store)).await).await;
        assert!(visitor.is_live(&store).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_survives_the_loss_of_a_primary() {
    let mut cluster = RedisCluster::start();
    let store = across(&cluster, builder());
    let mut visitors = Vec::new();
    for _ in 0..24 {
        visitors.push(Visitor::arrive(&store).await);
    }
    for visitor in &visitors {
        until_ok(async || visitor.count(&store).await).await;
    }
    tokio::time::timeout(Duration::from_secs(5), cluster_in_step(&cluster)).await.unwrap();
    cluster.servers[0].kill();
    let mut served = 0;
    for visitor in &visitors {
        let loaded = tokio::time::timeout(Duration::from_secs(1), visitor.load(&store)).await;
        served += usize::from(matches!(loaded, Ok(Ok(_))));
    }
    assert!(served >= 8, "two thirds of the slots are elsewhere: {served}");
    for visitor in &visitors {
        until_ok(async || visitor.load(&store).await).await;
        assert_eq!(visitor.counted(&store).await, 1);
        let (outcome, _) = until_ok(async || visitor.write(&store, 5).await).await;
        assert!(matches!(outcome, Outcome::Applied(_)));
    }
}

/// Waits as long as the middleware does.
async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let answer = tokio::time::timeout(Duration::from_secs(1), call).await;
    answer.unwrap_or(Err(StoreError::Timeout))
}

async fn until_replicated(servers: &RedisWithSentinels) {
    let keys = |n: usize| servers.servers[n].ask(&["DBSIZE"]).number();
    testkit::eventually(async || keys(0) == keys(1) && keys(0) > 0).await;
}

async fn cluster_in_step(cluster: &RedisCluster) {
    let offset = |n: usize| {
        let info = cluster.servers[n].ask(&["INFO", "replication"]).text();
        let line = info.lines().find(|line| line.starts_with("master_repl_offset")).unwrap();
        line.to_owned()
    };
    testkit::eventually(async || (0..3).all(|n| offset(n) == offset(n + 3))).await;
}
