//! Applies a session to a response head: sets the cookie, and the headers for caches.

use http::header::{CACHE_CONTROL, CDN_CACHE_CONTROL, Entry, SET_COOKIE, VARY};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::body::ServedBody;
use crate::cookie::companion::{self, Affinity};
use crate::error::{Error, SessionFailure};
use crate::layer_state::LayerState;
use crate::session::{CompanionCookies, ResponseEffects, Session, TokenAction};

/// Applies the effects of the session. If the session was not used, the response stays the same to the byte.
pub(crate) fn apply<B: ServedBody>(
    effects: ResponseEffects,
    session: &Session,
    response: Response<B>,
) -> Response<B::Body> {
    if !effects.touched {
        return response.map(B::served);
    }
    let layer = session.layer();
    let is_failure = effects.failure.is_some();
    let mut response = match effects.failure {
        Some(error) => failure::<B>(error, layer, response.into_parts().0),
        None => response.map(B::served),
    };
    let headers = response.headers_mut();
    drop_cookies_of_our_name(headers, layer);
    vary(headers, &layer.vary);
    drop_targeted(headers);
    let credential = credential(effects.token_action, &effects.companions, session);
    let sets_token = credential.is_some();
    if let Some(credential) = credential {
        set_token(credential, headers, session);
    }
    let sets_companions = set_companion_cookies(&effects.companions, headers, layer);
    match sets_token || sets_companions || is_failure {
        true => never_store(headers),
        false => keep_private(headers),
    }
    response
}

/// The answer when what the handler promised was not kept, in place of a response with this head.
pub(crate) fn failure<B: ServedBody>(
    error: Error,
    layer: &LayerState,
    replaced: Parts,
) -> Response<B::Body> {
    let (mut parts, text) = layer.render(&error).into_parts();
    for name in replaced.headers.keys() {
        if layer.keeps(name) && !parts.headers.contains_key(name) {
            for value in replaced.headers.get_all(name) {
                parts.headers.append(name, value.clone());
            }
        }
    }
    parts.version = replaced.version;
    parts.extensions.extend(replaced.extensions);
    parts.extensions.insert(SessionFailure::new(error));
    Response::from_parts(parts, B::replaced_by(text))
}

/// The header value that gives or takes the client's token.
fn credential(
    action: TokenAction,
    companions: &CompanionCookies,
    session: &Session,
) -> Option<HeaderValue> {
    let layer = session.layer();
    let route = companions.route.as_deref().filter(|_| layer.affinity == Affinity::Suffix);
    match (action, session.uses_header()) {
        (TokenAction::Keep, _) => None,
        (TokenAction::Set(token, validity), false) => {
            let left = || validity.until.since(layer.client.store.env().now());
            let profile = layer.cookie.is_persistent();
            let max_age = validity.is_persistent.unwrap_or(profile).then(left);
            Some(layer.cookie.issue(&token, route.unwrap_or_default(), max_age))
        }
        (TokenAction::Remove, false) => Some(layer.cookie.removal()),
        (TokenAction::Set(token, _), true) => {
            let value = HeaderValue::from_str(&token.encode());
            let mut value = value.expect("a token is visible ASCII");
            value.set_sensitive(true);
            Some(value)
        }
        (TokenAction::Remove, true) => Some(HeaderValue::from_static("")),
    }
}

fn set_token(credential: HeaderValue, headers: &mut HeaderMap, session: &Session) {
    let layer = session.layer();
    match &layer.header {
        Some(name) if session.uses_header() => {
            headers.insert(name, credential);
        }
        _ => {
            headers.append(SET_COOKIE, credential);
        }
    }
}

/// Sets or removes the companion cookies, and returns true if there was anything to do.
fn set_companion_cookies(
    companions: &CompanionCookies,
    headers: &mut HeaderMap,
    layer: &LayerState,
) -> bool {
    let route = companions.route.as_deref().filter(|_| layer.affinity == Affinity::Cookie);
    let companions = [(companion::ROUTE, route), (companion::SEEN, companions.seen.as_deref())];
    for (behind, text) in companions.into_iter().filter_map(|(behind, text)| Some((behind, text?)))
    {
        let cookie = match text {
            "" => layer.cookie.companion_removal(behind),
            text => layer.cookie.companion(behind, text),
        };
        headers.append(SET_COOKIE, cookie);
    }
    companions.iter().any(|(_, text)| text.is_some())
}

/// Drops a cookie that the application set under our name. It is not our token, and it would end the client's
/// session or shadow the token that is set.
fn drop_cookies_of_our_name(headers: &mut HeaderMap, layer: &LayerState) {
    let name = layer.cookie.cookie_name().as_bytes();
    let is_ours = |line: &HeaderValue| {
        line.as_bytes().strip_prefix(name).is_some_and(|rest| rest.starts_with(b"="))
    };
    if !headers.get_all(SET_COOKIE).iter().any(is_ours) {
        return;
    }
    tracing::warn!(target: "steadfast", "dropped a cookie that the application set in our name");
    let others: Vec<_> =
        headers.get_all(SET_COOKIE).iter().filter(|line| !is_ours(line)).cloned().collect();
    headers.remove(SET_COOKIE);
    for line in others {
        headers.append(SET_COOKIE, line);
    }
}

