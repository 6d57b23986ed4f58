//! A service of several nodes over a store, and what it stands on.

use std::any::Any;
use std::path::PathBuf;

use futures_util::future::join_all;
use testkit::ports::{fresh_directory, own_addresses};
use testkit::postgres::Postgres;
use testkit::redis::{Redis, RedisCluster, RedisWithSentinels};
use testkit::{Client, Server};

pub struct Service {
    pub nodes: Vec<Server>,
    /// The servers behind the nodes: they end when this does.
    _behind: Box<dyn Any + Send + Sync>,
}

impl Service {
    pub async fn memory(options: &[&str]) -> Self {
        Self::over(&["memory:".to_owned()], options, ()).await
    }

    pub async fn sticky(options: &[&str]) -> Self {
        let redis = Redis::start();
        let backup = redis.url().replace('%', "%25").replace('&', "%26");
        Self::over(&vec![format!("sticky:?backup={backup}"); 3], options, redis).await
    }

    pub async fn replicated_to_all(options: &[&str]) -> Self {
        Self::replicated("all", options).await
    }

    pub async fn replicated_to_a_backup(options: &[&str]) -> Self {
        Self::replicated("1", options).await
    }

    pub async fn redis(options: &[&str]) -> Self {
        let redis = Redis::start();
        Self::over(&vec![redis.url(); 3], options, redis).await
    }

    pub async fn redis_with_sentinels(options: &[&str]) -> Self {
        let redis = RedisWithSentinels::start();
        Self::over(&vec![redis.url(); 3], options, redis).await
    }

    pub async fn redis_cluster(options: &[&str]) -> Self {
        let redis = RedisCluster::start();
        Self::over(&vec![redis.url(); 3], options, redis).await
    }

    pub async fn postgres(options: &[&str]) -> Self {
        let postgres = Postgres::start(&[]);
        let url = format!("postgres://postgres@{}/postgres", postgres.address());
        Self::over(&vec![url; 3], options, postgres).await
    }

    /// The node that a balancer picks for the n-th request.
    pub fn node(&self, n: usize) -> &Server {
        &self.nodes[n % self.nodes.len()]
    }

    /// Returns the user whom every node sees in a client with these cookies.
    pub async fn users(&self, client: &Client) -> Vec<Option<String>> {
        let mut users = Vec::new();
        for node in &self.nodes {
            users.push(client.fork().at(node).user().await);
        }
        users
    }

    /// Each node is a seed of the others.
    async fn replicated(copies: &str, options: &[&str]) -> Self {
        let secret = Secret::new();
        let addresses: [_; 3] = own_addresses();
        let url = |own: &String| {
            let seeds: Vec<_> =
                addresses.iter().filter(|address| *address != own).map(String::as_str).collect();
            format!(
                "replicated:?copies={copies}&bind={own}&seeds={}&secret-file={}",
                seeds.join(","),
                secret.0.display(),
            )
        };
        let urls: Vec<_> = addresses.iter().map(url).collect();
        Self::over(&urls, options, secret).await
    }

    /// A node for each of the URLs. They start together, because some wait for each other.
    async fn over(stores: &[String], options: &[&str], behind: impl Any + Send + Sync) -> Self {
        let nodes = stores.iter().enumerate().map(|(n, store)| async move {
            let node = format!("n{}", n + 1);
            Server::start(&[&["--store", store, "--node", &node], options].concat()).await
        });
        Self { nodes: join_all(nodes).await, _behind: Box::new(behind) }
    }
}

/// A directory with the secret of a cluster.
struct Secret(PathBuf);

impl Secret {
    fn new() -> Self {
        let path = fresh_directory("cluster").join("secret");
        std::fs::write(&path, "a secret of no less than 32 bytes").unwrap();
        Self(path)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().expect("it is in its directory"));
    }
}
