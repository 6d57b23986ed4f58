//! The conditions under which a copy may answer.

use std::time::Duration;

use steadfast_core::conformance::faults::{Call, Fault};
use steadfast_core::{Deletion, Lookup, Outcome, RequestHint, SessionStore, Version};

use crate::service::{Node, Service, add, hash, proof, put, rotate};

#[tokio::test(start_paused = true)]
async fn a_complete_feed_saves_backup_calls() {
    let service = Service::new();
    let id = service.session().await;
    let node = &service.nodes[0];
    let seen = node.write(id, &put("n", 1)).await;
    for _ in 0..10 {
        let before = service.calls();
        for _ in 0..100 {
            assert_eq!(node.n(id, seen).await, Some(1));
        }
        assert_eq!(service.calls(), before);
        tokio::time::advance(Duration::from_millis(900)).await;
    }
    let before = service.calls();
    let seen = node.write(id, &put("n", 2)).await;
    assert_eq!(node.n(id, seen).await, Some(2));
    assert_eq!(service.calls(), before + 1, "the write alone");
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_feed_saves_no_check() {
    let (service, server) = Service::over_a_server(2, |node| node);
    let (id, other) = (service.session().await, service.session().await);
    let start = tokio::time::Instant::now();
    server.vanish(id).await;
    while service.nodes[0].opens(id).await {
        assert!(start.elapsed() < RECHECK, "it is served after it had to be checked");
        service.nodes[1].write(other, &put("n", 1)).await;
        tokio::time::advance(RECHECK / 10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_session_share_its_check() {
    let (service, _) = Service::over_a_server(1, |node| node);
    let id = service.session().await;
    tokio::time::advance(RECHECK).await;
    let (before, pause) = (service.calls(), service.backup.pause_after(Call::Load));
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let node = service.nodes[0].clone();
        requests.spawn(async move { node.opens(id).await });
    }
    pause.arrived(1).await;
    pause.release();
    assert!(requests.join_all().await.into_iter().all(|opens| opens));
    assert_eq!(service.calls(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_check_blocks_no_other() {
    let (service, _) = Service::over_a_server(1, |node| node);
    let id = service.session().await;
    tokio::time::advance(RECHECK).await;
    service.backup.once(Call::Load, Fault::Hang);
    let (first, second) = (service.nodes[0].clone(), service.nodes[0].clone());
    let cut_off = tokio::spawn(async move { first.opens(id).await });
    tokio::task::yield_now().await;
    let waits = tokio::spawn(async move { second.opens(id).await });
    tokio::task::yield_now().await;
    cut_off.abort();
    assert!(waits.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn without_a_feed_copies_last_one_recheck() {
    let service = Service::with(1, |node| node.follow_changes(false));
    let id = service.session().await;
    let cost = async || {
        let before = service.calls();
        assert!(service.nodes[0].opens(id).await);
        service.calls() - before
    };
    assert_eq!(cost().await, 0);
    tokio::time::advance(Duration::from_millis(999)).await;
    assert_eq!(cost().await, 0);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!([cost().await, cost().await], [1, 0], "one version check");
}

#[tokio::test]
async fn a_live_feed_ends_copies_on_all_nodes() {
    let service = Service::with(3, |node| node.recheck(LONG));
    for ends_on in 0..3 {
        let id = service.session().await;
        for _ in 0..2 {
            assert!(service.nodes[0].opens(id).await);
        }
        assert!(
            service.nodes[ends_on]
                .delete(id, &Deletion { proof: Some(&proof()), ..Deletion::LOGOUT })
                .await
                .unwrap()
                .is_ended()
        );
        for node in &service.nodes {
            assert!(!node.opens(id).await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_reaches_all_nodes_within_recheck() {
    let service = Service::with(2, |node| node.follow_changes(false));
    let id = service.session().await;
    service.nodes[1].delete(id, &Deletion::LOGOUT).await.unwrap().is_ended();
    assert!(!service.nodes[1].opens(id).await);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!service.nodes[0].opens(id).await);
}

#[tokio::test]
async fn a_replaced_secret_opens_on_no_node() {
    let service = Service::with(2, |node| node.recheck(LONG));
    let id = service.session().await;
    service.nodes[1].write(id, &rotate(hash(1))).await;
    for node in &service.nodes {
        assert!(matches!(node.seen(id, None).await, Lookup::Superseded));
    }
}

/// Shows RC-11.
#[tokio::test]
async fn an_earlier_read_revives_no_ended_session() {
    let service = Service::new();
    let id = service.fresh().await;
    let pause = service.backup.pause_after(Call::Load);
    let node = service.nodes[0].clone();
    let read = tokio::spawn(async move { node.opens(id).await });
    pause.arrived(1).await;
    service.nodes[0].delete(id, &Deletion::LOGOUT).await.unwrap().is_ended();
    service.backup.heal();
    pause.release();
    assert!(read.await.unwrap(), "it began before");
    assert!(!service.nodes[0].opens(id).await);
}

#[tokio::test]
async fn a_client_never_sees_an_older_version() {
    let service = Service::with(2, |node| node.follow_changes(false).recheck(LONG));
    let id = service.session().await;
    let seen = service.nodes[1].write(id, &put("n", 1)).await;
    assert_eq!(service.nodes[0].n(id, None).await, None, "a copy of before");
    assert_eq!(service.nodes[0].n(id, seen).await, Some(1));
}

#[tokio::test]
async fn a_forged_version_only_costs_a_check() {
    let service = Service::with(1, |node| node.recheck(LONG));
    let id = service.session().await;
    let before = service.calls();
    assert!(matches!(service.nodes[0].seen(id, Some(Version(u64::MAX))).await, Lookup::Found(_)));
    assert_eq!(service.calls(), before + 1);
}

#[tokio::test]
async fn a_copy_never_refuses_for_the_backup() {
    let service = Service::with(1, |node| node.recheck(LONG));
    let id = service.session().await;
    let (before, wrong) = (service.calls(), hash(9).into());
    let lookup = service.nodes[0].load(id, Some(&wrong), &RequestHint::default()).await.unwrap();
    assert!(matches!(lookup, Lookup::Absent(_)), "{lookup:?}");
    assert_eq!(service.calls(), before + 1);
    assert!(service.nodes[0].opens(id).await);
    assert_eq!(service.calls(), before + 1, "a wrong proof costs the session nothing");
}

#[tokio::test]
async fn an_outage_of_the_backup_leaves_reads() {
    let service = Service::with(1, |node| node.recheck(LONG));
    let (id, other) = (service.session().await, service.fresh().await);
    service.backup.set_all(&Fault::Down);
    let node = &service.nodes[0];
    assert!(node.opens(id).await);
    assert!(node.load(other, Some(&proof()), &RequestHint::default()).await.is_err());
    assert!(node.update(id, &put("n", 1), &RequestHint::default()).await.is_err());
    assert!(
        node.load(id, Some(&proof()), &RequestHint::default()).await.is_err(),
        "it is in doubt now"
    );
    service.backup.heal();
    assert_eq!(node.n(id, None).await, None);
}

#[tokio::test]
async fn a_write_without_an_answer_drops_the_copy() {
    let service = Service::with(1, |node| node.follow_changes(false).recheck(LONG));
    let id = service.session().await;
    service.backup.once(Call::Update, Fault::AckLost);
    assert!(service.nodes[0].update(id, &put("n", 1), &RequestHint::default()).await.is_err());
    assert_eq!(service.nodes[0].n(id, None).await, Some(1));
}

#[tokio::test]
async fn a_dropped_write_drops_the_copy() {
    let service = Service::with(1, |node| node.follow_changes(false).recheck(LONG));
    let id = service.session().await;
    let pause = service.backup.pause_after(Call::Update);
    let node = service.nodes[0].clone();
    let write = tokio::spawn(async move { node.patch(id, &put("n", 1)).await });
    pause.arrived(1).await;
    write.abort();
    assert!(write.await.unwrap_err().is_cancelled());
    assert_eq!(service.nodes[0].n(id, None).await, Some(1));
}

#[tokio::test]
async fn concurrent_additions_on_all_nodes_are_exact() {
    let service = Service::with(3, |node| node);
    let id = service.session().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..30 {
        let node = service.nodes[n % 3].clone();
        tasks.spawn(async move { node.patch(id, &add("n", 1)).await });
    }
    for outcome in tasks.join_all().await {
        assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    }
    for node in &service.nodes {
        assert_eq!(node.n(id, None).await, Some(30));
    }
}

const RECHECK: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3_600);
