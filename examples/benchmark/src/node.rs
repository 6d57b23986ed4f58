//! A node of a replicated service: a process that executes orders from its standard input.

use std::io::{BufRead, Write, stdin, stdout};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::steadfast::store::{LoginPolicy, Outcome, Record, RecordId, SessionStore, Token, Values};
use ::steadfast::{Lifetime, ReplicatedStore, Replication, Session, SessionLayer};
use anyhow::{Context, ensure};
use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::cases::{Size, routes};
use crate::client::Client;
use crate::measure::Heap;
use crate::peers::hash_a_secret;

#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    pub name: String,
    /// The address of the cluster port.
    pub address: SocketAddr,
    pub seeds: Vec<String>,
    /// The number of backups. With `None`, all nodes hold everything.
    pub backups: Option<u32>,
}

/// An order is one line of the input. Its answer is one line of the output.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Waits until this number of nodes hold sessions together.
    Join { nodes: usize },
    /// Creates sessions through the middleware, and returns their visitors.
    Create { sessions: usize, size: Size, per_second: u32 },
    /// Sends requests of visitors sequentially, in turn.
    Visit { visitors: Vec<Visitor>, path: String, requests: usize, per_second: u32 },
    /// Stores records for the tokens of visitors.
    Store { visitors: Vec<Visitor>, size: Size },
    /// Returns the number of allocated bytes.
    Heap,
}

/// A visitor with a session: the cookies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Visitor(String);

impl Visitor {
    /// Returns the nodes that hold the session, the owner first.
    pub fn route(&self) -> Vec<&str> {
        self.cookie("-route").map(|route| route.split('.').collect()).unwrap_or_default()
    }

    fn id(&self) -> Option<RecordId> {
        Some(Token::decode(self.cookie("")?.as_bytes())?.id())
    }

    fn cookie(&self, of: &str) -> Option<&str> {
        let start = format!("__Host-id{of}=");
        self.0.split("; ").find_map(|pair| pair.strip_prefix(&start))
    }
}

/// Serves until the input ends.
pub fn run(plan: Plan, heap: Option<&dyn Fn() -> Heap>) -> anyhow::Result<()> {
    // As many threads as a small machine has. A link and the requests that fill it use different
    // threads.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let node = runtime.block_on(Node::open(plan))?;
    say(&())?;
    for line in stdin().lock().lines() {
        match serde_json::from_str(&line?)? {
            Order::Join { nodes } => say(&runtime.block_on(node.store.wait_for(nodes))?)?,
            Order::Create { sessions, size, per_second } => {
                say(&runtime.block_on(node.create(sessions, size, per_second))?)?;
            }
            Order::Visit { visitors, path, requests, per_second } => {
                say(&runtime.block_on(node.visit(visitors, &path, requests, per_second))?)?;
            }
            Order::Store { visitors, size } => say(&runtime.block_on(node.keep(visitors, size))?)?,
            Order::Heap => say(&heap.context("this binary does not count allocations")?().live)?,
        }
    }
    Ok(())
}

struct Node {
    store: ReplicatedStore,
    app: Router,
}

impl Node {
    async fn open(plan: Plan) -> anyhow::Result<Self> {
        let store = ReplicatedStore::builder()
            .bind(plan.address)
            .seeds(plan.seeds)
            .name(plan.name.parse()?)
            .replication(plan.backups.map_or(Replication::Full, Replication::Backups))
            .secret([7; 32])
            .open()
            .await?;
        let routes = routes::<Session>().route("/put/{bytes}", get(put));
        Ok(Self { app: routes.layer(SessionLayer::new(store.clone())), store })
    }

    async fn create(
        &self,
        sessions: usize,
        size: Size,
        per_second: u32,
    ) -> anyhow::Result<Vec<Visitor>> {
        let mut client = Client::new(self.app.clone());
        let mut pace = pace(per_second);
        for _ in 0..sessions {
            pace.tick().await;
            client = client.with_sessions(1, size).await?;
        }
        let cookies =
            client.cookies().iter().map(|cookie| Ok(Visitor(cookie.to_str()?.to_owned())));
        cookies.collect()
    }

    async fn visit(
        &self,
        visitors: Vec<Visitor>,
        path: &str,
        requests: usize,
        per_second: u32,
    ) -> anyhow::Result<()> {
        let cookies = visitors.into_iter().map(|visitor| HeaderValue::try_from(visitor.0));
        let client = Client::new(self.app.clone()).with_cookies(cookies.collect::<Result<_, _>>()?);
        let mut pace = pace(per_second);
        for n in 0..requests {
            pace.tick().await;
            client.visit_as(n, path).await?;
        }
        Ok(())
    }

    async fn keep(&self, visitors: Vec<Visitor>, size: Size) -> anyhow::Result<()> {
        let (now, lifetime) = (self.store.env().now(), Lifetime::default());
        let (idle, absolute) = (lifetime.idle_deadline(now), lifetime.absolute_deadline(now));
        let hash = hash_a_secret();
        for visitor in visitors {
            let id = visitor.id().context("the visitor has no session")?;
            let mut record = Record::new(hash(), now, idle, absolute);
            record.values = values(size);
            let outcome = self.store.create(id, record, LoginPolicy::default()).await?;
            ensure!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
        }
        Ok(())
    }
}

/// Writes a new string each time, with this number of bytes including its quotes.
async fn put(session: Session, Path(bytes): Path<usize>) -> &'static str {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let n = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let text = format!("{n:0>width$}", width = bytes - 2);
    session.insert("k01", text).await.expect("the store answers");
    "ok"
}

fn values(size: Size) -> Values {
    let text = format!("\"{}\"", "x".repeat(size.bytes));
    let strings = (1..size.keys).map(|key| (format!("k{key:02}"), text.as_bytes()));
    strings.chain([("n".to_owned(), &b"1"[..])]).collect()
}

/// An interval between requests. It does not catch up after a late one.
fn pace(per_second: u32) -> Interval {
    let mut pace = interval(Duration::from_secs(1) / per_second);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

fn say(answer: &impl Serialize) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}
