//! The stores of three nodes, of every kind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use steadfast::{
    Bridge, MemoryStore, PartitionPolicy, PostgresStore, Realm, RedisStore, ReplicatedStore,
    Replication, StickyStore,
};
use steadfast_core::Store;
use testkit::ports::free_address;
use testkit::postgres::Postgres;
use testkit::redis::{PASSWORD, Redis, USER};

/// A service of one or three nodes.
pub struct Service {
    stores: Vec<Arc<dyn Store>>,
}

impl Service {
    pub async fn memory() -> Self {
        Self { stores: vec![Arc::new(MemoryStore::new())] }
    }

    /// Three nodes whose balancer follows nothing: each asks the backup every time.
    pub async fn sticky() -> Self {
        let backup: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let node = |n| {
            let builder = StickyStore::builder(format!("n{n}").parse().unwrap());
            let builder = builder.backup(Arc::clone(&backup)).follow_changes(false);
            Arc::new(builder.recheck(Duration::ZERO).build()) as Arc<dyn Store>
        };
        Self { stores: (0..3).map(node).collect() }
    }

    pub async fn redis() -> Self {
        static SERVER: OnceLock<Redis> = OnceLock::new();
        let address = SERVER.get_or_init(Redis::start).address();
        let node = |_| {
            let builder = RedisStore::builder().user(USER, PASSWORD);
            Arc::new(builder.standalone(address.parse().unwrap()).unwrap()) as Arc<dyn Store>
        };
        Self { stores: (0..3).map(node).collect() }
    }

    pub async fn postgres() -> Self {
        static SERVER: OnceLock<Postgres> = OnceLock::new();
        let address = SERVER.get_or_init(|| Postgres::start(&[])).address();
        let builder = PostgresStore::builder(&format!("postgres://postgres@{address}/postgres"));
        builder.migrate().await.unwrap();
        let mut stores = Vec::new();
        for _ in 0..3 {
            stores.push(Arc::new(builder.clone().build().await.unwrap()) as Arc<dyn Store>);
        }
        Self { stores }
    }

    pub async fn replicated() -> Self {
        let first = free_address().await;
        let mut nodes = Vec::new();
        for n in 0..3 {
            let (bind, seeds): (&str, &[&str]) =
                if n == 0 { (&first, &[]) } else { ("127.0.0.1:0", &[&first]) };
            let builder = ReplicatedStore::builder()
                .bind(bind.parse().unwrap())
                .seeds(seeds.iter().copied())
                .name(format!("n{n}").parse().unwrap())
                .secret([7; 32])
                .replication(Replication::Backups(1))
                .partition(PartitionPolicy::Fail);
            nodes.push(builder.open().await.unwrap());
        }
        for node in &nodes {
            node.wait_for(3).await.unwrap();
        }
        Self { stores: nodes.into_iter().map(|node| Arc::new(node) as Arc<dyn Store>).collect() }
    }

    /// A bridge on each node, with users that no other service has: some share a server.
    pub fn bridges(&self) -> Vec<Bridge> {
        static SERVICES: AtomicUsize = AtomicUsize::new(0);
        let realm = format!("service{}", SERVICES.fetch_add(1, Ordering::Relaxed));
        let realm = Realm::new(&realm).unwrap();
        let bridge = |store| Bridge::new(Arc::clone(store)).realm(realm.clone());
        self.stores.iter().map(bridge).collect()
    }

    /// The bridge of the first node.
    pub fn bridge(&self) -> Bridge {
        self.bridges().swap_remove(0)
    }
}
