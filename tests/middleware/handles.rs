//! Handles that outlive what they were loaded for: a sign-in by another request, an end, the head of
//! their response.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use http::StatusCode;
use steadfast::store::conformance::faults::{Call, Fault, FaultyStore};
use steadfast::store::{
    ChangeStream, Deleted, Deletion, EndReason, Keyring, SessionStore, forward_calls,
};
use steadfast::{Error, Key, Lifetime, Session, SessionLayer, Status};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower_http::timeout::TimeoutLayer;

use crate::site::{Browser, Reply, Site};

const STATE: Key<i64> = Key::pre_auth("state");

#[tokio::test]
async fn an_earlier_handle_changes_nothing() {
    let site = Site::new();
    let browser = site.visitor().await;
    let handle = leaked(&browser).await;
    let victim = browser.fork();
    let other = site.member("victim").await;
    sign_in(&victim, "victim").await;

    assert!(matches!(handle.increment("seed", 1).await, Err(Error::Superseded)));
    assert!(matches!(handle.update("seed", |_: Option<i64>| 9).await, Err(Error::Superseded)));
    assert!(matches!(handle.csrf_token().await, Err(Error::Superseded)));
    assert!(matches!(handle.touch().await, Err(Error::Superseded)));
    assert!(matches!(handle.reload().await, Err(Error::Superseded)));
    assert!(matches!(handle.save().await, Err(Error::Superseded)));
    assert!(matches!(handle.flush().await, Err(Error::Superseded)));
    assert!(matches!(handle.list().await, Err(Error::Superseded)));
    assert!(matches!(handle.end_all().await, Err(Error::Superseded)));
    assert!(matches!(handle.principal().await, Ok(None)));
    assert!(matches!(handle.get::<i64>("seed").await, Ok(None)));
    assert!(matches!(ended(&handle).await, Ok(EndReason::Superseded)));
    assert_eq!(victim.value("seed").await, Some(1));
    for browser in [victim, other] {
        assert_eq!(browser.user().await.as_deref(), Some("victim"));
    }
}

#[tokio::test]
async fn every_call_of_a_stale_handle_is_superseded() {
    let site = Site::new();
    for call in ["touch", "reload", "list", "flush", "end_all", "end", "ended", "save"] {
        let browser = site.member("alice").await;
        let handle = leaked(&browser).await;
        let victim = browser.fork();
        sign_in(&victim, "victim").await;
        let answer = match call {
            "touch" => {
                site.clock.advance(Duration::from_secs(600));
                handle.touch().await
            }
            "reload" => handle.reload().await,
            "list" => handle.list().await.map(drop),
            "flush" => handle.flush().await,
            "end_all" => handle.end_all().await.map(drop),
            "end" => handle.end(victim.id().await).await.map(drop),
            "save" => handle.increment("seed", 1).await.map(drop),
            _ => match ended(&handle).await {
                Ok(EndReason::Superseded) => Err(Error::Superseded),
                other => panic!("{other:?}"),
            },
        };
        assert!(matches!(answer, Err(Error::Superseded)), "{call}: {answer:?}");
        assert_eq!(victim.user().await.as_deref(), Some("victim"), "{call}");
        assert_eq!(victim.value("seed").await, None, "{call}");
    }
}

#[tokio::test]
async fn writes_from_before_a_sign_in_are_dropped() {
    let site = Site::new();
    let browser = site.visitor().await;
    let reply = overtaken(&site, &browser, "victim", |session| async move {
        session.insert("planted", 1).await
    });
    let (reply, victim) = reply.await;
    assert_eq!(reply.set_cookies(), [""; 0]);
    assert_eq!(victim.value("planted").await, None);
    assert_eq!(victim.user().await.as_deref(), Some("victim"));
}

#[tokio::test]
async fn an_earlier_sign_out_ends_nothing() {
    let site = Site::new();
    let browser = site.visitor().await;
    let reply =
        overtaken(&site, &browser, "victim", |session| async move { session.flush().await });
    let (reply, victim) = reply.await;
    assert_eq!((reply.status.as_u16(), reply.set_cookies().len()), (409, 0));
    assert_eq!(victim.user().await.as_deref(), Some("victim"));
}

