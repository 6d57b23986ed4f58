//! Sign-ins, and the sessions of users.

use http::StatusCode;
use steadfast::store::{Principal, Realm, Revocation, SessionStore};
use steadfast::{Error, Key, Login, Session};
use tokio::task::JoinSet;

use crate::site::{Browser, Site};

/// Shows FX-01.
#[tokio::test]
async fn a_login_replaces_the_token_and_keeps_values() {
    let site = Site::new();
    let browser = site.visitor().await;
    let planted = browser.fork();
    login(&browser, "alice").await;
    assert_ne!(browser.token(), planted.token());
    assert_eq!(
        (browser.user().await.as_deref(), browser.value("seed").await),
        (Some("alice"), Some(1))
    );
    assert_eq!((planted.user().await, planted.value("seed").await), (None, None));
    assert_eq!(site.records().await, 1, "nothing was copied");
}

/// Shows FX-02.
#[tokio::test]
async fn every_change_of_rights_replaces_the_token() {
    let browser = Site::new().member("alice").await;
    for change in [0, 1, 2] {
        let old = browser.fork();
        browser
            .visit(move |session| async move {
                match change {
                    0 => session.elevate().await,
                    1 => session.reauthenticate().await,
                    _ => session.cycle_id().await,
                }
            })
            .await
            .ok();
        assert_ne!(browser.token(), old.token(), "{change}");
        assert_eq!((browser.user().await.as_deref(), old.user().await), (Some("alice"), None));
    }
}

/// Shows FX-07.
#[tokio::test]
async fn a_login_drops_pre_auth_values() {
    const STATE: Key<i64> = Key::pre_auth("state");
    let browser = Site::new().visitor().await;
    browser.visit(|session| async move { session.insert(STATE, 1).await }).await.ok();
    assert_eq!(browser.value("~state").await, Some(1));
    let reply = browser.visit(|session| async move {
        session.insert("~buffered", 1).await?;
        session.login("alice").await?;
        session.insert("~late", 1).await
    });
    reply.await.ok();
    for (key, value) in
        [("~state", None), ("~buffered", None), ("~late", Some(1)), ("seed", Some(1))]
    {
        assert_eq!(browser.value(key).await, value, "{key}");
    }
}

#[tokio::test]
async fn a_login_as_somebody_else_takes_nothing_along() {
    let browser = Site::new().member("alice").await;
    login(&browser, "alice").await;
    assert_eq!(browser.value("seed").await, Some(1), "the same user keeps the values");
    login(&browser, "bob").await;
    assert_eq!((browser.user().await.as_deref(), browser.value("seed").await), (Some("bob"), None));
}

#[tokio::test]
async fn elevating_needs_somebody_signed_in() {
    let browser = Site::new().visitor().await;
    for reply in [
        browser.request(|session| async move { session.elevate().await }).await,
        browser.request(|session| async move { session.reauthenticate().await }).await,
        browser.request(|session| async move { session.list().await.map(drop) }).await,
        browser.request(|session| async move { session.end_all().await.map(drop) }).await,
    ] {
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    }
}

/// Shows LO-08.
#[tokio::test]
async fn one_ends_ones_own_sessions_and_no_others() {
    let site = Site::new();
    let (here, there, foreign) =
        (site.member("alice").await, site.member("alice").await, site.member("bob").await);
    let (there_id, foreign_id) = (handle(&there).await, handle(&foreign).await);
    let end = |handle: String| {
        here.visit(move |session: Session| {
            let handle = handle.parse().unwrap();
            async move { session.end(handle).await.map(|ended| ended.to_string()) }
        })
    };
    assert_eq!(end(foreign_id).await.ok().body, "false");
    assert_eq!(foreign.user().await.as_deref(), Some("bob"));
    assert_eq!(end(there_id).await.ok().body, "true");
    assert_eq!((there.user().await, here.user().await.as_deref()), (None, Some("alice")));
    assert_eq!(end(handle(&here).await).await.ok().set_cookies().len(), 1);
    assert_eq!((here.user().await, here.token()), (None, None));
}

/// Shows AR-02.
#[tokio::test]
async fn a_handle_opens_nothing() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let handle = handle(&browser).await;
    let stranger = site.browser();
    for token in
        [handle.clone(), handle.replace('-', ""), format!("{:A<64}", handle.replace('-', ""))]
    {
        stranger.set_token(&token);
        assert_eq!(stranger.user().await, None);
    }
}

/// Shows LO-06.
#[tokio::test]
async fn ending_others_keeps_this_session() {
    let site = Site::new();
    let (here, there) = (site.member("alice").await, site.member("alice").await);
    let old = here.fork();
    let end = |session: Session| async move { session.end_others().await.map(|n| n.to_string()) };
    assert_eq!(here.visit(end).await.ok().body, "1");
    assert_eq!((here.user().await.as_deref(), there.user().await), (Some("alice"), None));
    assert_eq!(old.user().await, None);
}

/// Shows LO-05.
#[tokio::test]
async fn ending_all_ends_this_one_too() {
    let site = Site::new();
    let (here, there) = (site.member("alice").await, site.member("alice").await);
    let reply = here.visit(|session| async move { session.end_all().await.map(|n| n.to_string()) });
    let reply = reply.await.ok();
    assert_eq!((reply.body.as_str(), reply.set_cookies().len()), ("2", 1));
    assert_eq!((here.user().await, there.user().await, site.records().await), (None, None, 0));
}

