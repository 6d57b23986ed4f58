//! Tests of failures that lose nothing.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use testkit::{Client, Reply, eventually};
use tokio::task::JoinSet;

use crate::balancers::config;
use crate::service::{Service, node, stranger, until_strangers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_no_acknowledged_write() {
    let mut service = Service::start("cookie").await;
    let haproxy = service.haproxy(config!("haproxy/cookie.cfg")).await;
    let load = Load::start(&haproxy.client(), 500, Duration::from_secs(2)).await;
    load.counted(1).await;
    service.kill("n1").await;
    load.counted(2).await;
    service.restart("n1").await;
    load.counted(1).await;
    let clients = load.finish().await;
    assert_eq!(clients.len(), 500);
    for client in &clients {
        client.assert_kept().await;
    }
    let left = |client: &Counting| client.left.iter().any(|node| node == "n1");
    assert!(clients.iter().any(left), "some were on the node that died");
    assert!(clients.iter().all(|client| !client.has_returned), "a session does not bounce back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_keeps_everyone_signed_in() {
    for is_announced in [true, false] {
        let mut service = Service::start("cookie").await;
        let haproxy = service.haproxy(config!("haproxy/cookie.cfg")).await;
        let balancer = haproxy.client();
        let load = Load::start(&balancer, 60, Duration::from_millis(200)).await;
        for label in ["n1", "n2", "n3"] {
            if is_announced {
                service.node(label).order("/drain").await;
                until_strangers(&balancer, label, false).await;
            }
            service.stop(label).await;
            service.restart(label).await;
            until_strangers(&balancer, label, true).await;
        }
        for client in load.finish().await {
            client.assert_kept().await;
        }
    }
}

#[tokio::test]
async fn a_stalled_node_serves_no_stale_session() {
    let service = Service::start("cookie").await;
    let (a, b) = (service.node("n1"), service.node("n2"));
    let alice = a.member("alice").await;
    let old = a.member("bob").await;
    for n in 0..4 {
        alice.at(a).send("POST", "/put", &[], &format!("{n}")).await.ok();
        assert_eq!(alice.at(a).peek().await["n"], n);
        a.signal("STOP");
        alice.at(b).send("POST", "/put", &[], &format!("{}", n + 100)).await.ok();
        // Longer than a copy counts, as a stop that a balancer notices is.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        a.signal("CONT");
        // This holds for the client that was there, and for one that carries only the token.
        let bare = Client::new(&a.address);
        bare.set_cookie("__Host-id", &alice.cookie("__Host-id").unwrap());
        assert_eq!(bare.peek().await["n"], n + 100);
        assert_eq!(alice.at(a).peek().await["n"], n + 100);
    }
    // Signed out elsewhere in that time.
    assert_eq!(old.at(a).user().await.as_deref(), Some("bob"));
    a.signal("STOP");
    old.fork().at(b).post("/logout").await.ok();
    // As long as a machine stands still that is moved to another host.
    tokio::time::sleep(Duration::from_secs(10)).await;
    a.signal("CONT");
    assert_eq!(old.at(a).user().await, None);
    assert_eq!(old.at(a).post("/incr").await.ok().json()["value"], 1, "a session of its own");
}

#[tokio::test]
async fn a_sign_out_reaches_all_nodes_in_time() {
    let service = Service::start("cookie").await;
    let nodes = ["n1", "n2", "n3"].map(|label| service.node(label));
    for (signs_out, other) in [(0, 1), (1, 2), (2, 0)] {
        let alice = nodes[other].member("alice").await;
        assert_eq!(alice.user().await.as_deref(), Some("alice"));
        let old = alice.fork();
        alice.at(nodes[signs_out]).post("/logout").await.ok();
        tokio::time::sleep(Duration::from_secs(1)).await;
        for node in nodes {
            assert_eq!(old.fork().at(node).user().await, None);
        }
    }
}

/// Clients who count, each in a session of its own.
struct Load {
    clients: JoinSet<Counting>,
    rounds: Arc<Rounds>,
}

/// The state that the clients of a load share.
#[derive(Default)]
struct Rounds {
    is_over: AtomicBool,
    /// Tries of all clients together.
    tries: AtomicUsize,
}

impl Load {
    /// Each client signs in, and then counts once in so much time.
    async fn start(balancer: &Client, clients: usize, every: Duration) -> Self {
        let mut arrived = Vec::new();
        for n in 0..clients {
            arrived.push(Counting::arrive(&stranger(balancer, n), n).await);
        }
        let rounds = Arc::<Rounds>::default();
        let counting = arrived.into_iter().map(|client| client.every(every, Arc::clone(&rounds)));
        Self { clients: counting.collect(), rounds }
    }

    /// Waits for this many rounds of tries of all clients.
    async fn counted(&self, rounds: usize) {
        let tries = || self.rounds.tries.load(Ordering::SeqCst);
        let enough = tries() + rounds * self.clients.len();
        eventually(async || tries() >= enough).await;
    }

    async fn finish(self) -> Vec<Counting> {
        self.rounds.is_over.store(true, Ordering::SeqCst);
        self.clients.join_all().await
    }
}

struct Counting {
    client: Client,
    user: String,
    /// The last number that was acknowledged.
    acknowledged: i64,
    /// Additions of which it is not known whether they happened.
    unconfirmed: i64,
    node: String,
    /// The nodes that served it before.
    left: Vec<String>,
    has_returned: bool,
}

impl Counting {
    async fn arrive(client: &Client, n: usize) -> Self {
        let (client, user) = (client.clone(), format!("user{n}"));
        client.post(&format!("/login?u={user}")).await.ok();
        let node = node(&client).await;
        let (left, has_returned) = (Vec::new(), false);
        Self { client, user, acknowledged: 0, unconfirmed: 0, node, left, has_returned }
    }

    async fn every(mut self, time: Duration, rounds: Arc<Rounds>) -> Self {
        while !rounds.is_over.load(Ordering::SeqCst) {
            self.count().await;
            rounds.tries.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(time).await;
        }
        self
    }

    async fn count(&mut self) {
        let reply = self.client.post("/incr").await;
        match reply.status.as_u16() {
            200 => self.acknowledge(&reply),
            502..=504 => self.unconfirmed += 1,
            _ => panic!("neither done nor unconfirmed: {reply:?}"),
        }
        let reply = self.client.get("/peek").await;
        if reply.status == 200 {
            let served = reply.json()["node"].as_str().unwrap().to_owned();
            if served != self.node {
                self.has_returned |= self.left.contains(&served);
                self.left.push(mem::replace(&mut self.node, served));
            }
        }
    }

    fn acknowledge(&mut self, reply: &Reply) {
        let value = reply.json()["value"].as_i64().unwrap();
        let most = self.acknowledged + self.unconfirmed + 1;
        assert!((self.acknowledged + 1..=most).contains(&value), "{value} of at most {most}");
        self.unconfirmed -= value - self.acknowledged - 1;
        self.acknowledged = value;
    }

    /// The session lives, and has what was acknowledged.
    async fn assert_kept(&self) {
        // An overloaded node is asked again.
        eventually(async || self.client.get("/peek").await.status == 200).await;
        let told = self.client.peek().await;
        assert_eq!(told["user"], self.user, "{told}");
        let most = self.acknowledged + self.unconfirmed;
        let n = told["n"].as_i64().unwrap_or(0);
        assert!((self.acknowledged..=most).contains(&n), "{n} of {}", self.acknowledged);
    }
}
