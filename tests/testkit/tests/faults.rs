//! The faulty wire itself, between a client and a server that sends everything back.

#![allow(missing_docs, clippy::unwrap_used)]

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use testkit::faults::{Action, Direction, Fault, FaultProxy};
use testkit::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn what_passes_is_written_down() {
    let (proxy, mut client, mut server) = wire().await;
    client.write_all(b"question").await.unwrap();
    assert_eq!(read(&mut server, 8).await, b"question");
    server.write_all(b"yes").await.unwrap();
    assert_eq!(read(&mut client, 3).await, b"yes");
    let heard = proxy.heard();
    assert_eq!(heard[0].to_server.bytes, b"question");
    assert_eq!(
        (&heard[0].to_client.bytes[..], &heard[0].to_client.ends[..]),
        (&b"yes"[..], &[3][..])
    );
    assert_eq!(proxy.mark().await, 1);
    assert!(proxy.heard()[0].to_server.bytes.is_empty());
}

#[tokio::test]
async fn a_reset_comes_after_its_byte() {
    let (proxy, mut client, mut server) = wire().await;
    arm(&proxy, Direction::ToServer, 3, Action::Reset);
    client.write_all(b"question").await.unwrap();
    assert_eq!(all(&mut server).await, (b"que".to_vec(), Some(ErrorKind::ConnectionReset)));
    assert_eq!(all(&mut client).await, (Vec::new(), Some(ErrorKind::ConnectionReset)));
    assert!(proxy.lift());
    assert_eq!(proxy.mark().await, 0);
}

#[tokio::test]
async fn a_fault_may_precede_the_first_byte() {
    let (proxy, mut client, mut server) = wire().await;
    arm(&proxy, Direction::ToClient, 0, Action::Close);
    assert_eq!(all(&mut client).await, (Vec::new(), None));
    assert_eq!(all(&mut server).await, (Vec::new(), None));
}

#[tokio::test]
async fn a_half_that_is_closed_leaves_the_other() {
    let (proxy, mut client, mut server) = wire().await;
    arm(&proxy, Direction::ToServer, 3, Action::HalfClose);
    client.write_all(b"question").await.unwrap();
    assert_eq!(all(&mut server).await, (b"que".to_vec(), None));
    server.write_all(b"yes").await.unwrap();
    assert_eq!(read(&mut client, 3).await, b"yes");
}

#[tokio::test]
async fn what_is_swallowed_closes_nothing() {
    let (proxy, mut client, mut server) = wire().await;
    arm(&proxy, Direction::ToServer, 3, Action::Swallow);
    client.write_all(b"question").await.unwrap();
    assert_eq!(read(&mut server, 3).await, b"que");
    server.write_all(b"yes").await.unwrap();
    assert_eq!(read(&mut client, 3).await, b"yes");
    let more = tokio::time::timeout(Duration::from_millis(50), server.read_u8()).await;
    assert!(more.is_err(), "{more:?}");
    proxy.mark().await;
    assert_eq!(within(client.read(&mut [0])).await.unwrap(), 0, "the mark ends it");
}

#[tokio::test]
async fn what_is_delayed_comes_later_and_whole() {
    let (proxy, mut client, mut server) = wire().await;
    let start = Instant::now();
    arm(&proxy, Direction::ToServer, 3, Action::Delay(LATER));
    client.write_all(b"question").await.unwrap();
    assert_eq!(read(&mut server, 8).await, b"question");
    assert!(start.elapsed() >= LATER);
    assert_eq!(proxy.mark().await, 1);
}

#[tokio::test]
async fn stranded_bytes_reach_the_server_later() {
    let (proxy, mut client, mut server) = wire().await;
    arm(&proxy, Direction::ToServer, 3, Action::Strand(LATER));
    let start = Instant::now();
    client.write_all(b"question").await.unwrap();
    assert_eq!(all(&mut client).await, (Vec::new(), Some(ErrorKind::ConnectionReset)));
    assert!(start.elapsed() < LATER);
    assert_eq!(all(&mut server).await, (b"question".to_vec(), None));
    assert!(start.elapsed() >= LATER);
    drop(server);
    within(proxy.settled()).await;
}

#[tokio::test]
async fn a_fault_strikes_only_its_conversation() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = FaultProxy::start(&listener.local_addr().unwrap().to_string()).await;
    let fault =
        Fault { conversation: 1, direction: Direction::ToServer, after: 0, action: Action::Reset };
    proxy.arm(fault);
    let mut first = TcpStream::connect(proxy.address()).await.unwrap();
    let mut server = within(listener.accept()).await.unwrap().0;
    first.write_all(b"a").await.unwrap();
    assert_eq!(read(&mut server, 1).await, b"a");
    assert!(!proxy.lift());
    proxy.arm(fault);
    let mut second = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(all(&mut second).await.1, Some(ErrorKind::ConnectionReset));
    first.write_all(b"b").await.unwrap();
    assert_eq!(read(&mut server, 1).await, b"b");
}

async fn wire() -> (FaultProxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = FaultProxy::start(&listener.local_addr().unwrap().to_string()).await;
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    let server = within(listener.accept()).await.unwrap().0;
    (proxy, client, server)
}

fn arm(proxy: &FaultProxy, direction: Direction, after: u64, action: Action) {
    proxy.arm(Fault { conversation: 0, direction, after, action });
}

async fn read(from: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    within(from.read_exact(&mut read)).await.unwrap();
    read
}

/// Everything up to the end, and how that was if it was no orderly one.
async fn all(from: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut read = Vec::new();
    let end = within(from.read_to_end(&mut read)).await;
    (read, end.err().map(|error| error.kind()))
}

const LATER: Duration = Duration::from_millis(200);
