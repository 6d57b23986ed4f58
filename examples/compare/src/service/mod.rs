//! A contestant as it would be deployed: nodes, a balancer in front, and the server it needs, all of
//! them real processes.

mod haproxy;
pub mod leash;
pub mod reference;
mod servers;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use testkit::ports::own_addresses;

use crate::fault::Fault;
use crate::load::http::Http;
use crate::strategy::Strategy;
use haproxy::Haproxy;
use leash::{Leash, Workplace};
use servers::Running;

/// The running processes of a contestant.
#[derive(Debug)]
pub struct Service {
    nodes: Vec<Node>,
    balancer: Haproxy,
    server: Option<Running>,
    /// The address that visitors go to.
    address: String,
}

#[derive(Debug)]
struct Node {
    label: String,
    address: String,
    leash: Leash,
}

impl Service {
    /// Starts everything, and waits until every node takes visitors.
    ///
    /// # Errors
    ///
    /// If a process does not start, or is not ready within 30 s.
    pub async fn start(
        workplace: &Workplace,
        program: &Path,
        strategy: Strategy,
        count: usize,
    ) -> anyhow::Result<Self> {
        let server = match strategy.server() {
            Some(server) => Some(Running::start(server).await?),
            None => None,
        };
        // Before any node starts: a node that reads it while it is written finds it empty.
        std::fs::write(workplace.file(SECRET), "a secret that the nodes of this comparison share")?;
        let places = Places::new(count);
        let mut nodes = Vec::new();
        for n in 0..count {
            let store = store(strategy, &places, n, server.as_ref(), workplace);
            nodes.push(Node::start(workplace, program, &places, n, &store).await?);
        }
        for node in &mut nodes {
            node.serves().await?;
        }
        ready(strategy, &nodes).await?;
        let [address] = own_addresses();
        let servers: Vec<_> =
            nodes.iter().map(|node| (node.label.clone(), node.address.clone())).collect();
        let balancer = Haproxy::start(workplace, &address, strategy.balance(), &servers).await?;
        Ok(Self { nodes, balancer, server, address })
    }

    /// The address that visitors go to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The labels of the nodes.
    pub fn labels(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.label.clone()).collect()
    }

    /// The number of lines that configure the balancer.
    pub fn balancer_lines(&self) -> usize {
        self.balancer.lines
    }

    /// Has something go wrong: with the last node, or with the server.
    ///
    /// # Errors
    ///
    /// If what it happens to has ended by itself before.
    pub async fn inflict(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill => self.signal("KILL").await,
            Fault::Stop => self.signal("STOP").await,
            Fault::Drain => self.signal("TERM").await,
            Fault::Outage => self.server().map(Running::pause),
        }
    }

    /// Ends a fault that passes.
    ///
    /// # Errors
    ///
    /// If what it happened to has ended.
    pub async fn relieve(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Outage => self.server().map(Running::resume),
            _ => self.signal("CONT").await,
        }
    }

    async fn signal(&self, name: &str) -> anyhow::Result<()> {
        self.nodes.last().context("there are nodes")?.leash.signal(name).await
    }

    fn server(&self) -> anyhow::Result<&Running> {
        self.server.as_ref().context("there is a server")
    }

    /// Ends everything.
    pub async fn end(self) {
        self.balancer.end().await;
        for node in self.nodes {
            node.leash.end().await;
        }
        if let Some(server) = self.server {
            server.end().await;
        }
    }
}

impl Node {
    async fn start(
        workplace: &Workplace,
        program: &Path,
        places: &Places,
        n: usize,
        store: &str,
    ) -> anyhow::Result<Self> {
        let (label, address) = (label(n), places.web[n].clone());
        let options = ["--listen", &address, "--store", store, "--node", &label];
        let options = options.map(str::to_owned);
        let log = workplace.file(&format!("{label}.log"));
        let leash = Leash::start(program, &options, &log).await?;
        Ok(Self { label, address, leash })
    }

    /// Waits until it says that it serves.
    async fn serves(&mut self) -> anyhow::Result<()> {
        let line = self.leash.line().await?;
        if !line.starts_with("listening on http://") {
            bail!("node {} says {line:?}", self.label);
        }
        Ok(())
    }
}

/// The addresses on which nodes listen, for visitors and for each other.
struct Places {
    web: Vec<String>,
    peer: Vec<String>,
}

impl Places {
    fn new(count: usize) -> Self {
        let (mut web, mut peer) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let [for_visitors, for_peers] = own_addresses();
            web.push(for_visitors);
            peer.push(for_peers);
        }
        Self { web, peer }
    }
}

fn label(n: usize) -> String {
    format!("n{}", n + 1)
}

/// The URL of a node's store.
fn store(
    strategy: Strategy,
    places: &Places,
    n: usize,
    server: Option<&Running>,
    workplace: &Workplace,
) -> String {
    let server = server.map(Running::url).unwrap_or_default();
    let labels: Vec<_> = (0..places.web.len()).map(label).collect();
    match strategy {
        Strategy::Memory => "memory:".to_owned(),
        Strategy::Sticky => "sticky:".to_owned(),
        Strategy::StickyBackup => format!("sticky:?backup={server}&peers={}", labels.join(",")),
        Strategy::ReplicatedAll => replicated("all", places, n, workplace),
        Strategy::ReplicatedOne => replicated("1", places, n, workplace),
        Strategy::Redis | Strategy::Postgres => server,
    }
}

fn replicated(copies: &str, places: &Places, n: usize, workplace: &Workplace) -> String {
    let (bind, secret) = (&places.peer[n], workplace.file(SECRET));
    let (seeds, secret) = (places.peer.join(","), secret.display());
    format!("replicated:?copies={copies}&bind={bind}&seeds={seeds}&secret-file={secret}")
}

/// Waits until every node takes visitors, and replicated ones count each other.
async fn ready(strategy: Strategy, nodes: &[Node]) -> anyhow::Result<()> {
    for node in nodes {
        let http = Http::new(&node.address);
        let members = format!("steadfast_members{{node=\"{}\"}} {}\n", node.label, nodes.len());
        let is_ready = async || {
            let is_ready = ask(&http, "/readyz").await.is_some();
            is_ready
                && (!strategy.is_replicated()
                    || ask(&http, "/metrics").await.is_some_and(|text| text.contains(&members)))
        };
        within(is_ready).await.with_context(|| format!("node {} is not ready", node.label))?;
    }
    Ok(())
}

/// The body of a good answer.
async fn ask(http: &Http, path: &str) -> Option<String> {
    let answer = http.send("GET", path, "", "").await.filter(|answer| answer.status == 200)?;
    String::from_utf8(answer.body.to_vec()).ok()
}

/// Asks again and again, for at most 30 s.
async fn within(mut is_so: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    for _ in 0..1_500 {
        if is_so().await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("it takes more than 30 s")
}

/// The file with the secret of replicated nodes.
const SECRET: &str = "secret";
