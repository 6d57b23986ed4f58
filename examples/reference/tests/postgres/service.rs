//! A database with a standby or without one, and three nodes of one service over it.

use testkit::postgres::Postgres;
use testkit::{Client, Server};

pub struct Service {
    pub nodes: Vec<Server>,
    pub primary: Postgres,
    pub standby: Option<Postgres>,
}

impl Service {
    /// Three nodes over one server.
    pub async fn alone() -> Self {
        let primary = prepared().await;
        let nodes = nodes(&primary.address()).await;
        Self { nodes, primary, standby: None }
    }

    /// Three nodes over a primary and a standby, which confirms every commit if it is synchronous.
    pub async fn replicated(is_synchronous: bool) -> Self {
        let primary = prepared().await;
        let standby = primary.standby();
        if is_synchronous {
            primary.sql(
                "postgres",
                "postgres",
                "ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()",
            );
        }
        primary.wait_until_followed();
        let nodes = nodes(&format!("{},{}", primary.address(), standby.address())).await;
        Self { nodes, primary, standby: Some(standby) }
    }

    /// Kills the primary, and makes the standby one.
    pub fn fail_over(&self) {
        self.primary.kill();
        self.standby.as_ref().expect("there is a standby").promote();
    }

    /// A signed-in client.
    pub async fn member(&self, user: &str) -> Client {
        self.nodes[0].member(user).await
    }

    /// Returns the user whom every node sees in the client.
    pub async fn users(&self, client: &Client) -> Vec<Option<String>> {
        let mut users = Vec::new();
        for node in &self.nodes {
            users.push(client.fork().at(node).user().await);
        }
        users
    }
}

/// A server with the tables, which belong to one role, and another role that may use them.
async fn prepared() -> Postgres {
    let server = Postgres::start(&[]);
    server.sql(
        "postgres",
        "postgres",
        "CREATE ROLE owner LOGIN; CREATE ROLE app LOGIN; CREATE DATABASE shop OWNER owner",
    );
    let owner = format!("postgres://owner@{}/shop?migrate=yes", server.address());
    steadfast::connect(&owner).await.unwrap();
    let grants = include_str!("../../../../backends/postgres/src/sql/grants.sql");
    server.sql("owner", "shop", grants);
    server
}

async fn nodes(hosts: &str) -> Vec<Server> {
    let url = format!("postgres://app@{hosts}/shop");
    let mut nodes = Vec::new();
    for label in ["n1", "n2", "n3"] {
        nodes.push(Server::start(&["--store", &url, "--node", label, "--profile", "dev"]).await);
    }
    nodes
}
