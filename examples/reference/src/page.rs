//! The page for people at `/`. It works without scripts: its forms are calls of the JSON routes.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use steadfast::{Session, SessionInfo};
use time::UtcDateTime;

use crate::app::{self, Mount};
use crate::errors::Failure;
use crate::routes::{oldest_first, rfc3339};

pub(crate) fn router() -> Router<Arc<Mount>> {
    Router::new().route("/", get(page))
}

/// Turns a form of the page into a call of a JSON route, and its success into the page again.
///
/// The routes take cross-site requests to be refused already; a form brings the token as well.
pub(crate) async fn forms(
    State(mount): State<Arc<Mount>>,
    session: Session,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    if !is_form(&request) {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let form = to_bytes(body, LONGEST_FORM).await.unwrap_or_default();
    let form = String::from_utf8_lossy(&form);
    let (token, mut fields): (Vec<_>, Vec<_>) =
        form.split('&').partition(|pair| pair.starts_with("csrf="));
    let device = format!("label.device={}", device(&parts.headers).replace(' ', "+"));
    fields.push(&device);
    let token = token.first().and_then(|pair| pair.strip_prefix("csrf="));
    session.verify_csrf(token.unwrap_or_default()).await?;

    let Ok(uri) = format!("{}?{}", parts.uri.path(), fields.join("&")).parse() else {
        return Ok(StatusCode::BAD_REQUEST.into_response());
    };
    parts.uri = uri;
    let answer = next.run(Request::from_parts(parts, Body::empty())).await;
    Ok(match answer.status().is_success() {
        true => Redirect::to(home(mount.path)).into_response(),
        false => answer,
    })
}

/// The page to continue with after an error, if the request was the page or one of its forms.
pub(crate) fn way_back(request: &Request) -> Option<&'static str> {
    let path = request.uri().path();
    let mount = app::PATHS.into_iter().rev().find(|mount| path.starts_with(mount))?;
    let is_page = request.method() == Method::GET && path.trim_end_matches('/') == mount;
    let is_ours = is_form(request) || (is_page && accepts_html(request.headers()));
    is_ours.then(|| home(mount))
}

/// The page for an error.
pub(crate) fn error(reason: &str, way_back: &str) -> impl IntoResponse {
    let body = format!(
        "<h1>That did not work.</h1>
        <section class=\"card\"><p>The reason: {}.</p><a href=\"{way_back}\">Back to your session</a></section>",
        escape(reason),
    );
    (HEADERS.clone(), Html(document("That did not work", &body)))
}

async fn page(State(mount): State<Arc<Mount>>, session: Session) -> Result<Response, Failure> {
    let user = session.principal().await?;
    let token = session.csrf_token().await?;
    let visits = session.increment("visits", 1).await?;
    let forms = Forms { path: mount.path, token };
    let (greeting, body) = match &user {
        Some(user) => {
            let sessions = oldest_first(session.list().await?);
            let this = session.handle().await?;
            let list = forms.sessions(&sessions, |info| Some(info.id) == this);
            (format!("Hello, {}.", escape(user.id())), list)
        }
        None => ("You are not signed in.".to_owned(), forms.sign_in()),
    };
    let node = mount.app.node.as_str();
    let body = format!(
        "<h1>{greeting}</h1>
        <section class=\"card\"><dl>
            <div><dt>Visits</dt><dd id=\"visits\">{visits}</dd></div>
            <div><dt>Served by node</dt><dd id=\"node\">{node}</dd></div>
        </dl></section>
        {body}"
    );
    Ok((HEADERS.clone(), Html(document("Your session", &body))).into_response())
}

/// The forms of a page: where they go, and the token that they carry.
struct Forms {
    path: &'static str,
    token: String,
}

