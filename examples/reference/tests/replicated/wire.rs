//! Tests of what a recorder of the traffic between nodes learns.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use testkit::{Client, Cluster};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_between_nodes_learns_no_secret() {
    let cluster = Cluster::start_wired(3, "copies=1").await;
    let mut secrets = vec![NAME.into(), VALUE.into()];
    for n in 0..6 {
        let client = cluster.node(n % 3).member(NAME).await;
        for node in 0..3 {
            let client = client.at(cluster.node(node));
            client.send("POST", "/put?k=words", &[], &format!("{VALUE:?}")).await.ok();
            client.post("/cycle").await.ok();
            assert_eq!(client.user().await.as_deref(), Some(NAME));
            secrets.extend(token(&client));
        }
    }
    cluster.at_rest(2).await;
    for record in cluster.copies().await.records().values().flatten() {
        secrets.extend(hash(&record["hash"]).into_iter().chain(hash(&record["replaced_hash"])));
    }
    let streams = cluster.wires().streams();
    let bytes: usize = streams.iter().map(Vec::len).sum();
    eprintln!("{} secrets are not in {bytes} bytes between nodes", secrets.len());
    for stream in &streams {
        assert_is_tls(stream);
        for secret in &secrets {
            let is_told = stream.windows(secret.len()).any(|bytes| bytes == secret);
            assert!(!is_told, "{:?}", String::from_utf8_lossy(secret));
        }
    }
    // Each write was sent to another node.
    assert!(bytes > 6 * 3 * 2 * VALUE.len(), "{bytes}");
}

/// The token of a client as it is sent, and the secret in it.
fn token(client: &Client) -> [Vec<u8>; 2] {
    let token = client.cookie("__Host-id").unwrap();
    let secret = URL_SAFE_NO_PAD.decode(&token).unwrap().split_off(16);
    [token.into(), secret]
}

/// A hash in hexadecimal digits, and its bytes.
fn hash(digits: &serde_json::Value) -> [Vec<u8>; 2] {
    let digits = digits.as_str().expect("each secret was replaced");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    [digits.into(), (0..digits.len()).step_by(2).map(byte).collect()]
}

/// Only records of TLS, from the first byte on.
fn assert_is_tls(mut stream: &[u8]) {
    while let [kind, 3, 1 | 3, high, low, rest @ ..] = stream {
        assert!((20..=23).contains(kind), "a record of kind {kind}");
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        stream = &rest[length.min(rest.len())..];
    }
    assert!(stream.len() < 5, "{stream:?}");
}

const NAME: &str = "somebody-whom-nobody-else-knows";
const VALUE: &str = "a value that is told to nobody else";
