//! The layer among other layers, in either order.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use steadfast::store::conformance::faults::{Call, Fault};
use steadfast::{Error, Session, SessionFailure, SessionLayer};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::{RequestBodyTimeoutLayer, ResponseBodyTimeoutLayer, TimeoutLayer};
use tower_http::trace::TraceLayer;

use crate::site::{Reply, Site};

#[tokio::test]
async fn other_layers_may_stand_on_either_side() {
    for (name, stack) in stacks() {
        let site = Site::new();
        let reply = visit(&site, stack, "/", None).await;
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "signed in"), "{name}");
        let cookies = reply.set_cookies();
        let token = cookies.iter().find(|line| line.starts_with("__Host-id=")).unwrap();
        let cookie = token.split(';').next().unwrap().to_owned();
        let reply = visit(&site, stack, "/who", Some(&cookie)).await;
        assert_eq!(reply.body, "alice", "{name}");
    }
}

#[tokio::test]
async fn the_layer_answers_a_failed_commit() {
    for (name, stack) in stacks() {
        let site = Site::new();
        site.store.set(Call::Create, Fault::Down);
        let reply = visit(&site, stack, "/", None).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
        assert_eq!(reply.body, NOT_CONFIRMED, "{name}");
        let says = |header: &str| reply.header(header);
        assert_eq!(says("content-type"), Some("text/plain; charset=utf-8"), "{name}");
        assert_eq!((says("retry-after"), says("cache-control")), (Some("1"), Some("no-store")));
        assert_eq!((reply.set_cookies(), says("location"), says("etag")), (vec![], None, None));
    }
}

#[tokio::test]
async fn headers_of_layers_survive_a_failed_commit() {
    for (name, stack) in stacks() {
        let site = Site::new();
        site.store.set(Call::Create, Fault::Down);
        let reply = visit(&site, stack, "/", None).await;
        let headers = &reply.headers;
        if name.contains("cors") {
            assert_eq!(headers["access-control-allow-origin"], "*", "{name}");
        }
        if name.contains("request-id") {
            assert_eq!(headers.get_all("x-request-id").iter().count(), 1, "{name}");
        }
        assert!(!headers.contains_key("content-encoding"), "{name}");
    }
}

#[tokio::test]
async fn more_headers_are_kept_where_asked() {
    let site = Site::with(|layer| layer.keep_headers([HeaderName::from_static("x-team")]));
    site.store.set(Call::Create, Fault::Down);
    let reply = visit(&site, |layer| boxed(layer.layer(service_fn(handle))), "/", None).await;
    assert_eq!((reply.header("x-team"), reply.header("x-handler")), (Some("blue"), None));
}

#[tokio::test]
async fn the_application_may_render_failures() {
    let site = Site::with(|layer| {
        layer.on_failure(|error| {
            let mut page = error.to_response().map(|text| format!("<p>{text}"));
            page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            page
        })
    });
    site.store.set(Call::Create, Fault::Down);
    let request = Request::new(Body::empty());
    let response = site.layer.layer(service_fn(handle)).oneshot(request).await.unwrap();
    let failure = response.extensions().get::<SessionFailure>().cloned();
    assert!(matches!(failure.unwrap().error(), Error::Store(_)));
    let reply = Reply::read(response).await;
    assert_eq!(reply.body, format!("<p>{NOT_CONFIRMED}"));
    assert_eq!((reply.header("content-type"), reply.status.as_u16()), (Some("text/html"), 503));
}

#[tokio::test]
async fn an_answer_of_the_handler_is_not_marked() {
    let site = Site::new();
    let fail = service_fn(|request: Request<Body>| async move {
        let session = request.extensions().get::<Session>().cloned().unwrap();
        session.verify_csrf("wrong").await.unwrap_err();
        let error = session.elevate().await.unwrap_err();
        Ok::<_, Infallible>(error.to_response())
    });
    let response = site.layer.layer(fail).oneshot(Request::new(Body::empty())).await.unwrap();
    assert!(response.extensions().get::<SessionFailure>().is_none());
    let reply = Reply::read(response).await;
    assert_eq!(
        (reply.status, reply.header("www-authenticate")),
        (StatusCode::UNAUTHORIZED, Some("Session"))
    );
}

#[tokio::test]
async fn a_commit_conflict_is_explained() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let reply = browser.visit({
        let other = browser.fork();
        move |session| {
            let other = other.clone();
            async move {
                session.elevate().await?;
                other.visit(|session| async move { session.cycle_id().await }).await.ok();
                Ok(())
            }
        }
    });
    let reply = reply.await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert_eq!(reply.body, "another request rotated the session's token");
}

/// Answers with all that a handler may answer.
async fn handle<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let session = request.extensions().get::<Session>().cloned().unwrap();
    let mut response = Response::builder();
    let text = if request.uri().path() == "/who" {
        session.principal().await.unwrap().map_or_else(String::new, |user| user.id().to_owned())
    } else {
        session.login("alice").await.unwrap();
        response = response
            .header("location", "/")
            .header("etag", "\"1\"")
            .header("set-cookie", "theme=dark")
            .header("x-handler", "promise");
        "signed in".to_owned()
    };
    Ok(response.header("x-team", "blue").body(text.into()).unwrap())
}

