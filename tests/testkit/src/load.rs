//! Users at work behind a [`Balancer`], and an oracle that remembers the answers.
//!
//! Each user has a session and writes numbers to it that grow: a write that was acknowledged has to be
//! seen by every later read. A request that was answered 503, or not at all, may have happened or not; a read
//! that sees it settles that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use tokio::task::JoinSet;

use crate::balancer::{Balancer, Policy, ROUTE, Sent};
use crate::client::{Client, Reply};
use crate::eventually::{eventually, within};

/// Users at work.
pub struct Load {
    users: JoinSet<User>,
    shared: Arc<Shared>,
}

struct Shared {
    balancer: Balancer,
    policy: Policy,
    thinks: Duration,
    is_over: AtomicBool,
    /// Rounds of all users together.
    rounds: AtomicUsize,
}

impl Load {
    /// Signs this many users in. Then each, again and again, writes, reads what was written, and thinks
    /// for a while; one in eight also signs out and in again now and then.
    pub async fn start(
        balancer: &Balancer,
        policy: Policy,
        users: usize,
        thinks: Duration,
    ) -> Self {
        let (is_over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        let shared = Shared { balancer: balancer.clone(), policy, thinks, is_over, rounds };
        let shared = Arc::new(shared);
        let arriving = (0..users).map(|n| User::arrive(n, Arc::clone(&shared)));
        let arrived: Vec<_> = stream::iter(arriving).buffer_unordered(AT_ONCE).collect().await;
        let users = arrived.into_iter().map(User::work).collect();
        Self { users, shared }
    }

    /// Waits for this many rounds of all users.
    pub async fn rounds(&self, rounds: usize) {
        let done = || self.shared.rounds.load(Ordering::SeqCst);
        let enough = done() + rounds * self.users.len();
        eventually(async || done() >= enough).await;
    }

    /// Lets the users finish what they are at.
    pub async fn finish(self) -> Witnesses {
        self.shared.is_over.store(true, Ordering::SeqCst);
        Witnesses(self.users.join_all().await)
    }
}

/// Users after their work, with the answers that they got.
pub struct Witnesses(Vec<User>);

impl Witnesses {
    /// Asks each of these nodes what is left of it.
    pub async fn judge(self, nodes: &[usize]) -> Verdict {
        let judged = self.0.into_iter().map(|user| user.judge(nodes));
        let judged = stream::iter(judged).buffer_unordered(AT_ONCE);
        judged.fold(Verdict::default(), async |sum, user| sum.and(user)).await
    }

    /// The ids of the sessions, each with the labels of its owner and its first backup.
    pub async fn routes(&self) -> BTreeMap<String, Vec<String>> {
        let routes = stream::iter(self.0.iter().map(User::route)).buffer_unordered(AT_ONCE);
        routes.collect().await
    }
}

/// The findings of the oracle.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub sessions: usize,
    /// Sessions that are missing although no request ended them.
    pub lost_sessions: usize,
    pub acknowledged: usize,
    /// Writes that were acknowledged and are not there in the end, on any of the nodes.
    pub lost_writes: usize,
    pub reads: usize,
    /// Reads that were answered by the node that the route of the client names first, and second.
    pub at_owner: usize,
    pub at_backup: usize,
    /// Reads of less than was acknowledged before.
    pub stale: usize,
    /// Answers of nodes, or of a balancer, that say that nothing is confirmed.
    pub refused: usize,
    /// Requests without an answer.
    pub unanswered: usize,
    /// Sessions that were signed out.
    pub ended: usize,
    /// Sessions that were signed out and opened again, on any of the nodes.
    pub resurrected: usize,
    /// The longest wait for an answer to a plain read or write.
    pub slowest: Duration,
    /// The same for signing in and out.
    pub slowest_login: Duration,
    /// The longest time for which a user was not served.
    pub longest_outage: Duration,
    /// Other faults, as text.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Nothing that was acknowledged is lost, old, or back.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        let found = [self.lost_sessions, self.lost_writes, self.stale, self.resurrected];
        assert!(found == [0; 4] && self.notes.is_empty(), "{self:#?}");
    }

    /// The figures in one line.
    pub fn figures(&self) -> String {
        format!("{:?}", Self { notes: Vec::new(), ..self.clone() })
    }

    /// All requests of users.
    pub fn requests(&self) -> usize {
        self.acknowledged + self.reads + self.refused + self.unanswered
    }

    fn and(self, other: Self) -> Self {
        Self {
            sessions: self.sessions + other.sessions,
            lost_sessions: self.lost_sessions + other.lost_sessions,
            acknowledged: self.acknowledged + other.acknowledged,
            lost_writes: self.lost_writes + other.lost_writes,
            reads: self.reads + other.reads,
            at_owner: self.at_owner + other.at_owner,
            at_backup: self.at_backup + other.at_backup,
            stale: self.stale + other.stale,
            refused: self.refused + other.refused,
            unanswered: self.unanswered + other.unanswered,
            ended: self.ended + other.ended,
            resurrected: self.resurrected + other.resurrected,
            slowest: self.slowest.max(other.slowest),
            slowest_login: self.slowest_login.max(other.slowest_login),
            longest_outage: self.longest_outage.max(other.longest_outage),
            notes: [self.notes, other.notes].concat(),
        }
    }
}

