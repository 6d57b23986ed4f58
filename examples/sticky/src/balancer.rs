//! A balancer that sends a request to the node whose label it carries, and to the next one if that
//! node is not there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;

use crate::node::Node;

pub(crate) struct Balancer {
    nodes: Vec<(&'static str, SocketAddr)>,
    client: Client<HttpConnector, Body>,
    turn: AtomicUsize,
}

impl Balancer {
    pub(crate) fn new(nodes: &[Node]) -> Self {
        Self {
            nodes: nodes.iter().map(|node| (node.label, node.address)).collect(),
            // A connection that is kept would outlive the node that was killed.
            client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http(),
            turn: AtomicUsize::new(0),
        }
    }

    pub(crate) async fn serve(self, address: &str) -> std::io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        println!("listening on http://{}", listener.local_addr()?);
        let app = Router::new().fallback(pass_on).with_state(Arc::new(self));
        let ctrl_c = async {
            tokio::signal::ctrl_c().await.expect("a process can listen for Ctrl-C");
        };
        axum::serve(listener, app).with_graceful_shutdown(ctrl_c).await
    }

    /// Every node once: the one that the route names first, the others in turn.
    fn order(&self, headers: &HeaderMap) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let route = route(headers).unwrap_or_default();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.nodes.len();
        let mut nodes = self.nodes.clone();
        nodes.rotate_left(turn);
        nodes.sort_by_key(|(label, _)| *label != route);
        nodes.into_iter()
    }
}

/// Sends a request on. Only one that reached no node is sent to another: it may have been done.
async fn pass_on(State(balancer): State<Arc<Balancer>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    for (label, address) in balancer.order(&parts.headers) {
        match balancer.client.request(directed(&parts, address, &body)).await {
            Ok(mut response) => {
                response.headers_mut().insert("x-node", HeaderValue::from_static(label));
                return response.map(Body::new);
            }
            Err(error) if error.is_connect() => {}
            Err(_) => return StatusCode::BAD_GATEWAY.into_response(),
        }
    }
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

fn directed(parts: &axum::http::request::Parts, to: SocketAddr, body: &Bytes) -> Request {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme("http").authority(to.to_string()).path_and_query(path).build();
    let mut parts = parts.clone();
    parts.uri = uri.expect("an address and a path make a URI");
    Request::from_parts(parts, Body::from(body.clone()))
}

/// The first label of the cookie that carries the route.
fn route(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut routes =
        lines.flat_map(|line| line.split("; ")).filter_map(|pair| pair.strip_prefix(ROUTE));
    routes.next()?.split('.').next()
}

const ROUTE: &str = "__Host-id-route=";

/// Bytes of a request that are kept to be sent again.
const LARGEST: usize = 1 << 20;
