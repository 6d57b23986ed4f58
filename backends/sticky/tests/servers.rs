//! The sticky store passes the conformance tests over stores that several processes share.
//!
//! A server's change feed takes time, but the contract expects a call's effect once it returns. The
//! nodes in these tests therefore ask the server every time, except for a single node that follows
//! the feed.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use steadfast_core::conformance::Subject;
use steadfast_core::{Env, Store};
use steadfast_postgres::PostgresStore;
use steadfast_redis::{Prefix, RedisStore};
use steadfast_sticky::StickyStore;
use testkit::postgres::Postgres;
use testkit::redis::{PASSWORD, Redis, USER};

mod over_redis {
    use super::*;

    mod three_nodes {
        use super::*;

        steadfast_core::conformance_tests!(Nodes { open: redis, count: 3 }, cases = 16);
    }

    mod one_node {
        use super::*;

        steadfast_core::conformance_tests!(Nodes { open: redis, count: 1 }, cases = 16);
    }

    fn redis(name: String, env: Env) -> Opening {
        static SERVER: LazyLock<Redis> = LazyLock::new(Redis::start);
        Box::pin(async move {
            let prefix: Prefix = format!("steadfast:{name}").parse().unwrap();
            let builder = RedisStore::builder().user(USER, PASSWORD).prefix(prefix).env(env);
            let store = builder.standalone(SERVER.address().parse().unwrap()).unwrap();
            Arc::new(store) as Arc<dyn Store>
        })
    }
}

mod over_postgres {
    use super::*;

    mod three_nodes {
        use super::*;

        steadfast_core::conformance_tests!(Nodes { open: postgres, count: 3 }, cases = 8);
    }

    mod one_node {
        use super::*;

        steadfast_core::conformance_tests!(Nodes { open: postgres, count: 1 }, cases = 8);
    }

    fn postgres(name: String, env: Env) -> Opening {
        static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start(&[]));
        Box::pin(async move {
            let address = format!("postgres://postgres@{}/postgres", SERVER.address());
            let builder = PostgresStore::builder(&address).schema(&name).env(env);
            builder.migrate().await.unwrap();
            Arc::new(builder.build().await.unwrap()) as Arc<dyn Store>
        })
    }
}

type Opening = std::pin::Pin<Box<dyn Future<Output = Arc<dyn Store>> + Send>>;

/// Nodes of a service, each with its own store over a shared server.
struct Nodes {
    open: fn(String, Env) -> Opening,
    count: usize,
}

#[async_trait]
impl Subject for Nodes {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        static PLACE: AtomicU32 = AtomicU32::new(0);
        let place = format!("sticky_{}", PLACE.fetch_add(1, Ordering::Relaxed));
        let mut nodes: Vec<Arc<dyn Store>> = Vec::new();
        for n in 1..=self.count {
            let backup = (self.open)(place.clone(), env.clone()).await;
            let builder = StickyStore::builder(format!("n{n}").parse().unwrap()).backup(backup);
            let builder = match self.count {
                1 => builder,
                _ => builder.follow_changes(false).recheck(Duration::ZERO),
            };
            nodes.push(Arc::new(builder.build()));
        }
        nodes
    }

    fn moves_records(&self) -> bool {
        true
    }
}
