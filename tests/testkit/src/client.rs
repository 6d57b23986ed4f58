//! Clients of a server: they keep cookies by their names, and little else of what a browser does.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

use crate::eventually::within;
use crate::server::Server;

/// A client with cookies. Clones share them, as tabs of a browser do.
#[derive(Clone)]
pub struct Client {
    address: String,
    from: Option<IpAddr>,
    jar: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Client {
    /// A client that has never been anywhere.
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), from: None, jar: Arc::default() }
    }

    /// The same client, sent to another node by its balancer.
    pub fn at(&self, server: &Server) -> Self {
        self.at_address(&server.address)
    }

    /// The same client, which asks at an address.
    pub fn at_address(&self, address: &str) -> Self {
        Self { address: address.to_owned(), ..self.clone() }
    }

    /// The same client with another address of its own, one of 127.0.0.0/8.
    pub fn from(&self, address: &str) -> Self {
        Self { from: Some(address.parse().unwrap()), ..self.clone() }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    pub async fn post(&self, path: &str) -> Reply {
        self.send("POST", path, &[], "").await
    }

    /// Sends a request, and keeps the cookies of its answer.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let cookies = self.cookies();
        let cookie = (header::COOKIE.as_str(), cookies.as_str());
        let headers = [headers, &[cookie][..usize::from(!cookies.is_empty())]].concat();
        let request = request(method, path, &headers, body);
        let reply = exchange_from(self.from, &self.address, request).await;
        self.keep(&reply);
        reply
    }

    /// Sends a request in the background.
    pub fn spawn(
        &self,
        method: &'static str,
        path: &'static str,
    ) -> tokio::task::JoinHandle<Reply> {
        let client = self.clone();
        tokio::spawn(async move { client.send(method, path, &[], "").await })
    }

    pub async fn peek(&self) -> Value {
        self.get("/peek").await.ok().json()
    }

    /// Returns the user whom the server sees in this client.
    pub async fn user(&self) -> Option<String> {
        self.peek().await["user"].as_str().map(str::to_owned)
    }

    /// Another client, who goes to the same place.
    pub fn stranger(&self) -> Self {
        Self { jar: Arc::default(), ..self.clone() }
    }

    pub fn cookie(&self, name: &str) -> Option<String> {
        self.jar.lock().unwrap().get(name).cloned()
    }

    pub fn set_cookie(&self, name: &str, value: &str) {
        self.jar.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }

    /// A client with the same cookies and a jar of its own.
    pub fn fork(&self) -> Self {
        let jar = self.jar.lock().unwrap().clone();
        Self { jar: Arc::new(Mutex::new(jar)), ..self.clone() }
    }

    pub fn cookies(&self) -> String {
        let jar = self.jar.lock().unwrap();
        let pairs: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    pub(crate) fn keep(&self, reply: &Reply) {
        let mut jar = self.jar.lock().unwrap();
        for line in reply.set_cookies() {
            let (name, rest) = line.split_once('=').unwrap();
            match line.contains("Max-Age=0") {
                true => jar.remove(name),
                false => jar.insert(name.to_owned(), rest.split(';').next().unwrap().to_owned()),
            };
        }
    }
}

/// An answer that has arrived.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    /// Asserts a status below 400.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.as_u16() < 400, "{self:?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The reason of an error, which comes as JSON.
    #[track_caller]
    pub fn error(&self) -> String {
        assert!(self.status.as_u16() >= 400, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        self.json()["error"].as_str().expect("an error has a reason").to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn set_cookies(&self) -> Vec<&str> {
        let lines = self.headers.get_all(header::SET_COOKIE).iter();
        lines.map(|line| line.to_str().unwrap()).collect()
    }
}

/// Asks over HTTP/2 without TLS, as one that knows of it.
pub async fn over_h2c(address: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let connection = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), connection);
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = request("GET", &format!("http://{address}{path}"), headers, "");
    read(within(sender.send_request(request)).await.unwrap()).await.unwrap()
}

/// Asks over HTTP/1.1.
pub async fn exchange(address: &str, request: Request<Full<Bytes>>) -> Reply {
    exchange_from(None, address, request).await
}

async fn exchange_from(
    from: Option<IpAddr>,
    address: &str,
    mut request: Request<Full<Bytes>>,
) -> Reply {
    let host = header::HeaderValue::from_str(address).unwrap();
    request.headers_mut().entry(header::HOST).or_insert(host);
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(from) = from {
        socket.bind((from, 0).into()).unwrap();
    }
    let connection = TokioIo::new(socket.connect(address.parse().unwrap()).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(connection).await.unwrap();
    tokio::spawn(connection);
    read(within(sender.send_request(request)).await.unwrap()).await.unwrap()
}

pub fn request(
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_owned())).unwrap()
}

pub(crate) async fn read(response: hyper::Response<hyper::body::Incoming>) -> hyper::Result<Reply> {
    let (parts, body) = response.into_parts();
    let body = within(body.collect()).await?.to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Ok(Reply { status: parts.status, headers: parts.headers, body })
}
