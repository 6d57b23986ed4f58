//! A primary that is killed under load, and replaced by its replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::redis::RedisWithSentinels;
use testkit::{Client, Server};
use tokio::task::JoinHandle;

use crate::fixture::{Counting, Pinging, SOON, Stop, is_done, nodes, recovery};

/// Shows ST-06.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_undoes_no_confirmed_logout() {
    let mut servers = RedisWithSentinels::start();
    let nodes = nodes(&format!("{}?wait=1", servers.url())).await;
    let client = nodes[0].member("alice").await;
    let pinging = Pinging::start(&nodes, &client);
    let (stop, mut counting, mut leaving) = (Stop::default(), Vec::new(), Vec::new());
    for _ in 0..8 {
        counting.push(Counting::arrive(&nodes).await.start(&nodes, &stop));
    }
    for _ in 0..2 {
        leaving.push(Leaving::start(&nodes, &stop));
    }
    while leaving.iter().any(|one| one.sessions() < 20) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    servers.servers[0].kill();
    let killed = Instant::now();
    servers.wait_for_primary(1);
    let replaced = killed.elapsed();
    let recovered = recovery(&nodes, &client).await;
    stop.now();

    let mut lost = Vec::new();
    for one in counting {
        let one = one.await.unwrap();
        let value = one.value(&nodes[2]).await;
        lost.extend(one.lost(value));
    }
    let window = lost.iter().map(|at| killed.saturating_duration_since(*at)).max();
    println!(
        "replaced after {replaced:?}, recovered {recovered:?} later; without WAIT {} acknowledged additions lost, the oldest {window:?} before the end",
        lost.len()
    );
    assert!(window.unwrap_or_default() < Duration::from_secs(1), "only what was new is lost");
    for one in leaving {
        one.judge(&nodes).await;
    }
    assert_eq!(client.user().await.as_deref(), Some("alice"), "others stay signed in");
    let unaffected = pinging.longest().await;
    assert!(unaffected < Duration::from_secs(1), "{unaffected:?}");
    assert!(recovered < SOON, "{recovered:?}");
}

/// Signs in, and every other time out again, on one node after another, and keeps the cookies.
struct Leaving {
    task: JoinHandle<Vec<Left>>,
    count: Arc<AtomicUsize>,
}

/// A client with a confirmed sign-in, and what came of its signing out, if it did.
struct Left {
    client: Client,
    logout: Option<bool>,
}

impl Leaving {
    fn start(nodes: &Arc<[Server; 3]>, stop: &Stop) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let (nodes, stop, counted) = (Arc::clone(nodes), stop.clone(), Arc::clone(&count));
        let task = tokio::spawn(async move {
            let mut left = Vec::new();
            for node in nodes.iter().cycle() {
                if stop.is_due() {
                    break;
                }
                left.extend(leave(node, left.len() % 2 == 0).await);
                counted.store(left.len(), Ordering::Relaxed);
            }
            left
        });
        Self { task, count }
    }

    fn sessions(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// A client with a confirmed sign-in is signed in, and one with a confirmed sign-out is not.
    async fn judge(self, nodes: &[Server; 3]) {
        let left = self.task.await.unwrap();
        let told = |what| left.iter().filter(|one| one.logout == what).count();
        println!(
            "{} logins confirmed, {} logouts confirmed, {} not",
            left.len(),
            told(Some(true)),
            told(Some(false))
        );
        for (n, one) in left.iter().enumerate() {
            let user = one.client.at(&nodes[n % 3]).user().await;
            match one.logout {
                None => assert_eq!(user.as_deref(), Some("bob"), "a login stays done"),
                Some(true) => assert_eq!(user, None, "a logout stays done"),
                Some(false) => {}
            }
        }
    }
}

async fn leave(node: &Server, leaves: bool) -> Option<Left> {
    let client = node.client();
    if !is_done(&client.post("/login?u=bob").await) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        return None;
    }
    if !leaves {
        return Some(Left { client, logout: None });
    }
    let kept = client.fork();
    let reply = client.post("/logout").await;
    assert!([200, 503].contains(&reply.status.as_u16()), "{reply:?}");
    Some(Left { client: kept, logout: Some(is_done(&reply)) })
}
