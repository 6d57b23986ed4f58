//! The service: gives a request its session, without waiting.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use smallvec::SmallVec;
use tower_service::Service;

use crate::body::ServedBody;
use crate::future::ResponseFuture;
use crate::layer_state::LayerState;
use crate::session::{RequestCredentials, Session};

/// Gives every request a [`Session`]; made by [`SessionLayer`](crate::SessionLayer).
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    inner: S,
    layer: Arc<LayerState>,
}

impl<S> SessionService<S> {
    pub(crate) fn new(inner: S, layer: Arc<LayerState>) -> Self {
        Self { inner, layer }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SessionService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: ServedBody,
{
    type Response = Response<ResBody::Body>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let outer = request.extensions().get::<Session>().cloned();
        match outer.as_ref().and_then(|outer| nesting(outer, &self.layer)) {
            Some(Nesting::Same) => ResponseFuture::without_session(self.inner.call(request)),
            Some(Nesting::Clash) => ResponseFuture::refused(Arc::clone(&self.layer)),
            None => {
                self.layer.follow_endings();
                let credentials = credentials(request.headers_mut(), &self.layer);
                credentials.count_route(&self.layer);
                let session = Session::new(Arc::clone(&self.layer), credentials, outer);
                request.extensions_mut().insert(session.clone());
                ResponseFuture::new(self.inner.call(request), session)
            }
        }
    }
}

/// The relation of a layer to those around it.
enum Nesting {
    /// One of them is the same layer, which already did all there is to do.
    Same,
    /// One of them is another layer with the same cookie name: a session of one would be valid in the other,
    /// or be unknown there.
    Clash,
}

fn nesting(outer: &Session, layer: &Arc<LayerState>) -> Option<Nesting> {
    let name = layer.cookie.cookie_name();
    let around = outer.and_outer().find(|around| around.cookie.cookie_name() == name)?;
    if Arc::ptr_eq(around, layer) {
        return Some(Nesting::Same);
    }
    tracing::error!(target: "steadfast", cookie = name, realm = %layer.realm.as_str(),
        outer_realm = %around.realm.as_str(),
        "two different session layers share a cookie name: use one layer, or name the cookies apart");
    Some(Nesting::Clash)
}

/// Keeps the headers that may hold a token, to be parsed when a handler uses the session.
fn credentials(headers: &mut HeaderMap, layer: &LayerState) -> RequestCredentials {
    let header = layer.header.as_ref().and_then(|name| sensitive(headers, name).into_iter().next());
    let absent = || layer.header_only.then(|| HeaderValue::from_static(""));
    RequestCredentials::new(sensitive(headers, &header::COOKIE), header.or_else(absent))
}

/// The lines of a header, which are marked as sensitive, so that nothing further in logs them.
fn sensitive(headers: &mut HeaderMap, name: &HeaderName) -> SmallVec<[HeaderValue; 1]> {
    // Looked for first, because an entry makes room for what is not there.
    if !headers.contains_key(name) {
        return SmallVec::new();
    }
    let header::Entry::Occupied(mut lines) = headers.entry(name) else {
        return SmallVec::new();
    };
    lines.iter_mut().for_each(|line| line.set_sensitive(true));
    lines.iter().cloned().collect()
}