#[tokio::test]
async fn a_late_sign_in_starts_another_session() {
    let site = Site::new();
    let browser = site.visitor().await;
    let (reply, victim) = overtaken(&site, &browser, "victim", |session| async move {
        session.insert("own", 7).await?;
        session.login("mallory").await
    })
    .await;
    let late = site.browser();
    late.keep(&reply.ok());
    assert_eq!(late.user().await.as_deref(), Some("mallory"));
    assert_eq!((late.value("own").await, late.value("seed").await), (Some(7), None));
    assert_eq!(victim.user().await.as_deref(), Some("victim"));
    assert_eq!(victim.value("own").await, None);
}

#[tokio::test]
async fn rotations_of_the_same_user_lose_no_update() {
    for rotation in ["cycle", "elevate", "reauthenticate", "login"] {
        let site = Site::new();
        let browser = site.member("alice").await;
        let gate = Arc::new(Semaphore::new(0));
        let write = tokio::spawn(gated(&browser, &gate, |session| async move {
            session.insert("late", 1).await
        }));
        wait_for_load(&site).await;
        let rotate = browser.visit(move |session| async move {
            match rotation {
                "cycle" => session.cycle_id().await,
                "elevate" => session.elevate().await,
                "reauthenticate" => session.reauthenticate().await,
                _ => session.login("alice").await,
            }
        });
        rotate.await.ok();
        gate.add_permits(1);
        write.await.unwrap().ok();
        assert_eq!(browser.value("late").await, Some(1), "{rotation}");
    }
}

#[tokio::test]
async fn a_sign_in_removes_unseen_pre_auth_values() {
    let site = Site::new();
    let browser = site.visitor().await;
    let gate = Arc::new(Semaphore::new(0));
    let login =
        tokio::spawn(gated(&browser, &gate, |session| async move { session.login("alice").await }));
    wait_for_load(&site).await;
    browser.visit(|session| async move { session.insert(STATE, 1).await }).await.ok();
    gate.add_permits(1);
    browser.keep(&login.await.unwrap().ok());
    assert_eq!(browser.user().await.as_deref(), Some("alice"));
    assert_eq!(browser.value("~state").await, None);
}

#[tokio::test]
async fn a_sign_in_keeps_later_writes() {
    let site = Site::new();
    let browser = site.visitor().await;
    browser.visit(|session| async move { session.insert(STATE, 1).await }).await.ok();
    let reply = browser.visit(|session| async move {
        session.login("alice").await?;
        session.update(STATE, |seen| seen.unwrap_or(10) + 1).await?;
        session.csrf_token().await
    });
    let token = reply.await.ok().body;
    assert_eq!(browser.value("~state").await, Some(11));
    let verify = browser.visit(move |session| {
        let token = token.clone();
        async move { session.verify_csrf(&token).await }
    });
    verify.await.ok();
}

#[tokio::test]
async fn a_sign_out_ends_every_presented_session() {
    let site = Site::new();
    let (one, other) = (site.member("alice").await, site.member("bob").await);
    let both = site.browser();
    both.set_cookie("__Host-id", &format!("{}; __Host-id={}", token(&one), token(&other)));
    let reply = both.request(|session| async move { session.flush().await }).await.ok();
    assert_eq!(reply.set_cookies().len(), 1);
    assert_eq!((one.user().await, other.user().await), (None, None));
    assert_eq!(site.records().await, 0);
}

#[tokio::test]
async fn a_partial_sign_out_is_an_error() {
    let site = Site::new();
    let (one, other) = (site.member("alice").await, site.member("bob").await);
    let both = site.browser();
    both.set_cookie("__Host-id", &format!("{}; __Host-id={}", token(&one), token(&other)));
    site.store.once(Call::Delete, Fault::Down);
    let reply = both.request(|session| async move { session.flush().await }).await;
    assert_eq!((reply.status.as_u16(), reply.set_cookies().len()), (503, 0));
}

#[tokio::test]
async fn a_stricter_lifetime_reaches_sessions_there_are() {
    let site = Site::with(|layer| layer.lifetime(Lifetime::NIST_AAL1));
    let browser = site.member("alice").await;
    site.clock.advance(Duration::from_secs(5 * 3_600));
    assert_eq!(browser.user().await.as_deref(), Some("alice"));
    site.layer.replace_lifetime(Lifetime::OWASP_HIGH_VALUE);
    assert_eq!(browser.user().await, None);
    assert_eq!(status(&browser).await, "Expired");
    let fresh = site.member("alice").await;
    let listed = fresh
        .request(|session| async move { Ok::<_, Error>(session.list().await?.len().to_string()) });
    assert_eq!(listed.await.ok().body, "1", "a list shows no session that is over");
}

