//! No secret and no value anywhere but in the cookie.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Request, Response};
use steadfast::store::Operate;
use steadfast::store::conformance::faults::{Call, Fault};
use steadfast::{Error, Session};
use tower::{Layer, ServiceExt, service_fn};

use crate::site::{Reply, Site};

/// Shows AR-01.
#[tokio::test]
async fn the_store_holds_no_secret_in_any_encoding() {
    let site = Site::new();
    let tokens = journey(&site).await;
    let dump = format!("{:?}", site.store.scan(None, 100).await.unwrap());
    let digests: Vec<_> = site.store.scan(None, 100).await.unwrap().records;
    let digests = digests.iter().filter_map(|scanned| scanned.record.as_ref());
    let raw: Vec<u8> = digests.flat_map(|record| *record.secret.digest()).collect();
    for token in tokens {
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        let secret = &bytes[16..];
        assert!(!raw.windows(32).any(|window| window == secret));
        for shown in encodings(secret) {
            assert!(!dump.contains(&shown));
        }
    }
}

/// Shows LG-02.
#[tokio::test]
async fn debug_shows_no_token_and_no_value() {
    let site = Site::new();
    let seen = Arc::new(Mutex::new(String::new()));
    let shown = Arc::clone(&seen);
    let browser = site.browser();
    let reply = browser.visit(move |session| {
        let shown = Arc::clone(&shown);
        async move {
            session.insert("key", "marker-value").await?;
            session.login("marker-user").await?;
            *shown.lock().unwrap() = format!("{session:?} {session:#?}");
            Ok(())
        }
    });
    reply.await.ok();
    let mut text = seen.lock().unwrap().clone();
    text += &format!("{:?} {:#?} {:?}", site.layer, site.layer, site.store);
    text += &format!("{:?}", site.store.scan(None, 9).await.unwrap());
    assert!(!text.contains("marker") && !text.contains(&browser.token().unwrap()), "{text}");
}

/// Shows CA-07.
#[tokio::test]
async fn inner_layers_see_cookies_as_sensitive() {
    let shown = service_fn(|request: Request<()>| async move {
        Ok::<_, Infallible>(Response::new(format!("{request:?}")))
    });
    let request = Request::builder().header("cookie", "__Host-id=marker; a=marker").body(());
    let reply = Site::new().layer.layer(shown).oneshot(request.unwrap()).await.unwrap();
    let body = Reply::read(reply).await.body;
    assert!(body.contains("Sensitive") && !body.contains("marker"), "{body}");
}

/// Shows LG-03.
#[tokio::test]
async fn error_answers_say_nothing_of_the_store() {
    let site = Site::new();
    let browser = site.member("alice").await;
    for fault in [Fault::Down, Fault::AckLost] {
        for call in Call::ALL {
            site.store.once(call, fault.clone());
            let reply = browser.visit(|session: Session| async move {
                session.status().await?;
                session.insert("a", 1).await?;
                session.list().await?;
                session.end_others().await.map(drop)
            });
            let body = reply.await.body;
            let known = [
                "",
                "the session store failed: the operation is not confirmed",
                "another request rotated the session's token",
                "nobody is signed in",
            ];
            assert!(known.contains(&body.as_str()), "{body}");
            site.store.heal();
        }
    }
}

/// Shows ID-01.
#[tokio::test]
async fn tokens_are_unique_and_evenly_random() {
    let site = Site::new();
    let mut ones = [0_u32; 256];
    let mut seen = std::collections::HashSet::new();
    for _ in 0..10_000 {
        let browser = site.browser();
        browser.visit(|session| async move { session.insert("a", 1).await }).await.ok();
        let token = browser.token().unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for (bit, count) in ones.iter_mut().enumerate() {
            *count += u32::from(bytes[16 + bit / 8] >> (bit % 8) & 1);
        }
        assert!(seen.insert(token[..7].to_owned()) || seen.insert(token));
    }
    // Five standard deviations of 10,000 fair coins, for 256 coins together.
    assert!(ones.iter().all(|count| count.abs_diff(5_000) < 250), "{ones:?}");
}

/// A visit of every kind, and every token it handed out.
async fn journey(site: &Site) -> Vec<String> {
    let browser = site.visitor().await;
    let mut tokens = vec![browser.token().unwrap()];
    for step in 0..4 {
        let visit = move |session: Session| async move {
            match step {
                0 => session.login("alice").await,
                1 => session.elevate().await,
                2 => session.cycle_id().await,
                _ => session.csrf_token().await.map(drop),
            }?;
            Ok::<_, Error>(())
        };
        browser.visit(visit).await.ok();
        tokens.push(browser.token().unwrap());
    }
    tokens
}

fn encodings(secret: &[u8]) -> [String; 4] {
    let hex = |format: fn(&u8) -> String| secret.iter().map(format).collect::<String>();
    [
        hex(|byte| format!("{byte:02x}")),
        hex(|byte| format!("{byte:02X}")),
        STANDARD.encode(secret).trim_end_matches('=').to_owned(),
        format!("{secret:?}"),
    ]
}
