//! Slots of a cluster that move between servers under load.

use steadfast_core::{Deletion, Operate, Outcome, SessionStore};
use testkit::redis::{Redis, RedisCluster, Reply};

use crate::fixture::{CLUSTER, Visitor, across, builder, principal};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_served_while_its_slot_moves() {
    follows_a_slot(&CLUSTER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_without_a_host_use_the_dialled_one() {
    let cluster = RedisCluster::start();
    for server in &cluster.servers {
        let endpoint = ["CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint"];
        assert!(server.ask(&endpoint).is("OK"));
    }
    follows_a_slot(&cluster).await;
}

#[tokio::test]
async fn a_cluster_of_one_server_works() {
    let node = Redis::configured("cluster-enabled yes\n");
    node.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let store = builder().cluster(vec![node.address().parse().unwrap()]).unwrap();
    let arrive = async || Visitor::new(&store).create(&store).await;
    crate::fixture::until_ok(arrive).await;
    let visitor = Visitor::arrive(&store).await.log_in(&store, "alice").await;
    assert!(visitor.is_live(&store).await);
    assert_eq!(store.list(&principal("alice")).await.unwrap().len(), 1);
}

async fn follows_a_slot(cluster: &RedisCluster) {
    let store = across(cluster, builder());
    let visitor = Visitor::arrive(&store).await;
    visitor.count(&store).await.unwrap();
    let id = visitor.id.as_uuid().simple().to_string();
    let (slot, from) = (slot(cluster, &id), cluster.server_of(&format!("{{{id}}}")));
    let to = (from + 1) % 3;
    begin(&cluster.servers[from], &cluster.servers[to], &slot);
    visitor.count(&store).await.unwrap();
    assert_eq!(visitor.counted(&store).await, 2, "it has not moved yet");

    let key = cluster.servers[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]).list();
    migrate(&cluster.servers[from], &cluster.servers[to], &key[0].text());
    visitor.count(&store).await.unwrap();
    assert_eq!(visitor.counted(&store).await, 3, "it is asked for where it went");
    let visitor = visitor.log_in(&store, "alice").await;
    assert!(visitor.is_live(&store).await, "a login finds it there");

    finish(cluster, &cluster.servers[to], &slot);
    visitor.count(&store).await.unwrap();
    assert_eq!(visitor.counted(&store).await, 4, "the slot has moved");
    assert_eq!(store.list(&principal("alice")).await.unwrap().len(), 1);
    assert_eq!(store.stats().await.unwrap().records, 1);
    assert!(store.delete(visitor.id, &Deletion::LOGOUT).await.unwrap().is_ended());
    assert!(matches!(visitor.count(&store).await, Ok(Outcome::Gone)));
}

fn slot(cluster: &RedisCluster, id: &str) -> String {
    cluster.servers[0].ask(&["CLUSTER", "KEYSLOT", id]).text()
}

fn begin(from: &Redis, to: &Redis, slot: &str) {
    let [from_id, to_id] = [from, to].map(|server| server.ask(&["CLUSTER", "MYID"]).text());
    assert!(to.ask(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &from_id]).is("OK"));
    assert!(from.ask(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &to_id]).is("OK"));
}

fn migrate(from: &Redis, to: &Redis, key: &str) {
    let address = to.address();
    let (host, port) = address.split_once(':').unwrap();
    let mut command = vec!["MIGRATE", host, port, key, "0", "1000", "AUTH2"];
    command.extend(Redis::ADMINISTRATOR);
    let moved: Reply = from.ask(&command);
    assert!(moved.is("OK"), "{moved:?}");
}

fn finish(cluster: &RedisCluster, to: &Redis, slot: &str) {
    let id = to.ask(&["CLUSTER", "MYID"]).text();
    assert!(to.ask(&["CLUSTER", "SETSLOT", slot, "NODE", &id]).is("OK"));
    for server in &cluster.servers[..3] {
        server.ask(&["CLUSTER", "SETSLOT", slot, "NODE", &id]);
    }
}
