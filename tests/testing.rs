//! The helpers for tests of applications.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use http::{Request, StatusCode, header};
use steadfast::store::conformance::faults::{Call, Fault, FaultyStore};
use steadfast::store::{Env, Store};
use steadfast::testing::{self, Clock, Site};
use steadfast::{CookieProfile, Error, Login, MemoryStore, Session, SessionLayer, SignedIn};

#[tokio::test]
async fn one_line_tests_a_signed_in_handler() {
    assert_eq!(Site::new(app).signed_in("alice").await.get("/me").await.text(), "alice");
}

#[tokio::test]
async fn a_visitor_is_signed_in_to_nothing() {
    assert_eq!(Site::new(app).visitor().get("/me").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_client_keeps_its_session_and_no_other() {
    let site = Site::new(app);
    let (one, other) = (site.visitor(), site.visitor());
    assert_eq!(one.post("/visit").await.ok().text(), "1");
    assert_eq!(one.clone().post("/visit").await.ok().text(), "2", "a clone is a tab");
    assert_eq!(other.post("/visit").await.ok().text(), "1");
}

#[tokio::test]
async fn a_visitor_keeps_values_through_the_sign_in() {
    let client = Site::new(app).visitor();
    client.post("/visit").await.ok();
    client.sign_in(Login::new("alice")).await;
    assert_eq!(client.get("/me").await.ok().text(), "alice");
    assert_eq!(client.post("/visit").await.ok().text(), "2");
}

#[tokio::test]
async fn a_sign_out_removes_the_client_cookie() {
    let client = Site::new(app).signed_in("alice").await;
    client.post("/logout").await.ok();
    let cookies = client.get("/cookies").await;
    assert_eq!(cookies.text(), "none");
}

#[tokio::test]
async fn a_test_can_prepare_a_session() {
    let client = Site::new(app).visitor();
    let seed = 41;
    let inserted = client.session(|session| async move { session.insert("visits", seed).await });
    inserted.await.unwrap();
    assert_eq!(client.post("/visit").await.ok().text(), "42");
}

#[tokio::test]
#[should_panic(expected = "a client can sign in")]
async fn an_invalid_sign_in_fails_the_test() {
    Site::new(app).signed_in("").await;
}

#[tokio::test]
#[should_panic(expected = "the session is not committed")]
async fn a_commit_that_fails_fails_the_test() {
    let (store, clock) = store();
    store.set(Call::Create, Fault::Down);
    Site::over(SessionLayer::new(store), clock, app).signed_in("alice").await;
}

#[tokio::test]
async fn a_test_can_let_a_session_time_out() {
    let site = Site::new(app);
    let client = site.signed_in("alice").await;
    site.clock().advance(Duration::from_secs(29 * 60));
    client.get("/me").await.ok();
    site.settled().await;
    site.clock().advance(Duration::from_secs(29 * 60));
    client.get("/me").await.ok();
    site.settled().await;
    site.clock().advance(Duration::from_secs(31 * 60));
    assert_eq!(client.get("/me").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn a_site_is_settled_once_deadlines_are_moved() {
    let (store, clock) = store();
    let site = Site::over(SessionLayer::new(store.clone()), clock, app);
    let client = site.signed_in("alice").await;
    for _ in 0..2 {
        site.clock().advance(Duration::from_secs(29 * 60));
        store.set(Call::Update, Fault::Slow(Duration::from_millis(300)));
        client.get("/me").await.ok();
        assert!(site.sessions().has_pending_work(), "the touch takes its time");
        site.settled().await;
        assert!(!site.sessions().has_pending_work());
    }
}

#[tokio::test]
async fn a_layer_with_other_settings_is_served() {
    let clock = Clock::default();
    let sessions = testing::layer(&clock).cookie(CookieProfile::dev()).unwrap();
    let site = Site::over(sessions, clock, app);
    assert_eq!(site.signed_in("alice").await.get("/me").await.text(), "alice");
}

#[tokio::test]
async fn a_header_client_keeps_its_token() {
    let clock = Clock::default();
    let sessions = testing::layer(&clock).header_only("x-session".parse().unwrap()).unwrap();
    let site = Site::over(sessions, clock, app);
    let client = site.signed_in("alice").await;
    let reply = client.get("/me").await;
    assert_eq!(reply.text(), "alice");
    assert_eq!(client.get("/cookies").await.text(), "none");
    client.post("/logout").await.ok();
    assert_eq!(client.get("/me").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn forms_and_json_arrive_as_such() {
    let client = Site::new(app).visitor();
    let form = client.post_form("/echo", "user=alice").await;
    assert_eq!(form.text(), "application/x-www-form-urlencoded user=alice");
    let json = client.post_json("/echo", &[1, 2]).await;
    assert_eq!(json.text(), "application/json [1,2]");
    let reply = client.send(Request::put("/echo").body("[3]".to_owned()).unwrap()).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(client.get("/numbers").await.json::<Vec<u8>>(), [1, 2]);
}

#[tokio::test]
async fn nothing_a_test_prints_shows_the_token() {
    let client = Site::new(app).signed_in("alice").await;
    let reply = client.post("/elevate").await.ok();
    let token = reply.headers[header::SET_COOKIE].to_str().unwrap();
    let token = token.split(['=', ';']).nth(1).unwrap();
    let printed = format!("{reply:?} {client:?}");
    assert!(!printed.contains(token), "{printed}");
}

fn app(sessions: SessionLayer) -> Router {
    let visit = |session: Session| async move {
        session.increment("visits", 1).await.map(|visits| visits.to_string())
    };
    let cookies = |headers: http::HeaderMap| async move {
        headers.get(header::COOKIE).map_or("none", |_| "some")
    };
    let echo = |headers: http::HeaderMap, body: String| async move {
        format!("{} {body}", headers[header::CONTENT_TYPE].to_str().unwrap())
    };
    Router::new()
        .route("/me", get(|user: SignedIn| async move { user.id().to_owned() }))
        .route("/visit", post(visit))
        .route("/elevate", post(|session: Session| async move { session.elevate().await }))
        .route("/logout", post(|session: Session| async move { session.flush().await }))
        .route("/cookies", get(cookies))
        .route("/echo", post(echo))
        .route("/numbers", get(|| async { Ok::<_, Error>("[1,2]") }))
        .layer(sessions)
}

/// A store that fails on demand, and its clock.
fn store() -> (FaultyStore, Clock) {
    let clock = Clock::default();
    let memory = MemoryStore::builder().env(Env::with_clock(clock.clone())).build();
    (FaultyStore::new(Arc::new(memory) as Arc<dyn Store>), clock)
}
