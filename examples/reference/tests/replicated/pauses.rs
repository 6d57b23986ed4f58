//! Nodes that stand still for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use testkit::{Balancer, Cluster, Load, Policy, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_node_catches_up() {
    let cluster = Cluster::start(3, "copies=1").await;
    let balancer = Balancer::new(cluster.addresses());
    let load = Load::start(&balancer, Policy::RoundRobin, 100, THINKS).await;
    load.rounds(2).await;
    pause(&cluster, &balancer, 1, Duration::from_secs(10)).await;
    let resumed = Instant::now();
    load.rounds(2).await;
    let witnesses = load.finish().await;
    let routes = witnesses.routes().await;
    eventually(async || are_holders_the_same(&cluster, &routes).await).await;
    let took = resumed.elapsed();
    // A node keeps the other records of the time in which it replaced the other node, for a grace period.
    cluster.at_rest(2).await;
    let rested = resumed.elapsed();
    let verdict = witnesses.judge(&cluster.running()).await;
    let figures = verdict.figures();
    eprintln!(
        "stopped for 10 s: holders agreed after {took:?}, and were at rest after {rested:?}: {figures}"
    );
    verdict.assert_nothing_lost();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(verdict.unanswered, 0);
    // The store's timeout is 1 s. The rest is a margin for a busy machine.
    assert!(verdict.slowest < Duration::from_millis(1_500), "{:?}", verdict.slowest);
    assert!(verdict.slowest_login < Duration::from_millis(6_500), "{:?}", verdict.slowest_login);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_node_serves_no_stale_session() {
    let cluster = Cluster::start(3, "copies=1").await;
    let balancer = Balancer::new(cluster.addresses());
    let load = Load::start(&balancer, Policy::RoundRobin, 40, THINKS / 5).await;
    // Around the lives of a lease and of a node that is out of reach.
    for (n, millis) in [150, 400, 600, 900, 1_200, 1_600, 2_200].into_iter().enumerate() {
        load.rounds(2).await;
        pause(&cluster, &balancer, n % 3, Duration::from_millis(millis)).await;
    }
    load.rounds(5).await;
    let verdict = load.finish().await.judge(&cluster.running()).await;
    eprintln!("seven short stops: {}", verdict.figures());
    verdict.assert_nothing_lost();
    cluster.at_rest(2).await;
}

/// Lets a node stand still. Its balancer sends it nothing during that time, and resumes immediately afterwards.
async fn pause(cluster: &Cluster, balancer: &Balancer, n: usize, time: Duration) {
    balancer.disable(n).await;
    cluster.pause(n);
    tokio::time::sleep(time).await;
    cluster.resume(n);
    balancer.enable(n);
}

async fn are_holders_the_same(cluster: &Cluster, routes: &BTreeMap<String, Vec<String>>) -> bool {
    let copies = cluster.copies().await;
    let number = |label: &String| (0..3).find(|n| cluster.label(*n) == label).unwrap();
    let holders = |labels: &Vec<String>| labels.iter().map(number).collect::<Vec<_>>();
    routes.iter().all(|(id, labels)| copies.are_the_same(id, &holders(labels)))
}

const THINKS: Duration = Duration::from_millis(500);
