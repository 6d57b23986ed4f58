//! The session in axum handlers, imported as applications do it.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt;
use steadfast::store::Store;
use steadfast::store::conformance::faults::{Call, Fault, FaultyStore};
// The glob must not hide the standard `core`, which macros and the line below name.
use steadfast::*;
use tower::ServiceExt;

#[tokio::test]
async fn a_session_can_be_optional() {
    let handler = |session: Option<Session>| async move {
        let mut text = core::str::from_utf8(b"session: ").unwrap().to_owned();
        write!(text, "{}", session.is_some()).unwrap();
        text
    };
    let routes = || Router::new().route("/", get(handler));
    let layered = routes().layer(SessionLayer::new(MemoryStore::new()));
    assert_eq!(send(routes(), Request::get("/")).await, (StatusCode::OK, "session: false".into()));
    assert_eq!(send(layered, Request::get("/")).await, (StatusCode::OK, "session: true".into()));
}

#[tokio::test]
async fn a_handler_for_users_refuses_visitors() {
    let app = members().layer(SessionLayer::new(MemoryStore::new()));
    let visitor =
        app.clone().oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(visitor.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(visitor.headers()[header::WWW_AUTHENTICATE], "Session");
    let cookie = signed_in(&app).await;
    let member = send(app, Request::get("/").header(header::COOKIE, cookie)).await;
    assert_eq!(member, (StatusCode::OK, "alice".into()));
}

#[tokio::test]
async fn a_handler_for_users_may_serve_visitors_too() {
    let app = members().layer(SessionLayer::new(MemoryStore::new()));
    let visitor = send(app.clone(), Request::get("/home")).await;
    assert_eq!(visitor, (StatusCode::OK, "nobody".into()));
    let cookie = signed_in(&app).await;
    let member = send(app, Request::get("/home").header(header::COOKIE, cookie)).await;
    assert_eq!(member, (StatusCode::OK, "alice".into()));
    let bare = send(members(), Request::get("/home")).await;
    assert_eq!(bare, (StatusCode::OK, "nobody".into()), "there is no layer");
}

#[tokio::test]
async fn an_outage_makes_no_visitor_of_a_user() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()) as Arc<dyn Store>);
    let app = members().layer(SessionLayer::new(store.clone()));
    let cookie = signed_in(&app).await;
    store.set(Call::Load, Fault::Down);
    for path in ["/", "/home"] {
        let request = Request::get(path).header(header::COOKIE, &cookie);
        assert_eq!(send(app.clone(), request).await.0, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
}

#[tokio::test]
async fn a_user_extractor_needs_a_layer() {
    assert_eq!(send(members(), Request::get("/")).await.0, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_status_shows_its_name() {
    let status = |session: Session| async move {
        Ok::<_, Error>(serde_json::to_string(&session.status().await?).unwrap())
    };
    let app = Router::new().route("/", get(status)).layer(SessionLayer::new(MemoryStore::new()));
    assert_eq!(send(app, Request::get("/")).await, (StatusCode::OK, "\"new\"".into()));
}

#[tokio::test]
async fn a_handle_can_be_part_of_a_path() {
    let end = |session: Session, Path(handle): Path<RecordId>| async move {
        session.login("alice").await?;
        Ok::<_, Error>(session.end(handle).await?.to_string())
    };
    let app = Router::new()
        .route("/sessions/{handle}/end", post(end))
        .layer(SessionLayer::new(MemoryStore::new()));
    let known = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let request = Request::post(format!("/sessions/{known}/end"));
    assert_eq!(send(app.clone(), request).await, (StatusCode::OK, "false".into()));
    let (status, body) = send(app, Request::post("/sessions/mine/end")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("a session's handle is a UUID"), "{body}");
}

#[tokio::test]
async fn a_pre_auth_key_discards_its_value() {
    const STATE: Key<String> = Key::pre_auth("state");
    let app = Router::new()
        .route(
            "/",
            get(|session: Session| async move {
                session.insert(STATE, "a".to_owned()).await?;
                session.discard(STATE).await?;
                session.discard("other").await?;
                Ok::<_, Error>(format!("{:?}", session.get(STATE).await?))
            }),
        )
        .layer(SessionLayer::new(MemoryStore::new()));
    assert_eq!(send(app, Request::get("/")).await, (StatusCode::OK, "None".into()));
}

#[tokio::test]
async fn a_long_lived_handle_releases_its_request() {
    let (kept, released) =
        (Arc::new(std::sync::Mutex::new(None)), Arc::new(AtomicBool::new(false)));
    let slot = Arc::clone(&kept);
    let layer = SessionLayer::new(MemoryStore::new());
    let keep = move |session: Session| async move { *slot.lock().unwrap() = Some(session) };
    let app = Router::new()
        .route("/", get(|session: Session| async move { session.insert("a", 1).await }))
        .route("/keep", get(keep))
        .layer(layer);
    let reply = app.clone().oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    let cookie = reply.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap();
    let buffer = Buffer { bytes: cookie.to_owned().into_bytes(), released: Arc::clone(&released) };
    let line = HeaderValue::from_maybe_shared(Bytes::from_owner(buffer)).unwrap();
    send(app, Request::get("/keep").header(header::COOKIE, line)).await;
    let handle = kept.lock().unwrap().take().unwrap();
    assert!(released.load(Ordering::SeqCst), "the handle keeps the request's buffer");
    assert_eq!(handle.get::<i64>("a").await.unwrap(), Some(1), "it still knows its session");
}

/// Routes for users, one that signs in, and one for everybody.
fn members() -> Router {
    let home = |user: Option<SignedIn>| async move {
        user.map_or_else(|| "nobody".to_owned(), |user| user.id().to_owned())
    };
    Router::new()
        .route("/", get(|user: SignedIn| async move { user.id().to_owned() }))
        .route("/home", get(home))
        .route("/login", post(|session: Session| async move { session.login("alice").await }))
}

/// The cookie of a client that signed in.
async fn signed_in(app: &Router) -> HeaderValue {
    let request = Request::post("/login").body(Body::empty()).unwrap();
    let reply = app.clone().oneshot(request).await.unwrap();
    let line = reply.headers()[header::SET_COOKIE].to_str().unwrap();
    line.split(';').next().unwrap().parse().unwrap()
}

/// The buffer into which a request was read.
struct Buffer {
    bytes: Vec<u8>,
    released: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.released.store(true, Ordering::SeqCst);
    }
}

async fn send(app: Router, request: http::request::Builder) -> (StatusCode, String) {
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
