//! A changed password ends the sessions that the old one opened, and stops its sign-ins in progress, as in the
//! guide.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use http::StatusCode;
use steadfast::store::{Env, Revocation, SessionStore};
use steadfast::testing::{Clock, Site};
use steadfast::{Error, Login, MemoryStore, Session, SessionLayer, SignedIn};
use tokio::sync::Barrier;

#[tokio::test]
async fn a_changed_password_ends_every_other_session() {
    let site = site().0;
    let (this, other) =
        (site.signed_in(with_password(1)).await, site.signed_in(with_password(1)).await);
    this.post("/password").await.ok();
    assert_eq!(this.get("/me").await.ok().text(), "alice");
    assert_eq!(other.get("/me").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_late_sign_in_after_revocation_fails() {
    let (site, decided) = site();
    let this = site.signed_in(with_password(1)).await;
    let late = site.visitor();
    let tab = late.clone();
    let under_way = tokio::spawn(async move { tab.post("/slow-login").await });
    // The password was accepted, but the response has not started.
    decided.wait().await;
    this.post("/password").await.ok();
    decided.wait().await;
    assert_eq!(under_way.await.unwrap().status, StatusCode::CONFLICT);
    assert_eq!(late.get("/me").await.status, StatusCode::UNAUTHORIZED);
    this.get("/me").await.ok();
}

type Store = Arc<MemoryStore>;

/// An application whose slow sign-in waits for the test twice.
fn site() -> (Site<Router>, Arc<Barrier>) {
    let (clock, decided) = (Clock::default(), Arc::new(Barrier::new(2)));
    let store: Store = Arc::new(MemoryStore::builder().env(Env::with_clock(clock.clone())).build());
    let waiting = Arc::clone(&decided);
    let slow_login = |session: Session| async move {
        session.login(with_password(1)).await?;
        waiting.wait().await;
        waiting.wait().await;
        Ok::<_, Error>(())
    };
    let change = |State(store): State<Store>, user: SignedIn| async move {
        password_changed(&*store, &user, 2).await
    };
    let routes = Router::new()
        .route("/me", get(|user: SignedIn| async move { user.id().to_owned() }))
        .route("/slow-login", post(slow_login))
        .route("/password", post(change))
        .with_state(Arc::clone(&store));
    let app = |sessions| routes.layer(sessions);
    (Site::over(SessionLayer::new(store), clock, app), decided)
}

fn with_password(version: u64) -> Login {
    Login::new("alice").epoch(version)
}

async fn password_changed(
    store: &dyn SessionStore,
    user: &SignedIn,
    version: u64,
) -> Result<(), Error> {
    let session = user.session();
    let others =
        Revocation { except: session.handle().await?, epoch: Some(version), ..Revocation::LOGOUT };
    store.delete_all(user.principal(), others).await?;
    session.login(Login::new(user.id()).epoch(version)).await
}