/// A user with a session, and the answers about it.
pub struct User {
    name: String,
    client: Client,
    leaves: bool,
    /// Numbers that were written.
    number: Series,
    /// A count of additions.
    count: Series,
    /// Clients of sessions that were signed out.
    ended: Vec<Client>,
    failing_since: Option<Instant>,
    is_lost: bool,
    found: Verdict,
    shared: Arc<Shared>,
}

/// The knowledge about a growing number.
#[derive(Default)]
struct Series {
    /// The last one that was attempted.
    last: u64,
    /// The greatest that is known to have happened.
    known: u64,
    /// Those of which it is not known.
    open: BTreeSet<u64>,
}

impl Series {
    /// Returns true if a read value is possible, and settles the doubtful writes.
    fn sees(&mut self, number: u64) -> bool {
        let is_open = self.open.contains(&number);
        let can_be = number == self.known || is_open;
        if can_be {
            self.known = self.known.max(number);
            // An overtaken write may have happened before.
            self.open.retain(|open| *open > number);
        }
        can_be
    }
}

impl User {
    async fn arrive(n: usize, shared: Arc<Shared>) -> Self {
        let mut user = Self {
            name: format!("user{n}"),
            client: Client::new("127.0.0.1:1"),
            leaves: n.is_multiple_of(8),
            number: Series::default(),
            count: Series::default(),
            ended: Vec::new(),
            failing_since: None,
            is_lost: false,
            found: Verdict { sessions: 1, ..Verdict::default() },
            shared,
        };
        user.sign_in().await;
        user
    }

    async fn work(mut self) -> Self {
        let mut round = 0_usize;
        while !self.shared.is_over.load(Ordering::SeqCst) && !self.is_lost {
            match round % 2 {
                0 => self.write().await,
                _ => self.add().await,
            }
            if !self.is_lost {
                self.read().await;
            }
            if self.leaves && round % 4 == 3 && !self.is_lost {
                self.sign_out().await;
            }
            self.shared.rounds.fetch_add(1, Ordering::SeqCst);
            round += 1;
            tokio::time::sleep(self.shared.thinks).await;
        }
        self
    }

    /// Signs in, however often that has to be tried.
    async fn sign_in(&mut self) {
        loop {
            self.client = self.client.stranger();
            (self.number, self.count) = <_>::default();
            let path = format!("/login?u={}", self.name);
            if self.send("POST", &path, "").await.is_some() {
                return;
            }
            tokio::time::sleep(self.shared.thinks).await;
        }
    }

    async fn sign_out(&mut self) {
        let before = self.client.fork();
        if self.send("POST", "/logout", "").await.is_some() {
            self.ended.push(before);
            self.found.ended += 1;
        }
        self.sign_in().await;
    }

    /// Writes the next number.
    async fn write(&mut self) {
        let number = self.number.last + 1;
        self.number.last = number;
        self.number.open.insert(number);
        let Some(reply) = self.send("POST", "/put", &number.to_string()).await else {
            return;
        };
        self.found.acknowledged += 1;
        self.number.sees(number);
        if reply.set_cookies().iter().any(|line| line.starts_with("__Host-id=")) {
            self.lose(&reply);
        }
    }

    /// Adds one to the count.
    async fn add(&mut self) {
        self.count.last += 1;
        let (most, last) = (self.count.known + 1 + self.count.open.len() as u64, self.count.last);
        let Some(reply) = self.send("POST", "/incr?k=count", "").await else {
            self.count.open.insert(last);
            return;
        };
        self.found.acknowledged += 1;
        let value = reply.json()["value"].as_u64().unwrap_or_default();
        let least = self.count.known + 1;
        if !(least..=most).contains(&value) {
            self.found.lost_writes += usize::from(value < least);
            self.note(&format!("a count of {value}, not from {least} to {most}"));
        }
        self.count.known = value;
        // This many of the open ones turned out to have happened.
        for _ in least..value {
            self.count.open.pop_first();
        }
    }