async fn visit(site: &Site, stack: Stack, path: &str, cookie: Option<&str>) -> Reply {
    let mut request = Request::get(path).header("origin", "https://example.org");
    request = request.header("accept-encoding", "identity");
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, cookie);
    }
    let request = request.body(Body::empty()).unwrap();
    Reply::read(stack(site.layer.clone()).oneshot(request).await.unwrap()).await
}

type Stack = fn(SessionLayer) -> BoxCloneSyncService<Request<Body>, Response, Infallible>;

/// Each layer outside and inside of ours.
fn stacks() -> Vec<(&'static str, Stack)> {
    let stacks: [(&str, Stack); 14] = [
        ("trace outside", |ours| {
            boxed(
                ServiceBuilder::new()
                    .layer(TraceLayer::new_for_http())
                    .layer(ours)
                    .service_fn(handle),
            )
        }),
        ("trace inside", |ours| {
            boxed(
                ServiceBuilder::new()
                    .layer(ours)
                    .layer(TraceLayer::new_for_http())
                    .service_fn(handle),
            )
        }),
        ("cors outside", |ours| {
            boxed(
                ServiceBuilder::new().layer(CorsLayer::permissive()).layer(ours).service_fn(handle),
            )
        }),
        ("cors inside", |ours| {
            boxed(
                ServiceBuilder::new().layer(ours).layer(CorsLayer::permissive()).service_fn(handle),
            )
        }),
        ("request-id outside", |ours| {
            boxed(
                ServiceBuilder::new()
                    .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
                    .layer(PropagateRequestIdLayer::x_request_id())
                    .layer(ours)
                    .service_fn(handle),
            )
        }),
        ("request-id inside", |ours| {
            boxed(
                ServiceBuilder::new()
                    .layer(ours)
                    .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
                    .layer(PropagateRequestIdLayer::x_request_id())
                    .service_fn(handle),
            )
        }),
        ("timeout outside", |ours| {
            boxed(ServiceBuilder::new().layer(timeout()).layer(ours).service_fn(handle))
        }),
        ("timeout inside", |ours| {
            boxed(ServiceBuilder::new().layer(ours).layer(timeout()).service_fn(handle))
        }),
        ("body timeouts outside", |ours| {
            let (requests, responses) = body_timeouts();
            boxed(
                ServiceBuilder::new()
                    .layer(responses)
                    .layer(requests)
                    .layer(ours)
                    .service_fn(handle),
            )
        }),
        ("body timeouts inside", |ours| {
            let (requests, responses) = body_timeouts();
            boxed(
                ServiceBuilder::new()
                    .layer(ours)
                    .layer(responses)
                    .layer(requests)
                    .service_fn(handle),
            )
        }),
        ("compression outside", |ours| {
            boxed(
                ServiceBuilder::new().layer(CompressionLayer::new()).layer(ours).service_fn(handle),
            )
        }),
        ("compression inside", |ours| {
            boxed(
                ServiceBuilder::new().layer(ours).layer(CompressionLayer::new()).service_fn(handle),
            )
        }),
        ("everything outside: trace, cors, request-id", |ours| {
            boxed(
                ServiceBuilder::new()
                    .layer(TraceLayer::new_for_http())
                    .layer(CorsLayer::permissive())
                    .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
                    .layer(PropagateRequestIdLayer::x_request_id())
                    .layer(CompressionLayer::new())
                    .layer(timeout())
                    .layer(ours)
                    .service_fn(handle),
            )
        }),
        ("everything inside: trace, cors, request-id", |ours| {
            boxed(
                ServiceBuilder::new()
                    .layer(ours)
                    .layer(TraceLayer::new_for_http())
                    .layer(CorsLayer::permissive())
                    .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
                    .layer(PropagateRequestIdLayer::x_request_id())
                    .layer(CompressionLayer::new())
                    .layer(timeout())
                    .service_fn(handle),
            )
        }),
    ];
    stacks.into()
}

fn timeout() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, LONG)
}

fn body_timeouts() -> (RequestBodyTimeoutLayer, ResponseBodyTimeoutLayer) {
    (RequestBodyTimeoutLayer::new(LONG), ResponseBodyTimeoutLayer::new(LONG))
}

/// As axum does it: every body becomes one of its own.
fn boxed<S, B>(service: S) -> BoxCloneSyncService<Request<Body>, Response, Infallible>
where
    S: Service<Request<Body>, Response = http::Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    BoxCloneSyncService::new(service.map_response(|response| response.map(Body::new)))
}

const NOT_CONFIRMED: &str = "the session store failed: the operation is not confirmed";
const LONG: Duration = Duration::from_secs(60);
