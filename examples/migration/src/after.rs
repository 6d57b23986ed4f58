//! The shop on the middleware itself, without tower-sessions and axum-login.

use axum::Router;
use axum::extract::{Form, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next as Handler, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use steadfast::{
    CookieProfile, Error, Key, Lifetime, MemoryStore, Session, SessionLayer, SignedIn,
};

use crate::users::{Users, after_sign_in};

/// The shop.
pub fn router() -> Router {
    let sessions = SessionLayer::new(MemoryStore::new())
        .cookie(CookieProfile::dev())
        .expect("browsers take it")
        .lifetime(Lifetime::OWASP_LOW_RISK);

    Router::new()
        .route("/account", get(account))
        .route("/password", post(change_password))
        .route_layer(from_fn(users_only))
        .route("/", get(shop))
        .route("/cart", post(add_to_cart))
        .route("/login", get(login_form).post(login))
        .route("/logout", post(logout))
        .layer(sessions)
        .with_state(Users::default())
}

const VISITS: Key<i64> = Key::new("visits");
const CART: Key<Vec<String>> = Key::new("cart");

async fn shop(session: Session) -> Result<String, Error> {
    let visits = session.increment(VISITS, 1).await?;
    let cart = session.get(CART).await?.unwrap_or_default();
    Ok(format!("visit {visits}, cart: {}", cart.join(", ")))
}

async fn add_to_cart(session: Session, Form(form): Form<Item>) -> Result<Redirect, Error> {
    let add = |cart: Option<Vec<String>>| {
        let mut cart = cart.unwrap_or_default();
        cart.push(form.item.clone());
        cart
    };
    session.update(CART, add).await?;
    Ok(Redirect::to("/"))
}

async fn login_form(Query(next): Query<Next>) -> String {
    format!("sign in to see {}", next.next.as_deref().unwrap_or("/"))
}

async fn login(
    State(users): State<Users>,
    session: Session,
    Form(form): Form<Credentials>,
) -> Result<Response, Error> {
    if !users.knows(&form.user, &form.password) {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    }
    session.login(form.user).await?;
    Ok(Redirect::to(after_sign_in(form.next.as_deref())).into_response())
}

async fn logout(session: Session) -> Result<Redirect, Error> {
    session.flush().await?;
    Ok(Redirect::to("/"))
}

async fn account(user: SignedIn) -> String {
    format!("signed in as {}", user.id())
}

/// The user's other sessions end now, on every node.
async fn change_password(
    State(users): State<Users>,
    user: SignedIn,
    Form(form): Form<NewPassword>,
) -> Result<Redirect, Error> {
    users.change_password(user.id(), &form.password);
    user.session().end_others().await?;
    user.session().reauthenticate().await?;
    Ok(Redirect::to("/account"))
}

/// Sends visitors to the sign-in page, as `login_required!` does.
async fn users_only(user: Option<SignedIn>, request: Request, handler: Handler) -> Response {
    if user.is_some() {
        return handler.run(request).await;
    }
    let next = request.uri().path().replace('/', "%2F");
    Redirect::temporary(&format!("/login?next={next}")).into_response()
}

#[derive(Deserialize)]
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
