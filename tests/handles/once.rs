//! Requests that come in at the same time, and take what is read once.

use std::convert::Infallible;

use axum::body::Body;
use http::{Request, Response, header};
use steadfast::{Error, Session, SessionLayer};
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt, service_fn};

use crate::service::Service;

/// Twelve requests on all nodes: one of them pops the value, and each message is read by one.
pub async fn check(service: Service) {
    let cookies = visit(service.node(0), String::new(), |session| async move {
        session.insert("ticket", 7).await
    });
    let cookies = cookies.await.1;
    let mut leaving = JoinSet::new();
    for n in 0..3 {
        leaving.spawn(visit(service.node(n), cookies.clone(), move |session| async move {
            session.flash(n).await
        }));
    }
    leaving.join_all().await;
    let mut taking = JoinSet::new();
    for n in 0..12 {
        taking.spawn(visit(service.node(n), cookies.clone(), |session| async move {
            let popped = session.pop::<i64>("ticket").await?;
            Ok((popped, session.take_flashes::<usize>().await?))
        }));
    }
    let taken: Vec<_> = taking.join_all().await.into_iter().map(|(taken, _)| taken).collect();
    let popped: Vec<_> = taken.iter().filter_map(|(popped, _)| *popped).collect();
    assert_eq!(popped, [7]);
    let mut messages: Vec<_> = taken.into_iter().flat_map(|(_, messages)| messages).collect();
    messages.sort_unstable();
    assert_eq!(messages, [0, 1, 2]);
}

/// Has a handler serve a request on a node, and returns what it came to, and the client's cookies.
fn visit<T, F>(
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
