//! axum-login's example of permissions, with its users in memory and without templates. What it adds is
//! a page that writes to the session, slowly.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::extract::{Form, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum_login::tower_sessions::{Expiry, Session, SessionManagerLayer};
use axum_login::{
    AuthManagerLayerBuilder, AuthUser, AuthnBackend, AuthzBackend, UserId, permission_required,
};
use bridge::Client;
use serde::Deserialize;
use steadfast::Bridge;
use tokio::sync::Barrier;

/// The site on several nodes.
pub struct Site {
    nodes: Vec<Router>,
    gate: Arc<Barrier>,
}

impl Site {
    /// This many late notes wait for each other, and for the test.
    pub fn over(bridges: &[Bridge], late: usize) -> Self {
        let gate = Arc::new(Barrier::new(late + 1));
        let node = |bridge: &Bridge| router(bridge.clone()).layer(Extension(Arc::clone(&gate)));
        Self { nodes: bridges.iter().map(node).collect(), gate }
    }

    /// Waits until every late note has its session, or lets all of them go on.
    pub async fn pass(&self) {
        self.gate.wait().await;
    }

    pub fn client(&self) -> Client {
        Client::new(&self.nodes)
    }
}

/// The id of the user `admin`, as a bridge knows it.
pub const ADMIN: &str = "2";

fn router(store: Bridge) -> Router {
    let sessions = SessionManagerLayer::new(store)
        .with_secure(false)
        .with_expiry(Expiry::OnInactivity(time::Duration::days(1)));
    let auth = AuthManagerLayerBuilder::new(Backend, sessions).build();
    Router::new()
        .route("/restricted", get(restricted))
        .route_layer(permission_required!(Backend, login_url = "/login", "restricted.read"))
        .route("/", get(protected))
        .route_layer(permission_required!(Backend, login_url = "/login", "protected.read"))
        .route("/login", get(|| async { "Sign in." }).post(login))
        .route("/logout", get(logout))
        .route("/note", get(note))
        .route("/late", get(late))
        .route("/notes", get(notes))
        .layer(auth)
}

async fn restricted(auth: AuthSession) -> String {
    format!("restricted: {}", auth.user.unwrap().name)
}

async fn protected(auth: AuthSession) -> String {
    format!("protected: {}", auth.user.unwrap().name)
}

async fn login(mut auth: AuthSession, Form(form): Form<Credentials>) -> Response {
    match auth.authenticate(form).await {
        Ok(Some(user)) if auth.login(&user).await.is_ok() => Redirect::to("/").into_response(),
        Ok(None) => "Invalid credentials.".into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn logout(mut auth: AuthSession) -> Response {
    match auth.logout().await {
        Ok(_) => Redirect::to("/login").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Writes a key of its own, some time after the session was loaded.
async fn note(session: Session, Query(note): Query<Note>) {
    tokio::time::sleep(Duration::from_millis(5)).await;
    session.insert(&note.key, true).await.unwrap();
}

/// Writes after everybody signed out.
async fn late(Extension(gate): Extension<Arc<Barrier>>, session: Session) {
    gate.wait().await;
    gate.wait().await;
    session.insert("late", true).await.unwrap();
}

/// Returns the number of notes.
async fn notes(session: Session) -> String {
    let mut notes = 0;
    for n in 0..100 {
        let note: Option<bool> = session.get(&format!("note{n}")).await.unwrap();
        notes += usize::from(note.is_some());
    }
    notes.to_string()
}

type AuthSession = axum_login::AuthSession<Backend>;

#[derive(Clone)]
struct Backend;

impl AuthnBackend for Backend {
    type User = User;
    type Credentials = Credentials;
    type Error = Infallible;

    async fn authenticate(&self, form: Credentials) -> Result<Option<User>, Infallible> {
        let is_known = |user: &User| user.name == form.username && form.password == "hunter42";
        Ok(USERS.into_iter().find(is_known))
    }

    async fn get_user(&self, id: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(USERS.into_iter().find(|user| user.id == *id))
    }
}

impl AuthzBackend for Backend {
    type Permission = Permission;

    async fn get_group_permissions(&self, user: &User) -> Result<HashSet<Permission>, Infallible> {
        Ok(user.permissions.iter().map(|name| (*name).into()).collect())
    }
}

#[derive(Clone, Debug)]
struct User {
    id: i64,
    name: &'static str,
    permissions: &'static [&'static str],
}

const USERS: [User; 2] = [
    User { id: 1, name: "ferris", permissions: &["protected.read"] },
    User { id: 2, name: "admin", permissions: &["protected.read", "restricted.read"] },
];

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    fn session_auth_hash(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Permission(String);

impl From<&str> for Permission {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

#[derive(Clone, Deserialize)]
struct Credentials {
    username: String,
    password: String,
}

#[derive(Deserialize)]
struct Note {
    key: String,
}
