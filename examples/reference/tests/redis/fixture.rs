//! Three nodes of a service, and the oracle that remembers what they acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::{Client, Reply, Server};
use tokio::task::JoinHandle;

/// Three nodes over one store.
pub async fn nodes(store: &str) -> Arc<[Server; 3]> {
    let node =
        |label| async move { Server::without_control(&["--store", store, "--node", label]).await };
    let (one, two, three) = tokio::join!(node("n1"), node("n2"), node("n3"));
    Arc::new([one, two, three])
}

/// A client that counts in its session, on one node after another, as fast as it is answered, and
/// remembers the answers.
pub struct Counting {
    pub client: Client,
    /// The time at which each addition was acknowledged, with the value it made.
    pub acknowledged: Vec<(Instant, i64)>,
    /// Additions of which it is not known whether they happened.
    pub unconfirmed: usize,
}

impl Counting {
    pub async fn arrive(nodes: &[Server; 3]) -> Self {
        let client = nodes[0].client();
        let value = client.post("/incr").await.ok().json()["value"].as_i64().unwrap();
        let acknowledged = vec![(Instant::now(), value)];
        Self { client, acknowledged, unconfirmed: 0 }
    }

    /// Counts until the test stops it.
    pub fn start(mut self, nodes: &Arc<[Server; 3]>, stop: &Stop) -> JoinHandle<Self> {
        let (nodes, stop) = (Arc::clone(nodes), stop.clone());
        tokio::spawn(async move {
            for node in nodes.iter().cycle() {
                if stop.is_due() {
                    break;
                }
                self.count(node).await;
            }
            self
        })
    }

    async fn count(&mut self, node: &Server) {
        let reply = self.client.at(node).post("/incr").await;
        match reply.status.as_u16() {
            200 => {
                let value = reply.json()["value"].as_i64().unwrap();
                self.acknowledged.push((Instant::now(), value));
            }
            503 => {
                self.unconfirmed += 1;
                // As a client that minds `Retry-After` does, only less so.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            _ => panic!("neither done nor unconfirmed: {reply:?}"),
        }
    }

    /// Returns the session's present value, read from any node.
    pub async fn value(&self, node: &Server) -> i64 {
        self.client.at(node).peek().await["n"].as_i64().unwrap_or(0)
    }

    /// Returns the times of the acknowledged additions that were lost, given what the session holds:
    /// those that made more than that, or more than a later one did.
    pub fn lost(&self, value: i64) -> Vec<Instant> {
        let most = i64::try_from(self.acknowledged.len() + self.unconfirmed).unwrap();
        assert!(value <= most, "nothing counts twice: {value} of {most}");
        let (mut least, mut lost) = (value + 1, Vec::new());
        for (at, made) in self.acknowledged.iter().rev() {
            if *made >= least {
                lost.push(*at);
            }
            least = least.min(*made);
        }
        lost
    }
}

/// Asks for what needs no session, all the time, and remembers the longest wait.
pub struct Pinging(JoinHandle<Duration>, Stop);

impl Pinging {
    pub fn start(nodes: &Arc<[Server; 3]>, client: &Client) -> Self {
        let stop = Stop::default();
        let (nodes, client, due) = (Arc::clone(nodes), client.fork(), stop.clone());
        let pinging = tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            for node in nodes.iter().cycle() {
                if due.is_due() {
                    break;
                }
                let start = Instant::now();
                client.at(node).get("/ping").await.ok();
                longest = longest.max(start.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            longest
        });
        Self(pinging, stop)
    }

    /// The longest wait for an answer.
    pub async fn longest(self) -> Duration {
        self.1.now();
        self.0.await.unwrap()
    }
}

#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn now(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_due(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Waits until every node serves a session again, and says how long that took.
pub async fn recovery(nodes: &[Server; 3], client: &Client) -> Duration {
    let start = Instant::now();
    for node in nodes {
        let client = client.at(node);
        testkit::eventually(async || client.fork().get("/peek").await.status == 200).await;
    }
    start.elapsed()
}

/// The time within which nodes serve again: a second is the aim, and a busy machine needs longer.
pub const SOON: Duration = Duration::from_secs(3);

/// Returns true if an answer confirms a change.
pub fn is_done(reply: &Reply) -> bool {
    reply.status.is_success()
}