/// Shows LO-07.
#[tokio::test]
async fn a_login_with_an_old_epoch_is_refused() {
    let site = Site::new();
    let browser = site.visitor().await;
    let close = site.clone();
    let reply = browser.visit(move |session| {
        let site = close.clone();
        async move {
            session.login(Login::new("alice").epoch(1)).await?;
            let alice = Principal::new(Realm::default(), "alice").unwrap();
            site.store
                .delete_all(&alice, Revocation { epoch: Some(2), ..Revocation::LOGOUT })
                .await
                .map(drop)
                .unwrap();
            Ok(())
        }
    });
    assert_eq!(reply.await.status, StatusCode::CONFLICT);
    assert_eq!((browser.user().await, browser.value("seed").await), (None, Some(1)));
    let fresh = site.browser();
    let refused = |session: Session| async move { session.login("alice").await };
    assert_eq!(fresh.visit(refused).await.status, StatusCode::CONFLICT);
    let admitted =
        |session: Session| async move { session.login(Login::new("alice").epoch(2)).await };
    assert_eq!(fresh.visit(admitted).await.status, StatusCode::OK);
}

/// Shows LO-14.
#[tokio::test(flavor = "multi_thread")]
async fn the_cap_holds_under_parallel_logins() {
    let site = Site::with(|layer| layer.max_per_principal(3));
    let browsers: Vec<_> = (0..50).map(|_| site.browser()).collect();
    let logins = browsers.clone().into_iter().map(|browser| async move {
        login(&browser, "alice").await;
    });
    logins.collect::<JoinSet<_>>().join_all().await;
    let mut live = 0;
    for browser in &browsers {
        live += usize::from(browser.user().await.is_some());
    }
    assert_eq!((live, site.records().await), (3, 3));
}

/// Shows CS-03.
#[tokio::test]
async fn a_csrf_token_is_bound_to_the_login() {
    let site = Site::new();
    let (alice, bob) = (site.member("alice").await, site.member("bob").await);
    let token = csrf_token(&alice).await;
    assert_eq!(verify(&alice, &token).await, StatusCode::OK);
    assert_eq!(verify(&bob, &token).await, StatusCode::FORBIDDEN);
    login(&alice, "alice").await;
    assert_eq!(verify(&alice, &token).await, StatusCode::FORBIDDEN);
    let token = csrf_token(&alice).await;
    alice.visit(|session| async move { session.flush().await }).await.ok();
    assert_eq!(verify(&alice, &token).await, StatusCode::FORBIDDEN);
}

/// Shows CS-04.
#[tokio::test]
async fn a_csrf_token_looks_different_every_time() {
    let browser = Site::new().visitor().await;
    let (one, two) = (csrf_token(&browser).await, csrf_token(&browser).await);
    assert_ne!(one, two);
    for good in [&one, &two] {
        assert_eq!(verify(&browser, good).await, StatusCode::OK);
    }
    let flipped = if one.starts_with('A') { "B" } else { "A" }.to_owned() + &one[1..];
    for bad in ["", &one[1..], &flipped, &format!("{one}="), &"A".repeat(one.len())] {
        assert_eq!(verify(&browser, bad).await, StatusCode::FORBIDDEN, "{bad}");
    }
}

/// Shows LO-15.
#[tokio::test]
async fn a_long_lived_connection_learns_of_the_end() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let (send, receive) = tokio::sync::oneshot::channel();
    let send = std::sync::Arc::new(std::sync::Mutex::new(Some(send)));
    let connect = browser.request(move |session| {
        let send = send.clone();
        async move {
            let ended = session.ended();
            send.lock().unwrap().take().unwrap().send(ended).ok();
            session.status().await.map(drop)
        }
    });
    connect.await.ok();
    let ended = tokio::spawn(receive.await.unwrap());
    tokio::task::yield_now().await;
    assert!(!ended.is_finished());
    browser.visit(|session| async move { session.flush().await }).await.ok();
    ended.await.unwrap().unwrap();
}

/// Shows LO-10.
#[tokio::test]
async fn a_failing_listener_cannot_stop_an_end() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let token = browser.token().unwrap();
    let (send, receive) = tokio::sync::oneshot::channel();
    let send = std::sync::Arc::new(std::sync::Mutex::new(Some(send)));
    let listen = browser.visit(move |session| {
        let send = send.clone();
        async move {
            let ended = session.ended();
            let listener = tokio::spawn(async move {
                ended.await.unwrap();
                panic!("a listener fails");
            });
            send.lock().unwrap().take().unwrap().send(listener).ok();
            session.status().await.map(drop)
        }
    });
    listen.await.ok();
    browser.visit(|session| async move { session.flush().await }).await.ok();
    let listener: tokio::task::JoinHandle<()> = receive.await.unwrap();
    assert!(listener.await.unwrap_err().is_panic());
    browser.set_token(&token);
    assert_eq!((browser.user().await, site.records().await), (None, 0));
}

async fn login(browser: &Browser, user: &'static str) {
    browser.visit(move |session| async move { session.login(user).await }).await.ok();
}

async fn handle(browser: &Browser) -> String {
    let reply = browser.request(|session| async move {
        Ok::<_, Error>(session.handle().await?.unwrap().to_string())
    });
    reply.await.ok().body
}

async fn csrf_token(browser: &Browser) -> String {
    browser.visit(|session| async move { session.csrf_token().await }).await.ok().body
}

async fn verify(browser: &Browser, token: &str) -> StatusCode {
    let token = token.to_owned();
    let reply = browser.request(move |session| {
        let token = token.clone();
        async move { session.verify_csrf(&token).await }
    });
    reply.await.status
}
