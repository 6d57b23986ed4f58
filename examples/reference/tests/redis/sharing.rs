//! Three nodes, one store: nothing that overlaps gets lost.

use std::sync::Arc;

use testkit::redis::{Redis, RedisCluster};
use testkit::{Client, Server};

use crate::fixture::nodes;

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_requests_to_three_nodes_are_all_kept() {
    let redis = Redis::start();
    let nodes = nodes(&redis.url()).await;
    nothing_gets_lost(&nodes).await;
    a_session_is_one_on_every_node(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_in_a_cluster() {
    let cluster = RedisCluster::start();
    let nodes = nodes(&cluster.url()).await;
    nothing_gets_lost(&nodes).await;
    a_session_is_one_on_every_node(&nodes).await;
}

/// 64 overlapping inserts and 100 increments of one session.
async fn nothing_gets_lost(nodes: &Arc<[Server; 3]>) {
    let client = nodes[0].client();
    client.post("/cycle").await.ok();
    client.post("/incr").await.ok();
    let inserts = (0..62).map(|n| (format!("/put?k=k{n}"), n));
    let inserts = inserts.map(|(path, n)| sent(&nodes[n % 3], &client, path));
    let counts = (0..100).map(|n| sent(&nodes[n % 3], &client, "/incr?k=count".to_owned()));
    let sent: Vec<_> = inserts.chain(counts).collect();
    for reply in sent {
        reply.await.unwrap();
    }
    for n in 0..62 {
        let value = client.at(&nodes[(n + 1) % 3]).get(&format!("/get?k=k{n}")).await.ok().json();
        assert_eq!(value["value"], 1, "k{n}");
    }
    for node in nodes.iter() {
        let count = client.at(node).get("/get?k=count").await.ok().json();
        assert_eq!(count["value"], 100);
    }
}

fn sent(node: &Server, client: &Client, path: String) -> tokio::task::JoinHandle<()> {
    let client = client.at(node);
    tokio::spawn(async move {
        client.send("POST", &path, &[], "1").await.ok();
    })
}

async fn a_session_is_one_on_every_node(nodes: &Arc<[Server; 3]>) {
    let client = nodes[0].member("alice").await;
    let other = nodes[1].member("alice").await;
    let stolen = client.fork();
    for node in nodes.iter() {
        assert_eq!(client.at(node).user().await.as_deref(), Some("alice"));
    }
    client.at(&nodes[2]).post("/logout").await.ok();
    for node in nodes.iter() {
        assert_eq!(stolen.at(node).user().await, None, "lo_01");
        assert_eq!(other.at(node).user().await.as_deref(), Some("alice"));
    }
    let third = nodes[2].member("alice").await;
    other.at(&nodes[0]).post("/logout-all").await.ok();
    for node in nodes.iter() {
        assert_eq!(third.at(node).user().await, None, "lo_05");
    }
}
