//! Requests that a handler of a test serves.

use std::convert::Infallible;

use axum::body::Body;
use http::{Request, Response, header};
use steadfast::{Error, Session, SessionLayer};
use tower::{Layer, ServiceExt, service_fn};

/// Has a handler serve a request on a node, and returns what it came to, and the client's cookies.
pub fn visit<T, F>(
    node: &SessionLayer,
    cookies: String,
    handler: impl Fn(Session) -> F + Clone + Send + 'static,
) -> impl Future<Output = (T, String)> + Send + 'static
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let service = node.layer(service_fn(move |request: Request<()>| {
        let session = request.extensions().get::<Session>().cloned();
        let answer = handler(session.expect("the layer adds a session"));
        async move {
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(answer.await.unwrap());
            Ok::<_, Infallible>(response)
        }
    }));
    let request = Request::builder().header(header::COOKIE, cookies).body(()).unwrap();
    async move {
        let mut response = service.oneshot(request).await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
        let answer = response.extensions_mut().remove::<T>().unwrap();
        let set = response.headers().get_all(header::SET_COOKIE).iter();
        let pairs = set.map(|line| line.to_str().unwrap().split(';').next().unwrap().to_owned());
        (answer, pairs.collect::<Vec<_>>().join("; "))
    }
}
