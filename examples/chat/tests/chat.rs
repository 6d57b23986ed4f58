//! Two nodes of the chat over one Redis, and what one user has open on both.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use testkit::redis::Redis;
use testkit::{Client, Events, Example, within};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_closes_streams_on_both_nodes() {
    let redis = Redis::start();
    let nodes = [node(&redis.url()).await, node(&redis.url()).await];
    let client = member(&nodes[0]).await;
    let mut open = Vec::new();
    for node in &nodes {
        let events = Events::open_at(&node.address, &client, "/live").await;
        open.push((events, Socket::open(node, &client).await.unwrap()));
    }
    post(&nodes[1], &client, "/logout", "").await;
    for (events, socket) in &mut open {
        let told = timeout(IN_TIME, async { (events.next().await, socket.next().await) }).await;
        let (event, frame) = told.expect("they learn it in time");
        assert_eq!(event, ("ended".to_owned(), "logout".to_owned()));
        assert_eq!(frame, r#"{"event":"ended","reason":"logout"}"#);
        assert!(events.is_over().await && socket.is_closed().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_see_new_session_values() {
    let redis = Redis::start();
    let nodes = [node(&redis.url()).await, node(&redis.url()).await];
    let client = member(&nodes[0]).await;
    let mut events = Events::open_at(&nodes[0].address, &client, "/live").await;
    let mut socket = Socket::open(&nodes[0], &client).await.unwrap();
    post(&nodes[1], &client, "/nickname", "text=Al").await;
    let told = timeout(IN_TIME, async { (events.next().await, socket.next().await) }).await;
    let (event, frame) = told.expect("they learn it in time");
    assert_eq!(event, ("nickname".to_owned(), r#""Al""#.to_owned()));
    assert_eq!(frame, r#"{"event":"nickname","nickname":"Al"}"#);
    socket.say("Hello").await;
    assert_eq!(events.next().await.1, r#"{"from":"Al","text":"Hello"}"#);
    assert_eq!(socket.next().await, r#"{"event":"line","from":"Al","text":"Hello"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_strangers_nor_other_sites_open_a_socket() {
    let node = node("memory:").await;
    let stranger = Client::new(&node.address);
    assert_eq!(Socket::open(&node, &stranger).await.err(), Some(401));
    let client = member(&node).await;
    let cross_site = Socket::open_from(&node, &client, "cross-site").await;
    assert_eq!(cross_site.err(), Some(403));
}

#[tokio::test]
async fn an_open_stream_does_not_block_shutdown() {
    let ended = node("memory:").await.ends_with_a_stream_open().await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.last_event, Some(("ended".to_owned(), "shutdown".to_owned())));
}

struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn open(node: &Example, client: &Client) -> Result<Self, u16> {
        Self::open_from(node, client, "same-origin").await
    }

    /// Opens a socket as a page of this or another site does; or the status that refuses it.
    async fn open_from(node: &Example, client: &Client, site: &str) -> Result<Self, u16> {
        let mut request = format!("ws://{}/socket", node.address).into_client_request().unwrap();
        let headers = [("cookie", client.cookies()), ("sec-fetch-site", site.to_owned())];
        for (name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(&node.address).await.unwrap();
        match within(tokio_tungstenite::client_async(request, stream)).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn next(&mut self) -> String {
        within(self.0.next()).await.unwrap().unwrap().into_text().unwrap().to_string()
    }

    async fn is_closed(&mut self) -> bool {
        let last = within(self.0.next()).await;
        matches!(last, Some(Ok(Message::Close(Some(frame)))) if frame.reason.as_str() == "logout")
    }
}

async fn node(store: &str) -> Example {
    let mut program = Command::new(env!("CARGO_BIN_EXE_example-chat"));
    Example::start(program.arg("127.0.0.1:0").arg(store)).await
}

async fn member(node: &Example) -> Client {
    let client = Client::new(&node.address);
    post(node, &client, "/login", "user=alice").await;
    client
}

async fn post(node: &Example, client: &Client, path: &str, form: &str) {
    let kind = ("content-type", "application/x-www-form-urlencoded");
    client.at_address(&node.address).send("POST", path, &[kind], form).await.ok();
}

const IN_TIME: Duration = Duration::from_secs(2);
