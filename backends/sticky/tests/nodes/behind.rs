//! Writes that are acknowledged before the backup has them.

use std::time::Duration;

use steadfast_core::conformance::faults::{Call, Fault};
use steadfast_core::{Deletion, Operate, Outcome, RequestHint, SessionStore};
use testkit::eventually;
use tokio::time::{Instant, timeout};

use crate::service::{Node, Service, add, hash, put, rotate};

#[tokio::test]
async fn a_deferred_write_reaches_the_backup() {
    let service = behind();
    let id = service.session().await;
    let pause = service.backup.pause_before(Call::Update);
    let seen = service.nodes[0].write(id, &put("n", 1)).await;
    assert_eq!(service.nodes[0].n(id, seen).await, Some(1));
    assert_eq!(service.kept(id).await.values.get("n"), None);
    pause.release();
    service.nodes[0].drain().await.unwrap();
    assert_eq!(service.kept(id).await.values.get("n"), Some(&b"1"[..]));
}

#[tokio::test]
async fn what_was_queued_arrives_in_order() {
    let service = behind();
    let id = service.session().await;
    for n in 1..=50 {
        service.nodes[0].write(id, &put("n", n)).await;
    }
    service.nodes[0].drain().await.unwrap();
    assert_eq!(service.kept(id).await.values.get("n"), Some(&b"50"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_lost_between_two_queues() {
    let service = behind();
    let id = service.session().await;
    let mut writers = tokio::task::JoinSet::new();
    for key in ["a", "b", "c", "d"] {
        let node = service.nodes[0].clone();
        writers.spawn(async move {
            for n in 1..=3_000 {
                node.write(id, &put(key, n)).await;
                tokio::task::yield_now().await;
            }
        });
    }
    writers.join_all().await;
    service.nodes[0].drain().await.unwrap();
    let kept = service.kept(id).await;
    for key in ["a", "b", "c", "d"] {
        assert_eq!(kept.values.get(key), Some(&b"3000"[..]), "{key}");
    }
}

#[tokio::test]
async fn additions_and_expectations_wait_for_the_backup() {
    let service = behind();
    let id = service.session().await;
    let mut expecting = put("m", 1);
    expecting.expect("m", None).unwrap();
    for patch in [add("n", 1), expecting] {
        service.nodes[0].write(id, &patch).await;
    }
    let kept = service.kept(id).await;
    assert_eq!(["n", "m"].map(|key| kept.values.get(key)), [Some(&b"1"[..]); 2]);
}

#[tokio::test]
async fn additions_are_exact_beside_deferred_writes() {
    let service = behind();
    let id = service.session().await;
    for n in 0..20 {
        service.nodes[0].write(id, &put("a", n)).await;
        service.nodes[n as usize % 2].write(id, &add("n", 1)).await;
        service.nodes[0].n(id, None).await;
    }
    service.nodes[0].drain().await.unwrap();
    assert_eq!(service.kept(id).await.values.get("n"), Some(&b"20"[..]));
}

#[tokio::test]
async fn a_write_without_an_answer_is_applied_once() {
    let service = behind();
    let id = service.session().await;
    service.backup.once(Call::Update, Fault::AckLost);
    service.nodes[0].write(id, &put("n", 1)).await;
    service.nodes[0].drain().await.unwrap();
    assert_eq!(service.kept(id).await.values.get("n"), Some(&b"1"[..]));
    assert_eq!(service.nodes[0].n(id, None).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_late_write_does_not_overwrite_newer_ones() {
    let service = behind();
    let id = service.session().await;
    // The patch is sent, but is on its way for so long that the node retries.
    service.backup.once(Call::Update, Fault::Slow(Duration::from_secs(20)));
    let late = service.backup.clone();
    service.nodes[0].write(id, &put("n", 1)).await;
    let mut patch = put("n", 1);
    patch.fence(service.kept(id).await.fence());
    eventually(async || service.kept(id).await.values.get("n").is_some()).await;
    service.nodes[0].write(id, &put("n", 2)).await;
    eventually(async || service.kept(id).await.values.get("n") == Some(&b"2"[..])).await;
    let outcome = late.update(id, &patch, &RequestHint::default()).await.unwrap();
    assert!(matches!(outcome, Outcome::Conflict), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn retries_to_an_absent_backup_slow_down() {
    let service = behind();
    let ids = [service.session().await, service.session().await, service.session().await];
    service.backup.set_all(&Fault::Down);
    for id in ids {
        service.nodes[0].write(id, &put("n", 1)).await;
    }
    let mut asked = Vec::new();
    for _ in 0..4 {
        let before = service.calls();
        tokio::time::sleep(Duration::from_secs(30)).await;
        asked.push(service.calls() - before);
    }
    assert!(asked[0] < 20, "{asked:?}");
    assert!(asked[1..].iter().all(|calls| (3..=7).contains(calls)), "{asked:?}");
    service.backup.heal();
    let start = Instant::now();
    for id in ids {
        eventually(async || service.kept(id).await.values.get("n").is_some()).await;
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_gives_up_reports_losses() {
    let service = Service::with(1, |node| {
        node.write_behind(WINDOW).recheck(LONG).drain_within(Duration::from_secs(3))
    });
    let (id, other) = (service.session().await, service.session().await);
    service.backup.set(Call::Update, Fault::Down);
    service.nodes[0].write(id, &put("n", 1)).await;
    let start = Instant::now();
    let drained = service.nodes[0].drain().await.unwrap();
    assert_eq!((drained.moved, drained.lost), (1, 1));
    assert!((3..5).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    service.backup.heal();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(service.kept(id).await.values.get("n"), None, "what is lost stays lost");
    assert!(service.nodes[0].opens(other).await);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_the_backup_to_return() {
    let service = behind();
    let id = service.session().await;
    service.backup.set_all(&Fault::Down);
    service.nodes[0].write(id, &put("n", 1)).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let node = service.nodes[0].clone();
    let drain = tokio::spawn(async move { node.drain().await.unwrap() });
    tokio::time::sleep(Duration::from_secs(2)).await;
    service.backup.heal();
    assert_eq!(drain.await.unwrap().lost, 0);
    assert_eq!(service.kept(id).await.values.get("n"), Some(&b"1"[..]));
}

#[test]
fn writes_outlive_the_runtime_they_were_made_in() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let service = behind();
    let id = runtime().block_on(async {
        let id = service.session().await;
        service.backup.once(Call::Update, Fault::Hang);
        service.nodes[0].write(id, &put("n", 1)).await;
        tokio::task::yield_now().await;
        id
    });
    runtime().block_on(async {
        eventually(async || {
            let _ = timeout(Duration::from_millis(10), service.nodes[0].n(id, None)).await;
            service.kept(id).await.values.get("n") == Some(&b"1"[..])
        })
        .await;
        assert_eq!(service.nodes[0].n(id, None).await, Some(1));
    });
}

#[tokio::test(start_paused = true)]
async fn writes_wait_once_the_window_is_full() {
    let service = behind();
    let id = service.session().await;
    service.backup.set(Call::Update, Fault::Down);
    service.nodes[0].write(id, &put("n", 1)).await;
    tokio::time::advance(WINDOW / 2).await;
    service.nodes[0].write(id, &put("n", 2)).await;
    tokio::time::advance(WINDOW / 2).await;
    let (late, hint) = (put("n", 3), RequestHint::default());
    let waits = timeout(WINDOW, service.nodes[0].update(id, &late, &hint)).await;
    assert!(waits.is_err(), "nothing is acknowledged that a crash could lose");
    service.backup.heal();
    service.nodes[0].write(id, &put("n", 4)).await;
    assert_eq!(service.kept(id).await.values.get("n"), Some(&b"4"[..]));
}

#[tokio::test]
async fn endings_and_rotations_are_never_deferred() {
    let service = behind();
    let (id, other) = (service.session().await, service.session().await);
    service.nodes[0].write(id, &put("n", 1)).await;
    service.nodes[0].write(id, &rotate(hash(1))).await;
    let kept = service.kept(id).await;
    assert_eq!((kept.secret, kept.values.get("n")), (hash(1), Some(&b"1"[..])));
    service.nodes[0].write(other, &put("n", 1)).await;
    assert!(service.nodes[0].delete(other, &Deletion::LOGOUT).await.unwrap().is_ended());
    service.nodes[0].drain().await.unwrap();
    assert!(!service.backup.opens(other).await);
}

#[tokio::test]
async fn deferred_writes_are_merged_after_a_takeover() {
    let service = behind();
    let id = service.session().await;
    service.backup.set(Call::Update, Fault::Down);
    service.nodes[0].write(id, &put("n", 1)).await;
    service.nodes[0].write(id, &put("m", 1)).await;
    service.backup.heal();
    // Written straight to the backup, to arrive before the first node's next attempt.
    let taken = service.nodes[1].patch(id, &put("n", 2)).await;
    assert!(matches!(taken, Outcome::Applied(_)), "{taken:?}");
    service.nodes[0].drain().await.unwrap();
    let kept = service.kept(id).await;
    assert_eq!(kept.values.get("m"), Some(&b"1"[..]), "nobody else changed it");
    assert_eq!(kept.values.get("n"), Some(&b"2"[..]), "the later write counts");
    assert_eq!(service.nodes[0].n(id, None).await, Some(2));
}

#[tokio::test]
async fn a_drain_returns_when_the_backup_has_everything() {
    let service = behind();
    let id = service.session().await;
    let pause = service.backup.pause_before(Call::Update);
    service.nodes[0].write(id, &put("n", 1)).await;
    pause.arrived(1).await;
    let node = service.nodes[0].clone();
    let drain = tokio::spawn(async move { node.drain().await.unwrap() });
    let start = Instant::now();
    while service.nodes[0].ready().await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::task::yield_now().await;
    }
    assert!(!drain.is_finished());
    pause.release();
    assert_eq!(drain.await.unwrap().moved, 1);
    assert_eq!(service.kept(id).await.values.get("n"), Some(&b"1"[..]));
}

fn behind() -> Service {
    Service::with(2, |node| node.write_behind(WINDOW).recheck(LONG))
}

const LONG: Duration = Duration::from_secs(3_600);
const WINDOW: Duration = Duration::from_secs(2);
