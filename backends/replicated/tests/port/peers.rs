//! Attacks by a peer that has the secret: each stays within bounds and leaves other peers alone.

use std::net::SocketAddr;
use std::time::Duration;

use steadfast_core::Operate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::authority::{connect, peer};
use crate::common::{Visitor, founder, node, within};

/// Shows CL-07.
#[tokio::test]
async fn a_bomb_ends_its_link() {
    let greeting = greeting_of_another().await;
    let (port, store) = founder(node(0)).await;
    let visitor = Visitor::at(&store, &[("n", "0")]).await;
    let before = (store.stats().await.unwrap(), memory());
    for bomb in [&u32::MAX.to_be_bytes(), &(MAX_GREETING + 1).to_be_bytes()] {
        assert!(is_hung_up_on(connected(port).await, bomb).await, "{bomb:?} as a greeting");
    }
    for bomb in bombs() {
        let mut peer = connected(port).await;
        peer.write_all(&greeting).await.unwrap();
        assert!(is_hung_up_on(peer, &bomb).await, "{bomb:?}");
    }
    assert_eq!(store.stats().await.unwrap(), before.0);
    assert_eq!(visitor.value(&store, "n").await.unwrap(), "0");
    assert!(memory() < before.1 + (2 << 30), "nothing is reserved on the word of a peer");
}

/// Shows CL-11.
#[tokio::test]
async fn a_peer_that_never_reads_harms_no_other() {
    let greeting = greeting_of_another().await;
    let (port, first) = founder(node(0)).await;
    let second = node(1).seeds([port.to_string()]).open().await.unwrap();
    second.wait_for(2).await.unwrap();
    let visitor = Visitor::at(&first, &[("n", "0")]).await;
    let before = memory();
    let flood = async {
        for _ in 0..4 {
            let mut peer = connected(port).await;
            peer.write_all(&greeting).await.unwrap();
            // It may be hung up on for it.
            let _ = within(peer.write_all(&PING.repeat(100_000))).await;
        }
    };
    let others = async {
        for _ in 0..200 {
            assert!(visitor.count(&second, "n").await);
        }
    };
    tokio::join!(flood, others);
    assert_eq!(visitor.value(&second, "n").await.unwrap(), "200");
    assert!(memory() < before + (1 << 30), "what waits for a peer is bounded");
}

/// Shows CL-11.
#[tokio::test]
async fn a_peer_that_sends_noise_harms_no_other() {
    let greeting = greeting_of_another().await;
    let (port, first) = founder(node(0)).await;
    let second = node(1).seeds([port.to_string()]).open().await.unwrap();
    second.wait_for(2).await.unwrap();
    let visitor = Visitor::at(&first, &[("n", "0")]).await;
    for nothing in [&[0, 0, 0, 0][..], &[0, 0, 0, 3, 0xfa, 0x07, 0x00]] {
        let mut peer = connected(port).await;
        peer.write_all(&greeting).await.unwrap();
        let flood = async {
            // It may be hung up on for it.
            let _ = within(peer.write_all(&nothing.repeat(200_000))).await;
        };
        let others = async {
            for _ in 0..100 {
                assert!(visitor.count(&second, "n").await);
            }
        };
        tokio::join!(flood, others);
    }
    assert_eq!(visitor.value(&second, "n").await.unwrap(), "200");
}

type Link = TlsStream<TcpStream>;

/// A connection of one who has the secret.
async fn connected(port: SocketAddr) -> Link {
    connect(&peer(), TcpStream::connect(port).await.unwrap()).await.unwrap()
}

/// Returns a node's greeting, to greet another one with it.
async fn greeting_of_another() -> Vec<u8> {
    let (port, _other) = founder(node(9)).await;
    let mut link = connected(port).await;
    let mut greeting = vec![0; 4];
    within(link.read_exact(&mut greeting)).await.unwrap();
    let len = u32::from_be_bytes(greeting[..4].try_into().unwrap());
    greeting.resize(4 + len as usize, 0);
    within(link.read_exact(&mut greeting[4..])).await.unwrap();
    greeting
}

/// Returns true if a node ends the link after these bytes, although more keep coming.
async fn is_hung_up_on(link: Link, bomb: &[u8]) -> bool {
    let (mut reader, mut writer) = tokio::io::split(link);
    let ends = async { reader.read_to_end(&mut Vec::new()).await };
    let goes_on = async {
        writer.write_all(bomb).await?;
        loop {
            writer.write_all(&[0; 4]).await?;
            writer.flush().await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ended = async {
        tokio::select! {
            _ = ends => {}
            ended = goes_on => { let _: std::io::Result<()> = ended; }
        }
    };
    timeout(Duration::from_secs(10), ended).await.is_ok()
}

/// Longer than any frame, longer than there is memory, and of no message.
fn bombs() -> [Vec<u8>; 3] {
    [
        u32::MAX.to_be_bytes().to_vec(),
        (MAX_FRAME + 1).to_be_bytes().to_vec(),
        [&17_u32.to_be_bytes()[..], &[0], &[0xff; 16]].concat(),
    ]
}

/// A frame that has to be answered.
const PING: [u8; 9] = [0, 0, 0, 5, 0x12, 3, 0xa2, 0x01, 0];

/// The bytes that this process has reserved, used or not.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

const MAX_GREETING: u32 = 64 << 10;

const MAX_FRAME: u32 = 1 << 20;