/// Some caches obey a field of their own and pass over `Cache-Control` (RFC 9213, 2.1).
fn drop_targeted(headers: &mut HeaderMap) {
    // Few responses have one, and looking at the names there are is cheaper than hashing ours.
    if headers.keys().any(|name| TARGETED.contains(name)) {
        TARGETED.iter().for_each(|name| drop(headers.remove(name)));
    }
}

/// A response with a token in it must be kept by no cache at all (RFC 9111, 7.3).
fn never_store(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// A response that depends on the session must be kept by no shared cache.
fn keep_private(headers: &mut HeaderMap) {
    let lines: Vec<_> = match headers.entry(CACHE_CONTROL) {
        Entry::Vacant(none) => {
            none.insert(HeaderValue::from_static("private"));
            return;
        }
        Entry::Occupied(lines) => lines.iter().cloned().collect(),
    };
    let known: Vec<_> = lines.iter().flat_map(|line| directives(line.as_bytes())).collect();
    let is = |directive: &[u8], name: &str| directive.eq_ignore_ascii_case(name.as_bytes());
    let is_shared = |directive: &&[u8]| {
        is(directive, "public") || starts_with_ignore_case(directive, b"s-maxage=")
    };
    let is_strict = known.iter().any(|d| is(d, "private") || is(d, "no-store"));
    if is_strict && !known.iter().any(is_shared) {
        return;
    }
    let mut kept: Vec<&[u8]> = known.iter().copied().filter(|d| !is_shared(d)).collect();
    if !is_strict {
        kept.push(b"private");
    }
    let value = HeaderValue::from_bytes(&kept.join(&b", "[..]));
    headers.insert(CACHE_CONTROL, value.expect("parts of a header's value are a header's value"));
}

/// The directives of a `Cache-Control` line; a comma within quotes does not end one.
fn directives(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    let ends = move |byte: &u8| {
        is_quoted ^= *byte == b'"';
        *byte == b',' && !is_quoted
    };
    line.split(ends).map(<[u8]>::trim_ascii).filter(|directive| !directive.is_empty())
}

/// Adds to `Vary` what the response depends on. `*` already says more.
fn vary(headers: &mut HeaderMap, on: &HeaderValue) {
    let known: Vec<_> = match headers.entry(VARY) {
        Entry::Vacant(none) => {
            none.insert(on.clone());
            return;
        }
        Entry::Occupied(lines) => lines.iter().cloned().collect(),
    };
    let known: Vec<_> = known.iter().flat_map(|line| directives(line.as_bytes())).collect();
    let is_missing = |name: &&[u8]| {
        !known.iter().any(|known| known.eq_ignore_ascii_case(name) || *known == b"*")
    };
    let missing: Vec<_> = directives(on.as_bytes()).filter(is_missing).collect();
    if missing.is_empty() {
        return;
    }
    let all = [known.clone(), missing].concat().join(&b", "[..]);
    let value = HeaderValue::from_bytes(&all);
    headers.insert(VARY, value.expect("parts of a header's value are a header's value"));
}

fn starts_with_ignore_case(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
}

static TARGETED: [HeaderName; 3] = [
    CDN_CACHE_CONTROL,
    HeaderName::from_static("surrogate-control"),
    HeaderName::from_static("x-accel-expires"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows CA-02.
    #[test]
    fn a_response_that_uses_the_session_is_private() {
        for (said, says) in [
            (None, "private"),
            (Some("public, max-age=600"), "max-age=600, private"),
            (Some("PUBLIC"), "private"),
            (Some("s-maxage=10, no-cache"), "no-cache, private"),
            (Some("private, max-age=5"), "private, max-age=5"),
            (Some("no-store"), "no-store"),
            (Some("private, s-maxage=9"), "private"),
            (Some("private=\"a, public\""), "private=\"a, public\", private"),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(said.map(|said| (CACHE_CONTROL, HeaderValue::from_static(said))));
            keep_private(&mut headers);
            assert_eq!(headers[CACHE_CONTROL], says, "{said:?}");
        }
    }

    /// Shows CA-02.
    #[test]
    fn vary_gains_what_it_lacks() {
        for (said, on, says) in [
            (None, "Cookie", "Cookie"),
            (Some("Accept"), "Cookie", "Accept, Cookie"),
            (Some("accept, cookie"), "Cookie", "accept, cookie"),
            (Some("*"), "Cookie", "*"),
            (Some("Cookie"), "Cookie, x-session", "Cookie, x-session"),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(said.map(|said| (VARY, HeaderValue::from_static(said))));
            vary(&mut headers, &HeaderValue::from_static(on));
            assert_eq!(headers[VARY], says, "{said:?}");
        }
    }
}
