//! A cluster of three primaries with a replica each.

use super::{PASSWORD, Redis, USER, free_port, wait_until};

/// Six servers: three primaries with a replica each.
pub struct RedisCluster {
    pub servers: Vec<Redis>,
}

impl RedisCluster {
    pub fn start() -> Self {
        let servers: Vec<_> = (0..6).map(|_| node()).collect();
        for (server, range) in servers.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
            let (first, last) = range.split_once(' ').unwrap();
            server.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        let first = &servers[0];
        wait_until(|| {
            servers[1..].iter().for_each(|server| introduce(first, server));
            servers.iter().all(knows_all)
        });
        for (primary, replica) in servers[..3].iter().zip(&servers[3..]) {
            let id = primary.ask(&["CLUSTER", "MYID"]).text();
            wait_until(|| replica.ask(&["CLUSTER", "REPLICATE", &id]).is("OK"));
        }
        let cluster = Self { servers };
        wait_until(|| cluster.servers.iter().all(is_complete));
        cluster
    }

    /// The URL of a store on the cluster, by two of its servers.
    pub fn url(&self) -> String {
        let seeds = self.seeds().join(",");
        format!("redis+cluster://{USER}:{PASSWORD}@{seeds}")
    }

    /// The addresses of two of its servers.
    pub fn seeds(&self) -> Vec<String> {
        [1, 5].map(|n: usize| self.servers[n].address()).to_vec()
    }

    /// The server that has a key now.
    pub fn server_of(&self, key: &str) -> usize {
        let slot = self.servers[1].ask(&["CLUSTER", "KEYSLOT", key]).number();
        let ranges = self.servers[1].ask(&["CLUSTER", "SLOTS"]).list();
        let range = ranges
            .into_iter()
            .map(super::Reply::list)
            .find(|range| (range[0].number()..=range[1].number()).contains(&slot));
        let port = range.unwrap()[2].clone().list()[1].number();
        self.servers.iter().position(|server| i64::from(server.port) == port).unwrap()
    }

    /// Waits until every slot has a primary that is up.
    pub fn wait_until_whole(&self, without: usize) {
        let others = self.servers.iter().enumerate().filter(|(n, _)| *n != without);
        let others: Vec<_> = others.map(|(_, server)| server).collect();
        wait_until(|| others.iter().all(|server| is_ok(server)));
    }
}

fn node() -> Redis {
    let more = format!(
        "cluster-enabled yes\ncluster-port {}\ncluster-node-timeout 1000\n\
         cluster-allow-replica-migration no\n",
        free_port()
    );
    Redis::configured(&more)
}

/// Has a server meet another one, if it does not know it. A slow machine forgets one that it was about
/// to meet.
fn introduce(server: &Redis, other: &Redis) {
    let id = other.ask(&["CLUSTER", "MYID"]).text();
    if !server.ask(&["CLUSTER", "NODES"]).text().contains(&id) {
        let bus = other.ask(&["CONFIG", "GET", "cluster-port"]).list()[1].text();
        server.ask(&["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string(), &bus]);
    }
}

/// Returns true if a server knows all six, and has met them.
fn knows_all(server: &Redis) -> bool {
    let nodes = server.ask(&["CLUSTER", "NODES"]).text();
    nodes.lines().count() == 6 && !nodes.contains("handshake")
}

fn is_ok(server: &Redis) -> bool {
    server.ask(&["CLUSTER", "INFO"]).text().contains("cluster_state:ok")
}

/// Returns true if a server knows of three primaries with a replica each, and is in step if it is one.
fn is_complete(server: &Redis) -> bool {
    let nodes = server.ask(&["CLUSTER", "NODES"]).text();
    let replicas = nodes.lines().filter(|line| line.contains("slave")).count();
    let info = server.ask(&["INFO", "replication"]).text();
    is_ok(server)
        && replicas == 3
        && (info.contains("master_link_status:up") || info.contains("state=online"))
}
