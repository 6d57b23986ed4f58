//! The Redis store keeps the contract: on one server, behind sentinels, in a cluster; always with the
//! rights that its documentation names, and three nodes that share it.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use rig::redis::{PASSWORD, Redis, RedisCluster, RedisWithSentinels, SERVICE, USER};
use steadfast_core::conformance::Subject;
use steadfast_core::{Env, RecordId, Store};
use steadfast_redis::{Address, Prefix, RedisStore, RedisStoreBuilder, SetupError};

mod one_server {
    use super::*;

    static SERVER: LazyLock<Redis> = LazyLock::new(Redis::start);

    fn open(builder: RedisStoreBuilder) -> Result<RedisStore, SetupError> {
        builder.standalone(address(&SERVER.address()))
    }

    fn spoil(key: &str, turn: u32) {
        super::spoil(&SERVER, key, turn);
    }

    steadfast_core::conformance_tests!(Nodes::new(open, spoil));
}

mod behind_sentinels {
    use super::*;

    static SERVERS: LazyLock<RedisWithSentinels> = LazyLock::new(RedisWithSentinels::start);

    fn open(builder: RedisStoreBuilder) -> Result<RedisStore, SetupError> {
        builder.sentinel(SERVERS.addresses().iter().map(|text| address(text)).collect(), SERVICE)
    }

    fn spoil(key: &str, turn: u32) {
        super::spoil(&SERVERS.servers[SERVERS.primary()], key, turn);
    }

    steadfast_core::conformance_tests!(Nodes::new(open, spoil));
}

mod in_a_cluster {
    use super::*;

    static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(RedisCluster::start);

    fn open(builder: RedisStoreBuilder) -> Result<RedisStore, SetupError> {
        builder.cluster(CLUSTER.seeds().iter().map(|text| address(text)).collect())
    }

    fn spoil(key: &str, turn: u32) {
        super::spoil(&CLUSTER.servers[CLUSTER.server_of(key)], key, turn);
    }

    steadfast_core::conformance_tests!(Nodes::new(open, spoil));
}

/// Three nodes of a service with a prefix of its own, on servers that all tests share.
struct Nodes {
    open: fn(RedisStoreBuilder) -> Result<RedisStore, SetupError>,
    spoil: fn(&str, u32),
    opened: Mutex<Option<Prefix>>,
}

impl Nodes {
    fn new(
        open: fn(RedisStoreBuilder) -> Result<RedisStore, SetupError>,
        spoil: fn(&str, u32),
    ) -> Self {
        Self { open, spoil, opened: Mutex::default() }
    }
}

#[async_trait]
impl Subject for Nodes {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let prefix: Prefix = format!("steadfast:{}", next()).parse().unwrap();
        *self.opened.lock().unwrap() = Some(prefix.clone());
        let builder = RedisStore::builder().user(USER, PASSWORD).prefix(prefix).env(env);
        let node = || Arc::new((self.open)(builder.clone()).unwrap()) as Arc<dyn Store>;
        vec![node(), node(), node()]
    }

    async fn corrupt(&self, id: RecordId) -> bool {
        let prefix = self.opened.lock().unwrap().clone().expect("a service is open");
        (self.spoil)(&format!("{}:r:{{{}}}", prefix.as_str(), id.as_uuid().simple()), next());
        true
    }
}

/// Overwrites a record: with junk in a field, without a field, with a string.
fn spoil(server: &Redis, key: &str, turn: u32) {
    match turn % 3 {
        0 => server.ask(&["HSET", key, "s", "junk"]),
        1 => server.ask(&["HDEL", key, "i"]),
        _ => server.ask(&["SET", key, "junk"]),
    };
}

fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}
