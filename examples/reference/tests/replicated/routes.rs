//! Tests of owners and backups with a real balancer that follows the routes.

use std::time::Duration;

use testkit::load::Verdict;
use testkit::{Balancer, Cluster, Haproxy, Load, Policy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_follows_routes_to_owners_and_backups() {
    let mut cluster = Cluster::start(3, "copies=1").await;
    let haproxy = haproxy(&cluster).await;
    let nodes = cluster.addresses().into_iter();
    let balanced = [("haproxy".to_owned(), haproxy.address.clone())];
    let balancer = Balancer::new(balanced.into_iter().chain(nodes));

    let load = Load::start(&balancer, Policy::At(0), 60, THINKS).await;
    load.rounds(5).await;
    let verdict = load.finish().await.judge(&[1, 2, 3]).await;
    eprintln!("behind haproxy: {}", verdict.figures());
    verdict.assert_nothing_lost();
    assert_eq!(verdict.at_owner, verdict.reads, "every request lands on its owner");

    let load = Load::start(&balancer, Policy::At(0), 60, THINKS).await;
    load.rounds(2).await;
    cluster.kill(0).await;
    load.rounds(20).await;
    let verdict = load.finish().await.judge(&[2, 3]).await;
    eprintln!("an owner dies behind haproxy: {}", verdict.figures());
    verdict.assert_nothing_lost();
    // The backup owns what the dead node owned, so soon that its clients may never have met it as a backup.
    assert!(astray(&verdict) * 100 <= verdict.reads, "{verdict:?}");
}

/// HAProxy before the nodes, which follows both labels of a route.
async fn haproxy(cluster: &Cluster) -> Haproxy {
    let mut configuration = RANKED.replace("127.0.0.1:8080", "LISTEN");
    for (n, (_, address)) in cluster.addresses().iter().enumerate() {
        configuration = configuration.replace(&format!("127.0.0.1:808{}", n + 1), address);
    }
    Haproxy::start(&configuration).await
}

/// Reads that neither the owner nor its backup answered.
fn astray(verdict: &Verdict) -> usize {
    verdict.reads - verdict.at_owner - verdict.at_backup
}

const RANKED: &str = include_str!("../../../replicated/haproxy/ranked.cfg");

const THINKS: Duration = Duration::from_millis(250);
