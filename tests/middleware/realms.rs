//! Several layers in one application, and keys for the hash.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use steadfast::store::{Keyring, SessionStore};
use steadfast::{CookieProfile, Lifetime, MemoryStore, Realm, Session, SessionLayer};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

use crate::site::Site;

/// Shows FX-08.
#[tokio::test]
async fn a_token_is_bound_to_its_realm() {
    let site = Site::new();
    let member = site.member("alice").await;
    let admin = Site { layer: site.layer.clone().realm(realm("admin")), ..site.clone() };
    let stranger = admin.browser();
    stranger.set_token(&member.token().unwrap());
    assert_eq!((stranger.user().await, stranger.value("seed").await), (None, None));
    assert_eq!(member.user().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn nested_realms_have_separate_sessions() {
    let store = MemoryStore::new();
    let outer = SessionLayer::new(store.clone());
    let inner = admin(store);
    let service = outer.layer(inner.layer(service_fn(|request: Request<()>| async move {
        let admin = request.extensions().get::<Session>().unwrap();
        admin.insert("a", 1).await.unwrap();
        admin.in_realm("session").unwrap().insert("b", 1).await.unwrap();
        assert!(admin.in_realm("nowhere").is_none());
        Ok::<_, Infallible>(Response::new(String::new()))
    })));
    let response = service.oneshot(Request::new(())).await.unwrap();
    let cookies: Vec<_> = response.headers().get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(cookies.len(), 2);
    assert!(cookies[0].to_str().unwrap().starts_with("__Host-admin="));
    assert!(cookies[1].to_str().unwrap().starts_with("__Host-id="));
}

/// Shows CK-05.
#[tokio::test]
async fn the_same_layer_twice_is_one() {
    let layer = SessionLayer::new(MemoryStore::new());
    let response = layer.layer(layer.layer(service_fn(write))).oneshot(Request::new(())).await;
    assert_eq!(response.unwrap().headers().get_all(header::SET_COOKIE).iter().count(), 1);
}

#[tokio::test]
async fn different_layers_of_one_cookie_are_refused() {
    let layer = SessionLayer::new(MemoryStore::new());
    let short = Lifetime::new(Duration::from_secs(60), Duration::from_secs(60)).unwrap();
    let (admin, mut between) = (layer.clone().realm(realm("admin")), Vec::new());
    let cookie = CookieProfile::host().name("__Host-between");
    between.push(SessionLayer::new(MemoryStore::new()).cookie(cookie).unwrap());
    for (name, inner, between) in [
        ("another realm", &admin, &[][..]),
        ("another store", &SessionLayer::new(MemoryStore::new()), &[]),
        ("a stricter lifetime", &layer.clone().lifetime(short), &[]),
        ("another layer between", &layer.clone().max_per_principal(1), &between),
    ] {
        let mut service = BoxCloneSyncService::new(inner.layer(service_fn(write)));
        for layer in between.iter().chain([&layer]) {
            service = BoxCloneSyncService::new(layer.layer(service));
        }
        let response = service.oneshot(Request::new(())).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{name}");
        assert!(!response.headers().contains_key(header::SET_COOKIE), "{name}");
    }
}

/// Shows AR-07.
#[tokio::test]
async fn a_new_hash_key_logs_nobody_out() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let visit = |ring: Keyring| {
        let there = Site { layer: site.layer.clone().keyring(ring), ..site.clone() }.browser();
        there.set_token(&browser.token().unwrap());
        async move {
            let reply = there.visit(|session| async move { session.insert("b", 1).await }).await;
            reply.ok();
            there.user().await
        }
    };
    assert_eq!(visit(keyed(1).accept_unkeyed()).await.as_deref(), Some("alice"));
    assert_eq!(visit(keyed(1)).await.as_deref(), Some("alice"), "the write moved the hash");
    assert_eq!(visit(keyed(2).accept("k1", &[1; 32]).unwrap()).await.as_deref(), Some("alice"));
    assert_eq!(visit(keyed(2)).await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn an_unknown_hash_key_is_no_sign_out() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let there = Site { layer: site.layer.clone().keyring(keyed(1)), ..site.clone() }.browser();
    there.set_token(&browser.token().unwrap());
    for reply in [
        there.visit(|session| async move { session.get::<i64>("seed").await.map(drop) }).await,
        there.visit(|session| async move { session.insert("b", 1).await }).await,
        there.visit(|session| async move { session.flush().await }).await,
    ] {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!reply.headers.contains_key(header::SET_COOKIE));
    }
    assert_eq!(browser.user().await.as_deref(), Some("alice"));
}

fn keyed(key: u8) -> Keyring {
    Keyring::keyed(&format!("k{key}"), &[key; 32]).unwrap()
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn a_missing_layer_is_reported() {
    let app = axum::Router::new().route("/", axum::routing::get(|_: Session| async { "ok" }));
    let response = app.oneshot(Request::new(axum::body::Body::empty())).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

async fn write(request: Request<()>) -> Result<Response<String>, Infallible> {
    request.extensions().get::<Session>().unwrap().insert("a", 1).await.unwrap();
    Ok(Response::new(String::new()))
}

fn admin(store: impl SessionStore) -> SessionLayer {
    let cookie = CookieProfile::host().name("__Host-admin");
    SessionLayer::new(store).realm(realm("admin")).cookie(cookie).unwrap()
}

fn realm(name: &str) -> Realm {
    Realm::new(name).unwrap()
}
