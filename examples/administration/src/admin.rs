//! The page of administrators: search a user, see the devices, end one session or all.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Form, FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{RequestPartsExt, Router};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use steadfast::{Error, RecordId, Session, SessionInfo, Sessions, SignedIn};
use subtle::ConstantTimeEq;
use time::UtcDateTime;
use time::macros::format_description;

use crate::page::{escape, page};

/// The routes, to which the caller adds the layer of administrators.
pub(crate) fn router(users: Sessions, password: &str) -> Router {
    Router::new()
        .route("/", get(devices))
        .route("/end", post(end))
        .route("/end-all", post(end_all))
        .route("/sign-in", get(sign_in_page).post(sign_in))
        .route("/sign-out", post(sign_out))
        .with_state(Admin { users, password: password.into() })
}

#[derive(Clone)]
struct Admin {
    users: Sessions,
    password: Arc<str>,
}

impl Admin {
    /// Returns the sessions of users; the audit log names the administrator who ends them.
    fn acting_as(&self, administrator: &SignedIn) -> Sessions {
        self.users.clone().acting_as(administrator.id())
    }
}

/// The application's own check: the session of an administrator, whose realm no user signs in to.
struct Administrator(SignedIn);

impl<S: Send + Sync> FromRequestParts<S> for Administrator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let signed_in: Option<SignedIn> = parts.extract().await.map_err(Error::into_response)?;
        signed_in.map(Self).ok_or_else(|| Redirect::to(SIGN_IN).into_response())
    }
}

#[derive(Deserialize)]
struct Search {
    user: Option<String>,
}

async fn devices(
    State(admin): State<Admin>,
    Administrator(me): Administrator,
    Query(search): Query<Search>,
) -> Result<Response, Error> {
    let csrf = me.session().csrf_token().await?;
    let mut body = notes(me.session()).await?;
    let user = search.user.unwrap_or_default();
    write!(
        body,
        r#"<form class="search"><input name="user" value="{}" aria-label="User" placeholder="User" required
        autocapitalize="none" autocomplete="off"><button>Search</button></form>"#,
        escape(&user)
    )
    .expect("text can be written to");
    if !user.is_empty() {
        body += &found(&user, admin.users.list(&user).await?, &csrf);
    }
    body += &form("sign-out", "", &csrf, "", "Sign out");
    Ok(page("Sessions", body))
}

#[derive(Deserialize)]
struct One {
    csrf: String,
    user: String,
    session: RecordId,
}

async fn end(
    State(admin): State<Admin>,
    Administrator(me): Administrator,
    Form(one): Form<One>,
) -> Result<Redirect, Error> {
    me.session().verify_csrf(&one.csrf).await?;
    let note = match admin.acting_as(&me).end(one.session).await? {
        true => "The session has ended.",
        false => "The session had ended before.",
    };
    me.session().flash(note).await?;
    Ok(back_to(&one.user))
}

#[derive(Deserialize)]
struct All {
    csrf: String,
    user: String,
}

async fn end_all(
    State(admin): State<Admin>,
    Administrator(me): Administrator,
    Form(all): Form<All>,
) -> Result<Redirect, Error> {
    me.session().verify_csrf(&all.csrf).await?;
    let count = admin.acting_as(&me).end_all(&all.user, None).await?;
    me.session().flash(format!("Sessions that have ended: {count}.")).await?;
    Ok(back_to(&all.user))
}

async fn sign_in_page(session: Session) -> Result<Response, Error> {
    let csrf = session.csrf_token().await?;
    let notes = notes(&session).await?;
    let field = r#"<input type="password" name="password" aria-label="Password" placeholder="Password"
        autocomplete="current-password" required>"#;
    Ok(page("Administration", notes + &form("sign-in", "password", &csrf, field, "Sign in")))
}

#[derive(Deserialize)]
struct Password {
    csrf: String,
    password: String,
}

async fn sign_in(
    State(admin): State<Admin>,
    session: Session,
    Form(form): Form<Password>,
) -> Result<Redirect, Error> {
    session.verify_csrf(&form.csrf).await?;
    if !bool::from(form.password.as_bytes().ct_eq(admin.password.as_bytes())) {
        session.flash("This is not the password.").await?;
        return Ok(Redirect::to(SIGN_IN));
    }
    session.login("administrator").await?;
    Ok(Redirect::to("/admin"))
}

#[derive(Deserialize)]
struct SignOut {
    csrf: String,
}

async fn sign_out(
    Administrator(me): Administrator,
    Form(form): Form<SignOut>,
) -> Result<Redirect, Error> {
    me.session().verify_csrf(&form.csrf).await?;
    me.session().flush().await?;
    Ok(Redirect::to(SIGN_IN))
}

async fn notes(session: &Session) -> Result<String, Error> {
    let notes: Vec<String> = session.take_flashes().await?;
    let note = |note: &String| format!("<p class=\"note\" role=\"status\">{}</p>\n", escape(note));
    Ok(notes.iter().map(note).collect())
}

fn found(user: &str, mut sessions: Vec<SessionInfo>, csrf: &str) -> String {
    if sessions.is_empty() {
        return "<p>This user has no sessions.</p>\n".to_owned();
    }
    sessions.sort_by_key(|info| std::cmp::Reverse(info.last_used));
    let field = format!(r#"<input type="hidden" name="user" value="{}">"#, escape(user));
    let all = form("end-all", "", csrf, &field, "End all");
    let items: String = sessions.iter().map(|info| device(info, csrf, &field)).collect();
    format!("<div class=\"head\"><h2>{}</h2>{all}</div>\n<ul>\n{items}</ul>\n", escape(user))
}

fn device(info: &SessionInfo, csrf: &str, user: &str) -> String {
    let name = escape(info.facts.label("device").unwrap_or("Unknown device"));
    let session = format!(r#"{user}<input type="hidden" name="session" value="{}">"#, info.id);
    format!(
        "<li><div><strong>{name}</strong><p>Last used {}</p><p>Signed in {}</p></div>{}</li>\n",
        time(info.last_used),
        time(info.authenticated),
        form("end", "", csrf, &session, "End")
    )
}

fn form(action: &str, class: &str, csrf: &str, fields: &str, button: &str) -> String {
    let kind = if action.starts_with("end") { r#" class="end""# } else { "" };
    format!(
        r#"<form method="post" action="/admin/{action}" class="{class}">
        <input type="hidden" name="csrf" value="{csrf}">{fields}<button{kind}>{button}</button></form>"#
    )
}

fn time(at: Option<UtcDateTime>) -> String {
    let format =
        format_description!("[day padding:none] [month repr:short] [year], [hour]:[minute] UTC");
    at.and_then(|at| at.format(format).ok()).unwrap_or_else(|| "at an unknown time".to_owned())
}

fn back_to(user: &str) -> Redirect {
    Redirect::to(&format!("/admin?user={}", utf8_percent_encode(user, NON_ALPHANUMERIC)))
}

const SIGN_IN: &str = "/admin/sign-in";
