//! A contestant as it would be deployed: nodes, a balancer in front, and the server it needs, all of
//! them real processes.

mod haproxy;
pub mod leash;
pub mod reference;
mod servers;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use testkit::ports::own_addresses;

use crate::fault::Fault;
use crate::load::http::Http;
use crate::sockets;
use crate::strategy::{Program, Strategy};
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
    /// The addresses at which nodes hear of sessions: from each other, or from a server.
    inner: BTreeSet<String>,
    places: Places,
    /// A node that is still to start.
    joining: Option<Joining>,
}

/// The programs of nodes.
#[derive(Debug)]
pub struct Programs {
    /// The reference server.
    pub reference: PathBuf,
    /// The server of the baseline, if a contestant needs it.
    pub peer: Option<PathBuf>,
}

#[derive(Debug)]
struct Joining {
    program: PathBuf,
    store: String,
    n: usize,
}

#[derive(Debug)]
struct Node {
    label: String,
    address: String,
    leash: Leash,
}

impl Service {
    /// Starts everything, and waits until every node takes visitors. A fault that is to come decides what
    /// else there is: a place for a node that joins, or a replica of the server.
    ///
    /// # Errors
    ///
    /// If a process does not start, or is not ready within 30 s.
    pub async fn start(
        workplace: &Workplace,
        programs: &Programs,
        strategy: Strategy,
        count: usize,
        to_come: Option<Fault>,
    ) -> anyhow::Result<Self> {
        let has_replica = to_come == Some(Fault::Failover);
        let server = match strategy.server() {
            Some(server) => Some(Running::start(server, has_replica).await?),
            None => None,
        };
        let program = programs.of(strategy.program())?;
        // Before any node starts: a node that reads it while it is written finds it empty.
        std::fs::write(workplace.file(SECRET), "a secret that the nodes of this comparison share")?;
        let spare = usize::from(to_come == Some(Fault::Join));
        let places = Places::new(count + spare);
        let mut nodes = Vec::new();
        for n in 0..count {
            let store = store(strategy, &places, (n, count), server.as_ref(), workplace);
            nodes.push(Node::start(workplace, program, &places, n, &store).await?);
        }
        let joining = (spare == 1).then(|| {
            let store = store(strategy, &places, (count, count), server.as_ref(), workplace);
            Joining { program: program.to_owned(), store, n: count }
        });
        for node in &mut nodes {
            node.serves().await?;
        }
        ready(strategy, &nodes).await?;
        let [address] = own_addresses();
        let servers: Vec<_> =
            places.web.iter().enumerate().map(|(n, web)| (label(n), web.clone())).collect();
        let balancer = Haproxy::start(workplace, &address, strategy.balance(), &servers).await?;
        let mut inner = BTreeSet::from_iter(places.peer.clone());
        inner.extend(server.as_ref().map(Running::address));
        Ok(Self { nodes, balancer, server, address, inner, places, joining })
    }

    /// The address that visitors go to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Bytes that its processes have sent each other to keep sessions.
    ///
    /// # Errors
    ///
    /// If the system does not tell.
    pub fn inner_bytes(&self) -> anyhow::Result<u64> {
        sockets::received(&self.inner)
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
    pub async fn inflict(&mut self, workplace: &Workplace, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Join => self.join(workplace).await,
            Fault::Failover => self.server.as_mut().context("there is a server")?.fail_over().await,
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

    /// Starts the node that the balancer knows already.
    async fn join(&mut self, workplace: &Workplace) -> anyhow::Result<()> {
        let Joining { program, store, n } =
            self.joining.take().context("no node is waiting to join")?;
        let mut node = Node::start(workplace, &program, &self.places, n, &store).await?;
        node.serves().await?;
        self.nodes.push(node);
        Ok(())
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
            bail!("unexpected output of node {}: {line:?}", self.label);
        }
        Ok(())
    }
}

impl Programs {
    fn of(&self, program: Program) -> anyhow::Result<&Path> {
        match program {
            Program::Reference => Ok(&self.reference),
            Program::Peer => self.peer.as_deref().context("the baseline's server was not built"),
        }
    }
}

/// The addresses on which nodes listen, for visitors and for each other.
#[derive(Debug)]
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

/// The URL of the store of a node, given its number and how many nodes begin the service.
fn store(
    strategy: Strategy,
    places: &Places,
    (n, count): (usize, usize),
    server: Option<&Running>,
    workplace: &Workplace,
) -> String {
    let url = match strategy.program() {
        Program::Reference => Running::url,
        Program::Peer => Running::url_with_all_rights,
    };
    let server = server.map(url).unwrap_or_default();
    let labels: Vec<_> = (0..places.web.len()).map(label).collect();
    match strategy {
        Strategy::Memory => "memory:".to_owned(),
        Strategy::Sticky | Strategy::StickyAddress => "sticky:".to_owned(),
        Strategy::StickyBackup => format!("sticky:?backup={server}&peers={}", labels.join(",")),
        Strategy::ReplicatedAll => replicated("all", places, (n, count), workplace),
        Strategy::ReplicatedOne => replicated("1", places, (n, count), workplace),
        _ => server,
    }
}

fn replicated(
    copies: &str,
    places: &Places,
    (n, count): (usize, usize),
    workplace: &Workplace,
) -> String {
    let (bind, secret) = (&places.peer[n], workplace.file(SECRET));
    // A node that joins later is no seed: nodes wait for all seeds before they begin a service.
    let (seeds, secret) = (places.peer[..count].join(","), secret.display());
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
    let answer =
        http.send("GET", path, ("", ""), "").await.filter(|answer| answer.status == 200)?;
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
    bail!("timed out after 30 s")
}

/// The file with the secret of replicated nodes.
const SECRET: &str = "secret";
