//! Streams on every node learn in time what a request to one of them did, over every store.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::time::Duration;

use futures_util::future::join_all;
use testkit::redis::Redis;
use testkit::{Cluster, Events, Postgres, Server, eventually};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn streams_over_memory_learn_in_time() {
    let server = Server::start(&[]).await;
    they_learn(&[&server]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_over_redis_learn_in_time() {
    let redis = Redis::start();
    let nodes = nodes(&redis.url()).await;
    they_learn(&nodes.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_over_postgres_learn_in_time() {
    let postgres = Postgres::start(&[]);
    let nodes = nodes(&format!("postgres://postgres@{}/postgres", postgres.address())).await;
    they_learn(&nodes.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_sticky_nodes_learn_in_time() {
    let redis = Redis::start();
    let nodes = nodes(&format!("sticky:?backup={}", redis.url())).await;
    they_learn(&nodes.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_nodes_that_replicate_learn_in_time() {
    for copies in ["copies=2", "copies=all"] {
        let cluster = Cluster::start(3, copies).await;
        they_learn(&[cluster.node(0), cluster.node(1), cluster.node(2)]).await;
    }
}

async fn nodes(store: &str) -> Vec<Server> {
    let node = |n| async move {
        let label = format!("n{n}");
        Server::start(&["--store", store, "--node", &label]).await
    };
    join_all([1, 2, 3].map(node)).await
}

/// A session with a stream on every node: all see each new value, and the end.
async fn they_learn(nodes: &[&Server]) {
    let client = nodes[0].member("alice").await;
    let open = nodes.iter().map(|node| Events::open(node, &client, "/live?watch=n"));
    let mut streams = join_all(open).await;
    for (events, node) in streams.iter_mut().zip(nodes) {
        assert_eq!(events.next().await.0, "open");
        hears(node).await;
    }
    for n in 1..=20 {
        client.at(nodes[n % nodes.len()]).post("/incr").await.ok();
        told(&mut streams, "value", &format!(r#"{{"value":{n}}}"#)).await;
    }
    client.at(nodes[nodes.len() - 1]).post("/logout").await.ok();
    told(&mut streams, "ended", r#"{"reason":"logout"}"#).await;
    for events in &mut streams {
        assert!(events.is_over().await);
    }
}

/// Waits until a node receives changes: until then, streams look at their sessions about once a second.
async fn hears(node: &Server) {
    let client = node.client();
    eventually(async || {
        let metrics = client.get("/metrics").await.ok().body;
        metrics.lines().any(|line| line == r#"steadfast_watch_feeds{state="up"} 1"#)
    })
    .await;
}

async fn told(streams: &mut [Events], name: &str, data: &str) {
    let events = join_all(streams.iter_mut().map(Events::next));
    let events = timeout(IN_TIME, events).await.expect("all streams learn it in time");
    for event in events {
        assert_eq!(event, (name.to_owned(), data.to_owned()));
    }
}

const IN_TIME: Duration = Duration::from_secs(2);