#[tokio::test]
async fn an_expired_session_is_reported_as_expired() {
    let site = Site::new();
    let browser = site.member("alice").await;
    site.clock.advance(Duration::from_secs(1_800));
    assert_eq!(status(&browser).await, "Expired");
    let written = site.member("alice").await;
    site.clock.advance(Duration::from_secs(2_000));
    let reply = written.request(|session| async move {
        session.increment("n", 1).await?;
        Ok::<_, Error>(format!("{:?}", session.status().await?))
    });
    assert_eq!(reply.await.ok().body, "Expired", "a blind write learns it as well");
}

#[tokio::test]
async fn a_handle_can_load_after_the_head() {
    let site = Site::new();
    let browser = site.visitor().await;
    let handle = untouched(&browser).await;
    assert_eq!(handle.get::<i64>("seed").await.unwrap(), Some(1));
    assert_eq!(handle.increment("seed", 1).await.unwrap(), 2);
    let nobody = untouched(&site.browser()).await;
    assert_eq!(nobody.get::<i64>("seed").await.unwrap(), None);
    assert!(matches!(nobody.ended().await, Err(Error::NoSession)));
    assert!(matches!(nobody.touch().await, Err(Error::NoSession)));
}

#[tokio::test]
async fn a_reload_shows_what_others_committed() {
    let site = Site::new();
    let browser = site.visitor().await;
    let handle = leaked(&browser).await;
    browser.visit(|session| async move { session.insert("seed", 5).await }).await.ok();
    assert_eq!(handle.get::<i64>("seed").await.unwrap(), Some(1));
    handle.reload().await.unwrap();
    assert_eq!(handle.get::<i64>("seed").await.unwrap(), Some(5));
    browser.visit(|session| async move { session.flush().await }).await.ok();
    assert!(matches!(handle.reload().await, Err(Error::Ended)));
}

#[tokio::test]
async fn touches_of_a_stream_keep_its_session_alive() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let handle = leaked(&browser).await;
    let cost = site.calls();
    for _ in 0..4 {
        site.clock.advance(Duration::from_secs(1_700));
        handle.touch().await.unwrap();
        handle.touch().await.unwrap();
    }
    assert_eq!(site.calls()[2] - cost[2], 4, "one touch each time, and none again at once");
    assert_eq!(browser.user().await.as_deref(), Some("alice"));
    site.clock.advance(Duration::from_secs(1_800));
    assert!(matches!(handle.touch().await, Err(Error::Ended)));
}

#[tokio::test]
async fn an_end_says_why() {
    let site = Site::with(|layer| layer.max_per_principal(2));
    let first = site.member("alice").await;
    let (handle, same) = (untouched(&first).await, leaked(&first).await);
    let (one, two) = (spawn_ended(&handle), spawn_ended(&same));
    settle().await;
    // The cap ends the session whose sign-in is the oldest.
    site.clock.advance(Duration::from_secs(1));
    let second = site.member("alice").await;
    let handle = leaked(&second).await;
    let three = spawn_ended(&handle);
    site.member("alice").await;
    assert_eq!(reason(one).await, EndReason::Cap);
    assert_eq!(reason(two).await, EndReason::Cap);
    assert!(!three.is_finished());
    second.visit(|session| async move { session.flush().await }).await.ok();
    assert_eq!(reason(three).await, EndReason::Logout);
}

#[tokio::test(start_paused = true)]
async fn a_stream_learns_that_its_session_expired() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let ended = spawn_ended(&leaked(&browser).await);
    settle().await;
    site.clock.advance(Duration::from_secs(1_800));
    assert_eq!(reason(ended).await, EndReason::Expired);
}

#[tokio::test]
async fn a_call_that_meets_an_expiry_tells_it() {
    for call in ["reload", "touch", "increment", "elevate"] {
        let site = Site::new();
        let browser = site.member("alice").await;
        let clock = site.clock.clone();
        let handle = met(&browser, call, move || clock.advance(Duration::from_secs(1_800))).await;
        assert_eq!(ended(&handle).await.unwrap(), EndReason::Expired, "{call}");
    }
}

