//! The users' side: a sign-in that labels its session, and a page.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Form, State};
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use steadfast::{Error, Login, Session, SignedIn};

use crate::backchannel::Provider;
use crate::page::{escape, page};

/// The routes, to which the caller adds the layer of users.
pub(crate) fn router(provider: Arc<Provider>) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/sign-in", post(sign_in))
        .route("/sign-out", post(sign_out))
        .with_state(provider)
}

async fn home(
    State(provider): State<Arc<Provider>>,
    user: Option<SignedIn>,
) -> Result<Response, Error> {
    let Some(user) = user else { return Ok(page("Welcome", VISITOR)) };
    let body = format!(
        r#"<p>You are signed in as {user}.</p>
        <div class="head"><form method="post" action="/sign-out"><button>Sign out</button></form>
        <form method="post" action="{issuer}/sign-out"><input type="hidden" name="sub" value="{user}">
        <button class="end">Sign out at the provider</button></form></div>"#,
        user = escape(user.id()),
        issuer = escape(provider.issuer()),
    );
    Ok(page("Welcome", body))
}

#[derive(Deserialize)]
struct User {
    user: String,
}

/// Stands for the callback of the provider. A real one takes the user, the `sid`, and when they signed in
/// from the ID token that it verified.
async fn sign_in(
    session: Session,
    headers: HeaderMap,
    Form(form): Form<User>,
) -> Result<Redirect, Error> {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let sid = form.user.clone();
    session
        .login(Login::new(form.user).epoch(now).label("sid", sid).label("device", device(agent)))
        .await?;
    Ok(Redirect::to("/"))
}

async fn sign_out(session: Session) -> Result<Redirect, Error> {
    session.flush().await?;
    Ok(Redirect::to("/"))
}

/// Returns the part that a user recognises of a `User-Agent`, and short enough for a label.
fn device(agent: &str) -> String {
    let find = |known: &[(&str, &'static str)], other| {
        known.iter().find(|(sign, _)| agent.contains(sign)).map_or(other, |(_, name)| *name)
    };
    format!("{} on {}", find(BROWSERS, "A browser"), find(SYSTEMS, "an unknown system"))
}

/// The order matters: Edge names Chrome as well, and Chrome names Safari.
const BROWSERS: &[(&str, &str)] =
    &[("Edg", "Edge"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari")];
const SYSTEMS: &[(&str, &str)] = &[
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("Linux", "Linux"),
];
const VISITOR: &str = r#"<form method="post" action="/sign-in"><input name="user" aria-label="Your name"
    placeholder="Your name" autocapitalize="none" required><button>Sign in</button></form>
"#;
