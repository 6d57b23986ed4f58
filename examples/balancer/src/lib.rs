//! A small balancer for examples of several nodes. It skips a node that is not there, tells each node which
//! ones run, and has routes on which they are stopped and started.

mod nodes;
mod operator;
mod switch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;

pub use nodes::{NodeState, nodes};
pub use switch::Switch;

/// Sends each request to one of several nodes.
#[derive(Debug)]
pub struct Balancer {
    nodes: Vec<Node>,
    policy: Policy,
    client: Client<HttpConnector, Body>,
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Node {
    label: String,
    address: SocketAddr,
    switch: Switch,
}

/// The choice of the first node for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The next one in turn.
    RoundRobin,
    /// The one whose label the request carries as its route; without a route, the next one in turn.
    Sticky,
}

impl Balancer {
    /// Makes a balancer for nodes with these labels and addresses.
    pub fn new(policy: Policy, nodes: impl IntoIterator<Item = (String, SocketAddr)>) -> Self {
        let node = |(label, address)| Node { label, address, switch: Switch::on() };
        Self {
            nodes: nodes.into_iter().map(node).collect(),
            policy,
            // A connection that is kept would outlive the node that was killed.
            client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Returns the switch of a node, for its supervisor, if there is such a node.
    pub fn switch(&self, label: &str) -> Option<&Switch> {
        self.nodes.iter().find(|node| node.label == label).map(|node| &node.switch)
    }

    fn switches(&self) -> impl Iterator<Item = &Switch> {
        self.nodes.iter().map(|node| &node.switch)
    }

    /// Says where it listens, and serves until `stop` resolves. Responses under way may take
    /// [`PATIENCE`](Self::PATIENCE) then.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub async fn serve(
        self,
        address: &str,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        println!("listening on http://{}", listener.local_addr()?);
        let stop = stop.shared();
        let patience = async {
            stop.clone().await;
            tokio::time::sleep(Self::PATIENCE).await;
        };
        tokio::select! {
            served = axum::serve(listener, self.router()).with_graceful_shutdown(stop.clone()) => served,
            () = patience => Ok(()),
        }
    }

    /// The time that responses may take after it has to stop: 10 s.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    fn router(self) -> Router {
        Router::new().merge(operator::routes()).fallback(pass_on).with_state(Arc::new(self))
    }

    /// Every node once, in the order in which a request tries them.
    fn order(&self, headers: &HeaderMap) -> impl Iterator<Item = SocketAddr> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.nodes.len();
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.rotate_left(turn);
        if self.policy == Policy::Sticky {
            let route = route(headers).unwrap_or_default();
            nodes.sort_by_key(|node| node.label != route);
        }
        nodes.into_iter().map(|node| node.address)
    }
}

