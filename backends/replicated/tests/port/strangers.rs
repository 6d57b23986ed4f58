//! Strangers at the port: those that may connect, and those that are hung up on.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::{AlertDescription, ClientConfig};
use steadfast_core::Operate;
use steadfast_replicated::{OpenError, ReplicatedStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::{connect, older_peer, peer, strangers};
use crate::common::{Visitor, anyone, founder, free_port, node, say, within};

/// Shows CL-01.
#[tokio::test]
async fn a_weak_secret_opens_no_port() {
    for address in ["127.0.0.1", "0.0.0.0", "[::]"] {
        let bind = SocketAddr::new(address.trim_matches(['[', ']']).parse().unwrap(), 0);
        let open = || ReplicatedStore::builder().bind(bind);
        assert!(matches!(open().open().await, Err(OpenError::NoSecret)));
        for len in [0, 1, 31] {
            let short = open().secret(vec![1; len]).open().await;
            assert!(matches!(short, Err(OpenError::ShortSecret { len: is }) if is == len));
            let second = open().secret([1; 32]).secret(vec![1; len]).open().await;
            assert!(matches!(second, Err(OpenError::ShortSecret { len: is }) if is == len));
        }
    }
}

/// Shows CL-01.
#[tokio::test]
async fn plaintext_is_for_loopback_only() {
    for address in ["0.0.0.0", "::", "10.0.0.1", "::ffff:127.0.0.1"] {
        let bind = SocketAddr::new(address.parse().unwrap(), 0);
        let plain = ReplicatedStore::builder().bind(bind).insecure_plaintext_for_tests();
        assert!(
            matches!(plain.open().await, Err(OpenError::Exposed { address }) if address == bind)
        );
    }
    let port = free_port().await;
    let refused = ReplicatedStore::builder().bind(port).secret([1; 31]).open().await;
    assert!(refused.is_err());
    TcpListener::bind(port).await.expect("what was refused holds no port");
}

/// Shows CL-02.
#[tokio::test]
async fn another_secret_or_cluster_is_rejected() {
    let (port, _store) = founder(node(0)).await;
    for stranger in [anyone(1).secret([9; 32]), node(1).cluster("forum")] {
        let stranger = stranger.seeds([port.to_string()]).join_timeout(Duration::from_millis(700));
        assert!(matches!(stranger.open().await, Err(OpenError::NotJoined { .. })));
    }
    let peer = node(2).seeds([port.to_string()]).open().await.unwrap();
    peer.wait_for(2).await.unwrap();
}

/// Shows CL-02.
#[tokio::test]
async fn strangers_only_get_an_alert() {
    let (port, store) = founder(node(0)).await;
    let visitor = Visitor::at(&store, &[("n", "1")]).await;
    let before = store.stats().await.unwrap();
    assert!(!hear(&peer(), port).await.0.is_empty(), "a peer is greeted");
    for stranger in strangers() {
        let (heard, _) = hear(&stranger, port).await;
        assert!(heard.is_empty(), "{heard:?}");
    }
    assert_eq!(store.stats().await.unwrap(), before);
    assert_eq!(visitor.value(&store, "n").await.unwrap(), "1");
}

/// Shows CL-03.
#[tokio::test]
async fn clients_without_tls_are_rejected() {
    let (port, store) = founder(node(0)).await;
    let before = store.stats().await.unwrap();
    for said in
        [&b"GET / HTTP/1.1\r\nHost: node\r\n\r\n"[..], PREFACE, &[0, 0, 0, 1, 0], &[0xff; 64]]
    {
        let heard = say(port, said).await;
        assert!(heard.len() <= ALERT, "{heard:?}");
    }
    assert_eq!(store.stats().await.unwrap(), before);
}

/// Shows CL-03.
#[tokio::test]
async fn one_tls_version_and_protocol_is_spoken() {
    let (port, _store) = founder(node(0)).await;
    let mut other = peer();
    other.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    for (client, alert) in [
        (older_peer(), AlertDescription::ProtocolVersion),
        (other, AlertDescription::NoApplicationProtocol),
    ] {
        let (heard, end) = hear(&client, port).await;
        assert_eq!((heard, end), (vec![], Some(rustls::Error::AlertReceived(alert))));
    }
    let mut none = peer();
    none.alpn_protocols.clear();
    assert!(hear(&none, port).await.0.is_empty());
}

/// Returns the bytes and the alert that a node sends to a client before it hangs up.
async fn hear(client: &ClientConfig, port: SocketAddr) -> (Vec<u8>, Option<rustls::Error>) {
    let mut heard = Vec::new();
    let end: io::Result<_> = within(async {
        let mut stream = connect(client, TcpStream::connect(port).await?).await?;
        // Too long for a greeting, so that a peer is hung up on as well.
        stream.write_all(&[0xff; 64]).await?;
        stream.read_to_end(&mut heard).await
    })
    .await;
    let alert = end.err().and_then(|end| end.into_inner()?.downcast::<rustls::Error>().ok());
    (heard, alert.map(|alert| *alert))
}

/// The preface of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The bytes of an alert in the clear.
const ALERT: usize = 7;
