//! The facts of a session: its own lifetime, whether its cookie is persistent, and its labels.

use std::time::Duration;

use http::StatusCode;
use steadfast::store::Facts;
use steadfast::store::conformance::faults::Call;
use steadfast::{AtCap, Error, Lifetime, Login, SessionInfo};

use crate::site::{Browser, Reply, Site, cookie};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_sign_in_shortens_its_session() {
    let site = Site::new();
    let browser = site.visitor().await;
    login(&browser, Login::new("root").lifetime(Lifetime::OWASP_HIGH_VALUE)).await.ok();
    site.clock.advance(4 * MINUTE);
    assert_eq!(browser.user().await.as_deref(), Some("root"));
    site.clock.advance(5 * MINUTE);
    assert_eq!(browser.user().await, None);
}

#[tokio::test]
async fn a_session_lifetime_cannot_exceed_the_layers() {
    let site = Site::new();
    let browser = site.visitor().await;
    login(&browser, Login::new("alice").lifetime(Lifetime::NIST_AAL1)).await.ok();
    site.clock.advance(30 * MINUTE);
    assert_eq!(browser.user().await, None);
}

#[tokio::test]
async fn an_absolute_lifetime_ends_a_used_session() {
    let site = Site::new();
    let browser = site.visitor().await;
    let own = Lifetime::new(5 * MINUTE, 20 * MINUTE).unwrap();
    login(&browser, Login::new("alice").lifetime(own)).await.ok();
    for _ in 0..9 {
        site.clock.advance(2 * MINUTE);
        assert_eq!(browser.user().await.as_deref(), Some("alice"));
        // The touch outlives its request.
        site.layer.join().await;
    }
    site.clock.advance(2 * MINUTE);
    assert_eq!(browser.user().await, None);
}

#[tokio::test]
async fn a_blind_write_extends_no_shorter_life() {
    let site = Site::new();
    let browser = site.visitor().await;
    login(&browser, Login::new("root").lifetime(Lifetime::OWASP_HIGH_VALUE)).await.ok();
    let write = browser.visit(|session| async move { session.insert("n", 1).await });
    let cost = site.cost(write).await;
    assert_eq!(cost, [0, 0, 1, 0], "the write loads nothing");
    site.clock.advance(5 * MINUTE);
    assert_eq!(browser.user().await, None);
}

#[tokio::test]
async fn rotations_keep_what_the_sign_in_said() {
    let site = Site::new();
    let browser = site.visitor().await;
    let said = Login::new("alice").lifetime(Lifetime::OWASP_HIGH_VALUE).persistent(true);
    login(&browser, said.label("device", "Firefox on Linux")).await.ok();
    for rotation in [0, 1, 2] {
        let reply = browser.visit(move |session| async move {
            match rotation {
                0 => session.elevate().await,
                1 => session.reauthenticate().await,
                _ => session.cycle_id().await,
            }
        });
        let reply = reply.await.ok();
        assert!(reply.set_cookies()[0].contains("; Max-Age="), "{rotation}");
        let info = listed(&browser).await.remove(0);
        assert_eq!(info.facts.label("device"), Some("Firefox on Linux"), "{rotation}");
        assert_eq!(info.facts.lifetime(), Some(Lifetime::OWASP_HIGH_VALUE), "{rotation}");
    }
}

