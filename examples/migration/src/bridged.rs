//! The shop on a bridge: three lines differ from `before.rs`.

use std::convert::Infallible;

use axum::extract::{Form, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use axum::routing::{get, post};
use axum::{Extension, Router};
use axum_login::{AuthManagerLayerBuilder, AuthUser, AuthnBackend, UserId, login_required};
use serde::Deserialize;
use steadfast::{Bridge, MemoryStore};
use time::Duration;
use tower_sessions::{Expiry, Session, SessionManagerLayer};

use crate::users::{Users, after_sign_in};

/// The shop.
pub fn router() -> Router {
    let store = Bridge::new(MemoryStore::new());
    let sessions = SessionManagerLayer::new(store)
        .with_secure(false)
        .with_expiry(Expiry::OnInactivity(Duration::minutes(30)));
    let backend = Backend { users: Users::default() };
    let users = Extension(backend.users.clone());
    let auth = AuthManagerLayerBuilder::new(backend, sessions).build();

    Router::new()
        .route("/account", get(account))
        .route("/password", post(change_password))
        .route_layer(login_required!(Backend, login_url = "/login"))
        .route("/", get(shop))
        .route("/cart", post(add_to_cart))
        .route("/login", get(login_form).post(login))
        .route("/logout", post(logout))
        .layer(auth)
        .layer(users)
}

async fn shop(session: Session) -> Result<String, StatusCode> {
    let visits = session.get("visits").await.map_err(failed)?.unwrap_or(0) + 1;
    session.insert("visits", visits).await.map_err(failed)?;
    let cart: Vec<String> = session.get("cart").await.map_err(failed)?.unwrap_or_default();
    Ok(format!("visit {visits}, cart: {}", cart.join(", ")))
}

async fn add_to_cart(session: Session, Form(form): Form<Item>) -> Result<Redirect, StatusCode> {
    let mut cart: Vec<String> = session.get("cart").await.map_err(failed)?.unwrap_or_default();
    cart.push(form.item);
    session.insert("cart", cart).await.map_err(failed)?;
    Ok(Redirect::to("/"))
}

async fn login_form(Query(next): Query<Next>) -> String {
    format!("sign in to see {}", next.next.as_deref().unwrap_or("/"))
}

async fn login(mut auth: AuthSession, Form(form): Form<Credentials>) -> impl IntoResponse {
    let next = Redirect::to(after_sign_in(form.next.as_deref()));
    match auth.authenticate(form).await {
        Ok(Some(user)) if auth.login(&user).await.is_ok() => next.into_response(),
        Ok(None) => StatusCode::UNAUTHORIZED.into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn logout(mut auth: AuthSession) -> Result<Redirect, StatusCode> {
    auth.logout().await.map_err(failed)?;
    Ok(Redirect::to("/"))
}

async fn account(auth: AuthSession) -> Result<String, StatusCode> {
    let user = auth.user.ok_or(StatusCode::UNAUTHORIZED)?;
    Ok(format!("signed in as {}", user.name))
}

/// The password is part of `session_auth_hash`, so the user's other sessions end when they are next
/// used.
async fn change_password(
    mut auth: AuthSession,
    Extension(users): Extension<Users>,
    Form(form): Form<NewPassword>,
) -> Result<Redirect, StatusCode> {
    let user = auth.user.clone().ok_or(StatusCode::UNAUTHORIZED)?;
    users.change_password(&user.name, &form.password);
    let user = User { password: form.password, ..user };
    auth.login(&user).await.map_err(failed)?;
    Ok(Redirect::to("/account"))
}

fn failed<E>(_: E) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

type AuthSession = axum_login::AuthSession<Backend>;

/// The answers that axum-login needs about users.
#[derive(Clone, Debug)]
struct Backend {
    users: Users,
}

impl AuthnBackend for Backend {
    type User = User;
    type Credentials = Credentials;
    type Error = Infallible;

    async fn authenticate(&self, form: Credentials) -> Result<Option<User>, Infallible> {
        let is_right = self.users.knows(&form.user, &form.password);
        Ok(is_right.then_some(User { name: form.user, password: form.password }))
    }

    async fn get_user(&self, name: &UserId<Self>) -> Result<Option<User>, Infallible> {
        let password = self.users.password(name);
        Ok(password.map(|password| User { name: name.clone(), password }))
    }
}

#[derive(Clone, Debug)]
struct User {
    name: String,
    password: String,
}

impl AuthUser for User {
    type Id = String;

    fn id(&self) -> String {
        self.name.clone()
    }

    fn session_auth_hash(&self) -> &[u8] {
        self.password.as_bytes()
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Credentials {
    user: String,
    password: String,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    item: String,
}

#[derive(Deserialize)]
struct Next {
    next: Option<String>,
}

#[derive(Deserialize)]
struct NewPassword {
    password: String,
}
