//! A service of several nodes over a store, and what it stands on.

use std::any::Any;

use rig::postgres::Postgres;
use rig::redis::{Redis, RedisCluster, RedisWithSentinels};
use rig::{Client, Server};

pub struct Service {
    pub nodes: Vec<Server>,
    /// The servers behind the nodes: they end when this does.
    _behind: Box<dyn Any + Send + Sync>,
}

impl Service {
    pub async fn memory() -> Self {
        Self::of("memory:", 1, ()).await
    }

    pub async fn redis() -> Self {
        let redis = Redis::start();
        Self::of(&redis.url(), 3, redis).await
    }

    pub async fn redis_with_sentinels() -> Self {
        let redis = RedisWithSentinels::start();
        Self::of(&redis.url(), 3, redis).await
    }

    pub async fn redis_cluster() -> Self {
        let redis = RedisCluster::start();
        Self::of(&redis.url(), 3, redis).await
    }

    pub async fn postgres() -> Self {
        let postgres = Postgres::start(&[]);
        let url = format!("postgres://postgres@{}/postgres", postgres.address());
        Self::of(&url, 3, postgres).await
    }

    /// The node that a balancer picks for the n-th request.
    pub fn node(&self, n: usize) -> &Server {
        &self.nodes[n % self.nodes.len()]
    }

    /// Who is signed in, as every node sees a client with these cookies.
    pub async fn users(&self, client: &Client) -> Vec<Option<String>> {
        let mut users = Vec::new();
        for node in &self.nodes {
            users.push(client.fork().at(node).user().await);
        }
        users
    }

    async fn of(store: &str, nodes: usize, behind: impl Any + Send + Sync) -> Self {
        let mut started = Vec::new();
        for n in 1..=nodes {
            let label = format!("n{n}");
            started.push(Server::start(&["--store", store, "--node", &label]).await);
        }
        Self { nodes: started, _behind: Box::new(behind) }
    }
}
