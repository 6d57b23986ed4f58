//! The credentials of a request, parsed when they are first needed.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use http::HeaderValue;
use smallvec::SmallVec;
use steadfast_core::{Event, Proof, RecordId, RequestHint, Token};

use crate::cookie::companion;
use crate::cookie::parse::Candidates;
use crate::layer_state::LayerState;

/// The headers in which a request may have brought a token, and what was found in them.
#[derive(Debug, Default)]
pub(crate) struct RequestCredentials {
    headers: Mutex<Headers>,
    uses_header: bool,
    tokens: OnceLock<SmallVec<[PresentedToken; 1]>>,
    hint: OnceLock<RequestHint>,
}

#[derive(Debug, Default)]
struct Headers {
    /// Most clients send one line.
    cookies: SmallVec<[HeaderValue; 1]>,
    header: Option<HeaderValue>,
}

/// A token that a request presented: the record that it names, and the proof of the right to it.
#[derive(Debug)]
pub(super) struct PresentedToken {
    pub(super) id: RecordId,
    pub(super) proof: Proof,
}

impl RequestCredentials {
    pub(crate) fn new(cookies: SmallVec<[HeaderValue; 1]>, header: Option<HeaderValue>) -> Self {
        let uses_header = header.is_some();
        let headers = Mutex::new(Headers { cookies, header });
        Self { headers, uses_header, ..Self::default() }
    }

    /// Copies the headers: each of them is a part of the buffer that the request was read into, and
    /// would keep all of it for as long as a handle lives.
    pub(crate) fn release_request(&self) {
        let mut headers = self.headers();
        let Headers { cookies, header } = &mut *headers;
        for value in cookies.iter_mut().chain(header) {
            let copy = HeaderValue::from_bytes(value.as_bytes());
            let mut copy = copy.expect("a header's value is a header's value");
            copy.set_sensitive(true);
            *value = copy;
        }
    }

    /// Returns true if the client asked for answers in a header instead of cookies.
    pub(super) fn uses_header(&self) -> bool {
        self.uses_header
    }

    /// Returns true if the client carries companion cookies beside its token.
    pub(super) fn places_sessions(&self, layer: &LayerState) -> bool {
        layer.client.store.places_sessions() && !self.uses_header()
    }

    /// The distinct tokens that the request brought, hashed; the secrets themselves are wiped here.
    pub(super) fn tokens(&self, layer: &LayerState) -> &[PresentedToken] {
        self.tokens.get_or_init(|| {
            let candidates = self.candidates(layer);
            if candidates.malformed {
                Event::MalformedId.emit(None);
            }
            if candidates.tokens.len() > 1 {
                Event::DuplicateCookie.emit(None);
            }
            let keyring = layer.keyring();
            let presented = |token: &Token| PresentedToken {
                id: token.id(),
                proof: keyring.prove(&layer.realm, token.secret()),
            };
            candidates.tokens.iter().map(presented).collect()
        })
    }

    /// The hints of the cookies that accompany the token, if the store uses them.
    pub(super) fn hint(&self, layer: &LayerState) -> &RequestHint {
        self.hint.get_or_init(|| match self.places_sessions(layer) {
            true => {
                let name = layer.cookie.cookie_name();
                companion::hint(&self.headers().cookies, name, layer.affinity)
            }
            false => RequestHint::default(),
        })
    }

    /// Counts how the route that the request carries relates to this node.
    pub(crate) fn count_route(&self, layer: &LayerState) {
        if !layer.client.store.places_sessions() {
            return;
        }
        if let Some(routed) = layer.client.store.routed(&self.hint(layer).routes) {
            routed.count();
            if routed.is_astray() {
                Event::Misrouted.emit(None);
            }
        }
    }

    /// The token of a record, to be sent again with another route.
    pub(super) fn token(&self, layer: &LayerState, id: RecordId) -> Option<Token> {
        self.candidates(layer).tokens.into_iter().find(|token| token.id() == id)
    }

    fn candidates(&self, layer: &LayerState) -> Candidates {
        let headers = self.headers();
        let Some(value) = &headers.header else {
            return Candidates::find(&headers.cookies, layer.cookie.cookie_name());
        };
        let mut candidates = Candidates::default();
        if !value.is_empty() {
            candidates.take(value.as_bytes());
        }
        candidates
    }

    fn headers(&self) -> MutexGuard<'_, Headers> {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
