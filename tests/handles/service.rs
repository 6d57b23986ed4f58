//! A service of several nodes in this process, over every store.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use steadfast::{
    Lifetime, MemoryStore, PartitionPolicy, PostgresStore, RecordId, RedisStore, RedisStoreBuilder,
    ReplicatedStore, Replication, SessionLayer, SessionStore, StickyStore, StoreError,
};
use steadfast_core::{Env, Lookup, ManualClock, Proof, RequestHint, Store, Version, forward_calls};
use testkit::ports::free_address;
use testkit::postgres::Postgres;
use testkit::redis::{PASSWORD, Redis, RedisCluster, USER};

use crate::steps::IDLE;

pub struct Service {
    nodes: Vec<SessionLayer>,
    pub clock: ManualClock,
    /// The servers that the nodes use. They end with the service.
    _servers: Box<dyn Any + Send + Sync>,
}

impl Service {
    pub async fn memory() -> Self {
        let (clock, env) = time();
        Self::over(vec![memory(env)], clock, ())
    }

    pub async fn sticky_over_memory() -> Self {
        let (clock, env) = time();
        let backup = memory(env);
        Self::over(sticky(vec![backup; 3]), clock, ())
    }

    pub async fn sticky_that_follows_changes() -> Self {
        let (clock, env) = time();
        let node = StickyStore::builder("n1".parse().unwrap()).backup(memory(env)).build();
        Self::over(vec![Arc::new(node) as Arc<dyn Store>], clock, ())
    }

    pub async fn sticky_over_redis() -> Self {
        let (clock, env) = time();
        let server = Redis::start();
        let backups = (0..3).map(|_| on_server(&server, &env)).collect();
        Self::over(sticky(backups), clock, server)
    }

    pub async fn sticky_over_postgres() -> Self {
        let (clock, env) = time();
        let server = Postgres::start(&[]);
        let backups = on_postgres(&server, &env).await;
        Self::over(sticky(backups), clock, server)
    }

    pub async fn replicated_to_all() -> Self {
        Self::replicated(Replication::Full).await
    }

    pub async fn replicated_to_a_backup() -> Self {
        Self::replicated(Replication::Backups(1)).await
    }

    pub async fn redis() -> Self {
        let (clock, env) = time();
        let server = Redis::start();
        let stores = (0..3).map(|_| on_server(&server, &env)).collect();
        Self::over(stores, clock, server)
    }

    pub async fn redis_cluster() -> Self {
        let (clock, env) = time();
        let servers = RedisCluster::start();
        let store = || {
            let seeds = servers.seeds().iter().map(|seed| seed.parse().unwrap()).collect();
            Arc::new(redis(&env).cluster(seeds).unwrap()) as Arc<dyn Store>
        };
        Self::over(vec![store(), store(), store()], clock, servers)
    }

    pub async fn postgres() -> Self {
        let (clock, env) = time();
        let server = Postgres::start(&[]);
        let stores = on_postgres(&server, &env).await;
        Self::over(stores, clock, server)
    }

    /// The node that serves the n-th request.
    pub fn node(&self, n: usize) -> &SessionLayer {
        &self.nodes[n % self.nodes.len()]
    }

    async fn replicated(replication: Replication) -> Self {
        let (clock, env) = time();
        let first = free_address().await;
        let mut stores = Vec::new();
        for n in 0..3 {
            let (bind, seeds): (&str, &[&str]) =
                if n == 0 { (&first, &[]) } else { ("127.0.0.1:0", &[&first]) };
            let builder = ReplicatedStore::builder()
                .bind(bind.parse().unwrap())
                .seeds(seeds.iter().copied())
                .name(format!("n{n}").parse().unwrap())
                .secret([7; 32])
                .replication(replication)
                .partition(PartitionPolicy::Fail)
                .env(env.clone());
            stores.push(builder.open().await.unwrap());
        }
        for store in &stores {
            store.wait_for(3).await.unwrap();
        }
        let stores = stores.into_iter().map(|store| Authoritative(Arc::new(store)));
        Self::over(stores.collect(), clock, ())
    }

    fn over<S: SessionStore>(
        stores: Vec<S>,
        clock: ManualClock,
        servers: impl Any + Send + Sync,
    ) -> Self {
        let lifetime = Lifetime::new(Duration::from_secs(IDLE), 30 * DAY).unwrap();
        let nodes = stores.into_iter().map(|store| {
            let layer = SessionLayer::new(store).lifetime(lifetime);
            layer.index_labels(["sid"]).unwrap()
        });
        Self { nodes: nodes.collect(), clock, _servers: Box::new(servers) }
    }
}

fn time() -> (ManualClock, Env) {
    let clock = ManualClock::default();
    (clock.clone(), Env::with_clock(clock))
}

fn memory(env: Env) -> Arc<dyn Store> {
    Arc::new(MemoryStore::builder().env(env).build())
}

/// Nodes that ask their backup every time: news of a change takes a moment through a server.
fn sticky(backups: Vec<Arc<dyn Store>>) -> Vec<Arc<dyn Store>> {
    let node = |(n, backup)| {
        let builder = StickyStore::builder(format!("n{n}").parse().unwrap()).backup(backup);
        let store = builder.follow_changes(false).recheck(Duration::ZERO).build();
        Arc::new(store) as Arc<dyn Store>
    };
    backups.into_iter().enumerate().map(node).collect()
}

fn redis(env: &Env) -> RedisStoreBuilder {
    RedisStore::builder().user(USER, PASSWORD).env(env.clone())
}

fn on_server(server: &Redis, env: &Env) -> Arc<dyn Store> {
    Arc::new(redis(env).standalone(server.address().parse().unwrap()).unwrap())
}

async fn on_postgres(server: &Postgres, env: &Env) -> Vec<Arc<dyn Store>> {
    let address = format!("postgres://postgres@{}/postgres", server.address());
    let builder = PostgresStore::builder(&address).env(env.clone());
    builder.migrate().await.unwrap();
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(builder.clone().build().await.unwrap()) as Arc<dyn Store>);
    }
    stores
}

/// A store whose copies are never recent enough, so that the authority answers every load: a copy may
/// lag a moment behind what its client has not seen, which is for other tests.
#[derive(Debug)]
struct Authoritative(Arc<dyn Store>);

#[async_trait]
impl SessionStore for Authoritative {
    forward_calls!(this => this.0, except load);

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        _: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        let far = RequestHint { min_version: Some(Version(1 << 60)), ..RequestHint::default() };
        self.0.load(id, proof, &far).await
    }
}

const DAY: Duration = Duration::from_secs(86_400);
