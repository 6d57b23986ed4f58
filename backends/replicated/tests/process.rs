//! The costs of a node to its process: threads, sockets and files. One test at a time: they look at
//! all of it.

#![allow(missing_docs, clippy::unwrap_used)]

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use steadfast_core::Operate;
use steadfast_replicated::{ReplicatedStore, ReplicatedStoreBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Shows CL-06.
#[test]
fn ten_thousand_strangers_keep_no_peer_out() {
    alone(async {
        let (port, store) = founder().await;
        let before = (open_files().len(), resident());
        let came = Arc::new(AtomicUsize::new(0));
        let mut strangers = JoinSet::new();
        for number in 0..AT_ONCE {
            strangers.spawn(come_and_stay(port, number % 2 == 0, Arc::clone(&came)));
        }
        eventually(async || came.load(Ordering::Relaxed) >= STRANGERS / 2).await;
        let peer = tokio::time::timeout(Duration::from_secs(2), peer_of(port)).await;
        let _peer = peer.expect("strangers keep a peer out");
        eventually(async || came.load(Ordering::Relaxed) >= STRANGERS).await;
        let meanwhile = (open_files().len(), resident());
        assert!(meanwhile.0 < before.0 + AT_ONCE + 300, "{before:?} became {meanwhile:?}");
        assert!(meanwhile.1 < before.1 + (64 << 20), "{before:?} became {meanwhile:?}");
        strangers.shutdown().await;
        eventually(async || open_files().len() < before.0 + 50).await;
        store.ready().await.unwrap();
    });
}

/// Shows CL-14.
#[test]
fn no_datagram_is_sent_or_taken() {
    alone(async {
        let (port, _first) = founder().await;
        let _second = peer_of(port).await;
        let seen = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(sockets("udp", |_| true).len(), 1, "one of this test is seen");
        drop(seen);
        for protocol in ["udp", "udp6", "udplite", "udplite6", "raw", "raw6"] {
            assert_eq!(sockets(protocol, |_| true).len(), 0, "{protocol}");
        }
    });
}

/// Shows CL-18.
#[test]
fn a_node_listens_at_one_port() {
    alone(async {
        let (port, _first) = founder().await;
        let _second = peer_of(port).await;
        let listening = |line: &[&str]| line[3] == "0A";
        assert_eq!(sockets("tcp6", listening).len(), 0);
        let ports = sockets("tcp", listening);
        assert_eq!(ports.len(), 2, "one of each node: {ports:?}");
        assert!(ports.contains(&format!("0100007F:{:04X}", port.port())), "{ports:?}");
    });
}

/// Runs a test while no other one of this process does, nor anything that it left.
fn alone(test: impl Future<Output = ()>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Runtime::new().unwrap().block_on(test);
}

/// Strangers one after the other, each for as long as it is let. They have nothing to say, or begin a
/// handshake that never ends.
async fn come_and_stay(port: SocketAddr, speaks: bool, came: Arc<AtomicUsize>) {
    while came.fetch_add(1, Ordering::Relaxed) < STRANGERS {
        let mut stream = TcpStream::connect(port).await.unwrap();
        if speaks {
            // It may be over already.
            let _ = stream.write_all(BEGUN).await;
        }
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

async fn peer_of(port: SocketAddr) -> ReplicatedStore {
    let peer = node(1).seeds([port.to_string()]).open().await.unwrap();
    peer.wait_for(2).await.unwrap();
    peer
}

async fn founder() -> (SocketAddr, ReplicatedStore) {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    (port, node(0).bind(port).open().await.unwrap())
}

fn node(n: usize) -> ReplicatedStoreBuilder {
    ReplicatedStore::builder().name(format!("n{n}").parse().unwrap()).secret([7; 32])
}

/// The local addresses of the sockets of this process, of a protocol, that are so.
fn sockets(protocol: &str, is_so: impl Fn(&[&str]) -> bool) -> Vec<String> {
    let ours = open_files();
    let table = std::fs::read_to_string(format!("/proc/self/net/{protocol}")).unwrap_or_default();
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = lines.filter(|line| ours.contains(&format!("socket:[{}]", line[9])) && is_so(line));
    ours.map(|line| line[1].to_owned()).collect()
}

/// Returns what the file descriptors of this process refer to.
fn open_files() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.map(|target| target.display().to_string()).collect()
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

async fn eventually(is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it takes too long");
}

static ALONE: Mutex<()> = Mutex::new(());

/// The number of strangers, and the number of simultaneous ones.
const STRANGERS: usize = 10_000;
const AT_ONCE: usize = 500;

/// The first bytes of a handshake that announces more of them.
const BEGUN: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