#[tokio::test]
async fn a_call_after_a_sign_out_says_so() {
    for call in ["reload", "touch", "increment", "elevate"] {
        let site = Site::new();
        let browser = site.member("alice").await;
        let (store, id) = (site.store.clone(), browser.id().await);
        let end = move || {
            let ended = store.delete(id, &Deletion::LOGOUT).now_or_never();
            assert!(matches!(ended, Some(Ok(Deleted::Ended))), "{ended:?}");
        };
        site.clock.advance(Duration::from_secs(600));
        let handle = met(&browser, call, end).await;
        assert_eq!(ended(&handle).await.unwrap(), EndReason::Logout, "{call}");
    }
}

#[tokio::test]
async fn a_reload_applies_a_stricter_lifetime() {
    let site = Site::with(|layer| layer.lifetime(Lifetime::NIST_AAL1));
    let handle = leaked(&site.member("alice").await).await;
    site.clock.advance(Duration::from_secs(5 * 3_600));
    site.layer.replace_lifetime(Lifetime::OWASP_HIGH_VALUE);
    assert!(matches!(handle.reload().await, Err(Error::Ended)));
    assert_eq!(ended(&handle).await.unwrap(), EndReason::Expired);
}

#[tokio::test]
async fn a_stricter_lifetime_stops_writes() {
    for call in ["touch", "increment", "elevate", "list"] {
        let site = Site::with(|layer| layer.lifetime(Lifetime::NIST_AAL1));
        let browser = site.member("alice").await;
        let (clock, layer) = (site.clock.clone(), site.layer.clone());
        let before = site.calls()[2];
        let handle = met(&browser, call, move || {
            clock.advance(Duration::from_secs(5 * 3_600));
            layer.replace_lifetime(Lifetime::OWASP_HIGH_VALUE);
        });
        let handle = handle.await;
        assert_eq!(site.calls()[2], before, "{call}");
        assert_eq!(ended(&handle).await.unwrap(), EndReason::Expired, "{call}");
    }
}

#[tokio::test]
async fn a_blind_write_after_the_end_stays_unread() {
    let site = Site::with(|layer| layer.lifetime(Lifetime::NIST_AAL1));
    let browser = site.member("alice").await;
    site.clock.advance(Duration::from_secs(5 * 3_600));
    site.layer.replace_lifetime(Lifetime::OWASP_HIGH_VALUE);
    let write = |session: Session| async move {
        session.increment("n", 1).await?;
        Ok::<_, Error>(format!("{:?}", session.get::<i64>("n").await?))
    };
    assert_eq!(browser.visit(write).await.ok().body, "None");
    assert_eq!(browser.value("n").await, None);
}

#[tokio::test]
async fn an_earlier_handle_survives_a_reauthentication() {
    let site = Site::with(|layer| layer.lifetime(Lifetime::OWASP_LOW_RISK));
    let browser = site.member("alice").await;
    let handle = leaked(&browser).await;
    for _ in 0..20 {
        site.clock.advance(Duration::from_secs(1_500));
        browser.visit(|session| async move { session.reauthenticate().await }).await.ok();
    }
    assert_eq!(handle.increment("n", 1).await.unwrap(), 1);
    handle.touch().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stricter_lifetime_ends_streams_that_are_over() {
    let site = Site::with(|layer| layer.lifetime(Lifetime::NIST_AAL1));
    let old = spawn_ended(&leaked(&site.member("alice").await).await);
    site.clock.advance(Duration::from_secs(3 * 3_600));
    let young = spawn_ended(&leaked(&site.member("alice").await).await);
    settle().await;
    site.clock.advance(Duration::from_secs(2 * 3_600));
    site.layer.replace_lifetime(Lifetime::OWASP_HIGH_VALUE);
    assert_eq!(reason(old).await, EndReason::Expired);
    assert!(!young.is_finished());
    site.clock.advance(Duration::from_secs(2 * 3_600));
    assert_eq!(reason(young).await, EndReason::Expired);
}

#[tokio::test]
async fn closing_the_layer_ends_streams_and_no_session() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let ended = spawn_ended(&leaked(&browser).await);
    settle().await;
    site.layer.close();
    assert_eq!(reason(ended).await, EndReason::Shutdown);
    let late = leaked(&browser).await;
    assert_eq!(late.ended().await.unwrap(), EndReason::Shutdown);
    assert_eq!(browser.user().await.as_deref(), Some("alice"));
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_no_end() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let handle = leaked(&browser).await;
    site.store.set(Call::Load, Fault::Down);
    assert!(matches!(untouched(&browser).await.ended().await, Err(Error::Store(_))));
    let ended = spawn_ended(&handle);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!ended.is_finished());
    site.store.heal();
    browser.visit(|session| async move { session.flush().await }).await.ok();
    assert_eq!(reason(ended).await, EndReason::Logout);
}

