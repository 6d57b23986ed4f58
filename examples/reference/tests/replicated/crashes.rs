//! Nodes that end as by a power cut.

use std::time::{Duration, Instant};

use testkit::{Balancer, Client, Cluster, Load, Policy, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_kill_after_repair_loses_nothing() {
    let mut cluster = Cluster::start(3, "copies=1").await;
    let balancer = Balancer::new(cluster.addresses());
    let load = Load::start(&balancer, Policy::RoundRobin, 400, THINKS).await;
    load.rounds(2).await;
    kill(&mut cluster, 0).await;
    load.rounds(2).await;
    cluster.restart(0).await;
    cluster.settled().await;
    load.rounds(1).await;
    kill(&mut cluster, 1).await;
    load.rounds(2).await;
    let verdict = load.finish().await.judge(&cluster.running()).await;
    eprintln!("two kills, with repair between: {}", verdict.figures());
    verdict.assert_nothing_lost();
    cluster.at_rest(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quick_restart_of_a_node_goes_unnoticed() {
    let mut cluster = Cluster::start(3, "copies=1").await;
    let balancer = Balancer::new(cluster.addresses());
    let load = Load::start(&balancer, Policy::RoundRobin, 60, THINKS / 5).await;
    for n in [0, 1, 2] {
        load.rounds(2).await;
        cluster.kill(n).await;
        cluster.restart(n).await;
        cluster.settled().await;
    }
    load.rounds(2).await;
    let verdict = load.finish().await.judge(&cluster.running()).await;
    eprintln!("three restarts at once after a kill: {}", verdict.figures());
    verdict.assert_nothing_lost();
    cluster.at_rest(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_survive_alternating_kills() {
    let mut cluster = Cluster::start(2, "copies=1").await;
    let balancer = Balancer::new(cluster.addresses());
    let load = Load::start(&balancer, Policy::RoundRobin, 60, THINKS / 5).await;
    for n in [0, 1] {
        load.rounds(2).await;
        kill(&mut cluster, n).await;
        load.rounds(2).await;
        cluster.restart(n).await;
        cluster.settled().await;
    }
    let verdict = load.finish().await.judge(&cluster.running()).await;
    eprintln!("two nodes, each killed once: {}", verdict.figures());
    verdict.assert_nothing_lost();
    cluster.at_rest(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_replication_loses_nothing_in_a_kill() {
    let mut cluster = Cluster::start(3, "copies=all").await;
    let balancer = Balancer::new(cluster.addresses());
    let load = Load::start(&balancer, Policy::RoundRobin, 100, THINKS).await;
    load.rounds(2).await;
    kill(&mut cluster, 2).await;
    load.rounds(2).await;
    cluster.restart(2).await;
    cluster.settled().await;
    load.rounds(1).await;
    let witnesses = load.finish().await;
    cluster.at_rest(3).await;
    let verdict = witnesses.judge(&cluster.running()).await;
    eprintln!("a kill with all copies: {}", verdict.figures());
    verdict.assert_nothing_lost();
    cluster.at_rest(3).await;
}

/// Shows RC-10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returning_node_knows_a_missed_logout() {
    for settings in ["copies=1", "copies=all"] {
        let mut cluster = Cluster::start(3, settings).await;
        let members = members(&cluster, 30).await;
        cluster.kill(2).await;
        let ended = sign_out(&cluster, &members).await;
        cluster.restart(2).await;
        assert_dead(&cluster, &ended).await;
        cluster.settled().await;
        assert_dead(&cluster, &ended).await;
    }
}

/// Shows RC-10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_node_rejects_a_logged_out_token() {
    for settings in ["copies=1", "copies=all"] {
        let cluster = Cluster::start(3, settings).await;
        let members = members(&cluster, 30).await;
        cluster.pause(2);
        let ended = sign_out(&cluster, &members).await;
        cluster.resume(2);
        assert_dead(&cluster, &ended).await;
        cluster.settled().await;
        assert_dead(&cluster, &ended).await;
    }
}

/// Kills a node, and waits until the others have its copies.
async fn kill(cluster: &mut Cluster, n: usize) {
    let started = Instant::now();
    cluster.kill(n).await;
    cluster.settled().await;
    let repaired = started.elapsed();
    let figures = cluster.figures(cluster.running()[0]).await;
    let detected = figures["detection_seconds_sum"] / figures["detection_seconds_count"];
    eprintln!(
        "a node is killed, taken for dead after {detected:.1} s, all at rest by {repaired:?}"
    );
}

/// Users who are signed in, some on each node, and known to all nodes.
async fn members(cluster: &Cluster, count: usize) -> Vec<Client> {
    let mut members = Vec::new();
    for n in 0..count {
        let member = cluster.node(n % 3).member(&format!("user{n}")).await;
        assert!(member.at(cluster.node(2)).user().await.is_some());
        members.push(member);
    }
    members
}

/// Signs users out at the nodes that run, as soon as it is confirmed: clients with the old cookies.
async fn sign_out(cluster: &Cluster, members: &[Client]) -> Vec<Client> {
    let mut ended = Vec::new();
    for (n, member) in members.iter().enumerate() {
        let old = member.fork();
        let leaving = member.at(cluster.node(n % 2));
        eventually(async || leaving.fork().post("/logout").await.status == 200).await;
        ended.push(old);
    }
    ended
}

/// No node knows the old cookies.
async fn assert_dead(cluster: &Cluster, ended: &[Client]) {
    for node in cluster.running() {
        for old in ended {
            let old = old.fork().at(cluster.node(node));
            // A doubtful answer says so.
            eventually(async || match old.get("/peek").await {
                reply if reply.status == 503 => false,
                reply => reply.ok().json()["user"].is_null() || panic!("it lives at {node}"),
            })
            .await;
        }
    }
}

const THINKS: Duration = Duration::from_secs(1);
