//! Requests to the balancer, over connections that are kept.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A client of one address.
#[derive(Debug)]
pub struct Http {
    address: String,
    idle: Mutex<Vec<Connection>>,
}

/// An answer that arrived completely.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

type Connection = SendRequest<Full<Bytes>>;

impl Http {
    /// A client of the server at an address.
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), idle: Mutex::default() }
    }

    /// Sends a request of the visitor at an address, as a proxy in front of the balancer would pass it on.
    /// `None` if there is no complete answer within 10 s.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        (from, cookies): (&str, &str),
        body: &str,
    ) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, &self.address);
        if !from.is_empty() {
            request = request.header("x-forwarded-for", from);
        }
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies);
        }
        let request = request.body(Full::from(body.to_owned())).ok()?;
        tokio::time::timeout(PATIENCE, self.exchange(request)).await.ok()?
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Option<Answer> {
        loop {
            let (mut connection, is_new) = self.connection().await?;
            if connection.ready().await.is_err() && !is_new {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let body = body.collect().await.ok()?.to_bytes();
                    self.keep(connection);
                    let (status, headers) = (parts.status.as_u16(), parts.headers);
                    return Some(Answer { status, headers, body });
                }
                // A kept connection that was closed has sent nothing, so the request is sent again.
                Err(mut error) if !is_new => request = error.take_message()?,
                Err(_) => return None,
            }
        }
    }

    async fn connection(&self) -> Option<(Connection, bool)> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = idle {
            return Some((connection, false));
        }
        let stream = TcpStream::connect(&self.address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(driver);
        Some((connection, true))
    }

    fn keep(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
