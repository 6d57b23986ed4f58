//! A store that fails: 503, never a stranger.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use http::StatusCode;
use steadfast::store::conformance::faults::{Call, Fault, FaultyStore};
use steadfast::store::{
    Env, Lookup, Proof, Random, RandomError, RequestHint, SystemClock, Token, forward_calls,
};
use steadfast::{
    Error, MemoryStore, RecordId, Session, SessionLayer, SessionStore, StoreError, Timeouts,
};

use crate::site::{Browser, Site};

/// Shows ST-01.
#[tokio::test]
async fn a_failed_load_keeps_the_cookie() {
    let site = Site::new();
    let browser = site.member("alice").await;
    site.store.set(Call::Load, Fault::Down);
    let ask = |session: Session| async move { session.status().await.map(drop) };
    let reply = browser.visit(ask).await;
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (StatusCode::SERVICE_UNAVAILABLE, Some("1"))
    );
    assert_eq!(reply.set_cookies(), [""; 0]);
    site.store.heal();
    assert_eq!(browser.user().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn a_failed_load_poisons_the_response() {
    for (answer, seen) in [(200, 503), (302, 503), (404, 404), (500, 500)] {
        let site = Site::new();
        let browser = site.member("alice").await;
        site.store.once(Call::Load, Fault::Down);
        let reply = browser.visit(move |session| async move {
            session.get::<i64>("seed").await.unwrap_err();
            assert!(matches!(session.insert("a", 1).await, Err(Error::Poisoned)));
            assert!(matches!(session.get::<i64>("seed").await, Err(Error::Poisoned)));
            assert!(matches!(session.increment("a", 1).await, Err(Error::Poisoned)));
            assert!(matches!(session.save().await, Err(Error::Poisoned)));
            assert!(matches!(session.flush().await, Err(Error::Poisoned)));
            StatusCode::from_u16(answer).unwrap()
        });
        let reply = reply.await;
        assert_eq!((reply.status.as_u16(), reply.set_cookies()), (seen, vec![]));
        assert_eq!(browser.value("a").await, None);
    }
}

/// Shows ST-02.
#[tokio::test]
async fn a_failed_commit_sets_no_cookie() {
    for call in [Call::Create, Call::Update] {
        let site = Site::new();
        let browser = if call == Call::Create { site.browser() } else { site.visitor().await };
        site.store.set(call, Fault::Down);
        let reply = browser.visit(|session| async move { session.login("alice").await }).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((reply.set_cookies(), reply.header("retry-after")), (vec![], Some("1")));
        site.store.heal();
        assert_eq!(browser.user().await, None);
        assert_eq!(browser.value("seed").await.is_some(), call == Call::Update);
    }
}

/// Shows ST-03.
#[tokio::test]
async fn requests_without_a_session_ignore_outages() {
    let site = Site::new();
    let browser = site.member("alice").await;
    site.store.set_all(&Fault::Hang);
    assert_eq!(browser.visit(|_| async { StatusCode::OK }).await.status, StatusCode::OK);
}

/// Shows LO-02.
#[tokio::test]
async fn an_unconfirmed_logout_is_an_error() {
    for swallow in [false, true] {
        let site = Site::new();
        let browser = site.member("alice").await;
        site.store.once(Call::Delete, Fault::Down);
        let logout = move |session: Session| async move {
            match session.flush().await {
                Err(_) if swallow => Ok(()),
                done => done,
            }
        };
        let reply = browser.visit(logout).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.set_cookies(), [""; 0]);
        assert_eq!(browser.user().await.as_deref(), Some("alice"));
        assert_eq!(browser.visit(logout).await.ok().set_cookies().len(), 1);
        assert_eq!(browser.user().await, None);
    }
}

