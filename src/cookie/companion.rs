//! The companion cookies of the token, which hold no secret: the route to the session, and the version that
//! the client has seen. Both are hints, and neither opens a session.

use http::HeaderValue;
use steadfast_core::{RequestHint, RouteLabel, Version};

use super::parse::{token_and_route, values};

/// The place in which the route to a session travels, for stores that place sessions on nodes.
///
/// A route is one label or several, the preferred node first: `n1.n2`. A balancer reads it, a store
/// takes it as advice, and a wrong one costs a detour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Affinity {
    /// A separate cookie, the default. Its name is the session cookie's with `-route` appended.
    #[default]
    Cookie,
    /// The session cookie, after the token, for balancers that look for it there: `token.n1.n2`.
    ///
    /// A new route then sends the token again, and only a response that saw it still current does. If
    /// another request replaces the token at that very moment, the client may keep the one that was
    /// replaced, and has to sign in again.
    Suffix,
    /// No place: the balancer finds the node without help.
    None,
}

/// Suffixes of the session cookie's name that name the accompanying cookies.
pub(crate) const ROUTE: &str = "-route";
pub(crate) const SEEN: &str = "-seen";

/// Reads the hints of a request, given the name of the session cookie.
pub(crate) fn hint(lines: &[HeaderValue], name: &str, affinity: Affinity) -> RequestHint {
    let routes = match affinity {
        Affinity::Cookie => first(lines, name, "-route="),
        Affinity::Suffix => behind_token(lines, name),
        Affinity::None => None,
    };
    let seen = first(lines, name, "-seen=").and_then(version);
    RequestHint { routes: routes.map(labels).unwrap_or_default(), min_version: seen }
}

/// The text of a route.
pub(crate) fn route(labels: &[RouteLabel]) -> String {
    labels.iter().map(RouteLabel::as_str).collect::<Vec<_>>().join(".")
}

/// The route after the first token. A malformed cookie of the same name has none.
fn behind_token<'a>(lines: &'a [HeaderValue], name: &str) -> Option<&'a [u8]> {
    let mut found = lines.iter().flat_map(|line| values(line.as_bytes(), name, "="));
    let (_, route) = found.find_map(token_and_route)?;
    route
}

fn first<'a>(lines: &'a [HeaderValue], name: &str, rest: &str) -> Option<&'a [u8]> {
    lines.iter().flat_map(|line| values(line.as_bytes(), name, rest)).next()
}

/// Skips invalid labels, and ignores those after the first [`MAX_LABELS`].
fn labels(route: &[u8]) -> Vec<RouteLabel> {
    let labels = route.split(|byte| *byte == b'.').take(MAX_LABELS);
    labels.filter_map(|label| std::str::from_utf8(label).ok()?.parse().ok()).collect()
}

fn version(text: &[u8]) -> Option<Version> {
    std::str::from_utf8(text).ok()?.parse().ok().map(Version)
}

/// An owner, and more backups than a load balancer needs to know.
pub(crate) const MAX_LABELS: usize = 8;

#[cfg(test)]
mod tests {
    use steadfast_core::Token;

    use super::*;

    #[test]
    fn a_client_carries_a_route_and_a_version() {
        let hint = found("a=b; __Host-id-route=n1.n2; __Host-id-seen=17", Affinity::Cookie);
        assert_eq!((route(&hint.routes).as_str(), hint.min_version), ("n1.n2", Some(Version(17))));
    }

    #[test]
    fn a_route_may_stand_behind_the_token() {
        let line = format!("__Host-id-route=n9; __Host-id={}.n1.n2", "A".repeat(Token::LEN));
        assert_eq!(route(&found(&line, Affinity::Suffix).routes), "n1.n2");
        assert_eq!(route(&found(&line, Affinity::None).routes), "");
    }

    #[test]
    fn a_malformed_cookie_does_not_hide_the_route() {
        let token = "A".repeat(Token::LEN);
        for junk in ["short", "", &format!("{token}x.n9"), &"!".repeat(Token::LEN + 5)] {
            let line = format!("__Host-id={junk}; __Host-id={token}.n1");
            assert_eq!(route(&found(&line, Affinity::Suffix).routes), "n1", "{junk:?}");
        }
    }

    #[test]
    fn invalid_labels_and_versions_are_ignored() {
        for line in [
            "",
            "__Host-id-route=; __Host-id-seen=",
            "__Host-id-route=a b; __Host-id-seen=-1",
            "__Host-id-route=\u{e9}; __Host-id-seen=99999999999999999999",
            "__host-id-route=n1; __Host-id-seen =1",
            "__Host-id=short",
        ] {
            for affinity in [Affinity::Cookie, Affinity::Suffix, Affinity::None] {
                assert_eq!(found(line, affinity), RequestHint::default(), "{line:?}");
            }
        }
        let long = format!("__Host-id-route={}", ["n"; 1_000].join("."));
        assert_eq!(found(&long, Affinity::Cookie).routes.len(), MAX_LABELS);
    }

    fn found(line: &str, affinity: Affinity) -> RequestHint {
        let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
        hint(&[line], "__Host-id", affinity)
    }
}
