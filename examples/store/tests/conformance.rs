//! The store passes the conformance kit, and serves an application.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use axum::routing::get;
use example_store::MapStore;
use http_body_util::BodyExt;
use steadfast::{Error, Session, SessionLayer};
use steadfast_core::conformance::Subject;
use steadfast_core::{Env, Store};
use tower::ServiceExt;

struct Maps;

#[async_trait]
impl Subject for Maps {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        vec![Arc::new(MapStore::new(env))]
    }
}

steadfast_core::conformance_tests!(Maps);

#[tokio::test]
async fn an_application_counts_visits() {
    let app = Router::new()
        .route("/", get(visits))
        .layer(SessionLayer::new(MapStore::new(Env::system())));
    let first = app.clone().oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    let cookie = first.headers()[header::SET_COOKIE].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let again = Request::get("/").header(header::COOKIE, cookie).body(Body::empty()).unwrap();
    let second = app.oneshot(again).await.unwrap().into_body();
    assert_eq!(second.collect().await.unwrap().to_bytes(), "2");
}

async fn visits(session: Session) -> Result<String, Error> {
    Ok(session.increment("visits", 1).await?.to_string())
}
