//! Nodes at work, none of which fails.

use std::sync::Arc;
use std::time::Duration;

use testkit::{Balancer, Client, Cluster, Load, Policy, Server};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_write_is_read_on_the_next_node() {
    let cluster = Cluster::start(3, "copies=1").await;
    let balancer = Balancer::new(cluster.addresses());
    let mut clients = JoinSet::new();
    for n in 0..20 {
        clients.spawn(stale_reads(balancer.clone(), cluster.client(), n));
    }
    let stale: Vec<_> = clients.join_all().await.concat();
    eprintln!("10000 writes, each read on another node: {} stale or missing", stale.len());
    assert_eq!(stale, [""; 0]);
    cluster.at_rest(2).await;
}

/// Writes 500 numbers, each on one node after the other, and reads each on the next.
async fn stale_reads(balancer: Balancer, client: Client, first: usize) -> Vec<String> {
    let mut stale = Vec::new();
    for n in first..first + 500 {
        let sent = balancer.send(Policy::At(n % 3), &client, "POST", "/put", &n.to_string()).await;
        sent.answer.unwrap().ok();
        let sent = balancer.send(Policy::At((n + 1) % 3), &client, "GET", "/peek", "").await;
        let told = sent.answer.unwrap().ok().json();
        if told["n"] != n {
            stale.push(format!("{n}: {told}"));
        }
    }
    stale
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_requests_to_three_nodes_are_all_kept() {
    for settings in ["copies=1", "copies=all"] {
        let cluster = Arc::new(Cluster::start(3, settings).await);
        let (counting, inserting) = (cluster.client(), cluster.client());
        for client in [&counting, &inserting] {
            client.post("/login?u=alice").await.ok();
        }
        let counts = (0..64).map(|n| (n, counting.clone(), "/incr".to_owned()));
        let inserts = (0..64).map(|n| (n, inserting.clone(), format!("/put?k=k{n}")));
        let mut sent = JoinSet::new();
        for (n, client, path) in counts.chain(inserts) {
            let client = client.at(cluster.node(n % 3));
            sent.spawn(async move { client.send("POST", &path, &[], "1").await.ok() });
        }
        sent.join_all().await;
        for node in 0..3 {
            assert_eq!(counting.at(cluster.node(node)).peek().await["n"], 64);
            let inserting = inserting.at(cluster.node(node));
            for n in 0..64 {
                let value = inserting.get(&format!("/get?k=k{n}")).await.ok().json();
                assert_eq!(value["value"], 1, "k{n} at {node}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_copies_agree_after_a_load() {
    let cluster = Cluster::start(3, "copies=1").await;
    let balancer = Balancer::new(cluster.addresses());
    let load = Load::start(&balancer, Policy::RoundRobin, 24, Duration::from_millis(50)).await;
    load.rounds(20).await;
    let verdict = load.finish().await.judge(&cluster.running()).await;
    eprintln!("without a fault: {}", verdict.figures());
    verdict.assert_nothing_lost();
    cluster.at_rest(2).await;
}

/// The owner of one record may be away, and the owner of the next may not.
#[tokio::test]
async fn failing_calls_do_not_block_other_calls() {
    let cluster = Cluster::start(1, "copies=1").await;
    let node = cluster.node(0);
    let alice = node.member("alice").await;
    node.order("/fault?op=all&mode=down").await;
    for _ in 0..20 {
        assert_eq!(alice.get("/peek").await.status, 503);
    }
    node.order("/fault?op=all&mode=none").await;
    assert_eq!(alice.user().await.as_deref(), Some("alice"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_share_nothing_are_found_out() {
    let nodes = [Server::start(&["--node", "n1"]).await, Server::start(&["--node", "n2"]).await];
    let addresses = nodes.each_ref().map(|node| ("n".to_owned(), node.address.clone()));
    let balancer = Balancer::new(addresses);
    let load = Load::start(&balancer, Policy::RoundRobin, 4, Duration::from_millis(5)).await;
    let verdict = load.finish().await.judge(&[0, 1]).await;
    assert_eq!(verdict.lost_sessions, 4);
}
