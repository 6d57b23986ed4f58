//! Hung connections, runtimes that end, and servers reached by a socket or a proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use steadfast_core::{Deletion, Outcome, SessionStore, StoreError};
use steadfast_redis::RedisStore;
use testkit::redis::{Redis, RedisCluster, RedisWithSentinels};
use testkit::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::fixture::{Visitor, across, behind, builder, store};

#[tokio::test]
async fn a_slow_answer_has_no_time_limit() {
    let server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    server.pause();
    let (answer, ()) = tokio::join!(visitor.count(&store), async {
        tokio::time::sleep(Duration::from_millis(800)).await;
        server.resume();
    });
    assert!(matches!(answer, Ok(Outcome::Applied(_))), "{answer:?}");
    assert_eq!(visitor.counted(&store).await, 1);
}

#[tokio::test]
async fn replicas_have_the_configured_time_to_confirm() {
    let server = Redis::start();
    let within = Duration::from_millis(900);
    let store = crate::fixture::on(&server, builder().wait(1, within));
    let visitor = Visitor::arrive(&store).await;
    let start = Instant::now();
    let alone = store.delete(visitor.id, &Deletion::LOGOUT).await;
    assert!(matches!(alone, Err(StoreError::WritesRefused(_))), "{alone:?}");
    assert!(start.elapsed() >= within, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_hung_connection_is_replaced_under_short_deadlines() {
    let server = Redis::start();
    let hole = Hole::start(&server).await;
    let store = hole.store();
    let visitor = Visitor::arrive(&store).await;
    for millis in [20, 100, 300] {
        hole.swallow();
        let before = hole.opened.load(Ordering::SeqCst);
        within(async {
            let deadline = Duration::from_millis(millis);
            while !matches!(tokio::time::timeout(deadline, visitor.load(&store)).await, Ok(Ok(_))) {
            }
        })
        .await;
        let opened = hole.opened.load(Ordering::SeqCst) - before;
        assert_eq!(opened, 1, "deadlines of {millis} ms");
    }
}

#[tokio::test]
async fn a_dropped_call_keeps_a_working_connection() {
    let server = Redis::start();
    let hole = Hole::start(&server).await;
    let store = hole.store();
    let visitor = Visitor::arrive(&store).await;
    let before = hole.opened.load(Ordering::SeqCst);
    server.pause();
    let gone = tokio::time::timeout(Duration::from_millis(20), visitor.load(&store)).await;
    assert!(gone.is_err());
    server.resume();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(visitor.is_live(&store).await);
    assert_eq!(hole.opened.load(Ordering::SeqCst), before);
}

#[test]
fn a_store_outlives_its_first_runtime() {
    let server = Redis::start();
    let sentinels = RedisWithSentinels::start();
    let cluster = RedisCluster::start();
    let stores = [store(&server), behind(&sentinels, builder()), across(&cluster, builder())];
    for store in stores {
        let first = runtime();
        let visitor = first.block_on(Visitor::arrive(&store));
        drop(first);
        for _ in 0..2 {
            runtime().block_on(is_served(&visitor, &store));
        }
    }
}

#[test]
fn a_blocked_runtime_does_not_block_another() {
    let server = Redis::start();
    let store = store(&server);
    let idle = Builder::new_current_thread().enable_all().build().unwrap();
    let visitor = idle.block_on(Visitor::arrive(&store));
    runtime().block_on(async {
        let deadline = Duration::from_millis(100);
        let load = || tokio::time::timeout(deadline, visitor.load(&store));
        within(async { while !matches!(load().await, Ok(Ok(_))) {} }).await;
        is_served(&visitor, &store).await;
    });
    drop(idle);
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_is_reached_by_its_unix_socket() {
    let (server, path) = Redis::with_unix_socket();
    let store = builder().unix_socket(&path).unwrap();
    let visitor = Visitor::arrive(&store).await;
    assert!(visitor.is_live(&store).await);
    drop(server);
}

async fn is_served(visitor: &Visitor, store: &RedisStore) {
    let counted = visitor.counted(store).await;
    visitor.count(store).await.unwrap();
    assert_eq!(visitor.counted(store).await, counted + 1);
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A proxy in front of a server. It can swallow the data of the connections that are open.
struct Hole {
    address: String,
    opened: Arc<AtomicUsize>,
    current: Arc<std::sync::Mutex<Arc<AtomicBool>>>,
}

impl Hole {
    async fn start(server: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hole = Self {
            address: listener.local_addr().unwrap().to_string(),
            opened: Arc::default(),
            current: Arc::default(),
        };
        let (to, opened, current) =
            (server.address(), Arc::clone(&hole.opened), Arc::clone(&hole.current));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                let server = TcpStream::connect(&to).await.unwrap();
                let swallows = Arc::clone(&current.lock().unwrap());
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(from_client, to_server, Arc::clone(&swallows)));
                tokio::spawn(pass(from_server, to_client, swallows));
            }
        });
        hole
    }

    fn store(&self) -> RedisStore {
        builder().standalone(self.address.parse().unwrap()).unwrap()
    }

    /// Swallows all further data of the connections that are open now.
    fn swallow(&self) {
        let mut current = self.current.lock().unwrap();
        current.store(true, Ordering::SeqCst);
        *current = Arc::default();
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    swallows: Arc<AtomicBool>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if !swallows.load(Ordering::SeqCst) && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_server_without_script_flags_works() {
    let server = Redis::start();
    let (refused, address) = (Arc::new(AtomicUsize::new(0)), server.address());
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = proxy.local_addr().unwrap().port();
    let count = Arc::clone(&refused);
    let proxying = tokio::spawn(async move {
        while let Ok((client, _)) = proxy.accept().await {
            let server = TcpStream::connect(&address).await.unwrap();
            tokio::spawn(without_flags(client, server, Arc::clone(&count)));
        }
    });
    let store = builder().standalone(format!("127.0.0.1:{port}").parse().unwrap()).unwrap();
    store.check().await.unwrap();
    let visitor = Visitor::arrive(&store).await.log_in(&store, "alice").await;
    visitor.count(&store).await.unwrap();
    assert_eq!(visitor.counted(&store).await, 1);
    assert!(store.delete(visitor.id, &Deletion::LOGOUT).await.unwrap().is_ended());
    let flagged = refused.load(Ordering::SeqCst);
    assert!((1..=4).contains(&flagged), "{flagged} scripts were sent with flags");
    proxying.abort();
}

/// Makes a modern server reject `#!lua` like older and compatible servers do.
async fn without_flags(client: TcpStream, server: TcpStream, refused: Arc<AtomicUsize>) {
    let ((mut from, mut back), (mut answers, mut to)) = (client.into_split(), server.into_split());
    let answering = tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
    let (mut kept, mut buffer) = (Vec::new(), [0; 4_096]);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        while let Some(at) = kept.windows(5).position(|part| part == b"#!lua") {
            kept[at + 1] = b'?';
            refused.fetch_add(1, Ordering::SeqCst);
        }
        // The end of this piece may be the beginning of the line.
        let is_begun = (1..5).rev().find(|len| kept.ends_with(&b"#!lua"[..*len]));
        let rest = kept.split_off(kept.len() - is_begun.unwrap_or(0));
        if to.write_all(&kept).await.is_err() {
            break;
        }
        kept = rest;
    }
    answering.abort();
}
