//! Changes that others make to a server's records show within `recheck`, however busy the server's
//! feed is.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use steadfast_core::{
    Deletion, KeyId, Lifetime, LoginPolicy, Lookup, Patch, Record, RecordId, RequestHint,
    SecretHash, SessionStore, Store,
};
use steadfast_postgres::PostgresStore;
use steadfast_redis::RedisStore;
use steadfast_sticky::StickyStore;
use testkit::postgres::Postgres;
use testkit::redis::{PASSWORD, Redis, RedisCluster, USER};
use testkit::sieve::Sieve;
use tokio::task::JoinHandle;

#[tokio::test]
async fn a_key_removed_by_hand_is_gone() {
    let server = Redis::start();
    let [first, second] = [redis(&server), redis(&server)];
    for command in ["DEL", "UNLINK", "PEXPIRE"] {
        let service = Service::start(&first, &second).await;
        let key = key_of(&server, service.id);
        let mut command = vec![command, &key];
        command.extend((command[0] == "PEXPIRE").then_some("1"));
        server.ask(&command);
        service.ends_within_recheck().await;
    }
}

#[tokio::test]
async fn a_key_that_is_evicted() {
    let server = Redis::start();
    let service = Service::start(&redis(&server), &redis(&server)).await;
    let key = key_of(&server, service.id);
    server.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    server.try_to_ask(&["SET", "x", "y"]);
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(server.ask(&["EXISTS", &key]).number(), 0);
    service.ends_within_recheck().await;
}

#[tokio::test]
async fn a_logout_with_lost_news_takes_effect() {
    let cluster = RedisCluster::start();
    let mut sieves = Vec::new();
    for server in &cluster.servers {
        let sieve = Sieve::start(&server.address()).await;
        let (_, port) = sieve.address().rsplit_once(':').unwrap();
        server.ask(&["CONFIG", "SET", "cluster-announce-port", port]);
        sieves.push(sieve);
    }
    let addresses: Vec<_> = sieves.iter().map(|sieve| sieve.address().parse().unwrap()).collect();
    let store = || -> Arc<dyn Store> {
        let builder = RedisStore::builder().user(USER, PASSWORD);
        Arc::new(builder.cluster(addresses.clone()).unwrap())
    };
    testkit::eventually(async || announces(&cluster, &sieves)).await;
    let service = Service::start(&store(), &store()).await;
    let news = format!("e{}", service.id.as_uuid().simple());
    sieves.iter().for_each(|sieve| sieve.hold_back(news.clone()));
    assert!(service.second.delete(service.id, &Deletion::LOGOUT).await.unwrap().is_ended());
    service.ends_within_recheck().await;
    assert!(sieves.iter().map(Sieve::lost).sum::<usize>() > 0, "nothing was lost");
}

#[tokio::test]
async fn a_row_that_is_deleted_by_hand() {
    let server = Postgres::start(&[]);
    let address = format!("postgres://postgres@{}/postgres", server.address());
    let store = async || {
        let builder = PostgresStore::builder(&address).schema("sessions");
        builder.migrate().await.unwrap();
        Arc::new(builder.build().await.unwrap()) as Arc<dyn Store>
    };
    let service = Service::start(&store().await, &store().await).await;
    let tables = "SELECT table_name FROM information_schema.columns \
        WHERE table_schema = 'sessions' AND column_name = 'values'";
    let table = server.sql("postgres", "postgres", tables);
    let delete = format!("DELETE FROM sessions.{} WHERE id = '{}'", table.trim(), service.id);
    server.sql("postgres", "postgres", &delete);
    service.ends_within_recheck().await;
}

/// Two nodes over a server, a session that the first node serves, and another session that the
/// second node writes to all the time.
struct Service {
    first: StickyStore,
    second: StickyStore,
    id: RecordId,
    busy: JoinHandle<()>,
}

impl Service {
    async fn start(first: &Arc<dyn Store>, second: &Arc<dyn Store>) -> Self {
        let [first, second] = [("n1", first), ("n2", second)].map(|(label, backup)| {
            StickyStore::builder(label.parse().unwrap()).backup(Arc::clone(backup)).build()
        });
        let id = create(&first).await;
        let busy = tokio::spawn(write_all_the_time(second.clone(), create(&second).await));
        // By now the first node follows the feed and has a copy.
        let start = Instant::now();
        while start.elapsed() < RECHECK {
            assert!(opens(&first, id).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { first, second, id, busy }
    }

    async fn ends_within_recheck(&self) {
        let start = Instant::now();
        while opens(&self.first, self.id).await {
            assert!(start.elapsed() < 3 * RECHECK, "it is served for ever");
            assert!(!self.busy.is_finished());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.busy.abort();
    }
}

async fn write_all_the_time(node: StickyStore, id: RecordId) {
    for n in 0.. {
        let mut patch = Patch::new();
        patch.put("n", n.into()).unwrap();
        // The key may just have been evicted, so the write may fail.
        let _ = node.update(id, &patch, &RequestHint::default()).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn opens(node: &StickyStore, id: RecordId) -> bool {
    let lookup = node.load(id, Some(&hash().into()), &RequestHint::default()).await.unwrap();
    matches!(lookup, Lookup::Found(_))
}

async fn create(node: &StickyStore) -> RecordId {
    let id = node.mint().unwrap();
    let (now, lifetime) = (node.env().now(), Lifetime::default());
    let ends = [lifetime.idle_deadline(now), lifetime.absolute_deadline(now)];
    let record = Record::new(hash(), now, ends[0], ends[1]);
    node.create(id, record, LoginPolicy::default()).await.unwrap();
    id
}

fn hash() -> SecretHash {
    SecretHash::from_parts(KeyId::NONE, [0; 32])
}

fn redis(server: &Redis) -> Arc<dyn Store> {
    let builder = RedisStore::builder().user(USER, PASSWORD);
    Arc::new(builder.standalone(server.address().parse().unwrap()).unwrap())
}

fn key_of(server: &Redis, id: RecordId) -> String {
    let id = id.as_uuid().simple().to_string();
    let keys = server.ask(&["KEYS", "*"]).list();
    keys.iter().map(testkit::redis::Reply::text).find(|key| key.contains(&id)).unwrap()
}

/// Returns true if every server announces the proxies as the addresses of the primaries.
fn announces(cluster: &RedisCluster, sieves: &[Sieve]) -> bool {
    let ports = || sieves[..3].iter().map(|sieve| sieve.address().rsplit_once(':').unwrap().1);
    cluster.servers.iter().all(|server| {
        let nodes = server.ask(&["CLUSTER", "NODES"]).text();
        ports().all(|port| nodes.contains(&format!(":{port}@")))
    })
}

const RECHECK: Duration = Duration::from_secs(1);
