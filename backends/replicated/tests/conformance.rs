//! The replicated store keeps the contract, over real sockets with TLS.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use steadfast_core::conformance::Subject;
use steadfast_core::{Env, Store};
use steadfast_replicated::{PartitionPolicy, ReplicatedStore, ReplicatedStoreBuilder, Replication};
use tokio::net::TcpListener;

/// Several nodes on loopback.
struct Nodes(usize, Replication);

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
impl Subject for Nodes {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let Self(count, replication) = *self;
        let seed = free_address().await;
        let builders = (0..count).map(|n| {
            let (bind, seeds) = match n {
                0 => (seed.as_str(), None),
                _ => ("127.0.0.1:0", Some(&seed)),
            };
            ReplicatedStore::builder()
                .bind(bind.parse().unwrap())
                .seeds(seeds)
                .name(format!("n{n}").parse().unwrap())
                .secret([7; 32])
                .replication(replication)
                .partition(PartitionPolicy::Fail)
                .env(env.clone())
        });
        let opened = try_join_all(builders.map(ReplicatedStoreBuilder::open)).await.unwrap();
        let mut nodes: Vec<Arc<dyn Store>> = Vec::new();
        for store in opened {
            store.wait_for(count).await.unwrap();
            nodes.push(Arc::new(store));
        }
        nodes
    }

    fn largest_cap(&self) -> usize {
        50
    }
}

async fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

mod alone {
    use super::*;

    steadfast_core::conformance_tests!(OneNode, cases = 16);
}

mod two {
    use super::*;

    steadfast_core::conformance_tests!(Nodes(2, Replication::Full), cases = 8);
}

mod three {
    use super::*;

    steadfast_core::conformance_tests!(Nodes(3, Replication::Backups(1)), cases = 16);
}

mod five {
    use super::*;

    steadfast_core::conformance_tests!(Nodes(5, Replication::Full), cases = 8);
}
