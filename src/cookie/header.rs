//! The header that carries the token of clients without cookies.

use http::HeaderName;

/// A header that already means something to HTTP, so that it can carry no session token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the header {name} means something else in HTTP: choose a name of your own, such as x-session"
)]
#[non_exhaustive]
pub struct HeaderError {
    /// The name.
    pub name: HeaderName,
}

/// Checks that a header has no meaning to clients, servers or proxies.
pub(crate) fn check(name: &HeaderName) -> Result<(), HeaderError> {
    let is = |known: &&str| match known.strip_suffix('*') {
        Some(start) => name.as_str().starts_with(start),
        None => name == *known,
    };
    match TAKEN.iter().any(is) {
        true => Err(HeaderError { name: name.clone() }),
        false => Ok(()),
    }
}

/// Headers that HTTP, browsers or proxies use themselves. A star stands for any ending.
const TAKEN: [&str; 48] = [
    "accept*",
    "access-control-*",
    "age",
    "allow",
    "alt-svc",
    "authentication-info",
    "authorization",
    "cache-control",
    "cdn-cache-control",
    "clear-site-data",
    "connection",
    "content-*",
    "cookie*",
    "cross-origin-*",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "http2-settings",
    "if-*",
    "keep-alive",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "proxy-*",
    "range",
    "referer",
    "referrer-policy",
    "retry-after",
    "sec-*",
    "server",
    "set-cookie*",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade*",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_with_a_meaning_carry_no_token() {
        for name in ["authorization", "proxy-authorization", "cookie", "host", "content-type"] {
            assert!(check(&HeaderName::from_static(name)).is_err(), "{name}");
        }
        for name in ["x-session", "session", "x-auth-token", "my-app-session"] {
            assert!(check(&HeaderName::from_static(name)).is_ok(), "{name}");
        }
    }
}
