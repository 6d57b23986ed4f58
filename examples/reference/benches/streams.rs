//! Measures how soon streams close on one node after a logout on another, over every store:
//! `cargo bench -p reference --bench streams`.
//!
//! A thousand sessions have a stream each. They sign out one after the other, each on another node than
//! the one with its stream. The time runs from the moment at which the logout is sent until the stream has
//! the event of the end. Prints a table for Markdown.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use testkit::redis::Redis;
use testkit::{Client, Cluster, Events, Postgres, Server, eventually};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() {
    println!("| store | streams | median | p99 | slowest |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let redis = Redis::start();
    let of_redis = nodes(&redis.url()).await;
    report("Redis", &of_redis.iter().collect::<Vec<_>>()).await;
    drop(of_redis);
    let of_sticky = nodes(&format!("sticky:?backup={}", redis.url())).await;
    report("sticky, with a backup in Redis", &of_sticky.iter().collect::<Vec<_>>()).await;
    drop(of_sticky);
    let postgres = Postgres::start(&[]);
    let of_postgres = nodes(&format!("postgres://postgres@{}/postgres", postgres.address())).await;
    report("PostgreSQL", &of_postgres.iter().collect::<Vec<_>>()).await;
    drop(of_postgres);
    for (name, copies) in
        [("replicated, one backup", "copies=1"), ("replicated, to all", "copies=all")]
    {
        let cluster = Cluster::start(3, copies).await;
        report(name, &[cluster.node(0), cluster.node(1), cluster.node(2)]).await;
    }
    let alone = Server::start(&[]).await;
    report("memory, on one node", &[&alone]).await;
}

async fn nodes(store: &str) -> Vec<Server> {
    let node = |n| async move {
        let label = format!("n{n}");
        Server::start(&["--store", store, "--node", &label]).await
    };
    join_all([1, 2, 3].map(node)).await
}

async fn report(store: &str, nodes: &[&Server]) {
    let mut times = measure(nodes).await;
    times.sort();
    let of = |share: usize| times[(times.len() * share / 1_000).min(times.len() - 1)];
    let shown =
        [of(500), of(990), of(999)].map(|time| format!("{:.1} ms", 1e3 * time.as_secs_f64()));
    println!("| {store} | {} | {} |", times.len(), shown.join(" | "));
    assert!(of(990) < GOAL, "99 % of the streams close within {GOAL:?}");
}

/// Returns the time that each stream took to learn of its end.
async fn measure(nodes: &[&Server]) -> Vec<Duration> {
    let opened = stream::iter((0..STREAMS).map(|n| open(nodes, n)));
    let opened: Vec<_> = opened.buffered(32).collect().await;
    for node in nodes {
        hears(node).await;
    }
    let mut streams = JoinSet::new();
    let mut clients = Vec::new();
    for (n, (client, mut events)) in opened.into_iter().enumerate() {
        clients.push(client);
        streams.spawn(async move {
            loop {
                if events.next().await.0 == "ended" {
                    return (n, Instant::now());
                }
            }
        });
    }
    let mut sent = Vec::new();
    for (n, client) in clients.iter().enumerate() {
        sent.push(Instant::now());
        client.at(nodes[(n + 1) % nodes.len()]).post("/logout").await.ok();
    }
    let ended = streams.join_all().await;
    ended.into_iter().map(|(n, at)| at.duration_since(sent[n])).collect()
}

/// Signs a user in, and opens a stream on the same node.
async fn open(nodes: &[&Server], n: usize) -> (Client, Events) {
    let node = nodes[n % nodes.len()];
    let client = node.member(&format!("user-{n}")).await;
    let mut events = Events::open(node, &client, "/live").await;
    assert_eq!(events.next().await.0, "open");
    (client, events)
}

/// Waits until a node is told of changes.
async fn hears(node: &Server) {
    let client = node.client();
    eventually(async || {
        let metrics = client.get("/metrics").await.ok().body;
        metrics.lines().any(|line| line == r#"steadfast_watch_feeds{state="up"} 1"#)
    })
    .await;
}

const STREAMS: usize = 1_000;
const GOAL: Duration = Duration::from_millis(250);
