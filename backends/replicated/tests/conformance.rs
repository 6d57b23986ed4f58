//! The replicated store keeps the contract, over real sockets with TLS.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use async_trait::async_trait;
use steadfast_core::conformance::Subject;
use steadfast_core::{Env, Store};
use steadfast_replicated::{PartitionPolicy, ReplicatedStore, Replication};
use tokio::net::TcpListener;

/// Three nodes on loopback.
struct ThreeNodes(Replication);

/// A node alone.
struct OneNode;

#[async_trait]
impl Subject for OneNode {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let builder = ReplicatedStore::builder().secret([7; 32]).env(env);
        let store = builder.open().await.unwrap();
        store.wait_for(1).await.unwrap();
        vec![Arc::new(store)]
    }

    fn largest_cap(&self) -> usize {
        50
    }
}

#[async_trait]
impl Subject for ThreeNodes {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let address = free_address().await;
        let first = self.open(&env, "n0", address.parse().unwrap(), &[]).await;
        let bind = "127.0.0.1:0".parse().unwrap();
        let second = self.open(&env, "n1", bind, &[&address]).await;
        let third = self.open(&env, "n2", bind, &[&address]).await;
        let mut nodes: Vec<Arc<dyn Store>> = Vec::new();
        for store in [first, second, third] {
            store.wait_for(3).await.unwrap();
            nodes.push(Arc::new(store));
        }
        nodes
    }

    fn largest_cap(&self) -> usize {
        50
    }
}

impl ThreeNodes {
    async fn open(
        &self,
        env: &Env,
        name: &str,
        bind: std::net::SocketAddr,
        seeds: &[&str],
    ) -> ReplicatedStore {
        let builder = ReplicatedStore::builder()
            .bind(bind)
            .seeds(seeds.iter().copied())
            .name(name.parse().unwrap())
            .secret([7; 32])
            .replication(self.0)
            .partition(PartitionPolicy::Fail)
            .env(env.clone());
        builder.open().await.unwrap()
    }
}

async fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

mod alone {
    use super::*;

    steadfast_core::conformance_tests!(OneNode, cases = 16);
}

mod one_backup {
    use super::*;

    steadfast_core::conformance_tests!(ThreeNodes(Replication::Backups(1)), cases = 16);
}

mod all {
    use super::*;

    steadfast_core::conformance_tests!(ThreeNodes(Replication::Full), cases = 16);
}