/// Sends a request on. Only one that reached no node is sent to another: it may have been done.
async fn pass_on(State(balancer): State<Arc<Balancer>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let states = balancer.nodes.iter().map(|node| (node.label.as_str(), node.switch.is_up()));
    nodes::describe(&mut parts.headers, states);
    let Ok(body) = axum::body::to_bytes(body, LARGEST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    for address in balancer.order(&parts.headers) {
        match balancer.client.request(directed(&parts, address, &body)).await {
            Ok(response) => return response.map(Body::new),
            Err(error) if error.is_connect() => {}
            Err(_) => return failure(StatusCode::BAD_GATEWAY, &parts.method),
        }
    }
    failure(StatusCode::SERVICE_UNAVAILABLE, &parts.method)
}

/// The answer while no node responds. A browser asks again for a page, and repeats no other request.
fn failure(status: StatusCode, method: &Method) -> Response {
    let mut response = (status, [(header::RETRY_AFTER, "1")], NO_ANSWER).into_response();
    if *method == Method::GET {
        response.headers_mut().insert(header::REFRESH, HeaderValue::from_static("1"));
    }
    response
}

const NO_ANSWER: &str = "No node answered. Please try again in a moment.\n";

fn directed(parts: &Parts, to: SocketAddr, body: &Bytes) -> Request {
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpSocket;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn nodes_take_turns() {
        let balancer = balancer(Policy::RoundRobin, &[node("n1").await, node("n2").await]);
        let mut served = Vec::new();
        for _ in 0..4 {
            served.push(ask(&balancer, "n1").await.1);
        }
        assert_eq!(served, ["n1", "n2", "n1", "n2"]);
    }

    #[tokio::test]
    async fn an_unknown_route_leads_to_any_node() {
        let balancer = balancer(Policy::Sticky, &[node("n1").await, node("n2").await]);
        for route in ["n2", "n1", "n2.n1", "n2"] {
            let served = ask(&balancer, route).await.1;
            assert!(route.starts_with(&served), "{route}: {served}");
        }
        assert_eq!(ask(&balancer, "elsewhere").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_refusing_node_is_skipped() {
        // Bound and not listening: no other process gets the port, and it refuses.
        let gone = TcpSocket::new_v4().unwrap();
        gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let nodes = [("gone".to_owned(), gone.local_addr().unwrap()), node("n1").await];
        for policy in [Policy::RoundRobin, Policy::Sticky] {
            let balancer = balancer(policy, &nodes);
            for _ in 0..4 {
                assert_eq!(ask(&balancer, "gone").await, (StatusCode::OK, "n1".to_owned()));
            }
        }
        let nobody = self::balancer(Policy::RoundRobin, &nodes[..1]);
        assert_eq!(ask(&nobody, "").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn a_node_stops_on_an_order() {
        let balancer = Balancer::new(Policy::RoundRobin, [node("n1").await, node("n2").await]);
        let supervised = balancer.switch("n1").unwrap().clone();
        tokio::spawn(async move {
            supervised.wanted(false).await;
            supervised.is_now(false);
        });
        let balancer = balancer.router();
        for (session, leads) in
            [("session=0a-1b", "/?stopped=n1&session=0a-1b"), ("session=%26x", "/?stopped=n1")]
        {
            let response = order(&balancer, "/nodes/n1/stop", session, &[]).await;
            assert_eq!(response.headers()[header::LOCATION], leads);
        }
        assert_eq!(states(&balancer).await, "n1=down n2=up");
        let response = order(&balancer, "/nodes/n9/stop", "", &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn the_last_node_starts_again() {
        let balancer = Balancer::new(Policy::RoundRobin, [node("n1").await]);
        let supervised = balancer.switch("n1").unwrap().clone();
        let stops = tokio::spawn(async move {
            supervised.wanted(false).await;
            supervised.is_now(false);
            supervised.wanted(true).await;
            supervised.is_now(true);
        });
        let balancer = balancer.router();
        order(&balancer, "/nodes/n1/stop", "", &[]).await;
        stops.await.unwrap();
        assert_eq!(states(&balancer).await, "n1=up");
    }

    #[tokio::test]
    async fn another_site_stops_no_node() {
        let balancer = balancer(Policy::RoundRobin, &[node("n1").await]);
        let foreign = [("sec-fetch-site", "cross-site")];
        let response = order(&balancer, "/nodes/n1/stop", "", &foreign).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn a_client_cannot_describe_the_nodes() {
        let balancer = balancer(Policy::RoundRobin, &[node("n1").await]);
        let request = Request::get("/nodes").header("x-nodes", "n7=up").body(Body::empty());
        let response = balancer.oneshot(request.unwrap()).await.unwrap();
        assert_eq!(text(response).await, "n1=up");
    }

    #[tokio::test]
    async fn a_delivered_request_is_not_sent_again() {
        let nodes = [breaking("breaks").await, node("n1").await];
        let balancer = balancer(Policy::Sticky, &nodes);
        assert_eq!(ask(&balancer, "breaks").await.0, StatusCode::BAD_GATEWAY);
    }

    fn balancer(policy: Policy, nodes: &[(String, SocketAddr)]) -> Router {
        Balancer::new(policy, nodes.iter().cloned()).router()
    }

    /// The status and the body of an answer to a request with a route.
    async fn ask(balancer: &Router, route: &str) -> (StatusCode, String) {
        let request = Request::builder().header(header::COOKIE, format!("a=b; {ROUTE}{route}"));
        let request = request.body(Body::empty()).unwrap();
        let response = balancer.clone().oneshot(request).await.unwrap();
        match response.status() {
            StatusCode::OK => (StatusCode::OK, text(response).await),
            status => (status, String::new()),
        }
    }

    /// Posts a form to a route of the operator.
    async fn order(
        balancer: &Router,
        path: &str,
        form: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        balancer.clone().oneshot(request.body(Body::from(form.to_owned())).unwrap()).await.unwrap()
    }

    /// The nodes, as one of them sees them.
    async fn states(balancer: &Router) -> String {
        let request = Request::get("/nodes").body(Body::empty()).unwrap();
        text(balancer.clone().oneshot(request).await.unwrap()).await
    }

    async fn text(response: Response) -> String {
        let body = axum::body::to_bytes(response.into_body(), LARGEST).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// A node that answers with its label.
    async fn node(label: &'static str) -> (String, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = (label.to_owned(), listener.local_addr().unwrap());
        let told =
            get(async move |headers: HeaderMap| headers["x-nodes"].to_str().unwrap().to_owned());
        let app = Router::new().route("/", get(label)).route("/nodes", told);
        tokio::spawn(axum::serve(listener, app).into_future());
        node
    }

    /// A node that takes a request, and hangs up.
    async fn breaking(label: &str) -> (String, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = (label.to_owned(), listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.read_u8().await.unwrap();
        });
        node
    }
}