/// Shows ST-05.
#[tokio::test]
async fn a_lost_answer_leaves_the_record_whole() {
    let site = Site::new();
    let browser = site.visitor().await;
    site.store.once(Call::Update, Fault::AckLost);
    let write = |session: Session| async move {
        session.insert("a", 1).await?;
        session.insert("b", 1).await
    };
    assert_eq!(browser.visit(write).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((browser.value("a").await, browser.value("b").await), (Some(1), Some(1)));
}

/// Shows FX-05.
#[tokio::test]
async fn a_failing_login_leaves_at_most_one_secret() {
    for call in [Call::Load, Call::Update] {
        for fault in [Fault::Down, Fault::AckLost] {
            let site = Site::new();
            let browser = site.visitor().await;
            let old = browser.fork();
            site.store.once(call, fault.clone());
            let reply = browser.visit(|session| async move { session.login("alice").await }).await;
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{call:?} {fault:?}");
            assert_eq!(reply.set_cookies(), [""; 0]);
            let is_replaced = call == Call::Update && matches!(fault, Fault::AckLost);
            assert_eq!(old.value("seed").await.is_none(), is_replaced, "{call:?} {fault:?}");
            assert_eq!(old.user().await, None);
        }
    }
}

/// Shows DS-09.
#[tokio::test(start_paused = true)]
async fn a_hanging_store_costs_only_the_timeout() {
    let timeouts =
        Timeouts::default().normal(Duration::from_millis(250)).critical(Duration::from_millis(750));
    let site = Site::with(|layer| layer.timeouts(timeouts));
    let browser = site.member("alice").await;
    site.store.set_all(&Fault::Hang);
    assert_eq!(time(&browser, Call::Load).await, timeouts.normal);
    site.store.set(Call::Load, Fault::None);
    assert_eq!(time(&browser, Call::Delete).await, timeouts.critical);
}

/// Shows ST-09.
#[tokio::test(start_paused = true)]
async fn a_dead_store_is_spared_most_requests() {
    let site = Site::new();
    let browser = site.member("alice").await;
    site.store.set_all(&Fault::Down);
    let before = site.store.calls(Call::Load);
    for _ in 0..1_000 {
        let ask = |session: Session| async move { session.status().await.map(drop) };
        assert_eq!(browser.visit(ask).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(site.store.calls(Call::Load) - before, 5);
    site.store.heal();
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!(browser.user().await.as_deref(), Some("alice"), "recovers within a second");
}

#[tokio::test]
async fn failed_writes_leave_reads_and_sign_outs() {
    for fault in [Fault::Down, Fault::ReadOnly] {
        let site = Site::new();
        let members = members(&site, 40).await;
        site.store.set(Call::Create, fault.clone());
        site.store.set(Call::Update, fault.clone());
        for _ in 0..40 {
            let add = |session: Session| async move { session.increment("n", 1).await.map(drop) };
            assert_eq!(site.browser().visit(add).await.status, StatusCode::SERVICE_UNAVAILABLE);
        }
        for member in &members {
            assert_eq!(member.user().await.as_deref(), Some("alice"), "{fault:?}");
        }
        for member in &members {
            member.visit(|session| async move { session.flush().await }).await.ok();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sign_outs_do_not_wait_for_reads() {
    let site = Site::new();
    let members = members(&site, 4).await;
    let others = members[3].id().await;
    site.store.set_all(&Fault::Down);
    let ask = |session: Session| async move { session.status().await.map(drop) };
    for _ in 0..20 {
        assert_eq!(members[0].visit(ask).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    site.store.heal();
    assert_eq!(members[0].visit(ask).await.status, StatusCode::SERVICE_UNAVAILABLE, "still open");
    let end = move |session: Session| async move { session.end(others).await.map(drop) };
    members[0].visit(end).await.ok();
    assert_eq!(site.records().await, 3);
    // That answer closed the breaker for reads; it opens again.
    site.store.set_all(&Fault::Down);
    for _ in 0..20 {
        assert_eq!(members[0].visit(ask).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    site.store.heal();
    members[1].visit(|session| async move { session.flush().await }).await.ok();
    assert_eq!(site.records().await, 2);
}

#[tokio::test(start_paused = true)]
async fn one_stuck_record_leaves_the_others_alone() {
    let site = Site::new();
    let others = members(&site, 8).await;
    let stuck = site.member("bob").await;
    let add = |session: Session| async move { session.increment("n", 1).await.map(drop) };
    tokio::time::advance(Duration::from_secs(60)).await;
    site.store.set(Call::Update, Fault::Hang);
    let waiting = join_all((0..12).map(|_| stuck.visit(add)));
    let healing = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        site.store.heal();
    };
    let (waited, ()) = tokio::join!(waiting, healing);
    assert!(waited.iter().all(|reply| reply.status == StatusCode::SERVICE_UNAVAILABLE));
    for n in 0..88 {
        others[n % 8].visit(add).await.ok();
    }
}

#[tokio::test]
async fn failures_of_single_records_do_not_spread() {
    for fault in [Fault::Busy, Fault::Corrupt] {
        let site = Site::new();
        let browser = site.member("alice").await;
        site.store.set(Call::Update, fault);
        let loaded_add = |session: Session| async move {
            session.principal().await?;
            session.increment("n", 1).await.map(drop)
        };
        for _ in 0..40 {
            assert_eq!(browser.visit(loaded_add).await.status, StatusCode::SERVICE_UNAVAILABLE);
        }
        site.store.heal();
        browser.visit(loaded_add).await.ok();
    }
}

#[tokio::test(start_paused = true)]
async fn writes_are_probed_although_sign_outs_fail() {
    let site = Site::new();
    let members = members(&site, 100).await;
    let add = |session: Session| async move { session.increment("n", 1).await.map(drop) };
    for call in [Call::Create, Call::Update, Call::Delete] {
        site.store.set(call, Fault::Down);
    }
    for member in &members {
        let before = site.store.calls(Call::Delete);
        member.visit(add).await;
        let reply = member.visit(|session| async move { session.flush().await }).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(site.store.calls(Call::Delete) - before, 1, "it is tried every time");
        tokio::time::advance(Duration::from_millis(20)).await;
    }
    site.store.heal();
    tokio::time::advance(Duration::from_millis(500)).await;
    members[0].visit(add).await.ok();
}

/// Shows IN-06.
#[tokio::test]
async fn a_corrupt_record_counts_as_absent() {
    let site = Site::new();
    let browser = site.member("alice").await;
    site.store.set(Call::Load, Fault::Corrupt);
    site.store.once(Call::Update, Fault::Corrupt);
    let before = browser.token();
    let add = |session: Session| async move { session.increment("n", 1).await.map(drop) };
    browser.visit(add).await.ok();
    assert!(browser.token().is_some() && browser.token() != before);
    assert_eq!(site.records().await, 2, "it is left as it is");
}

/// Shows ID-02.
#[tokio::test]
async fn without_randomness_a_request_fails_and_leaves_nothing() {
    let store = MemoryStore::builder().env(Env::new(SystemClock, NoRandom)).build();
    let site = Site::with(|_| SessionLayer::new(store));
    let browser = site.browser();
    let reply = browser.visit(|session| async move { session.insert("a", 1).await }).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(reply.set_cookies(), [""; 0]);
}

/// Shows RC-16.
#[tokio::test]
async fn another_sessions_record_is_rejected() {
    let site = Site::new();
    let (alice, bob) = (site.member("alice").await, site.member("bob").await);
    let answer = Token::decode(alice.token().unwrap().as_bytes()).unwrap().id();
    let liar = Liar { store: site.store.clone(), answer };
    let site = Site { layer: SessionLayer::new(liar), ..site };
    let browser = site.browser();
    browser.set_token(&bob.token().unwrap());
    let ask = |session: Session| async move {
        session.principal().await.map(|user| user.unwrap().id().to_owned())
    };
    let reply = browser.visit(ask).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply:?}");
}

/// Loads the same record, whichever it is asked for.
#[derive(Debug)]
struct Liar {
    store: FaultyStore,
    answer: RecordId,
}

#[async_trait]
impl SessionStore for Liar {
    forward_calls!(this => this.store, except load);

    async fn load(&self, _: RecordId, _: Option<&Proof>, hint: &RequestHint) -> Answer<Lookup> {
        self.store.load(self.answer, None, hint).await
    }
}

type Answer<T> = Result<T, StoreError>;

async fn members(site: &Site, count: usize) -> Vec<Browser> {
    join_all((0..count).map(|_| site.member("alice"))).await
}

async fn time(browser: &Browser, call: Call) -> Duration {
    let start = tokio::time::Instant::now();
    let reply = browser.request(move |session| async move {
        match call {
            Call::Delete => session.flush().await,
            _ => session.status().await.map(drop),
        }
    });
    assert_eq!(reply.await.status, StatusCode::SERVICE_UNAVAILABLE);
    start.elapsed()
}

#[derive(Debug)]
struct NoRandom;

impl Random for NoRandom {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError("none left".into()))
    }
}
