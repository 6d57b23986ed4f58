//! One test for each invariant of `ARCHITECTURE.md`. Numbers 11 and 12 need more than one node, and are tested elsewhere.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use steadfast::store::conformance::faults::{Call, Fault};
use steadfast::store::{Clock, Lookup, Operate, Record, RequestHint, SessionStore, Token};
use steadfast::{Error, Session};

use crate::site::{Browser, Site};

/// Invariant 1.
#[tokio::test]
async fn a_deleted_record_has_no_live_token() {
    let site = Site::new();
    let browser = site.visitor().await;
    let tokens = rotate_through(&browser).await;
    let held = browser.request(|session| async move {
        session.status().await?;
        tokio::task::yield_now().await;
        session.insert("late", 1).await
    });
    let held = tokio::spawn(held);
    tokio::task::yield_now().await;
    browser.visit(|session| async move { session.flush().await }).await.ok();
    held.await.unwrap();
    assert_eq!(live(&site, &tokens).await, [false; 5]);
}

/// Invariant 2.
#[tokio::test]
async fn at_most_one_secret_is_live() {
    let site = Site::new();
    let browser = site.visitor().await;
    let tokens = rotate_through(&browser).await;
    assert!(tokens.iter().all(|token| token[..21] == tokens[0][..21]), "it is one record");
    assert_eq!(live(&site, &tokens).await, [false, false, false, false, true]);
}

/// Invariant 3.
#[tokio::test]
async fn an_update_never_creates_a_record() {
    let site = Site::new();
    let browser = site.visitor().await;
    let stale = browser.fork();
    browser.visit(|session| async move { session.flush().await }).await.ok();
    let reply = stale.visit(|session| async move { session.insert("late", 1).await }).await.ok();
    assert_eq!((reply.set_cookies().len(), site.records().await), (1, 1));
    assert!(stale.token() != browser.token(), "it starts a session of its own");
}

/// Invariant 4.
#[tokio::test]
async fn an_expired_record_never_lives_again() {
    let site = Site::new();
    let browser = site.visitor().await;
    let born = site.clock.now();
    site.clock.advance(Duration::from_secs(1_800));
    assert_eq!(browser.value("seed").await, None);
    site.clock.set(born);
    assert_eq!(browser.value("seed").await, None, "not even when the clock goes back");
}

/// Invariant 5.
#[tokio::test]
async fn only_authentication_moves_the_absolute_deadline() {
    let site = Site::new();
    let browser = site.member("alice").await;
    for (step, moves) in [(0, false), (1, false), (2, false), (3, false), (4, true), (5, true)] {
        let before = absolute_deadline(&site).await;
        site.clock.advance(Duration::from_secs(600));
        let act = move |session: Session| async move {
            match step {
                0 => session.insert("a", 1).await,
                1 => session.status().await.map(drop),
                2 => session.cycle_id().await,
                3 => session.elevate().await,
                4 => session.reauthenticate().await,
                _ => session.login("alice").await,
            }
        };
        browser.visit(act).await.ok();
        assert_eq!(absolute_deadline(&site).await > before, moves, "{step}");
    }
}

/// Invariant 6.
#[tokio::test]
async fn a_request_sees_only_its_own_record() {
    let site = Site::new();
    let (alice, bob) = (site.member("alice").await, site.member("bob").await);
    assert_eq!(
        (alice.user().await.as_deref(), bob.user().await.as_deref()),
        (Some("alice"), Some("bob"))
    );
    let both = format!("__Host-id={}; __Host-id={}", alice.token().unwrap(), bob.token().unwrap());
    let reply = site.browser().request_with(&[("cookie", &both)], |session| async move {
        assert_eq!(session.principal().await?, None);
        session.handle().await.map(|handle| assert_eq!(handle, None))
    });
    reply.await.ok();
}

/// Invariant 7.
#[tokio::test]
async fn a_response_sets_at_most_one_live_token() {
    let site = Site::new();
    for status in [200, 302, 404, 500] {
        let browser = site.browser();
        let reply = browser.visit(move |session| async move {
            session.increment("n", 1).await.unwrap();
            session.login("alice").await.unwrap();
            session.cycle_id().await.unwrap();
            StatusCode::from_u16(status).unwrap()
        });
        assert_eq!(reply.await.set_cookies().len(), 1);
        assert_eq!(browser.value("n").await, Some(1), "{status}");
    }
}

