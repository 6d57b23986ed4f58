//! Users at work while something fails, and an oracle that knows what they were promised.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::Client;
use tokio::task::JoinHandle;

use crate::service::Service;

/// Users who write to sessions of their own, each request on the next node, and strangers who touch
/// no session.
pub struct Load {
    stopping: Arc<AtomicBool>,
    users: Vec<JoinHandle<User>>,
    strangers: Vec<JoinHandle<Duration>>,
}

impl Load {
    pub async fn start(service: &Service) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut users = Vec::new();
        for n in 0..6 {
            let client = service.member(&format!("user-{n}")).await;
            let tabs: Vec<_> = service.nodes.iter().map(|node| client.at(node)).collect();
            users.push(tokio::spawn(User::new(tabs).work(Arc::clone(&stopping))));
        }
        let stranger = |client| tokio::spawn(ping(client, Arc::clone(&stopping)));
        let strangers = service.nodes.iter().map(|node| stranger(node.client())).collect();
        Self { stopping, users, strangers }
    }

    /// Lets it go on for a while.
    pub async fn go_on(&self, while_: Duration) {
        tokio::time::sleep(while_).await;
    }

    /// Stops, and asks what is left of what was confirmed.
    pub async fn stop(self) -> Verdict {
        self.stopping.store(true, Ordering::SeqCst);
        let mut verdict = Verdict::default();
        for user in self.users {
            user.await.unwrap().judge(&mut verdict).await;
        }
        for stranger in self.strangers {
            verdict.slowest_ping = verdict.slowest_ping.max(stranger.await.unwrap());
        }
        verdict
    }
}

/// The verdict of the oracle.
#[derive(Debug, Default)]
pub struct Verdict {
    pub confirmed: u64,
    pub unconfirmed: u64,
    /// Confirmed writes that are not there.
    pub lost: u64,
    pub slowest_write: Duration,
    pub slowest_ping: Duration,
}

/// A client that counts, and stores growing numbers.
struct User {
    tabs: Vec<Client>,
    number: u64,
    confirmed_number: u64,
    /// Writes that may have happened or not, and may still be under way.
    open_numbers: BTreeSet<u64>,
    confirmed_count: u64,
    open_count: u64,
    slowest: Duration,
}

impl User {
    fn new(tabs: Vec<Client>) -> Self {
        Self {
            tabs,
            number: 0,
            confirmed_number: 0,
            open_numbers: BTreeSet::new(),
            confirmed_count: 0,
            open_count: 0,
            slowest: Duration::ZERO,
        }
    }

    async fn work(mut self, stopping: Arc<AtomicBool>) -> Self {
        while !stopping.load(Ordering::SeqCst) {
            self.number += 1;
            let (put, count) = (self.put().await, self.count().await);
            match put {
                true => self.confirmed_number = self.number,
                false => drop(self.open_numbers.insert(self.number)),
            }
            match count {
                true => self.confirmed_count += 1,
                false => self.open_count += 1,
            }
            tokio::time::sleep(THINKS).await;
        }
        self
    }

    async fn put(&mut self) -> bool {
        let body = self.number.to_string();
        self.send("/put?k=number", &body).await
    }

    async fn count(&mut self) -> bool {
        self.send("/incr", "").await
    }

    /// Sends a request, and returns true if it was confirmed. A failed request must say so, and must keep
    /// the user signed in.
    async fn send(&mut self, path: &str, body: &str) -> bool {
        let tab = &self.tabs[self.number as usize % self.tabs.len()];
        let start = Instant::now();
        let reply = tab.send("POST", path, &[], body).await;
        self.slowest = self.slowest.max(start.elapsed());
        assert!([200, 503].contains(&reply.status.as_u16()), "{reply:?}");
        assert_eq!(reply.set_cookies().len(), 0, "{reply:?}");
        reply.status == 200
    }

    /// Every node must have the last confirmed value, or a later one that was not confirmed.
    async fn judge(self, verdict: &mut Verdict) {
        verdict.confirmed += 2 * self.number - self.open_count - self.open_numbers.len() as u64;
        verdict.unconfirmed += self.open_count + self.open_numbers.len() as u64;
        verdict.slowest_write = verdict.slowest_write.max(self.slowest);
        let mut lost = BTreeSet::new();
        for tab in &self.tabs {
            let number = read(tab, "number").await;
            assert!(number <= self.number);
            let is_known = number == self.confirmed_number || self.open_numbers.contains(&number);
            let behind = self.confirmed_number.saturating_sub(number);
            let count = read(tab, "n").await;
            assert!(count <= self.confirmed_count + self.open_count, "something counted twice");
            let missing = self.confirmed_count.saturating_sub(count);
            lost.insert(missing + if is_known { 0 } else { behind });
        }
        assert_eq!(lost.len(), 1, "every node reads the same");
        verdict.lost += lost.into_iter().sum::<u64>();
    }
}

async fn read(tab: &Client, key: &str) -> u64 {
    match tab.get(&format!("/get?k={key}")).await.ok().json() {
        value if value == json!({ "value": null }) => 0,
        Value::Object(answer) => answer["value"].as_u64().unwrap(),
        other => panic!("{other}"),
    }
}

/// Asks for what needs no session, and says how long that took at most.
async fn ping(client: Client, stopping: Arc<AtomicBool>) -> Duration {
    let mut slowest = Duration::ZERO;
    while !stopping.load(Ordering::SeqCst) {
        let start = Instant::now();
        client.get("/ping").await.ok();
        slowest = slowest.max(start.elapsed());
        tokio::time::sleep(THINKS).await;
    }
    slowest
}

const THINKS: Duration = Duration::from_millis(5);