#[tokio::test(start_paused = true)]
async fn idle_streams_cost_no_store_calls() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let handle = leaked(&browser).await;
    let before = site.calls()[0];
    let streams: Vec<_> = (0..100_000).map(|_| spawn_ended(&handle)).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = site.calls()[0] - before;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(site.calls()[0] - before, started, "idle streams ask nothing");
    browser.visit(|session| async move { session.flush().await }).await.ok();
    for stream in streams {
        assert_eq!(reason(stream).await, EndReason::Logout);
    }
}

#[tokio::test(start_paused = true)]
async fn streams_without_a_feed_learn_of_ends() {
    for (streams, seconds) in [(1, 1), (3_000, 10)] {
        let site = Site::new();
        let site = Site { layer: SessionLayer::new(Unheard(site.store.clone())), ..site };
        let browser = site.member("alice").await;
        let handle = leaked(&browser).await;
        let mut others = Vec::new();
        for _ in 1..streams {
            others.push(spawn_ended(&leaked(&site.visitor().await).await));
        }
        let ended = spawn_ended(&handle);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = site.calls()[0];
        browser.visit(|session| async move { session.flush().await }).await.ok();
        let start = tokio::time::Instant::now();
        assert_eq!(reason(ended).await, EndReason::Logout);
        assert!(start.elapsed() <= Duration::from_secs(seconds), "{:?}", start.elapsed());
        tokio::time::sleep_until(start + Duration::from_secs(10)).await;
        let per_second = (site.calls()[0] - asked) / 10;
        assert!(per_second <= 2 * (streams / 10).max(1), "{per_second} looks in a second");
    }
}

/// A store that reports no changes.
#[derive(Debug)]
struct Unheard(FaultyStore);

#[async_trait]
impl SessionStore for Unheard {
    forward_calls!(this => this.0, except changes);

    fn changes(&self) -> Option<ChangeStream> {
        None
    }
}

#[tokio::test]
async fn keys_are_replaced_in_a_running_service() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let ring = |name: &str, key: u8| Keyring::keyed(name, &[key; 32]).unwrap();
    for next in [
        ring("k1", 1).accept_unkeyed(),
        ring("k1", 1).accept("k2", &[2; 32]).unwrap(),
        ring("k2", 2).accept("k1", &[1; 32]).unwrap(),
        ring("k2", 2),
    ] {
        site.layer.replace_keyring(next);
        assert_eq!(browser.user().await.as_deref(), Some("alice"));
        browser
            .request(|session| async move { session.increment("n", 1).await.map(drop) })
            .await
            .ok();
    }
    assert_eq!(browser.value("n").await, Some(4));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_was_cut_off_leaves_nothing() {
    let site = Site::new();
    for mode in ["login", "inserts"] {
        let browser = site.visitor().await;
        let reply = cut_off(&site, &browser, move |session| async move {
            match mode {
                "login" => session.login("alice").await?,
                _ => session.insert("first", 1).await?,
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            session.insert("second", 2).await
        });
        let reply = reply.await;
        assert_eq!((reply.status.as_u16(), reply.set_cookies().len()), (408, 0), "{mode}");
        assert_eq!(browser.user().await, None);
        assert_eq!((browser.value("first").await, browser.value("second").await), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_returned_handler_is_not_abandoned() {
    let site = Site::new();
    let browser = site.visitor().await;
    let reply = cut_off(&site, &browser, |session| async move {
        session.login("alice").await?;
        let kept = session.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(kept);
        });
        Ok(())
    });
    browser.keep(&reply.await.ok());
    assert_eq!(browser.user().await.as_deref(), Some("alice"));
}

/// Runs a request behind a timeout that is inside the session layer, and answers 408.
async fn cut_off<F>(
    site: &Site,
    browser: &Browser,
    act: impl Fn(Session) -> F + Clone + Send + Sync + 'static,
) -> Reply
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let handler = axum::routing::get(move |request: axum::extract::Request| {
        let session = request.extensions().get::<Session>().cloned().expect("the layer adds it");
        act(session)
    });
    let timely = axum::Router::new()
        .route("/", handler)
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(1)))
        .layer(site.layer.clone());
    let cookie = format!("__Host-id={}", token(browser));
    let request = http::Request::get("/").header("cookie", cookie);
    let request = request.body(axum::body::Body::empty()).unwrap();
    Reply::read(tower::ServiceExt::oneshot(timely, request).await.unwrap()).await
}

