//! The page of the shop: HTML with one style, and no scripts.

mod account;
mod basket;
pub(crate) mod notice;
mod nodes;

use axum::http::{HeaderName, header};
use axum::response::Html;
use example_balancer::NodeState;
use steadfast::store::{RecordId, SessionInfo};
use time::UtcDateTime;

use crate::Strategy;
use notice::Change;

/// The contents of the page.
pub(crate) struct View<'v> {
    pub(crate) strategy: Strategy,
    /// The node that serves.
    pub(crate) node: &'v str,
    /// All nodes, if the request came through the balancer.
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) change: Change,
    pub(crate) visits: i64,
    pub(crate) cart: Vec<String>,
    pub(crate) user: Option<&'v str>,
    /// The sessions of the user.
    pub(crate) devices: Vec<SessionInfo>,
    /// The session of the request.
    pub(crate) handle: RecordId,
    /// The nodes that hold it.
    pub(crate) holders: Vec<String>,
    pub(crate) now: UtcDateTime,
}

impl View<'_> {
    pub(crate) fn html(&self) -> Html<String> {
        let body = format!(
            "{}<main>{}{}{}{}{}</main>{FOOT}",
            self.head(),
            self.notice(),
            self.greeting(),
            self.places(),
            self.basket(),
            self.account(),
        );
        Html(document(self.strategy.name, &body))
    }

    fn head(&self) -> String {
        let Strategy { name, summary, .. } = self.strategy;
        format!(
            "<header><p class=\"brand\"><a href=\"/\">Tea shop</a></p>
            <p><strong>{name}.</strong> {summary}</p></header>"
        )
    }

    fn greeting(&self) -> String {
        let greeting = match self.user {
            Some(user) => format!("Hello, {}.", escape(user)),
            None => "Hello, visitor.".to_owned(),
        };
        format!(
            "<section class=\"hello\"><h1>{greeting}</h1>
            <p class=\"facts\"><span>Served by {}</span><span>Visits: {}</span></p></section>",
            escape(self.node),
            self.visits,
        )
    }
}

/// A whole page; the body is HTML.
pub(crate) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>{title} · Tea shop</title>
<link rel=\"icon\" href=\"data:,\">
<style>{STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"
    )
}

/// Text as HTML.
pub(crate) fn escape(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&quot;").replace('\'', "&#39;")
}

/// A form with a button, and nothing to fill in.
fn button(action: &str, class: &str, says: &str) -> String {
    format!(
        "<form method=\"post\" action=\"{action}\"><button class=\"{class}\">{says}</button></form>"
    )
}

const STYLE: &str = include_str!("style.css");

/// The page loads nothing, no site can frame it, and its forms lead back to it. Without a referrer of
/// their own site, browsers would call the origin of a form `null`, which the forgery check refuses.
pub(crate) const HEADERS: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

const FOOT: &str = "<footer><p>The same shop runs over every strategy. Start another one:</p>
<ul class=\"commands\">
<li><code>cargo run -p example-memory</code></li>
<li><code>cargo run -p example-sticky</code></li>
<li><code>cargo run -p example-replicated</code></li>
<li><code>cargo run -p example-redis</code></li>
<li><code>cargo run -p example-postgres</code></li>
</ul></footer>";
