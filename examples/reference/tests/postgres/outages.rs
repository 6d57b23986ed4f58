//! The database dies, hangs, comes back, or another one takes over, under load.

use std::time::{Duration, Instant};

use testkit::{Client, eventually};

use crate::load::{Load, Verdict};
use crate::service::Service;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_synchronous_standby_loses_nothing() {
    let service = Service::replicated(true).await;
    let (load, leavers) = (Load::start(&service).await, leavers(&service).await);
    load.go_on(BEFORE).await;
    service.primary.kill();
    let told = leave(&leavers).await;
    service.standby.as_ref().unwrap().promote();
    let recovery = recovered(&service).await;
    load.go_on(AFTER).await;
    judge_leavers(&service, &leavers, &told).await;
    let verdict = load.stop().await;
    println!("failover, synchronous: recovered in {recovery:?}; {verdict:?}");
    assert_eq!(verdict.lost, 0, "{verdict:?}");
    assert_outage_was_bounded(&verdict, recovery);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asynchronous_failover_loses_only_the_last_commits() {
    let service = Service::replicated(false).await;
    let load = Load::start(&service).await;
    load.go_on(BEFORE).await;
    service.fail_over();
    let recovery = recovered(&service).await;
    load.go_on(AFTER).await;
    let verdict = load.stop().await;
    println!("failover, asynchronous: recovered in {recovery:?}; {verdict:?}");
    // The changes that the primary confirmed in its last milliseconds.
    assert!(verdict.lost * 20 < verdict.confirmed, "{verdict:?}");
    assert_outage_was_bounded(&verdict, recovery);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_and_a_restart_lose_nothing() {
    let mut service = Service::alone().await;
    let (load, leavers) = (Load::start(&service).await, leavers(&service).await);
    load.go_on(BEFORE).await;
    service.primary.kill();
    let told = leave(&leavers).await;
    service.primary.restart();
    let recovery = recovered(&service).await;
    load.go_on(AFTER).await;
    judge_leavers(&service, &leavers, &told).await;
    let verdict = load.stop().await;
    println!("crash and restart: recovered in {recovery:?}; {verdict:?}");
    assert_eq!(verdict.lost, 0, "{verdict:?}");
    assert_outage_was_bounded(&verdict, recovery);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_database_costs_requests_their_timeout() {
    let service = Service::alone().await;
    let (load, leavers) = (Load::start(&service).await, leavers(&service).await);
    load.go_on(BEFORE).await;
    service.primary.pause();
    let told = leave(&leavers).await;
    let unready = service.nodes[0].client().get("/readyz").await;
    load.go_on(Duration::from_secs(10)).await;
    service.primary.resume();
    let recovery = recovered(&service).await;
    load.go_on(AFTER).await;
    judge_leavers(&service, &leavers, &told).await;
    let verdict = load.stop().await;
    println!("hung for 10 s: recovered in {recovery:?}; {verdict:?}");
    assert_eq!(unready.status, 503);
    assert_eq!(verdict.lost, 0, "{verdict:?}");
    assert_outage_was_bounded(&verdict, recovery);
}

/// Users who will sign out in the middle of it.
async fn leavers(service: &Service) -> Vec<Client> {
    let mut leavers = Vec::new();
    for n in 0..3 {
        leavers.push(service.member(&format!("leaver-{n}")).await.at(&service.nodes[n]));
    }
    leavers
}

/// Signs the clients out, and returns those whose sign-out was confirmed. The cookies stay with the callers.
async fn leave(leavers: &[Client]) -> Vec<bool> {
    let replies = leavers.iter().map(|leaver| {
        let tab = leaver.fork();
        tokio::spawn(async move { tab.post("/logout").await })
    });
    let mut told = Vec::new();
    for reply in replies.collect::<Vec<_>>() {
        let reply = reply.await.unwrap();
        assert!([200, 503].contains(&reply.status.as_u16()), "{reply:?}");
        assert_eq!(reply.set_cookies().len(), usize::from(reply.status == 200), "{reply:?}");
        told.push(reply.status == 200);
    }
    told
}

/// A client with a confirmed sign-out is signed out; the others can sign out now.
async fn judge_leavers(service: &Service, leavers: &[Client], told: &[bool]) {
    for (leaver, was_told) in leavers.iter().zip(told) {
        if !was_told {
            leaver.fork().post("/logout").await.ok();
        }
        assert_eq!(service.users(leaver).await, vec![None; 3]);
    }
}

/// Measures the time until every node serves sessions again.
async fn recovered(service: &Service) -> Duration {
    let start = Instant::now();
    for node in &service.nodes {
        let visitor = node.client();
        eventually(async || visitor.post("/incr").await.status == 200).await;
    }
    start.elapsed()
}

/// A request waits for two calls at most, a second each, and twice that on a machine that is busy.
fn assert_outage_was_bounded(verdict: &Verdict, recovery: Duration) {
    assert!(verdict.unconfirmed > 0, "nobody noticed: {verdict:?}");
    assert!(verdict.slowest_write < Duration::from_secs(4), "{verdict:?}");
    assert!(verdict.slowest_ping < Duration::from_secs(1), "{verdict:?}");
    assert!(recovery < Duration::from_secs(2), "{recovery:?}");
}

const BEFORE: Duration = Duration::from_millis(1_500);
const AFTER: Duration = Duration::from_millis(500);
