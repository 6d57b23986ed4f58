//! A balancer inside the test: it picks the node of each request, keeps connections, and says plainly
//! what became of a request.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::client::{Client, Reply, read, request};
use crate::eventually::eventually;

/// The choice of the node for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Each request goes to the next node.
    RoundRobin,
    /// The first node that the route of the client names, else to the second, else to the next.
    Ranked,
    /// The node of this number only.
    At(usize),
}

/// Clones share their connections and whose turn it is.
#[derive(Clone)]
pub struct Balancer(Arc<Shared>);

struct Shared {
    nodes: Mutex<Vec<Arc<Upstream>>>,
    turn: AtomicUsize,
}

/// A node as its balancer knows it.
struct Upstream {
    label: String,
    address: String,
    is_out: AtomicBool,
    /// Requests that are there.
    busy: AtomicUsize,
    idle: Mutex<Vec<Connection>>,
}

type Connection = SendRequest<Full<Bytes>>;

/// The result of a request.
#[derive(Debug)]
pub struct Sent {
    /// The number of the node that got it.
    pub node: usize,
    pub answer: Result<Reply, Unanswered>,
    pub took: Duration,
}

/// There was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// No node took it, so it did not happen.
    Refused,
    /// It may have happened: the connection ended before the answer.
    Cut,
    /// It may still happen: there was no answer for as long as balancers wait.
    Late,
}

impl Balancer {
    /// Makes a balancer for nodes with these labels and addresses.
    pub fn new(nodes: impl IntoIterator<Item = (String, String)>) -> Self {
        let balancer = Self(Arc::new(Shared { nodes: Mutex::default(), turn: 0.into() }));
        balancer.add(nodes);
        balancer
    }

    /// Adds nodes.
    pub fn add(&self, nodes: impl IntoIterator<Item = (String, String)>) {
        let upstream = |(label, address)| {
            let (is_out, busy) = (AtomicBool::new(false), AtomicUsize::new(0));
            Arc::new(Upstream { label, address, is_out, busy, idle: Mutex::default() })
        };
        self.0.nodes.lock().unwrap().extend(nodes.into_iter().map(upstream));
    }

    /// Sends no more requests to a node, and waits until none is in progress there.
    pub async fn disable(&self, node: usize) {
        let upstream = self.node(node);
        upstream.is_out.store(true, Ordering::SeqCst);
        eventually(async || upstream.busy.load(Ordering::SeqCst) == 0).await;
    }

    /// Sends requests to a disabled node again.
    pub fn enable(&self, node: usize) {
        self.node(node).is_out.store(false, Ordering::SeqCst);
    }

    /// Sends a request of a client, and keeps the cookies of the answer for it. A node that refuses
    /// the connection is left for the next one; what may have been read by a node is not sent again.
    pub async fn send(
        &self,
        policy: Policy,
        client: &Client,
        method: &str,
        path: &str,
        body: &str,
    ) -> Sent {
        let started = Instant::now();
        let candidates = self.candidates(policy, client);
        let first = candidates.first().map_or(0, |(number, _)| *number);
        for (node, upstream) in candidates {
            let cookies = client.cookies();
            let headers = [(header::COOKIE.as_str(), cookies.as_str())];
            let headers = &headers[..usize::from(!cookies.is_empty())];
            let answer = upstream.exchange(request(method, path, headers, body)).await;
            if matches!(answer, Err(Unanswered::Refused)) {
                continue;
            }
            if let Ok(reply) = &answer {
                client.keep(reply);
            }
            return Sent { node, answer, took: started.elapsed() };
        }
        Sent { node: first, answer: Err(Unanswered::Refused), took: started.elapsed() }
    }

    /// The nodes for a request, the best one first.
    fn candidates(&self, policy: Policy, client: &Client) -> Vec<(usize, Arc<Upstream>)> {
        let nodes: Vec<_> = self.0.nodes.lock().unwrap().iter().cloned().enumerate().collect();
        if let Policy::At(node) = policy {
            return vec![nodes[node].clone()];
        }
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed) % nodes.len();
        let route = client.cookie(ROUTE).filter(|_| policy == Policy::Ranked).unwrap_or_default();
        let rank = |upstream: &Upstream| route.split('.').position(|l| l == upstream.label);
        let mut nodes: Vec<_> = nodes[turn..].iter().chain(&nodes[..turn]).cloned().collect();
        nodes.retain(|(_, upstream)| !upstream.is_out.load(Ordering::SeqCst));
        nodes.sort_by_key(|(_, upstream)| rank(upstream).unwrap_or(usize::MAX));
        nodes
    }

    fn node(&self, node: usize) -> Arc<Upstream> {
        Arc::clone(&self.0.nodes.lock().unwrap()[node])
    }
}

impl Upstream {
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Reply, Unanswered> {
        // Counted first, so that no request is in progress once the node is out and the count is zero.
        self.busy.fetch_add(1, Ordering::SeqCst);
        let answer = match self.is_out.load(Ordering::SeqCst) {
            true => Err(Unanswered::Refused),
            false => self.timely_exchange(request).await,
        };
        self.busy.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    async fn timely_exchange(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Reply, Unanswered> {
        let host = header::HeaderValue::from_str(&self.address).unwrap();
        request.headers_mut().insert(header::HOST, host);
        let answer = tokio::time::timeout(PATIENCE, self.try_exchange(request)).await;
        answer.unwrap_or(Err(Unanswered::Late))
    }

    async fn try_exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Reply, Unanswered> {
        loop {
            let idle = self.idle.lock().unwrap().pop();
            let is_new = idle.is_none();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            if connection.ready().await.is_err() && !is_new {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => {
                    let reply = read(response).await.map_err(|_| Unanswered::Cut)?;
                    self.idle.lock().unwrap().push(connection);
                    return Ok(reply);
                }
                // It was not sent: the node had closed the connection.
                Err(mut error) => match error.take_message() {
                    Some(_) if is_new => return Err(Unanswered::Refused),
                    Some(unsent) => request = unsent,
                    None => return Err(Unanswered::Cut),
                },
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Unanswered> {
        let stream = TcpStream::connect(&self.address).await.map_err(|_| Unanswered::Refused)?;
        stream.set_nodelay(true).unwrap();
        let (connection, driver) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(driver);
        Ok(connection)
    }
}

/// The cookie with the route, of the profile `host`.
pub(crate) const ROUTE: &str = "__Host-id-route";

/// The time limit of an answer.
const PATIENCE: Duration = Duration::from_secs(15);
