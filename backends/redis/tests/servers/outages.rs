//! Servers that are down, hang, or lose an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use steadfast_core::{Deletion, Operate, Outcome, SessionStore, StoreError};
use steadfast_redis::RedisStore;
use testkit::redis::Redis;
use testkit::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{Visitor, builder, store, until_ok};

#[tokio::test]
async fn an_unreachable_server_fails_fast_and_recovers() {
    let mut server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    server.kill();
    let refused = visitor.count(&store).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(matches!(store.ready().await, Err(StoreError::Unavailable(_))));
    server.restart();
    let (outcome, _) = until_ok(async || Visitor::new(&store).create(&store).await).await;
    assert!(matches!(outcome, Outcome::Applied(_)));
}

#[tokio::test]
async fn a_hung_server_costs_a_timeout_and_recovers() {
    let server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    server.pause();
    for _ in 0..3 {
        let given_up = tokio::time::timeout(DEADLINE, visitor.load(&store)).await;
        assert!(!matches!(given_up, Ok(Ok(_))), "nobody answers");
    }
    server.resume();
    let (_, took) = until_ok(async || visitor.load(&store).await).await;
    println!("found again after {took:?}");
    assert!(visitor.is_live(&store).await);
}

#[tokio::test]
async fn a_caller_in_a_hurry_breaks_no_connection() {
    let server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    let before = connections(&server);
    for _ in 0..100 {
        let _ = tokio::time::timeout(Duration::ZERO, visitor.load(&store)).await;
    }
    assert!(visitor.is_live(&store).await);
    assert_eq!(connections(&server), before);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced() {
    let server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert!(visitor.is_live(&store).await, "a load is made again");
    visitor.count(&store).await.unwrap();
    assert_eq!(visitor.counted(&store).await, 1);
}

/// Shows ST-09.
#[tokio::test]
async fn callers_of_a_dead_server_make_no_storm() {
    let counting = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = counting.local_addr().unwrap().to_string();
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    tokio::spawn(async move {
        while counting.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let store = Arc::new(builder().standalone(address.parse().unwrap()).unwrap());
    let calls = (0..500).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { Visitor::new(&store).load(&store).await.is_err() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(within(call).await.unwrap());
    }
    assert!(attempts.load(Ordering::Relaxed) < 5, "{attempts:?}");
}

/// Shows ST-05.
#[tokio::test]
async fn an_increment_without_an_answer_is_not_repeated() {
    let server = Redis::start();
    let proxy = Proxy::start(&server).await;
    let through = proxy.store();
    let visitor = Visitor::arrive(&through).await;
    visitor.count(&through).await.unwrap();
    proxy.lose_the_next_answer();
    let lost = visitor.count(&through).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    assert_eq!(visitor.counted(&through).await, 2, "it was done, once");
}

/// Shows ST-05.
#[tokio::test]
async fn idempotent_calls_are_repeated_after_a_lost_answer() {
    let server = Redis::start();
    let proxy = Proxy::start(&server).await;
    let through = proxy.store();
    let visitor = Visitor::arrive(&through).await;
    // From now on, the server knows the scripts.
    visitor.write(&through, 1).await.unwrap();
    through.delete(Visitor::arrive(&through).await.id, &Deletion::LOGOUT).await.unwrap();
    proxy.lose_the_next_answer();
    assert!(visitor.is_live(&through).await, "a load");
    proxy.lose_the_next_answer();
    assert!(visitor.write(&through, 7).await.is_err(), "a write might come behind another's");
    assert_eq!(visitor.counted(&through).await, 7);
    proxy.lose_the_next_answer();
    let visitor = visitor.log_in(&through, "alice").await;
    assert!(visitor.is_live(&through).await, "a login");
    proxy.lose_the_next_answer();
    assert!(matches!(Visitor::new(&through).create(&through).await, Ok(Outcome::Applied(_))));
    proxy.lose_the_next_answer();
    let lost = through.delete(visitor.id, &Deletion::LOGOUT).await;
    assert!(lost.is_err(), "sent again, a delete would say that nothing was there: {lost:?}");
    assert!(!visitor.is_live(&through).await);
}

/// Shows ST-07.
#[tokio::test]
async fn full_memory_fails_writes_and_eviction_is_reported() {
    let server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = visitor.count(&store).await;
    assert!(matches!(refused, Err(StoreError::WritesRefused(_))), "{refused:?}");
    assert!(visitor.is_live(&store).await, "what is there can be read");
    assert!(store.delete(visitor.id, &Deletion::LOGOUT).await.is_ok(), "and ended");
    assert!(store.check().await.is_err(), "a sign-in would fail");
}

/// Returns the number of connections accepted so far.
fn connections(server: &Redis) -> String {
    let stats = server.ask(&["INFO", "clients"]).text();
    stats.lines().find(|line| line.starts_with("connected_clients")).unwrap().to_owned()
}

/// A proxy in front of a server. It can lose an answer.
struct Proxy {
    address: String,
    loses: Arc<AtomicBool>,
}

impl Proxy {
    async fn start(server: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (to, loses) = (server.address(), Arc::new(AtomicBool::new(false)));
        let lost = Arc::clone(&loses);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(pass(client, server, Arc::clone(&lost)));
            }
        });
        Self { address, loses }
    }

    fn store(&self) -> RedisStore {
        builder().standalone(self.address.parse().unwrap()).unwrap()
    }

    /// Cuts the connection instead of forwarding the next answer.
    fn lose_the_next_answer(&self) {
        self.loses.store(true, Ordering::SeqCst);
    }
}

async fn pass(client: TcpStream, server: TcpStream, loses: Arc<AtomicBool>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let forth = tokio::io::copy(&mut from_client, &mut to_server);
    let back = async {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let read = from_server.read(&mut bytes).await?;
            if read == 0 || loses.swap(false, Ordering::SeqCst) {
                return Ok::<_, std::io::Error>(());
            }
            to_client.write_all(&bytes[..read]).await?;
        }
    };
    tokio::select! {
        _ = forth => {}
        _ = back => {}
    }
}

const DEADLINE: Duration = Duration::from_millis(400);
