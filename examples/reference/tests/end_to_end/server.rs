//! A server that runs for one test, and clients of it.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

/// The program, serving on ports of its own. It is killed when this is dropped.
pub struct Server {
    process: Child,
    pub address: String,
    control: Option<String>,
}

impl Server {
    /// With a control port.
    pub async fn start(options: &[&str]) -> Self {
        let mut server = Self::launch(&[options, &["--control", "127.0.0.1:0"]].concat()).await;
        let control = announced(&mut server.1, "control on http://").await;
        Self { control: Some(control), ..server.0 }
    }

    pub async fn without_control(options: &[&str]) -> Self {
        Self::launch(options).await.0
    }

    async fn launch(options: &[&str]) -> (Self, Lines<BufReader<ChildStdout>>) {
        let mut process = program(options).args(["--listen", "127.0.0.1:0"]).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = announced(&mut lines, "listening on http://").await;
        (Self { process, address, control: None }, lines)
    }

    /// A client that has never been here.
    pub fn client(&self) -> Client {
        Client { address: self.address.clone(), jar: Arc::default() }
    }

    /// A client with somebody signed in.
    pub async fn member(&self, user: &str) -> Client {
        let client = self.client();
        client.post(&format!("/login?u={user}")).await.ok();
        client
    }

    /// Asks the control port.
    pub async fn control(&self, method: &str, path: &str) -> Reply {
        let address = self.control.as_ref().expect("this server has a control port");
        exchange(address, request(method, path, &[], "")).await
    }

    /// What the control port says.
    pub async fn told(&self, path: &str) -> Value {
        self.control("GET", path).await.ok().json()
    }

    /// Has the control port do something.
    pub async fn order(&self, path: &str) -> Value {
        self.control("POST", path).await.ok().json()
    }

    /// Waits until as many requests wait at a gate.
    pub async fn waiting(&self, gate: &str, requests: u64) {
        eventually(async || self.told("/gates").await[gate] == requests).await;
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let id = self.process.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end: how it ended, and what it said on standard error.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        ended(&mut self.process).await
    }
}

/// The program, not started yet, without anything of the environment of these tests.
pub fn program(options: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_reference"));
    program.args(options).env_clear().kill_on_drop(true);
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

/// A client with cookies. Clones share them, as tabs of a browser do.
#[derive(Clone)]
pub struct Client {
    address: String,
    jar: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Client {
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
        let reply = exchange(&self.address, request(method, path, &headers, body)).await;
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

    /// Who is signed in, as the server sees this client.
    pub async fn user(&self) -> Option<String> {
        self.peek().await["user"].as_str().map(str::to_owned)
    }

    /// A client with the same cookies and a jar of its own.
    pub fn fork(&self) -> Self {
        let jar = self.jar.lock().unwrap().clone();
        Self { address: self.address.clone(), jar: Arc::new(Mutex::new(jar)) }
    }

    pub fn cookies(&self) -> String {
        let jar = self.jar.lock().unwrap();
        let pairs: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    fn keep(&self, reply: &Reply) {
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
pub async fn over_h2c(address: &str, path: &str) -> Reply {
    let connection = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), connection);
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = request("GET", &format!("http://{address}{path}"), &[], "");
    read(within(sender.send_request(request)).await.unwrap()).await
}

/// Asks over HTTP/1.1.
pub async fn exchange(address: &str, mut request: Request<Full<Bytes>>) -> Reply {
    let host = header::HeaderValue::from_str(address).unwrap();
    request.headers_mut().entry(header::HOST).or_insert(host);
    let connection = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(connection).await.unwrap();
    tokio::spawn(connection);
    read(within(sender.send_request(request)).await.unwrap()).await
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

/// What a program that refuses its options says on standard error.
pub async fn refusal(mut program: Command) -> String {
    let (status, said) = ended(&mut program.spawn().unwrap()).await;
    assert!(!status.success(), "{said}");
    said
}

/// Waits until something is so, at most as long as [`within`].
pub async fn eventually(is_so: impl AsyncFn() -> bool) {
    within(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits for what must not take long.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes too long")
}

async fn ended(process: &mut Child) -> (ExitStatus, String) {
    let mut said = String::new();
    within(process.stderr.take().unwrap().read_to_string(&mut said)).await.unwrap();
    (within(process.wait()).await.unwrap(), said)
}

async fn announced(lines: &mut Lines<BufReader<ChildStdout>>, start: &str) -> String {
    let line = within(lines.next_line()).await.unwrap().expect("the server starts");
    line.strip_prefix(start).unwrap_or_else(|| panic!("unexpected: {line}")).to_owned()
}

async fn read(response: hyper::Response<hyper::body::Incoming>) -> Reply {
    let (parts, body) = response.into_parts();
    let body = within(body.collect()).await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Reply { status: parts.status, headers: parts.headers, body }
}
