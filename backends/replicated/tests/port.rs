//! The cluster port: who may open it, and who may speak to it.

#![allow(missing_docs, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use steadfast_replicated::{OpenError, ReplicatedStore, ReplicatedStoreBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn cl_01_a_port_without_a_good_secret_is_not_opened() {
    let open = || ReplicatedStore::builder().bind(SocketAddr::from(([0, 0, 0, 0], 0)));
    assert!(matches!(open().open().await, Err(OpenError::NoSecret)));
    let short = open().secret([1; 31]).open().await;
    assert!(matches!(short, Err(OpenError::ShortSecret { len: 31 })));
    let plain = open().insecure_plaintext_for_tests().open().await;
    assert!(matches!(plain, Err(OpenError::Exposed { .. })));
}

#[tokio::test]
async fn cl_02_another_secret_or_cluster_is_no_peer() {
    let (address, _store) = service().await;
    for stranger in [node(1).secret([9; 32]), node(1).secret([7; 32]).cluster("other")] {
        let joined = stranger.seeds([&address]).join(Duration::from_millis(700)).open().await;
        assert!(matches!(joined, Err(OpenError::NotJoined { .. })));
    }
    let peer = node(2).secret([7; 32]).seeds([&address]).open().await.unwrap();
    peer.wait_for(2).await.unwrap();
}

#[tokio::test]
async fn cl_03_whoever_speaks_no_tls_is_hung_up_on() {
    let (address, store) = service().await;
    for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 1, 0], &[0xff; 64]] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(said).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is a hang-up as well.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.len() < 64, "no more than an alert is said");
    }
    store.wait_for(1).await.unwrap();
}

#[tokio::test]
async fn cl_06_a_peer_joins_in_spite_of_many_strangers() {
    let (address, _store) = service().await;
    let mut strangers = Vec::new();
    for _ in 0..40 {
        strangers.push(TcpStream::connect(&address).await.unwrap());
    }
    let peer = node(1).secret([7; 32]).seeds([&address]).open().await.unwrap();
    peer.wait_for(2).await.unwrap();
}

#[tokio::test]
async fn cl_09_both_secrets_are_good_while_they_change() {
    let (address, _store) = service().await;
    let both = node(1).secret([8; 32]).secret([7; 32]).seeds([&address]);
    let refused = both.join(Duration::from_millis(700)).open().await;
    assert!(matches!(refused, Err(OpenError::NotJoined { .. })), "the first node knows one only");
    let both = node(2).secret([7; 32]).secret([8; 32]).seeds([&address]).open().await.unwrap();
    both.wait_for(2).await.unwrap();
}

async fn service() -> (String, ReplicatedStore) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let store = node(0).bind(address).secret([7; 32]).open().await.unwrap();
    (address.to_string(), store)
}

fn node(n: usize) -> ReplicatedStoreBuilder {
    ReplicatedStore::builder().name(format!("n{n}").parse().unwrap())
}