/// A handle that loaded its session, and outlives its request.
pub async fn leaked(browser: &Browser) -> Session {
    leak(browser, |session| async move { session.status().await.map(drop) }).await
}

/// A handle that its request never used.
pub async fn untouched(browser: &Browser) -> Session {
    leak(browser, |_| async { Ok(()) }).await
}

async fn leak<F>(
    browser: &Browser,
    use_it: impl Fn(Session) -> F + Clone + Send + 'static,
) -> Session
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (session, reply) = kept(browser, use_it).await;
    reply.ok();
    session
}

/// Runs a request, and keeps its handle.
async fn kept<F>(
    browser: &Browser,
    use_it: impl Fn(Session) -> F + Clone + Send + 'static,
) -> (Session, Reply)
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let slot = Arc::new(std::sync::Mutex::new(None));
    let put = Arc::clone(&slot);
    let request = browser.request(move |session| {
        *put.lock().unwrap() = Some(session.clone());
        use_it(session)
    });
    let reply = request.await;
    let session = slot.lock().unwrap().take();
    (session.unwrap(), reply)
}

/// A handle whose session is over by the time of this call, which it makes outside its request, or in
/// its commit.
async fn met(
    browser: &Browser,
    call: &'static str,
    end: impl Fn() + Send + Sync + 'static,
) -> Session {
    if call == "elevate" {
        let end = Arc::new(end);
        let late = move |session: Session| {
            let end = Arc::clone(&end);
            async move { session.elevate().await.inspect(|()| end()) }
        };
        let (handle, reply) = kept(browser, late).await;
        assert_eq!(reply.status, StatusCode::CONFLICT);
        return handle;
    }
    let handle = leaked(browser).await;
    end();
    let met = match call {
        "reload" => handle.reload().await,
        "touch" => handle.touch().await,
        "list" => handle.list().await.map(drop),
        _ => handle.increment("n", 1).await.map(drop),
    };
    assert!(matches!(met, Err(Error::Ended)), "{call}: {met:?}");
    handle
}

/// Runs a request that loads its session, lets another user sign in to it, and only then acts.
async fn overtaken<F>(
    site: &Site,
    browser: &Browser,
    user: &'static str,
    act: impl Fn(Session) -> F + Clone + Send + Sync + 'static,
) -> (Reply, Browser)
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let gate = Arc::new(Semaphore::new(0));
    let request = tokio::spawn(gated(browser, &gate, act));
    wait_for_load(site).await;
    let victim = browser.fork();
    sign_in(&victim, user).await;
    gate.add_permits(1);
    (request.await.unwrap(), victim)
}

fn gated<F>(
    browser: &Browser,
    gate: &Arc<Semaphore>,
    act: impl Fn(Session) -> F + Clone + Send + Sync + 'static,
) -> impl Future<Output = Reply> + Send + 'static
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let gate = Arc::clone(gate);
    browser.request(move |session| {
        let (gate, act) = (Arc::clone(&gate), act.clone());
        async move {
            session.status().await?;
            gate.acquire().await.unwrap().forget();
            act(session).await
        }
    })
}

/// Waits until a request that was just spawned has loaded its session.
async fn wait_for_load(site: &Site) {
    let before = site.calls()[0];
    while site.calls()[0] == before {
        tokio::task::yield_now().await;
    }
    settle().await;
}

async fn sign_in(browser: &Browser, user: &'static str) {
    browser.visit(move |session| async move { session.login(user).await }).await.ok();
}

async fn ended(session: &Session) -> Result<EndReason, Error> {
    timeout(Duration::from_secs(60), session.ended()).await.expect("it ends")
}

fn spawn_ended(session: &Session) -> tokio::task::JoinHandle<EndReason> {
    let ended = session.ended();
    tokio::spawn(async move { ended.await.unwrap() })
}

async fn reason(ended: tokio::task::JoinHandle<EndReason>) -> EndReason {
    timeout(Duration::from_secs(60), ended).await.expect("it ends").unwrap()
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

async fn status(browser: &Browser) -> String {
    let reply = browser.request(|session| async move {
        let status: Status = session.status().await?;
        Ok::<_, Error>(format!("{status:?}"))
    });
    reply.await.ok().body
}

fn token(browser: &Browser) -> String {
    browser.token().unwrap()
}
