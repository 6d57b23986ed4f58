//! Processes of the reference application that are one service.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures_util::future::try_join_all;
use testkit::ports::own_addresses;
use testkit::{Balancer, Client, Policy};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::network::Network;

/// Nodes that keep their names and addresses over their ends and starts. The processes are killed when
/// this is dropped.
pub struct Service {
    nodes: Vec<Node>,
    balancer: Balancer,
    /// Asks also a node that gets no requests of users.
    prober: Balancer,
    seeds: String,
    site: Site,
    network: Option<Network>,
}

/// The program that runs, and where it leaves its logs and finds the secret.
#[derive(Clone, Debug)]
pub struct Site {
    pub program: PathBuf,
    /// Files get this name with an extension.
    pub base: PathBuf,
}

struct Node {
    label: String,
    address: String,
    peer_address: String,
    process: Option<Process>,
}

struct Process {
    child: Child,
    control: String,
    /// Read no further, and open for as long as the program writes.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Service {
    /// So many nodes, all started at once. They agree on who is there.
    ///
    /// # Errors
    ///
    /// When they cannot be started.
    pub async fn start(site: Site, nodes: usize, network: Option<Network>) -> anyhow::Result<Self> {
        std::fs::write(site.secret(), "a secret of the nodes, and of no other process")?;
        let nodes: Vec<_> = (0..nodes).map(|n| Node::new(n, network.as_ref())).collect();
        let seeds: Vec<_> = nodes.iter().map(|node| node.peer_address.clone()).collect();
        let [balancer, prober] = [(); 2].map(|()| Balancer::new(nodes.iter().map(Node::place)));
        let mut service = Self { nodes, balancer, prober, seeds: seeds.join(","), site, network };
        let processes = (0..service.nodes.len()).map(|n| service.launch(n));
        let processes = try_join_all(processes).await?;
        for (node, process) in service.nodes.iter_mut().zip(processes) {
            node.process = Some(process);
        }
        service.settled().await?;
        Ok(service)
    }

