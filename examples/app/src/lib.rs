//! A small shop: the handlers of all examples. They take a [`Session`] and name no backend.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::Form;
use axum::response::sse::{Event, Sse};
use axum::response::{Html, Redirect};
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use steadfast::{Error, Key, Session};
use tower_http::csrf::CsrfLayer;

pub use serving::{PATIENCE, ctrl_c, serve};

mod serving;

/// The shop, to which an example adds its session layer.
pub fn router() -> Router {
    Router::new()
        .route("/", get(shop))
        .route("/cart", post(add_to_cart))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/live", get(live))
        .layer(CsrfLayer::new())
}

/// The shop, whose page names the node that served it.
pub fn router_on(node: &str) -> Router {
    router().layer(Extension(Node(node.into())))
}

const CART: Key<Vec<String>> = Key::new("cart");
const VISITS: Key<i64> = Key::new("visits");

async fn shop(node: Option<Extension<Node>>, session: Session) -> Result<Html<String>, Error> {
    let visits = session.increment(VISITS, 1).await?;
    let cart = session.get(CART).await?.unwrap_or_default();
    let user = session.principal().await?;
    let node = node.map(|Extension(Node(node))| node);
    Ok(Html(page(visits, &cart, user.as_ref().map(steadfast::Principal::id), node.as_deref())))
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

/// Signs in any name: a real application checks a password here.
async fn login(session: Session, Form(form): Form<User>) -> Result<Redirect, Error> {
    session.login(form.user).await?;
    Ok(Redirect::to("/"))
}

async fn logout(session: Session) -> Result<Redirect, Error> {
    session.flush().await?;
    Ok(Redirect::to("/"))
}

/// A stream that is open for as long as the session lives, and ends with the reason.
async fn live(
    session: Session,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Error> {
    session.handle().await?.ok_or(Error::NoSession)?;
    let ended = async move {
        let reason = session.ended().await.map_or("unknown", |reason| reason.name());
        Ok(Event::default().event("ended").data(reason))
    };
    Ok(Sse::new(stream::once(ended)))
}

#[derive(Clone)]
struct Node(Arc<str>);

#[derive(Deserialize)]
struct Item {
    item: String,
}

#[derive(Deserialize)]
struct User {
    user: String,
}

fn page(visits: i64, cart: &[String], user: Option<&str>, node: Option<&str>) -> String {
    let items: String = cart.iter().map(|item| format!("<li>{}</li>", escape(item))).collect();
    let door = match user {
        Some(user) => format!(
            r#"<form method="post" action="/logout">Hello, {}. <button>Sign out</button></form>"#,
            escape(user)
        ),
        None => r#"<form method="post" action="/login">
                <input name="user" placeholder="Your name" required> <button>Sign in</button>
            </form>"#
            .to_owned(),
    };
    let served = match node {
        Some(node) => format!("<p><small>Served by {}</small></p>", escape(node)),
        None => String::new(),
    };
    format!(
        r#"<!doctype html>
<html lang="en">
    <title>Tea shop</title>
    <meta name="viewport" content="width=device-width">
    <style>body {{ font: 1.1rem/1.6 system-ui; max-width: 32rem; margin: 3rem auto }}</style>
    <h1>Tea shop</h1>
    {door}
    <p>Visits: {visits}</p>
    <ul>{items}</ul>
    <form method="post" action="/cart">
        <input name="item" placeholder="Tea" required> <button>Add to cart</button>
    </form>
    {served}
</html>
"#
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
