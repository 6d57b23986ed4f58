//! The changes that a node receives from others.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use steadfast_core::{
    Change, ChangeStream, Deletion, EndReason, LoginPolicy, Outcome, RequestHint, Revocation,
    SessionStore,
};
use steadfast_redis::RedisStore;
use testkit::redis::Redis;
use testkit::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{CLUSTER, Visitor, across, builder, on, principal};

#[tokio::test]
async fn another_node_hears_of_patches_and_ends() {
    let server = Redis::start();
    let both = builder();
    let (here, there) = (on(&server, both.clone()), on(&server, both));
    let mut changes = up(&here).await;
    hears(&mut changes, &there).await;
    let mut more = here.changes().unwrap();
    let visitor = Visitor::arrive(&there).await.log_in(&there, "alice").await;
    for changes in [&mut changes, &mut more] {
        let heard = within(changes.next()).await;
        assert!(matches!(heard, Some(Change::SignedIn(id, _)) if id == visitor.id), "{heard:?}");
    }
    let revocation = Revocation::for_reason(EndReason::Admin);
    there.delete_all(&principal("alice"), revocation).await.unwrap();
    assert_eq!(within(changes.next()).await, Some(Change::Ended(visitor.id, EndReason::Admin)));
}

#[tokio::test]
async fn a_login_reports_the_session_it_displaced() {
    let server = Redis::start();
    let both = builder();
    for store in [on(&server, both.clone()), across(&CLUSTER, both)] {
        let mut changes = up(&store).await;
        let oldest = Visitor::arrive(&store).await.log_in(&store, "alice").await;
        assert!(matches!(within(changes.next()).await, Some(Change::SignedIn(..))));
        let visitor = Visitor::arrive(&store).await;
        let (login, _) = visitor.login(&store, "alice", LoginPolicy::capped(1));
        let outcome = store.update(visitor.id, &login, &RequestHint::default()).await.unwrap();
        let Outcome::Applied(applied) = outcome else { panic!("there is room") };
        assert_eq!(applied.ended, [oldest.id]);
        let heard = [within(changes.next()).await, within(changes.next()).await];
        let ended = Some(Change::Ended(oldest.id, EndReason::Cap));
        assert!(heard.contains(&ended), "{heard:?}");
    }
}

#[tokio::test]
async fn a_node_hears_every_server_of_a_cluster() {
    let both = builder();
    let (here, there) = (across(&CLUSTER, both.clone()), across(&CLUSTER, both));
    let mut changes = up(&here).await;
    for _ in 0..10 {
        hears(&mut changes, &there).await;
    }
}

#[tokio::test]
async fn no_message_depends_on_cluster_forwarding() {
    let prefix = "steadfast:direct";
    let store = across(&CLUSTER, builder().prefix(prefix.parse().unwrap()));
    let _changes = up(&store).await;
    for server in &CLUSTER.servers[..3] {
        let subscribed = server.ask(&["PUBSUB", "NUMSUB", &format!("{prefix}:f")]).list();
        assert_eq!(subscribed[1].number(), 1);
    }
}

#[tokio::test]
async fn a_reconnect_reports_a_gap() {
    let mut server = Redis::start();
    let store = on(&server, builder());
    let mut changes = up(&store).await;
    server.kill();
    assert_eq!(within(changes.next()).await, Some(Change::Down), "the connection broke");
    server.restart();
    assert_eq!(within(changes.next()).await, Some(Change::Missed), "there is another one");
    hears(&mut changes, &store).await;
}

#[tokio::test]
async fn a_silent_feed_is_down_until_it_recovers() {
    let server = Redis::start();
    let store = on(&server, builder());
    let mut changes = up(&store).await;
    server.pause();
    assert_eq!(within(changes.next()).await, Some(Change::Down));
    server.resume();
    assert_eq!(within(changes.next()).await, Some(Change::Missed));
    hears(&mut changes, &store).await;
}

