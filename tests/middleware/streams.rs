//! Streams that follow their session: what they see, and what it costs.

use std::time::Duration;

use steadfast::store::EndReason;
use steadfast::store::conformance::faults::{Call, Fault};
use steadfast::{Error, Session, SessionChange, SessionChanges};
use tokio::time::timeout;

use crate::handles::{leaked, untouched};
use crate::site::{Browser, Site};

#[tokio::test]
async fn a_stream_sees_what_other_requests_commit() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let handle = leaked(&browser).await;
    let mut changes = handle.changes();
    for n in 2..5 {
        put(&browser, n).await;
        assert_eq!(next(&mut changes).await, SessionChange::Changed);
        assert_eq!(handle.get::<i64>("seed").await.unwrap(), Some(n));
    }
    browser.visit(|session| async move { session.flush().await }).await.ok();
    assert_eq!(next(&mut changes).await, SessionChange::Ended(EndReason::Logout));
    assert_eq!(next(&mut changes).await, SessionChange::Ended(EndReason::Logout));
}

#[tokio::test]
async fn a_stream_sees_what_came_before_it_followed() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let handle = leaked(&browser).await;
    put(&browser, 2).await;
    assert_eq!(next(&mut handle.changes()).await, SessionChange::Changed);
    assert_eq!(handle.get::<i64>("seed").await.unwrap(), Some(2));
}

#[tokio::test]
async fn a_dropped_wait_loses_no_change() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let handle = leaked(&browser).await;
    let mut changes = handle.changes();
    assert!(timeout(Duration::from_millis(20), changes.next()).await.is_err());
    put(&browser, 2).await;
    put(&browser, 3).await;
    assert_eq!(next(&mut changes).await, SessionChange::Changed);
    assert_eq!(handle.get::<i64>("seed").await.unwrap(), Some(3));
    assert!(timeout(Duration::from_millis(20), changes.next()).await.is_err(), "both came as one");
}

#[tokio::test(start_paused = true)]
async fn each_followed_change_costs_one_call() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let mut changes = leaked(&browser).await.changes();
    assert!(timeout(Duration::from_secs(1), changes.next()).await.is_err());
    let started = site.calls()[0];
    assert!(timeout(Duration::from_secs(600), changes.next()).await.is_err());
    assert_eq!(site.calls()[0], started, "an idle stream asks nothing");
    put(&browser, 2).await;
    let before = site.calls()[0];
    assert_eq!(next(&mut changes).await, SessionChange::Changed);
    assert_eq!(site.calls()[0] - before, 1);
}

#[tokio::test]
async fn a_touch_is_no_change() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let handle = leaked(&browser).await;
    let mut changes = handle.changes();
    site.clock.advance(Duration::from_secs(600));
    handle.touch().await.unwrap();
    assert!(timeout(Duration::from_millis(20), changes.next()).await.is_err());
}

#[tokio::test]
async fn a_stream_ends_with_its_sign_in() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let mut changes = leaked(&browser).await.changes();
    browser.visit(|session| async move { session.login("alice").await }).await.ok();
    assert_eq!(next(&mut changes).await, SessionChange::Changed, "the same user");
    browser.visit(|session| async move { session.login("bob").await }).await.ok();
    assert_eq!(next(&mut changes).await, SessionChange::Ended(EndReason::Superseded));
}

#[tokio::test(start_paused = true)]
async fn an_outage_delays_a_change() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let handle = leaked(&browser).await;
    let mut changes = handle.changes();
    assert!(timeout(Duration::from_secs(1), changes.next()).await.is_err());
    put(&browser, 2).await;
    site.store.set(Call::Load, Fault::Down);
    assert!(timeout(Duration::from_secs(60), changes.next()).await.is_err());
    assert_eq!(handle.get::<i64>("seed").await.unwrap(), Some(1), "as it was seen");
    site.store.heal();
    assert_eq!(next(&mut changes).await, SessionChange::Changed);
    assert_eq!(handle.get::<i64>("seed").await.unwrap(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_stream_reports_an_outage_at_its_start() {
    let site = Site::new();
    let browser = site.member("alice").await;
    site.store.set(Call::Load, Fault::Down);
    let failed = untouched(&browser).await.changes().next().await;
    assert!(matches!(failed, Err(Error::Store(_))), "{failed:?}");
    site.store.heal();
    let nobody = untouched(&site.browser()).await.changes().next().await;
    assert!(matches!(nobody, Err(Error::NoSession)), "{nobody:?}");
}

#[tokio::test]
async fn closing_the_layer_ends_what_follows_a_session() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let (mut early, mut late) =
        (leaked(&browser).await.changes(), leaked(&browser).await.changes());
    assert!(timeout(Duration::from_millis(20), early.next()).await.is_err());
    site.layer.close();
    for changes in [&mut early, &mut late] {
        assert_eq!(next(changes).await, SessionChange::Ended(EndReason::Shutdown));
    }
}

async fn put(browser: &Browser, n: i64) {
    let put = move |session: Session| async move { session.insert("seed", n).await };
    browser.visit(put).await.ok();
}

async fn next(changes: &mut SessionChanges) -> SessionChange {
    timeout(Duration::from_secs(60), changes.next()).await.expect("it comes").unwrap()
}
