//! Sessions that end without a request are reported by one of three nodes, while another one is down.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::Value;
use testkit::redis::Redis;
use testkit::{Cluster, Postgres, Server};

#[tokio::test(flavor = "multi_thread")]
async fn endings_over_redis_are_reported() {
    let redis = Redis::start();
    let mut nodes = nodes(&redis.url()).await;
    let expected = create(&nodes.iter().collect::<Vec<_>>()).await;
    nodes.truncate(2);
    all_are_reported(&nodes.iter().collect::<Vec<_>>(), expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endings_over_postgres_are_reported() {
    let postgres = Postgres::start(&[]);
    let mut nodes = nodes(&format!("postgres://postgres@{}/postgres", postgres.address())).await;
    let expected = create(&nodes.iter().collect::<Vec<_>>()).await;
    nodes.truncate(2);
    all_are_reported(&nodes.iter().collect::<Vec<_>>(), expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endings_of_sticky_nodes_are_reported() {
    let redis = Redis::start();
    let mut nodes = nodes(&format!("sticky:?backup={}", redis.url())).await;
    let expected = create(&nodes.iter().collect::<Vec<_>>()).await;
    nodes.truncate(2);
    all_are_reported(&nodes.iter().collect::<Vec<_>>(), expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endings_of_nodes_that_replicate_are_reported() {
    let mut cluster = Cluster::start_with(3, "copies=1", &OPTIONS).await;
    let expected = create(&[cluster.node(0), cluster.node(1), cluster.node(2)]).await;
    cluster.kill(2).await;
    all_are_reported(&[cluster.node(0), cluster.node(1)], expected).await;
}

async fn nodes(store: &str) -> Vec<Server> {
    let node = |n| async move {
        let label = format!("n{n}");
        let mut options = vec!["--store", store, "--node", &label];
        options.extend(OPTIONS);
        Server::start(&options).await
    };
    join_all([1, 2, 3].map(node)).await
}

/// Begins sessions of visitors on all nodes. Returns the ids of their endings.
async fn create(nodes: &[&Server]) -> BTreeSet<String> {
    let visits = (0..SESSIONS).map(|n| async move {
        nodes[n % nodes.len()].client().post("/incr").await.ok();
    });
    stream::iter(visits).buffer_unordered(16).collect::<()>().await;
    let mut ids = BTreeSet::new();
    for node in nodes {
        let reports = node.told("/reports").await;
        let created = reports["reports"].as_array().unwrap().iter();
        let created = created.filter(|report| report["event"] == "created");
        ids.extend(created.map(|report| format!("{}.ended", report["session"].as_str().unwrap())));
    }
    assert_eq!(ids.len(), SESSIONS);
    ids
}

/// Lets all sessions expire, and waits until each is reported.
async fn all_are_reported(nodes: &[&Server], expected: BTreeSet<String>) {
    let start = Instant::now();
    let mut advance = 20 * 60;
    loop {
        for node in nodes {
            node.order(&format!("/clock/advance?s={advance}")).await;
        }
        for node in nodes {
            node.order("/gc").await;
        }
        // Enough for a claim of the node that is gone to lapse after a while.
        advance = 5;
        let mut reported = BTreeSet::new();
        for node in nodes {
            let reports = node.told("/reports").await;
            reported.extend(reports["reports"].as_array().unwrap().iter().filter_map(ended));
        }
        assert!(reported.is_subset(&expected), "nothing else ended");
        if reported == expected {
            return;
        }
        let missing = expected.len() - reported.len();
        assert!(start.elapsed() < PATIENCE, "{missing} endings are not reported");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The id of a report of a session that expired.
fn ended(report: &Value) -> Option<String> {
    let is_end = report["event"] == "ended";
    is_end.then(|| {
        assert_eq!((&report["reason"], &report["by"]), (&"expired".into(), &"system".into()));
        report["id"].as_str().unwrap().to_owned()
    })
}

const SESSIONS: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(120);
const OPTIONS: [&str; 4] = ["--idle", "60", "--report-events", "5000"];