/// Invariant 8.
#[tokio::test]
async fn an_operation_is_atomic_or_unconfirmed() {
    for (fault, happened) in [(Fault::Down, None), (Fault::AckLost, Some(1))] {
        let site = Site::new();
        let browser = site.visitor().await;
        site.store.once(Call::Update, fault);
        let reply = browser.visit(|session| async move {
            session.insert("a", 1).await?;
            session.insert("b", 1).await
        });
        assert_eq!(reply.await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((browser.value("a").await, browser.value("b").await), (happened, happened));
    }
}

/// Invariant 9.
#[tokio::test]
async fn a_flood_of_visitors_ends_no_users_session() {
    let site = Site::with_budget(1_000);
    let members = [site.member("alice").await, site.member("bob").await];
    let visitor = site.visitor().await;
    for _ in 0..10_000 {
        site.visitor().await;
    }
    for member in members {
        assert!(member.user().await.is_some());
    }
    assert_eq!(visitor.value("seed").await, None);
    assert!(site.records().await <= 1_002);
    assert!(site.member("late").await.user().await.is_some(), "DS-04: one can still sign in");
}

/// Invariant 10.
#[tokio::test]
async fn no_secret_is_kept_or_shown() {
    let site = Site::new();
    let browser = site.visitor().await;
    let tokens = rotate_through(&browser).await;
    let page = site.store.scan(None, 10).await.unwrap();
    let shown = format!("{page:?} {:?} {:?}", site.store, site.layer);
    for token in tokens {
        let secret = URL_SAFE_NO_PAD.decode(&token).unwrap()[16..].to_vec();
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!shown.contains(&token[22..]) && !shown.contains(&hex));
        for scanned in &page.records {
            let record = scanned.record.as_ref().unwrap();
            assert_ne!(record.secret.digest()[..], secret[..]);
            assert!(record.values.iter().all(|(_, value)| !value.ends_with(&secret)));
        }
    }
}

/// Invariant 13.
#[tokio::test]
async fn a_wrong_proof_never_changes_a_record() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let before = record(&site, &browser).await;
    let right = browser.token().unwrap();
    let flip = |c: char| if c == 'A' { 'B' } else { 'A' };
    let wrong = format!("{}{}", &right[..63], flip(right.chars().last().unwrap()));
    for step in 0..9 {
        let forger = site.browser();
        forger.set_token(&wrong);
        let act = move |session: Session| async move {
            match step {
                0 => session.insert("a", 1).await,
                1 => session.increment("seed", 1).await.map(drop),
                2 => session.update("seed", |_: Option<i64>| 9).await.map(drop),
                3 => session.clear().await,
                4 => session.flush().await,
                5 => session.cycle_id().await,
                6 => session.end_all().await.map(drop),
                7 => session.status().await.map(drop),
                _ => session.login("mallory").await,
            }
        };
        let reply = forger.visit(act).await;
        assert!(reply.set_cookies().iter().all(|line| line.len() > 64), "{step}");
        assert_eq!(record(&site, &browser).await, before, "{step}");
    }
    assert_eq!(browser.user().await.as_deref(), Some("alice"));
}

/// Replaces the token in every way; the five tokens, the last one live.
async fn rotate_through(browser: &Browser) -> Vec<String> {
    let mut tokens = vec![browser.token().unwrap()];
    for step in 0..4 {
        let rotate = move |session: Session| async move {
            match step {
                0 => session.cycle_id().await,
                1 => session.login("alice").await,
                2 => session.elevate().await,
                _ => session.reauthenticate().await,
            }
        };
        browser.visit(rotate).await.ok();
        tokens.push(browser.token().unwrap());
    }
    tokens
}

async fn live(site: &Site, tokens: &[String]) -> Vec<bool> {
    let mut live = Vec::new();
    for token in tokens {
        let browser = site.browser();
        browser.set_token(token);
        let seen = browser.request(|session| async move {
            Ok::<_, Error>(session.handle().await?.map(|id| id.to_string()).unwrap_or_default())
        });
        live.push(!seen.await.ok().body.is_empty());
    }
    live
}

async fn record(site: &Site, browser: &Browser) -> Arc<Record> {
    let id = Token::decode(browser.token().unwrap().as_bytes()).unwrap().id();
    let found = site.store.load(id, None, &RequestHint::default()).await.unwrap();
    let Lookup::Found(found) = found else { panic!("{found:?}") };
    found.record
}

async fn absolute_deadline(site: &Site) -> steadfast::store::Timestamp {
    let page = site.store.scan(None, 1).await.unwrap();
    page.records[0].record.as_ref().unwrap().absolute_deadline
}
