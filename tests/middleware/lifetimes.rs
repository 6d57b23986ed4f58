//! The lifetimes of a session.

use std::time::Duration;

use steadfast::Session;
use steadfast::store::conformance::faults::Call;

use crate::site::{Browser, Site};

const IDLE: Duration = Duration::from_secs(30 * 60);
const ABSOLUTE: Duration = Duration::from_secs(8 * 60 * 60);

/// Shows TO-01.
#[tokio::test]
async fn an_unused_session_ends_at_its_idle_deadline() {
    let site = Site::new();
    let browser = site.visitor().await;
    site.clock.advance(IDLE.mul_f64(0.949));
    assert!(is_live(&site, &browser).await);
    site.clock.advance(IDLE);
    assert!(!is_live(&site, &browser).await);
}

/// Shows TO-02.
#[tokio::test]
async fn reading_keeps_a_session_alive() {
    let site = Site::new();
    let browser = site.visitor().await;
    for _ in 0..10 {
        site.clock.advance(IDLE / 2);
        assert!(is_live(&site, &browser).await);
    }
}

#[tokio::test]
async fn an_idle_end_is_hardly_early() {
    for late in [0.0, 0.01, 0.049, 0.051, 0.5] {
        let site = Site::new();
        let browser = site.visitor().await;
        site.clock.advance(IDLE.mul_f64(late));
        assert!(is_live(&site, &browser).await);
        site.clock.advance(IDLE.mul_f64(0.949));
        assert!(is_live(&site, &browser.fork()).await, "{late}");
        let site = Site::new();
        let browser = site.visitor().await;
        site.clock.advance(IDLE.mul_f64(late));
        assert!(is_live(&site, &browser).await);
        site.clock.advance(IDLE);
        assert!(!is_live(&site, &browser).await, "{late}");
    }
}

#[tokio::test]
async fn touches_are_spaced_by_a_twentieth() {
    let site = Site::new();
    let browser = site.visitor().await;
    let before = site.store.calls(Call::Update);
    for _ in 0..100 {
        site.clock.advance(IDLE / 100);
        assert!(is_live(&site, &browser).await);
    }
    assert_eq!(site.store.calls(Call::Update) - before, 20);
}

/// Shows TO-03.
#[tokio::test]
async fn constant_use_ends_at_the_absolute_deadline() {
    let site = Site::new();
    let browser = site.member("alice").await;
    for _ in 0..31 {
        site.clock.advance(ABSOLUTE / 32);
        assert!(is_live(&site, &browser).await);
    }
    site.clock.advance(ABSOLUTE / 32);
    assert!(!is_live(&site, &browser).await);
}

/// Shows TO-04.
#[tokio::test]
async fn only_reauthentication_extends_a_session() {
    for (renews, lives) in [(false, false), (true, true)] {
        let site = Site::new();
        let browser = site.member("alice").await;
        for _ in 0..32 {
            site.clock.advance(ABSOLUTE / 32);
            let rotate = move |session: Session| async move {
                match renews {
                    true => session.reauthenticate().await,
                    false => session.elevate().await,
                }
            };
            browser.visit(rotate).await;
        }
        assert_eq!(is_live(&site, &browser).await, lives, "{renews}");
    }
}

/// Shows TO-13.
#[tokio::test]
async fn a_step_up_checks_the_sign_in_age() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let recent = Duration::from_secs(300);
    let ask = move |session: Session| async move {
        session.authenticated_within(recent).await.map(|recent| recent.to_string())
    };
    site.clock.advance(recent);
    assert_eq!(browser.visit(ask).await.body, "true");
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(browser.visit(ask).await.body, "false");
    browser.visit(|session| async move { session.reauthenticate().await }).await.ok();
    assert_eq!(browser.visit(ask).await.body, "true");
}

#[tokio::test]
async fn an_unused_handle_does_not_touch() {
    let site = Site::new();
    let browser = site.visitor().await;
    for _ in 0..2 {
        site.clock.advance(IDLE / 2);
        browser.visit(|_| async { http::StatusCode::OK }).await;
    }
    assert!(!is_live(&site, &browser).await);
}

/// Reads, and waits for the touch.
async fn is_live(site: &Site, browser: &Browser) -> bool {
    let is_live = browser.value("seed").await.is_some();
    while site.layer.has_pending_work() {
        tokio::task::yield_now().await;
    }
    is_live
}
