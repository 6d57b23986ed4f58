//! Handlers that never return, because a layer answers in their place.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode};
use steadfast::{HandlerLayer, Session, SessionLayer};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::site::{Browser, Reply, Site};

#[tokio::test(start_paused = true)]
async fn a_timeout_drops_what_a_handler_had_buffered() {
    for (name, stack) in stacks(StatusCode::REQUEST_TIMEOUT) {
        let site = Site::new();
        let browser = site.visitor().await;
        let reply = send(&browser, stack(site.layer.clone()), "/wait").await;
        assert_eq!(reply.status, StatusCode::REQUEST_TIMEOUT, "{name}");
        assert_eq!(reply.set_cookies(), [""; 0], "{name}");
        assert_eq!(browser.user().await, None, "{name}");
        assert_eq!((browser.value("before").await, browser.value("after").await), (None, None));
        assert_eq!(browser.value("counted").await, Some(1), "{name}: it acted at once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_with_another_status_drops_writes() {
    for (name, stack) in stacks(StatusCode::ACCEPTED).split_off(3) {
        let site = Site::with(|layer| layer.commit_on_server_error(true));
        let browser = site.visitor().await;
        let reply = send(&browser, stack(site.layer.clone()), "/wait").await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{name}");
        assert_eq!((browser.user().await, browser.value("before").await), (None, None), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_returns_in_time_is_committed() {
    for (name, stack) in stacks(StatusCode::REQUEST_TIMEOUT) {
        for path in ["/return", "/stream", "/task"] {
            let site = Site::new();
            let browser = site.visitor().await;
            send(&browser, stack(site.layer.clone()), path).await.ok();
            assert_eq!(browser.user().await.as_deref(), Some("alice"), "{name} {path}");
            assert_eq!(browser.value("before").await, Some(1), "{name} {path}");
        }
    }
}

#[tokio::test]
async fn a_panic_drops_it_even_where_errors_commit() {
    let site = Site::with(|layer| layer.commit_on_server_error(true));
    let browser = site.visitor().await;
    let app = routes().layer(HandlerLayer).layer(CatchPanicLayer::new()).layer(site.layer.clone());
    let reply = send(&browser, boxed(app), "/panic").await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!((browser.user().await, browser.value("before").await), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_keeps_its_own_writes() {
    let site = Site::new();
    let browser = site.visitor().await;
    let again = |request: Request, next: Next| async move {
        let (parts, _) = request.into_parts();
        let first = Request::from_parts(parts.clone(), Body::empty());
        if let Ok(response) = tokio::time::timeout(SHORT, next.clone().run(first)).await {
            return response;
        }
        let mut second = Request::from_parts(parts, Body::empty());
        second.headers_mut().insert("attempt", HeaderValue::from_static("2"));
        next.run(second).await
    };
    let app = routes().layer(HandlerLayer).layer(from_fn(again)).layer(site.layer.clone());
    send(&browser, boxed(app), "/twice").await.ok();
    assert_eq!((browser.value("before").await, browser.value("second").await), (None, Some(2)));
}

fn routes() -> Router {
    Router::new()
        .route("/wait", post(wait))
        .route("/return", post(act))
        .route("/stream", post(stream_on))
        .route("/task", post(spawn_task))
        .route("/twice", post(twice))
        .route("/panic", post(panic_on))
}

async fn wait(session: Session) {
    session.increment("counted", 1).await.unwrap();
    act(session.clone()).await;
    tokio::time::sleep(LONG).await;
    session.insert("after", 1).await.unwrap();
}

async fn act(session: Session) {
    session.login("alice").await.unwrap();
    session.insert("before", 1).await.unwrap();
}

/// A body that keeps the session.
async fn stream_on(session: Session) -> Response {
    act(session.clone()).await;
    let lines = stream::iter(["one"]).map(move |line| {
        let _kept = session.clone();
        Ok::<_, Infallible>(line)
    });
    Body::from_stream(lines).into_response()
}

/// A task that outlives the request.
async fn spawn_task(session: Session) {
    act(session.clone()).await;
    tokio::spawn(async move {
        tokio::time::sleep(LONG).await;
        drop(session);
    });
}

/// Returns at the second attempt.
async fn twice(headers: HeaderMap, session: Session) {
    match headers.contains_key("attempt") {
        true => session.insert("second", 2).await.unwrap(),
        false => wait(session).await,
    }
}

async fn panic_on(session: Session) {
    act(session).await;
    panic!("on purpose");
}

type App = BoxCloneSyncService<Request, Response, Infallible>;

/// Builds an application around a session layer.
type Stack = Box<dyn Fn(SessionLayer) -> App>;

/// The layers that give up on a handler, at different places.
fn stacks(status: StatusCode) -> Vec<(&'static str, Stack)> {
    let timeout = TimeoutLayer::with_status_code(status, SHORT);
    let give_up = move |request: Request, next: Next| async move {
        let answer = tokio::time::timeout(SHORT, next.run(request)).await;
        answer.unwrap_or_else(|_| status.into_response())
    };
    vec![
        ("a router's layer", Box::new(move |ours| boxed(routes().layer(timeout).layer(ours)))),
        (
            "the next service",
            Box::new(move |ours| {
                boxed(routes().layer(ServiceBuilder::new().layer(ours).layer(timeout)))
            }),
        ),
        (
            "no router",
            Box::new(move |ours| {
                let handle = service_fn(|request: Request| async move {
                    let session = request.extensions().get::<Session>().cloned().unwrap();
                    match request.uri().path() {
                        "/wait" => wait(session).await,
                        "/stream" => return Ok(stream_on(session).await),
                        "/task" => spawn_task(session).await,
                        _ => act(session).await,
                    }
                    Ok::<_, Infallible>(StatusCode::OK.into_response())
                });
                boxed(ServiceBuilder::new().layer(ours).layer(timeout).service(handle))
            }),
        ),
        (
            "a router with marked handlers",
            Box::new(move |ours| boxed(routes().layer(HandlerLayer).layer(timeout).layer(ours))),
        ),
        (
            "a function around marked handlers",
            Box::new(move |ours| {
                boxed(routes().layer(HandlerLayer).layer(from_fn(give_up)).layer(ours))
            }),
        ),
    ]
}

fn boxed<S>(service: S) -> App
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    BoxCloneSyncService::new(service)
}

async fn send(browser: &Browser, app: App, path: &str) -> Reply {
    let mut request = Request::post(path);
    if let Some(token) = browser.token() {
        request = request.header("cookie", format!("__Host-id={token}"));
    }
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let reply = Reply::read(response).await;
    browser.keep(&reply);
    reply
}

const SHORT: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);
