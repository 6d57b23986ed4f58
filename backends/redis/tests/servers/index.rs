//! The index of principals only keeps the entries it needs.

use steadfast_core::{Deletion, LoginPolicy, Operate, RequestHint, Revocation, SessionStore};
use testkit::redis::Redis;

use crate::fixture::{CLUSTER, Visitor, across, builder, clock, on, principal, store};

#[tokio::test]
async fn every_key_has_a_time_to_live() {
    let server = Redis::start();
    let store = store(&server);
    for n in 0..4 {
        let visitor = Visitor::arrive(&store).await.log_in(&store, &format!("user{n}")).await;
        visitor.count(&store).await.unwrap();
        store
            .delete_all(&principal("nobody"), Revocation { epoch: Some(n), ..Revocation::LOGOUT })
            .await
            .unwrap();
    }
    for key in server.ask(&["KEYS", "*"]).list() {
        let left = server.ask(&["PTTL", &key.text()]).number();
        assert!(left > 60_000, "{key:?}: {left}");
    }
}

#[tokio::test]
async fn ended_sessions_leave_no_entries() {
    let server = Redis::start();
    let (clock, env) = clock();
    let store = on(&server, builder().env(env));
    let deleted = Visitor::arrive(&store).await.log_in(&store, "alice").await;
    store.delete(deleted.id, &Deletion::LOGOUT).await.unwrap().is_ended();
    let moved = Visitor::arrive(&store).await.log_in(&store, "alice").await;
    moved.log_in(&store, "bob").await;
    store.delete_all(&principal("bob"), Revocation::LOGOUT).await.unwrap();
    Visitor::arrive(&store).await.log_in(&store, "alice").await;
    clock.advance(std::time::Duration::from_secs(1_800));
    assert_eq!(store.collect().await.unwrap(), 1);
    assert_eq!(server.ask(&["KEYS", "*"]).list(), []);
}

#[tokio::test]
async fn reading_a_list_prunes_it() {
    let server = Redis::start();
    let (clock, env) = clock();
    let store = on(&server, builder().env(env));
    for _ in 0..20 {
        Visitor::arrive(&store).await.log_in(&store, "alice").await;
    }
    clock.advance(std::time::Duration::from_secs(1_800));
    let live = Visitor::arrive(&store).await.log_in(&store, "alice").await;
    let listed = store.list(&principal("alice")).await.unwrap();
    assert_eq!(listed.iter().map(|info| info.id).collect::<Vec<_>>(), [live.id]);
    assert_eq!(entries(&server), 1);
}

/// Shows DS-13.
#[tokio::test]
async fn logins_alone_keep_an_index_small() {
    let server = Redis::start();
    let (clock, env) = clock();
    let store = on(&server, builder().env(env));
    for _ in 0..300 {
        Visitor::arrive(&store).await.log_in(&store, "alice").await;
        clock.advance(std::time::Duration::from_secs(600));
    }
    // Three sessions are live at a time.
    assert!(entries(&server) < 16, "{}", entries(&server));
}

#[tokio::test]
async fn logins_keep_a_cluster_index_small() {
    let (clock, env) = clock();
    let store = across(&CLUSTER, builder().env(env));
    for _ in 0..100 {
        Visitor::arrive(&store).await.log_in(&store, "carol").await;
        clock.advance(std::time::Duration::from_secs(3_600));
    }
    // An expired session stays listed until its absolute deadline: eight of them.
    let index = keys("*:p:{session:carol}");
    let server = &CLUSTER.servers[CLUSTER.server_of(&index[0])];
    let entries = listed(server, &index[0]);
    assert!(entries < 32, "{entries}");
}

#[tokio::test]
async fn a_cluster_index_drops_logouts_and_refused_logins() {
    let store = across(&CLUSTER, builder());
    let visitor = Visitor::arrive(&store).await.log_in(&store, "dave").await;
    let stranger = Visitor::new(&store);
    let (wrong, _) = stranger.login(&store, "dave", LoginPolicy::default());
    store.update(visitor.id, &wrong, &RequestHint::default()).await.unwrap();
    assert!(visitor.is_live(&store).await, "a wrong proof ends nothing");
    let key = "*:p:{session:dave}";
    assert_eq!(keys(key).len(), 1);
    store.delete(visitor.id, &Deletion::LOGOUT).await.unwrap().is_ended();
    assert_eq!(keys(key), Vec::<String>::new());
}

fn keys(pattern: &str) -> Vec<String> {
    let all = CLUSTER.servers[..3].iter().flat_map(|server| server.ask(&["KEYS", pattern]).list());
    all.map(|key| key.text()).collect()
}

/// Returns the number of sessions in all indexes of a server.
fn entries(server: &Redis) -> i64 {
    let keys = server.ask(&["KEYS", "*:p:*"]).list();
    keys.iter().map(|key| listed(server, &key.text())).sum()
}

fn listed(server: &Redis, index: &str) -> i64 {
    server.ask(&["ZCOUNT", index, "-inf", "5e14"]).number()
}
