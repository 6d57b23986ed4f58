//! The Redis store passes the conformance tests on one server, with sentinels, and in a cluster,
//! always with the documented privileges and with three nodes.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisFuture, Value};
use steadfast_core::conformance::Subject;
use steadfast_core::{Env, RecordId, SessionStore as _, Store};
use steadfast_redis::{Address, Prefix, RedisStore, RedisStoreBuilder, SetupError};
use testkit::redis::{PASSWORD, Redis, RedisCluster, RedisWithSentinels, SERVICE, USER};
use tokio::sync::OnceCell;

mod one_server {
    use super::*;

    static SERVER: LazyLock<Redis> = LazyLock::new(Redis::start);

    fn open(builder: RedisStoreBuilder) -> Result<RedisStore, SetupError> {
        as_user(builder).standalone(address(&SERVER.address()))
    }

    fn nodes() -> Nodes {
        Nodes::new(open, |_| &SERVER)
    }

    steadfast_core::conformance_tests!(nodes());
}

mod behind_sentinels {
    use super::*;

    static SERVERS: LazyLock<RedisWithSentinels> = LazyLock::new(RedisWithSentinels::start);

    fn open(builder: RedisStoreBuilder) -> Result<RedisStore, SetupError> {
        as_user(builder)
            .sentinel(SERVERS.addresses().iter().map(|text| address(text)).collect(), SERVICE)
    }

    fn nodes() -> Nodes {
        Nodes::new(open, |_| &SERVERS.servers[SERVERS.primary()])
    }

    steadfast_core::conformance_tests!(nodes());
}

mod in_a_cluster {
    use super::*;

    static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(RedisCluster::start);

    fn open(builder: RedisStoreBuilder) -> Result<RedisStore, SetupError> {
        as_user(builder).cluster(CLUSTER.seeds().iter().map(|text| address(text)).collect())
    }

    fn nodes() -> Nodes {
        Nodes::new(open, |key| &CLUSTER.servers[CLUSTER.server_of(key)])
    }

    steadfast_core::conformance_tests!(nodes());
}

mod at_an_address_that_hides_shards {
    use super::*;

    static SERVER: LazyLock<Redis> = LazyLock::new(Redis::start);

    fn open(builder: RedisStoreBuilder) -> Result<RedisStore, SetupError> {
        as_user(builder).split().standalone(address(&SERVER.address()))
    }

    fn nodes() -> Nodes {
        Nodes::new(open, |_| &SERVER)
    }

    steadfast_core::conformance_tests!(nodes());
}

/// The contract also holds while endings are kept.
mod on_one_server_that_keeps_endings {
    use super::*;

    static SERVER: LazyLock<Redis> = LazyLock::new(Redis::start);

    fn open(builder: RedisStoreBuilder) -> Result<RedisStore, SetupError> {
        keeping_endings(as_user(builder).standalone(address(&SERVER.address())))
    }

    fn nodes() -> Nodes {
        Nodes::new(open, |_| &SERVER)
    }

    steadfast_core::conformance_tests!(nodes());
}

mod in_a_cluster_that_keeps_endings {
    use super::*;

    static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(RedisCluster::start);

    fn open(builder: RedisStoreBuilder) -> Result<RedisStore, SetupError> {
        let seeds = CLUSTER.seeds().iter().map(|text| address(text)).collect();
        keeping_endings(as_user(builder).cluster(seeds))
    }

    fn nodes() -> Nodes {
        Nodes::new(open, |key| &CLUSTER.servers[CLUSTER.server_of(key)])
    }

    steadfast_core::conformance_tests!(nodes());
}

mod over_a_connection_of_the_application {
    use super::*;

    static SERVER: LazyLock<Redis> = LazyLock::new(Redis::start);

    fn open(builder: RedisStoreBuilder) -> Result<RedisStore, SetupError> {
        builder.with_connection(Own::to(&SERVER))
    }

    fn nodes() -> Nodes {
        Nodes::new(open, |_| &SERVER)
    }

    steadfast_core::conformance_tests!(nodes());
}

/// Three nodes of a service with a separate prefix, on servers that all tests share.
struct Nodes {
    open: fn(RedisStoreBuilder) -> Result<RedisStore, SetupError>,
    server_of: fn(&str) -> &'static Redis,
    opened: Mutex<Option<Prefix>>,
}

impl Nodes {
    fn new(
        open: fn(RedisStoreBuilder) -> Result<RedisStore, SetupError>,
        server_of: fn(&str) -> &'static Redis,
    ) -> Self {
        Self { open, server_of, opened: Mutex::default() }
    }

    fn key(&self, id: RecordId) -> String {
        let prefix = self.opened.lock().unwrap().clone().expect("a service is open");
        format!("{}:r:{{{}}}", prefix.as_str(), id.as_uuid().simple())
    }
}

#[async_trait]
impl Subject for Nodes {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let prefix: Prefix = format!("steadfast:{}", next()).parse().unwrap();
        *self.opened.lock().unwrap() = Some(prefix.clone());
        let builder = RedisStore::builder().prefix(prefix).env(env);
        let node = || Arc::new((self.open)(builder.clone()).unwrap()) as Arc<dyn Store>;
        vec![node(), node(), node()]
    }

    /// Writes junk into the packed field, junk into a field of format 1, or a string instead of the
    /// hash.
    async fn corrupt(&self, id: RecordId) -> bool {
        let key = self.key(id);
        let server = (self.server_of)(&key);
        match next() % 3 {
            0 => server.ask(&["HSET", &key, ".", "junk"]),
            1 => {
                server.ask(&["HSET", &key, "s", "junk"]);
                server.ask(&["HDEL", &key, "."])
            }
            _ => server.ask(&["SET", &key, "junk"]),
        };
        true
    }

    async fn set_format(&self, id: RecordId, format: u16) -> bool {
        let key = self.key(id);
        (self.server_of)(&key).overwrite(&key, ".", 0, &format.to_be_bytes());
        true
    }
}

fn keeping_endings(store: Result<RedisStore, SetupError>) -> Result<RedisStore, SetupError> {
    store.inspect(|store| drop(store.endings()))
}

fn as_user(builder: RedisStoreBuilder) -> RedisStoreBuilder {
    builder.user(USER, PASSWORD)
}

/// A connection as an application may have one, opened by the first call.
#[derive(Clone)]
struct Own {
    client: redis::Client,
    opened: Arc<OnceCell<MultiplexedConnection>>,
}

impl Own {
    fn to(server: &Redis) -> Self {
        let url = format!("redis://{USER}:{PASSWORD}@{}", server.address());
        Self { client: redis::Client::open(url).unwrap(), opened: Arc::default() }
    }

    async fn connection(&self) -> redis::RedisResult<MultiplexedConnection> {
        let open = || self.client.get_multiplexed_async_connection();
        self.opened.get_or_try_init(open).await.cloned()
    }
}

impl ConnectionLike for Own {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async { self.connection().await?.req_packed_command(command).await })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let send = async move {
            let mut connection = self.connection().await?;
            connection.req_packed_commands(commands, offset, count).await
        };
        Box::pin(send)
    }

    fn get_db(&self) -> i64 {
        0
    }
}

fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}