impl Forms {
    fn sign_in(&self) -> String {
        let fields = "<label for=\"u\">Your name</label>
            <div class=\"row\">
                <input id=\"u\" name=\"u\" type=\"text\" autocomplete=\"username\" required maxlength=\"64\">
                <button class=\"main\">Sign in</button>
            </div>
            <label class=\"tick\"><input name=\"persistent\" type=\"checkbox\" value=\"1\">
                Keep me signed in when the browser closes</label>";
        format!("<section class=\"card\">{}</section>", self.form("login", fields))
    }

    fn sessions(&self, list: &[SessionInfo], is_this: impl Fn(&SessionInfo) -> bool) -> String {
        let items: String = list.iter().map(|info| self.session(info, is_this(info))).collect();
        let button = |action, class, says| {
            self.form(action, &format!("<button class=\"{class}\">{says}</button>"))
        };
        format!(
            "<section class=\"card\"><h2>Your active sessions</h2><ul>{items}</ul>
            <div class=\"row\">{}{}{}</div></section>",
            button("logout", "main", "Sign out"),
            button("logout-others", "", "Sign out elsewhere"),
            button("logout-all", "", "Sign out everywhere"),
        )
    }

    fn session(&self, info: &SessionInfo, is_this: bool) -> String {
        let (id, since) = (info.id.to_string(), moment(info.created));
        let device = escape(info.facts.label("device").unwrap_or("Unknown device"));
        let used = info.last_used.unwrap_or(info.created);
        let (used_at, used) = (rfc3339(used), moment(used));
        let mark = if is_this { "<span class=\"this\">this one</span>" } else { "" };
        let button = format!(
            "<button class=\"end\" aria-label=\"End {device}, since {since}\">End</button>"
        );
        format!(
            "<li><p><strong>{device}</strong>{mark}<br>
            Last used <time datetime=\"{used_at}\">{used}</time><br>
            <small>Since <time datetime=\"{}\">{since}</time> · <code>{}</code></small></p>{}</li>",
            rfc3339(info.created),
            &id[..8],
            self.form(&format!("sessions/{id}/end"), &button),
        )
    }

    fn form(&self, action: &str, fields: &str) -> String {
        let Self { path, token } = self;
        format!(
            "<form method=\"post\" action=\"{path}/{action}\">
            <input type=\"hidden\" name=\"csrf\" value=\"{token}\">{fields}</form>"
        )
    }
}

pub(crate) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>{title} · steadfast</title>
<style>{STYLE}</style>
</head>
<body>
<main><p class=\"name\">steadfast</p>
{body}
</main>
</body>
</html>
"
    )
}

pub(crate) fn escape(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&quot;").replace('\'', "&#39;")
}

/// A time, as a list of sessions shows it.
fn moment(at: UtcDateTime) -> String {
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

/// A browser and its system, in words for a list; a real application knows more of them.
fn device(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let agent = agent.unwrap_or_default();
    let named = |known: &[(&str, &'static str)]| {
        known.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name)
    };
    match (named(&BROWSERS), named(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "Unknown device".to_owned(),
    }
}

/// Returns true for the headers that a browser sends with a form, and other clients do not send by accident.
fn is_form(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_encoded =
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    request.method() == Method::POST && is_encoded && accepts_html(request.headers())
}

pub(crate) fn accepts_html(headers: &HeaderMap) -> bool {
    let accepts = |line: &header::HeaderValue| line.to_str().is_ok_and(|l| l.contains("text/html"));
    headers.get_all(header::ACCEPT).iter().any(accepts)
}

fn home(mount: &'static str) -> &'static str {
    if mount.is_empty() { "/" } else { mount }
}

/// The names by which browsers identify themselves, the more specific ones first.
const BROWSERS: [(&str, &str); 5] = [
    ("Edg/", "Edge"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
];

const SYSTEMS: [(&str, &str); 5] = [
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
];

const STYLE: &str = include_str!("page.css");

/// Only this page's own style is loaded, and no site can frame it. Without a referrer of their
/// own site, browsers would call the origin of a form `null`.
pub(crate) static HEADERS: LazyLock<[(HeaderName, String); 3]> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "same-origin".to_owned()),
    ]
});

const LONGEST_FORM: usize = 1 << 14;
