//! The body of a response: the handler's, or an answer of the layer itself in its place.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// A body of the services that the layer wraps.
///
/// It takes the place of a bound that each body would have to fulfil: a commit that fails is
/// answered by the layer, whatever the layers further in make of bodies.
///
/// Without the feature `axum`, every type is one, and responses have a [`SessionBody`]. With it,
/// every body that axum serves is one, and responses have axum's own body, which axum takes as it is:
/// another type would cost every response a box.
pub trait ServedBody {
    /// The body of the responses of [`SessionService`](crate::service::SessionService).
    type Body;

    /// The body of a response that stays.
    fn served(self) -> Self::Body;

    /// The body of an answer of the layer itself.
    fn replaced_by(text: String) -> Self::Body;
}

#[cfg(feature = "axum")]
impl<B> ServedBody for B
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum_core::BoxError>,
{
    type Body = axum_core::body::Body;

    fn served(self) -> Self::Body {
        axum_core::body::Body::new(self)
    }

    fn replaced_by(text: String) -> Self::Body {
        text.into()
    }
}

#[cfg(not(feature = "axum"))]
impl<B> ServedBody for B {
    type Body = SessionBody<B>;

    fn served(self) -> Self::Body {
        SessionBody::of(self)
    }

    fn replaced_by(text: String) -> Self::Body {
        SessionBody::text(text)
    }
}

pin_project! {
    /// The body of a response, where the feature `axum` is off.
    #[derive(Debug)]
    pub struct SessionBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = KindProjection]
    enum Kind<B> {
        Served { #[pin] body: B },
        Text { rest: Option<Bytes> },
    }
}

impl<B> SessionBody<B> {
    /// The handler's body, unless the layer answered in its place.
    pub fn into_served(self) -> Option<B> {
        match self.kind {
            Kind::Served { body } => Some(body),
            Kind::Text { .. } => None,
        }
    }
}

#[cfg_attr(feature = "axum", allow(dead_code, reason = "axum's body stands in for it"))]
impl<B> SessionBody<B> {
    fn of(body: B) -> Self {
        Self { kind: Kind::Served { body } }
    }

    fn text(text: String) -> Self {
        let rest = (!text.is_empty()).then(|| text.into());
        Self { kind: Kind::Text { rest } }
    }
}

impl<B: Body<Data = Bytes>> Body for SessionBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Served { body } => body.poll_frame(context),
            KindProjection::Text { rest } => Poll::Ready(rest.take().map(Frame::data).map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Served { body } => body.is_end_stream(),
            Kind::Text { rest } => rest.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Served { body } => body.size_hint(),
            Kind::Text { rest } => {
                SizeHint::with_exact(rest.as_ref().map_or(0, |text| text.len() as u64))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_is_served_or_replaced_by_text() {
        for (body, wanted) in [
            (SessionBody::of("served".to_owned()), "served"),
            (SessionBody::text("replaced".to_owned()), "replaced"),
            (SessionBody::text(String::new()), ""),
        ] {
            assert_eq!(body.size_hint().exact(), Some(wanted.len() as u64));
            assert_eq!(body.is_end_stream(), wanted.is_empty());
            assert_eq!(body.collect().await.unwrap().to_bytes(), wanted);
        }
    }
}