#[tokio::test]
async fn the_next_sign_in_replaces_what_was_said() {
    let site = Site::new();
    let browser = site.visitor().await;
    let said = Login::new("alice").lifetime(Lifetime::OWASP_HIGH_VALUE).label("device", "x");
    login(&browser, said).await.ok();
    login(&browser, Login::new("alice")).await.ok();
    assert_eq!(listed(&browser).await[0].facts, Facts::default());
    site.clock.advance(29 * MINUTE);
    assert_eq!(browser.user().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn the_cookie_follows_the_sign_in() {
    for (profile, said, is_persistent) in [
        (false, None, false),
        (false, Some(true), true),
        (true, None, true),
        (true, Some(false), false),
    ] {
        let host = steadfast::CookieProfile::host();
        let site = Site::with(cookie(if profile { host.persistent() } else { host }));
        let plain = Login::new("alice");
        let said = said.map_or(plain.clone(), |said| plain.persistent(said));
        let reply = login(&site.browser(), said).await.ok();
        let has_max_age = reply.set_cookies()[0].contains("; Max-Age=28800;");
        assert_eq!(has_max_age, is_persistent, "{profile} {is_persistent}");
    }
}

#[tokio::test]
async fn visitors_have_a_shorter_idle_life() {
    let site = Site::with(|layer| layer.visitor_idle(5 * MINUTE).unwrap());
    let (visitor, member) = (site.visitor().await, site.member("alice").await);
    visitor.visit(|session| async move { session.insert("n", 1).await }).await.ok();
    site.clock.advance(5 * MINUTE);
    assert_eq!(visitor.value("seed").await, None);
    site.clock.advance(24 * MINUTE);
    assert_eq!(member.user().await.as_deref(), Some("alice"), "a sign-in ends the shorter life");
}

#[tokio::test]
async fn a_list_shows_the_last_use() {
    let site = Site::new();
    let (here, there) = (site.visitor().await, site.visitor().await);
    login(&here, Login::new("alice").lifetime(Lifetime::OWASP_HIGH_VALUE)).await.ok();
    login(&there, Login::new("alice")).await.ok();
    let id = there.id().await;
    site.clock.advance(3 * MINUTE);
    assert_eq!(here.user().await.as_deref(), Some("alice"));
    site.layer.join().await;
    for info in listed(&here).await {
        let unused = if info.id == id { 3 * MINUTE } else { Duration::ZERO };
        assert_eq!(info.last_used, Some(site.now() - unused));
    }
}

#[tokio::test]
async fn a_session_says_when_it_ends() {
    let site = Site::new();
    let browser = site.visitor().await;
    login(&browser, Login::new("root").lifetime(Lifetime::OWASP_HIGH_VALUE)).await.ok();
    let ends = browser.request(|session| async move {
        let deadlines = session.deadlines().await?.unwrap();
        let left = session.expires_in().await?.unwrap();
        let absolute = deadlines.absolute - deadlines.idle;
        Ok::<_, Error>(format!("{} {}", left.as_secs(), absolute.whole_seconds()))
    });
    assert_eq!(ends.await.ok().body, format!("{} {}", 300, 4 * 3600 - 300));
}

#[tokio::test]
async fn an_oversized_label_fails_the_sign_in() {
    let site = Site::new();
    let browser = site.visitor().await;
    for (name, value) in [("a b", "x".to_owned()), ("device", "x".repeat(256))] {
        let reply = login(&browser, Login::new("alice").label(name, value)).await;
        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(browser.user().await, None);
    }
}

#[tokio::test]
async fn a_plain_sign_in_stores_no_facts() {
    let site = Site::new();
    let browser = site.visitor().await;
    let before = site.store.calls(Call::Load);
    login(&browser, Login::new("alice")).await.ok();
    assert_eq!(site.store.calls(Call::Load) - before, 1);
    assert!(listed(&browser).await[0].facts.is_empty());
}

#[tokio::test]
async fn a_sign_in_may_set_its_cap() {
    let site = Site::new();
    let (first, second, third) = (site.visitor().await, site.visitor().await, site.visitor().await);
    login(&first, Login::new("alice")).await.ok();
    let refused = Login::new("alice").max_sessions(1).at_cap(AtCap::Refuse);
    let reply = login(&second, refused).await;
    assert_eq!((reply.status, second.user().await), (StatusCode::CONFLICT, None));
    assert_eq!(second.value("seed").await, Some(1), "the visitor stays as they were");
    login(&third, Login::new("alice").max_sessions(1)).await.ok();
    assert_eq!((first.user().await, third.user().await.as_deref()), (None, Some("alice")));
}

async fn login(browser: &Browser, said: Login) -> Reply {
    browser
        .visit(move |session| {
            let said = said.clone();
            async move { session.login(said).await }
        })
        .await
}

/// Returns a list as a request shows it.
async fn listed(browser: &Browser) -> Vec<SessionInfo> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let reply = browser.request(move |session| {
        let sender = sender.clone();
        async move {
            let list = session.list().await?;
            sender.send(list).unwrap();
            Ok::<_, Error>(())
        }
    });
    reply.await.ok();
    receiver.recv().unwrap()
}
