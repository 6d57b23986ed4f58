//! The headers for caches.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use steadfast::Session;

use crate::site::Site;

/// Shows CA-01.
#[tokio::test]
async fn a_response_with_a_token_is_never_stored() {
    let browser = Site::new().browser();
    let set = browser.visit(|session| async move {
        session.login("alice").await.unwrap();
        cacheable(StatusCode::OK)
    });
    assert_eq!(set.await.header("cache-control"), Some("no-store"));
    let removed = browser.visit(|session| async move {
        session.flush().await.unwrap();
        cacheable(StatusCode::OK)
    });
    let removed = removed.await;
    assert_eq!(removed.set_cookies().len(), 1);
    assert_eq!(removed.header("cache-control"), Some("no-store"));
}

/// Shows CA-02.
#[tokio::test]
async fn a_response_with_session_data_is_private() {
    for browser in [Site::new().visitor().await, Site::new().browser()] {
        for status in [200, 206, 304, 302, 404] {
            let reply = browser.request(move |session: Session| async move {
                session.get::<i64>("seed").await.unwrap();
                cacheable(StatusCode::from_u16(status).unwrap())
            });
            let reply = reply.await;
            assert_eq!(reply.header("cache-control"), Some("max-age=600, private"), "{status}");
            assert_eq!(reply.header("vary"), Some("Accept, Cookie"), "{status}");
        }
    }
}

/// Shows CA-02.
#[tokio::test]
async fn targeted_cache_headers_are_dropped() {
    let names = ["cdn-cache-control", "surrogate-control", "x-accel-expires"];
    for (touches, left) in [(true, 0), (false, 3)] {
        let reply = Site::new().browser().request(move |session: Session| async move {
            if touches {
                session.get::<i64>("seed").await.unwrap();
            }
            names.map(|name| (name, "max-age=600")).into_response()
        });
        let reply = reply.await;
        assert_eq!(names.iter().filter(|name| reply.header(name).is_some()).count(), left);
    }
}

/// Shows CA-03.
#[tokio::test]
async fn an_untouched_response_is_the_applications_own() {
    let browser = Site::new().visitor().await;
    let reply = browser.request(|_| async { cacheable(StatusCode::OK) }).await;
    assert_eq!(reply.header("cache-control"), Some("public, max-age=600"));
    assert_eq!(reply.header("vary"), Some("Accept"));
    assert_eq!(reply.headers.len(), 2);
}

fn cacheable(status: StatusCode) -> Response {
    let headers = [(header::CACHE_CONTROL, "public, max-age=600"), (header::VARY, "Accept")];
    (status, headers).into_response()
}