    /// Sends requests to the nodes, one after the other.
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// The numbers of the nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].process.is_some()).collect()
    }

    /// Ends a node as a power cut does.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub async fn kill(&mut self, n: usize) -> anyhow::Result<()> {
        let mut process = self.nodes[n].process.take().context("it does not run")?;
        process.child.kill().await.context("it cannot be killed")
    }

    /// Ends a node as a deployment does: it drains.
    ///
    /// # Errors
    ///
    /// When it does not run, or fails.
    pub async fn terminate(&mut self, n: usize) -> anyhow::Result<()> {
        self.signal(n, "TERM")?;
        let mut process = self.nodes[n].process.take().context("it does not run")?;
        let status = tokio::time::timeout(PATIENCE, process.child.wait()).await??;
        ensure!(status.success(), "it ends with {status}");
        Ok(())
    }

    /// Starts a node again, and waits until it takes clients.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn restart(&mut self, n: usize) -> anyhow::Result<()> {
        self.nodes[n].process = Some(self.launch(n).await?);
        self.ready(n).await
    }

    /// One more node, which takes clients from now on.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub async fn grow(&mut self) -> anyhow::Result<()> {
        let node = Node::new(self.nodes.len(), self.network.as_ref());
        let place = node.place();
        self.nodes.push(node);
        let n = self.nodes.len() - 1;
        self.nodes[n].process = Some(self.launch(n).await?);
        self.prober.add([place.clone()]);
        self.ready(n).await?;
        self.balancer.add([place]);
        Ok(())
    }

    /// Sends a node a signal, by its name without the `SIG`.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn signal(&self, n: usize, name: &str) -> anyhow::Result<()> {
        let id = self.process(n)?.child.id().context("it has ended")?.to_string();
        let status = std::process::Command::new("kill").args(["-s", name, &id]).status()?;
        ensure!(status.success(), "kill -s {name} {id}: {status}");
        Ok(())
    }

    /// The routes between the nodes.
    ///
    /// # Errors
    ///
    /// When they are on the host's own network.
    pub fn network(&self) -> anyhow::Result<&Network> {
        self.network.as_ref().context("the nodes have no network of their own")
    }

    /// Moves the clock of a node by so many seconds.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub async fn advance_clock(&self, n: usize, seconds: i64) -> anyhow::Result<()> {
        let control = Client::new(&self.process(n)?.control);
        control.post(&format!("/clock/advance?s={seconds}")).await.ok();
        Ok(())
    }

    /// Waits until a node takes clients.
    ///
    /// # Errors
    ///
    /// When it does not within [`PATIENCE`].
    pub async fn ready(&self, n: usize) -> anyhow::Result<()> {
        let is_ready = async || self.asked(n, "/readyz").await.is_some();
        eventually(is_ready).await.with_context(|| format!("node {n} is not ready"))
    }

    /// Waits until those that run are the members, agreed on, and miss no copy; by more than one
    /// publication of their figures, so that what they say is not from before.
    ///
    /// # Errors
    ///
    /// When they are not within [`PATIENCE`].
    pub async fn settled(&self) -> anyhow::Result<()> {
        let mut since = Instant::now();
        eventually(async || {
            if !self.is_settled().await {
                since = Instant::now();
            }
            since.elapsed() > PUBLISHED_EVERY
        })
        .await
        .context("the nodes do not settle")
    }

    async fn is_settled(&self) -> bool {
        let nodes = self.running();
        let wanted = [("members", nodes.len() as f64), ("under_replicated", 0.0)];
        for n in nodes {
            for (name, value) in wanted {
                if self.figure(n, name).await != Some(value) {
                    return false;
                }
            }
        }
        true
    }

    /// How many messages of other nodes the nodes passed on.
    pub async fn relayed(&self) -> f64 {
        let mut sum = 0.0;
        for n in self.running() {
            sum += self.figure(n, "relayed_messages_total").await.unwrap_or(0.0);
        }
        sum
    }

    /// A metric that a node publishes under its name alone.
    async fn figure(&self, n: usize, name: &str) -> Option<f64> {
        let metrics = self.asked(n, "/metrics").await?;
        let start = format!("steadfast_{name}{{node=\"{}\"}}", self.nodes[n].label);
        metrics.lines().find_map(|line| line.strip_prefix(&start)?.trim().parse().ok())
    }

    /// What a node answers, if it is well.
    async fn asked(&self, n: usize, path: &str) -> Option<String> {
        let sent = self.prober.send(Policy::At(n), &Client::new(""), "GET", path, "").await;
        sent.answer.ok().filter(|reply| reply.status == 200).map(|reply| reply.body)
    }

    fn process(&self, n: usize) -> anyhow::Result<&Process> {
        self.nodes[n].process.as_ref().context("it does not run")
    }

    async fn launch(&self, n: usize) -> anyhow::Result<Process> {
        let node = &self.nodes[n];
        let Node { label, address, peer_address, .. } = node;
        let (seeds, secret) = (&self.seeds, self.site.secret());
        let secret = secret.display();
        let store =
            format!("replicated:?copies=1&bind={peer_address}&seeds={seeds}&secret-file={secret}");
        let entry = self.network.as_ref().map(|network| network.entry(n));
        let mut command = self.site.command(entry.iter().flatten());
        command.args(["--store", &store, "--node", label, "--listen", address]);
        command.args(["--control", "127.0.0.1:0"]).stderr(self.site.log(label)?);
        Process::start(&mut command).await.with_context(|| format!("{label} does not start"))
    }
}

impl Node {
    fn new(n: usize, network: Option<&Network>) -> Self {
        let [address, peer_address] = match network {
            None => own_addresses(),
            Some(network) => [8080, 7946].map(|port| format!("{}:{port}", network.address(n))),
        };
        Self { label: format!("n{}", n + 1), address, peer_address, process: None }
    }

    /// Its label, and where it serves.
    fn place(&self) -> (String, String) {
        (self.label.clone(), self.address.clone())
    }
}

impl Process {
    async fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("it has a standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        announced(&mut lines, "listening on http://").await?;
        let control = announced(&mut lines, "control on http://").await?;
        Ok(Self { child, control, _lines: lines })
    }
}

async fn announced(
    lines: &mut Lines<BufReader<ChildStdout>>,
    start: &str,
) -> anyhow::Result<String> {
    match tokio::time::timeout(PATIENCE, lines.next_line()).await?? {
        Some(line) => {
            let rest = line.strip_prefix(start).with_context(|| format!("it says {line:?}"))?;
            Ok(rest.to_owned())
        }
        None => bail!("it ends: its log says why"),
    }
}

impl Site {
    fn secret(&self) -> PathBuf {
        self.base.with_extension("secret")
    }

    fn log(&self, label: &str) -> anyhow::Result<File> {
        let path = self.base.with_extension(format!("{label}.log"));
        Ok(File::options().create(true).append(true).open(path)?)
    }

    /// The program with nothing of this one's environment, after words that say where it runs.
    fn command<'w>(&self, entry: impl Iterator<Item = &'w String>) -> Command {
        let mut words: Vec<&Path> = entry.map(Path::new).collect();
        words.push(&self.program);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env_clear().kill_on_drop(true);
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

async fn eventually(mut is_so: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.context("it takes too long")
}

/// How long a node may take for what it was told to.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a node publishes its figures, and a little more.
const PUBLISHED_EVERY: Duration = Duration::from_millis(1_200);