    async fn read(&mut self) {
        let labels = self.labels();
        let Some(reply) = self.send("GET", "/peek", "").await else {
            return;
        };
        self.found.reads += 1;
        let told = reply.json();
        if told["user"] != self.name {
            return self.lose(&reply);
        }
        let rank = labels.iter().position(|label| told["node"] == **label);
        self.found.at_owner += usize::from(rank == Some(0));
        self.found.at_backup += usize::from(rank == Some(1));
        let number = told["n"].as_u64().unwrap_or_default();
        let known = self.number.known;
        if !self.number.sees(number) {
            self.found.stale += 1;
            let (node, open) = (&told["node"], &self.number.open);
            self.note(&format!("read {number} at {node}, known {known}, open {open:?}"));
        }
    }

    /// The answer, if it says that something is done.
    async fn send(&mut self, method: &str, path: &str, body: &str) -> Option<Reply> {
        let shared = Arc::clone(&self.shared);
        let sent = shared.balancer.send(shared.policy, &self.client, method, path, body).await;
        let slowest = match path.contains("/log") {
            true => &mut self.found.slowest_login,
            false => &mut self.found.slowest,
        };
        *slowest = sent.took.max(*slowest);
        let reply = self.done(method, path, sent);
        let since = match reply {
            Some(_) => self.failing_since.take(),
            None => Some(*self.failing_since.get_or_insert_with(Instant::now)),
        };
        let outage = since.map(|since| since.elapsed()).unwrap_or_default();
        self.found.longest_outage = self.found.longest_outage.max(outage);
        reply
    }

    fn done(&mut self, method: &str, path: &str, sent: Sent) -> Option<Reply> {
        let Ok(reply) = sent.answer else {
            self.found.unanswered += 1;
            return None;
        };
        match reply.status.as_u16() {
            200 => return Some(reply),
            502..=504 => self.found.refused += 1,
            _ => self.note(&format!("{method} {path} at node {}: {reply:?}", sent.node)),
        }
        None
    }

    /// The id of the session, and where it lives.
    async fn route(&self) -> (String, Vec<String>) {
        let told = self.told(0, &self.client, "/peek").await.json();
        (told["handle"].as_str().unwrap_or_default().to_owned(), self.labels())
    }

    /// The route as the client carries it, label by label.
    fn labels(&self) -> Vec<String> {
        let route = self.client.cookie(ROUTE).unwrap_or_default();
        route.split('.').map(str::to_owned).collect()
    }

    fn lose(&mut self, reply: &Reply) {
        self.is_lost = true;
        self.found.lost_sessions += 1;
        self.note(&format!("lost its session: {reply:?}"));
    }

    fn note(&mut self, note: &str) {
        self.found.notes.push(format!("{}: {note}", self.name));
    }

    /// Asks every node what it has of what was acknowledged.
    async fn judge(mut self, nodes: &[usize]) -> Verdict {
        for node in nodes {
            if !self.is_lost {
                self.judge_at(*node).await;
            }
            for ended in self.ended.clone() {
                let told = self.told(*node, &ended, "/peek").await.json();
                if !told["user"].is_null() {
                    self.found.resurrected += 1;
                    self.note(&format!("back at node {node} after it was signed out: {told}"));
                }
            }
        }
        self.found
    }

    async fn judge_at(&mut self, node: usize) {
        let client = self.client.clone();
        let peeked = self.told(node, &client, "/peek").await;
        let told = peeked.json();
        if told["user"] != self.name {
            return self.lose(&peeked);
        }
        let number = told["n"].as_u64().unwrap_or_default();
        let counted = self.told(node, &client, "/get?k=count").await.json();
        let count = counted["value"].as_u64().unwrap_or_default();
        let most = self.count.known + self.count.open.len() as u64;
        let known = self.number.known;
        if !self.number.sees(number) || !(self.count.known..=most).contains(&count) {
            self.found.lost_writes += 1;
            let least = self.count.known;
            self.note(&format!("node {node} has {number} of {known}, count {count} of {least}"));
        }
    }

    /// Returns a node's answer, as soon as there is one.
    async fn told(&self, node: usize, client: &Client, path: &str) -> Reply {
        let balancer = &self.shared.balancer;
        within(async {
            loop {
                let sent = balancer.send(Policy::At(node), client, "GET", path, "").await;
                if let Some(reply) = sent.answer.ok().filter(|reply| reply.status == 200) {
                    return reply;
                }
                tokio::time::sleep(self.shared.thinks).await;
            }
        })
        .await
    }
}

/// The number of users that are handled concurrently, before and after the load.
const AT_ONCE: usize = 32;
