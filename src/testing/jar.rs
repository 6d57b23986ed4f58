//! The cookies that a client keeps.

use std::collections::BTreeMap;

use http::header::{COOKIE, HeaderMap, SET_COOKIE};
use http::{HeaderName, HeaderValue, Request};

/// The cookies of a client, or its token where none is set.
pub(super) struct Jar {
    cookies: BTreeMap<String, String>,
    /// The header that carries the token, and the token.
    header: Option<(HeaderName, HeaderValue)>,
}

impl Jar {
    /// Nothing yet; tokens come in this header, if in any.
    pub(super) fn new(header: Option<HeaderName>) -> Self {
        let empty = HeaderValue::from_static("");
        Self { cookies: BTreeMap::new(), header: header.map(|name| (name, empty)) }
    }

    /// Sends what is kept along with a request, unless the request says otherwise.
    pub(super) fn fill<B>(&self, mut request: Request<B>) -> Request<B> {
        let pairs: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let headers = request.headers_mut();
        if !pairs.is_empty() && !headers.contains_key(COOKIE) {
            let line = HeaderValue::try_from(pairs.join("; "));
            headers.insert(COOKIE, line.expect("parts of a header are a header"));
        }
        if let Some((name, token)) = &self.header {
            headers.entry(name).or_insert_with(|| token.clone());
        }
        request
    }

    /// Keeps what an answer sets, and drops what it removes.
    pub(super) fn keep(&mut self, answer: &HeaderMap) {
        for line in answer.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok()) {
            let mut parts = line.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            match parts.any(|attribute| attribute.eq_ignore_ascii_case("max-age=0")) {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        if let Some((name, token)) = &mut self.header
            && let Some(given) = answer.get(&*name)
        {
            *token = given.clone();
        }
    }
}
