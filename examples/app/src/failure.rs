//! The page that answers an error.

use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use steadfast::Error;

use crate::page::{HEADERS, document, escape};

/// An error of a session call, as a page for people. Its status and headers are those of the error.
pub(crate) struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (parts, _) = self.0.to_response().into_parts();
        let (title, text) = match parts.status {
            StatusCode::SERVICE_UNAVAILABLE => ("One moment", NOT_CONFIRMED.to_owned()),
            _ => ("That did not work", format!("The reason: {}.", escape(&self.0.to_string()))),
        };
        let body = format!(
            "<main><section class=\"card hello\"><h1>{title}</h1><p>{text}</p>
            <p><a class=\"button\" href=\"/\">Back to the shop</a></p></section></main>"
        );
        let mut response = (HEADERS, Html(document(title, &body))).into_response();
        *response.status_mut() = parts.status;
        for (name, value) in &parts.headers {
            if name != header::CONTENT_TYPE {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }
}

/// Has a browser ask again for a page whose session was out of reach. Other requests are not repeated.
pub(crate) async fn ask_again(request: Request, next: Next) -> Response {
    let is_read = request.method() == Method::GET;
    let mut response = next.run(request).await;
    if is_read && response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::REFRESH, HeaderValue::from_static("1"));
    }
    response
}

const NOT_CONFIRMED: &str = "The place that holds your session does not answer yet, so the shop cannot \
                             tell who you are, and does not guess. This does not sign you out. Please \
                             try again in a second.";

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_page_out_of_reach_is_retried() {
        let page = answer(Method::GET, || async { Failure(Error::Poisoned) }).await;
        assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(page.headers()[header::REFRESH], "1");
        assert_eq!(page.headers()[header::RETRY_AFTER], "1");
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    }

    #[tokio::test]
    async fn only_pages_out_of_reach_are_repeated() {
        let unknown = answer(Method::GET, || async { Failure(Error::NotSignedIn) }).await;
        assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
        let order = answer(Method::POST, || async { Failure(Error::Poisoned) }).await;
        assert_eq!(order.status(), StatusCode::SERVICE_UNAVAILABLE);
        for page in [unknown, order] {
            assert_eq!(page.headers().get(header::REFRESH), None);
        }
    }

    async fn answer<F>(method: Method, handler: fn() -> F) -> Response
    where
        F: Future<Output = Failure> + Send + 'static,
    {
        let app = Router::new().route("/", get(handler).post(handler)).layer(from_fn(ask_again));
        let request = Request::builder().method(method).body(Body::empty());
        app.oneshot(request.expect("a request")).await.expect("it is infallible")
    }
}
