//! Writes that are acknowledged before the backup has them.

use std::time::Duration;

use steadfast_core::conformance::faults::{Call, Fault};
use steadfast_core::{Deletion, Hint, Operate, Outcome, SessionStore};
use tokio::time::{Instant, timeout};

use crate::service::{Node, Service, add, hash, put, rotate};

#[tokio::test]
async fn a_write_is_acknowledged_before_the_backup_has_it_and_reaches_it() {
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
        service.nodes[0].write(id, &add("sum", n)).await;
    }
    service.nodes[0].drain().await.unwrap();
    let kept = service.kept(id).await;
    assert_eq!(kept.values.get("n"), Some(&b"50"[..]));
    assert_eq!(kept.values.get("sum"), Some(&b"1275"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_where_a_queue_ends_and_the_next_begins() {
    let service = behind();
    let id = service.session().await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let node = service.nodes[0].clone();
        writers.spawn(async move {
            for _ in 0..3_000 {
                node.write(id, &add("n", 1)).await;
                tokio::task::yield_now().await;
            }
        });
    }
    writers.join_all().await;
    service.nodes[0].drain().await.unwrap();
    assert_eq!(service.kept(id).await.values.get("n"), Some(&b"12000"[..]));
}

#[tokio::test]
async fn an_addition_whose_answer_was_lost_counts_once() {
    let service = behind();
    let id = service.session().await;
    service.backup.once(Call::Update, Fault::AckLost);
    service.nodes[0].write(id, &add("n", 1)).await;
    service.nodes[0].drain().await.unwrap();
    assert_eq!(service.kept(id).await.values.get("n"), Some(&b"1"[..]));
    assert_eq!(service.nodes[0].n(id, None).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn writes_wait_again_once_the_window_is_used_up() {
    let service = behind();
    let id = service.session().await;
    service.backup.set(Call::Update, Fault::Down);
    service.nodes[0].write(id, &put("n", 1)).await;
    tokio::time::advance(WINDOW / 2).await;
    service.nodes[0].write(id, &put("n", 2)).await;
    tokio::time::advance(WINDOW / 2).await;
    let (late, hint) = (put("n", 3), Hint::default());
    let waits = timeout(WINDOW, service.nodes[0].update(id, &late, &hint)).await;
    assert!(waits.is_err(), "nothing is acknowledged that a crash could lose");
    service.backup.heal();
    service.nodes[0].write(id, &put("n", 4)).await;
    assert_eq!(service.kept(id).await.values.get("n"), Some(&b"4"[..]));
}

#[tokio::test]
async fn what_ends_a_session_or_its_secret_never_goes_behind() {
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
async fn what_is_behind_at_a_takeover_is_made_up_for_and_overwrites_nothing() {
    let service = behind();
    let id = service.session().await;
    service.backup.set(Call::Update, Fault::Down);
    service.nodes[0].write(id, &put("n", 1)).await;
    service.nodes[0].write(id, &put("m", 1)).await;
    service.backup.heal();
    // Straight to the backup, so that it comes before the next try of the first node.
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
    Service::with(2, |node| node.write_behind(WINDOW).recheck(Duration::from_secs(3_600)))
}

const WINDOW: Duration = Duration::from_secs(2);
