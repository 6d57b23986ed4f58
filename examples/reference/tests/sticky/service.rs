//! Three nodes with their store and their balancers.

use std::collections::BTreeSet;

use testkit::redis::Redis;
use testkit::{Client, Haproxy, Nginx, Server, eventually};

pub struct Service {
    /// The address of each node, also of a stopped one.
    addresses: Vec<String>,
    nodes: Vec<Option<Server>>,
    options: Vec<String>,
    _redis: Redis,
}

impl Service {
    pub async fn start(affinity: &str) -> Self {
        let redis = Redis::start();
        let store = format!("sticky:?backup={}&peers=n1,n2,n3", redis.url());
        let options = ["--store", &store, "--affinity", affinity].map(str::to_owned).to_vec();
        let mut service = Self { addresses: vec![], nodes: vec![], options, _redis: redis };
        for n in 0..3 {
            let server = service.launch(n, "127.0.0.1:0").await;
            service.addresses.push(server.address.clone());
            service.nodes.push(Some(server));
        }
        service
    }

    pub fn node(&self, label: &str) -> &Server {
        self.nodes[number(label)].as_ref().expect("the node runs")
    }

    /// Ends a node as a power cut does.
    pub async fn kill(&mut self, label: &str) {
        let node = self.nodes[number(label)].take().expect("the node runs");
        node.signal("KILL");
        node.ended().await;
    }

    /// Ends a node as a deployment does, and says what it said.
    pub async fn stop(&mut self, label: &str) -> String {
        let node = self.nodes[number(label)].take().expect("the node runs");
        node.signal("TERM");
        let (status, said) = node.ended().await;
        assert!(status.success(), "{said}");
        said
    }

    /// Starts a node again, where it was.
    pub async fn restart(&mut self, label: &str) {
        let n = number(label);
        assert!(self.nodes[n].is_none());
        let server = self.launch(n, &self.addresses[n]).await;
        self.nodes[n] = Some(server);
    }

    /// HAProxy with a configuration that is shipped, before these nodes.
    pub async fn haproxy(&self, configuration: &str) -> Haproxy {
        Haproxy::start(&self.placed(configuration)).await
    }

    /// The same for nginx.
    pub async fn nginx(&self, configuration: &str) -> Nginx {
        Nginx::start(&self.placed(configuration)).await
    }

    fn placed(&self, configuration: &str) -> String {
        let mut placed = configuration.replace("127.0.0.1:8080", "LISTEN");
        for (n, address) in self.addresses.iter().enumerate() {
            placed = placed.replace(&format!("127.0.0.1:808{}", n + 1), address);
        }
        placed
    }

    async fn launch(&self, n: usize, address: &str) -> Server {
        let label = format!("n{}", n + 1);
        let options = self.options.iter().map(String::as_str);
        let options: Vec<_> = options.chain(["--node", &label]).collect();
        Server::start_at(address, &options).await
    }
}

/// The label of the node that serves a client.
pub async fn node(client: &Client) -> String {
    client.peek().await["node"].as_str().unwrap().to_owned()
}

/// The nodes that serve strangers, by the first answers of this many clients.
pub async fn nodes_of_strangers(client: &Client, strangers: usize) -> BTreeSet<String> {
    let mut nodes = BTreeSet::new();
    for n in 0..strangers {
        let stranger = stranger(client, n);
        nodes.insert(node(&stranger).await);
    }
    nodes
}

/// A client without cookies, who comes from an address of its own.
pub fn stranger(client: &Client, n: usize) -> Client {
    client.stranger().from(&format!("127.0.{}.1", 1 + n % 200))
}

/// Waits until a node serves strangers, or does not any more.
pub async fn until_strangers(client: &Client, come_to: &str, do_come: bool) {
    eventually(async || nodes_of_strangers(client, 12).await.contains(come_to) == do_come).await;
}

fn number(label: &str) -> usize {
    label[1..].parse::<usize>().unwrap() - 1
}