#[tokio::test]
async fn a_demoted_server_takes_the_feed_down() {
    let server = Redis::start();
    let store = on(&server, builder());
    let mut changes = up(&store).await;
    server.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(within(changes.next()).await, Some(Change::Down), "another one is the primary");
    server.ask(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(within(changes.next()).await, Some(Change::Missed));
}

#[tokio::test]
async fn one_lost_message_is_noticed() {
    let server = Redis::start();
    let sieve = Sieve::start(&server).await;
    let both = builder();
    let here = both.clone().standalone(sieve.address.parse().unwrap()).unwrap();
    let there = on(&server, both);
    let mut changes = up(&here).await;
    let visitor = Visitor::arrive(&there).await;
    visitor.write(&there, 1).await.unwrap();
    assert!(matches!(within(changes.next()).await, Some(Change::Patched(..))));
    let id = visitor.id.as_uuid().simple();
    sieve.hold_back(format!("e{id}"));
    there.delete(visitor.id, &Deletion::LOGOUT).await.unwrap();
    assert_eq!(within(changes.next()).await, Some(Change::Missed));
}

#[test]
fn a_stream_outlives_the_runtime_that_heard() {
    let server = Redis::start();
    let store = on(&server, builder());
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    let mut changes = first.block_on(up(&store));
    drop(first);
    runtime().block_on(async {
        assert_eq!(within(changes.next()).await, Some(Change::Down));
        assert_eq!(within(changes.next()).await, Some(Change::Missed));
        hears(&mut changes, &store).await;
        drop(store);
        assert_eq!(within(changes.next()).await, None);
    });
}

#[test]
fn a_stream_ends_while_its_runtime_shuts_down() {
    let server = Redis::start();
    let store = on(&server, builder());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut changes = runtime.block_on(up(&store));
    let handle = runtime.handle().clone();
    drop(runtime);
    // In a thread: a stream that tries to listen again forever must not hang the test.
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _in_the_runtime = handle.enter();
        // A busy machine may have cut the feed before.
        let past = |change: &Option<Option<Change>>| matches!(change, Some(Some(_)));
        let last = (0..10).map(|_| changes.next().now_or_never()).find(|change| !past(change));
        let _ = told.send(last);
    });
    assert_eq!(heard.recv_timeout(Duration::from_secs(10)), Ok(Some(Some(None))));
}

#[tokio::test]
async fn beats_are_only_published_for_listeners() {
    let server = Redis::start();
    let store = on(&server, builder());
    let visitor = Visitor::arrive(&store).await;
    visitor.write(&store, 1).await.unwrap();
    let monitor = server.monitor();
    visitor.write(&store, 2).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(server.seen(monitor), ["evalsha"]);
}

/// Listens, once the feed is up.
async fn up(store: &RedisStore) -> ChangeStream {
    let mut changes = store.changes().unwrap();
    assert_eq!(within(changes.next()).await, Some(Change::Down), "it is not connected yet");
    assert_eq!(within(changes.next()).await, Some(Change::Missed));
    changes
}

async fn hears(changes: &mut ChangeStream, there: &steadfast_redis::RedisStore) {
    let visitor = Visitor::arrive(there).await;
    let Outcome::Applied(applied) = visitor.write(there, 1).await.unwrap() else {
        panic!("it is live");
    };
    let heard = within(changes.next()).await;
    assert_eq!(heard, Some(Change::Patched(visitor.id, applied.version)));
    there.delete(visitor.id, &Deletion::LOGOUT).await.unwrap().is_ended();
    assert_eq!(within(changes.next()).await, Some(Change::Ended(visitor.id, EndReason::Logout)));
}

/// A proxy in front of a server. It can withhold messages from the server that contain some text.
struct Sieve {
    address: String,
    held: Arc<Mutex<Option<String>>>,
}

impl Sieve {
    async fn start(server: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (to, held) = (server.address(), Arc::<Mutex<Option<String>>>::default());
        let held_back = Arc::clone(&held);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&to).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(
                    async move { tokio::io::copy(&mut from_client, &mut to_server).await },
                );
                let held = Arc::clone(&held_back);
                tokio::spawn(async move {
                    let mut bytes = vec![0; 64 << 10];
                    while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                        let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                        let is_held =
                            held.lock().unwrap().as_ref().is_some_and(|held| text.contains(held));
                        if !is_held {
                            to_client.write_all(&bytes[..read]).await.unwrap();
                        }
                    }
                });
            }
        });
        Self { address, held }
    }

    fn hold_back(&self, text: String) {
        *self.held.lock().unwrap() = Some(text);
    }
}
