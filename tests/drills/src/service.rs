//! A service of several processes of the reference application.

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

/// Nodes that keep their names and addresses across restarts. Dropping the service kills the
/// processes.
pub struct Service {
    nodes: Vec<Node>,
    balancer: Balancer,
    /// Also reaches nodes that get no requests of users.
    prober: Balancer,
    seeds: String,
    launcher: Launcher,
    network: Option<Network>,
}

/// The program to run, and the place of its logs and its secret.
#[derive(Clone, Debug)]
pub struct Launcher {
    pub program: PathBuf,
    /// The path of all files, without their extensions.
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
    /// Kept open, unread, for as long as the program writes.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Service {
    /// Starts all nodes concurrently, and waits until they agree on the members.
    ///
    /// # Errors
    ///
    /// Returns an error if a node does not start.
    pub async fn start(
        launcher: Launcher,
        nodes: usize,
        network: Option<Network>,
    ) -> anyhow::Result<Self> {
        std::fs::write(launcher.secret(), "a secret of the nodes, and of no other process")?;
        let nodes: Vec<_> = (0..nodes).map(|n| Node::new(n, network.as_ref())).collect();
        let seeds: Vec<_> = nodes.iter().map(|node| node.peer_address.clone()).collect();
        let [balancer, prober] =
            [(); 2].map(|()| Balancer::new(nodes.iter().map(Node::label_and_address)));
        let mut service =
            Self { nodes, balancer, prober, seeds: seeds.join(","), launcher, network };
        let processes = (0..service.nodes.len()).map(|n| service.launch(n));
        let processes = try_join_all(processes).await?;
        for (node, process) in service.nodes.iter_mut().zip(processes) {
            node.process = Some(process);
        }
        service.settled().await?;
        Ok(service)
    }

    /// Returns the balancer, which sends requests to the nodes in turn.
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// Returns the numbers of the running nodes.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].process.is_some()).collect()
    }

    /// Kills a node, as a power cut does.
    ///
    /// # Errors
    ///
    /// Returns an error if it is not running.
    pub async fn kill(&mut self, n: usize) -> anyhow::Result<()> {
        let mut process = self.nodes[n].process.take().context("the node is not running")?;
        process.child.kill().await.context("failed to kill the node")
    }

    /// Terminates a node, as a deployment does. The node drains.
    ///
    /// # Errors
    ///
    /// Returns an error if it is not running, or fails.
    pub async fn terminate(&mut self, n: usize) -> anyhow::Result<()> {
        self.signal(n, "TERM")?;
        let mut process = self.nodes[n].process.take().context("the node is not running")?;
        let status = tokio::time::timeout(PATIENCE, process.child.wait()).await??;
        ensure!(status.success(), "the node exited with {status}");
        Ok(())
    }

    /// Starts a node again, and waits until it accepts clients.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not within [`PATIENCE`].
    pub async fn restart(&mut self, n: usize) -> anyhow::Result<()> {
        self.nodes[n].process = Some(self.launch(n).await?);
        self.ready(n).await
    }

    /// Adds a node, and waits until it accepts clients.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not start.
    pub async fn add_node(&mut self) -> anyhow::Result<()> {
        let node = Node::new(self.nodes.len(), self.network.as_ref());
        let place = node.label_and_address();
        self.nodes.push(node);
        let n = self.nodes.len() - 1;
        self.nodes[n].process = Some(self.launch(n).await?);
        self.prober.add([place.clone()]);
        self.ready(n).await?;
        self.balancer.add([place]);
        Ok(())
    }

    /// Sends a node a signal. The name has no `SIG` prefix.
    ///
    /// # Errors
    ///
    /// Returns an error if the node is not running.
    pub fn signal(&self, n: usize, name: &str) -> anyhow::Result<()> {
        let id = self.process(n)?.child.id().context("the node has exited")?.to_string();
        let status = std::process::Command::new("kill").args(["-s", name, &id]).status()?;
        ensure!(status.success(), "kill -s {name} {id}: {status}");
        Ok(())
    }

    /// Returns the network of the nodes.
    ///
    /// # Errors
    ///
    /// Returns an error if the nodes are on the host's own network.
    pub fn network(&self) -> anyhow::Result<&Network> {
        self.network.as_ref().context("this drill needs a network for the nodes")
    }

    /// Moves the clock of a node by this number of seconds.
    ///
    /// # Errors
    ///
    /// Returns an error if the node is not running.
    pub async fn advance_clock(&self, n: usize, seconds: i64) -> anyhow::Result<()> {
        let control = Client::new(&self.process(n)?.control);
        control.post(&format!("/clock/advance?s={seconds}")).await.ok();
        Ok(())
    }

    /// Waits until a node accepts clients.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not within [`PATIENCE`].
    pub async fn ready(&self, n: usize) -> anyhow::Result<()> {
        let is_ready = async || self.get(n, "/readyz").await.is_some();
        eventually(is_ready).await.with_context(|| format!("node {n} is not ready"))
    }

    /// Waits until the running nodes are the agreed members and no copy is missing. Waits for more
    /// than one publication of their metrics, so that none of them is stale.
    ///
    /// # Errors
    ///
    /// Returns an error if this takes longer than [`PATIENCE`].
    pub async fn settled(&self) -> anyhow::Result<()> {
        let mut since = Instant::now();
        eventually(async || {
            if !self.is_settled().await {
                since = Instant::now();
            }
            since.elapsed() > PUBLISHED_EVERY
        })
        .await
        .context("the nodes do not agree on the members and their copies")
    }

    async fn is_settled(&self) -> bool {
        let nodes = self.running();
        let wanted = [("members", nodes.len() as f64), ("under_replicated", 0.0)];
        for n in nodes {
            for (name, value) in wanted {
                if self.metric(n, name).await != Some(value) {
                    return false;
                }
            }
        }
        true
    }

    /// Returns the number of messages that nodes relayed for other nodes.
    pub async fn relayed(&self) -> f64 {
        let mut sum = 0.0;
        for n in self.running() {
            sum += self.metric(n, "relayed_messages_total").await.unwrap_or(0.0);
        }
        sum
    }

    /// Returns a metric that a node publishes without labels.
    async fn metric(&self, n: usize, name: &str) -> Option<f64> {
        let metrics = self.get(n, "/metrics").await?;
        let start = format!("steadfast_{name}{{node=\"{}\"}}", self.nodes[n].label);
        metrics.lines().find_map(|line| line.strip_prefix(&start)?.trim().parse().ok())
    }

    /// Returns a node's response, if it was successful.
    async fn get(&self, n: usize, path: &str) -> Option<String> {
        let sent = self.prober.send(Policy::At(n), &Client::new(""), "GET", path, "").await;
        sent.answer.ok().filter(|reply| reply.status == 200).map(|reply| reply.body)
    }

    fn process(&self, n: usize) -> anyhow::Result<&Process> {
        self.nodes[n].process.as_ref().context("the node is not running")
    }

    async fn launch(&self, n: usize) -> anyhow::Result<Process> {
        let node = &self.nodes[n];
        let Node { label, address, peer_address, .. } = node;
        let (seeds, secret) = (&self.seeds, self.launcher.secret());
        let secret = secret.display();
        let store =
            format!("replicated:?copies=1&bind={peer_address}&seeds={seeds}&secret-file={secret}");
        let entry = self.network.as_ref().map(|network| network.command_prefix(n));
        let mut command = self.launcher.command(entry.iter().flatten());
        command.args(["--store", &store, "--node", label, "--listen", address]);
        command.args(["--control", "127.0.0.1:0"]).stderr(self.launcher.log(label)?);
        Process::start(&mut command).await.with_context(|| format!("failed to start {label}"))
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

    /// Returns the node's label and its address.
    fn label_and_address(&self) -> (String, String) {
        (self.label.clone(), self.address.clone())
    }
}

impl Process {
    async fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("the standard output is piped")?;
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
            let rest =
                line.strip_prefix(start).with_context(|| format!("unexpected output {line:?}"))?;
            Ok(rest.to_owned())
        }
        None => bail!("the process exited: see its log"),
    }
}

impl Launcher {
    fn secret(&self) -> PathBuf {
        self.base.with_extension("secret")
    }

    fn log(&self, label: &str) -> anyhow::Result<File> {
        let path = self.base.with_extension(format!("{label}.log"));
        Ok(File::options().create(true).append(true).open(path)?)
    }

    /// Returns the program with an empty environment, prefixed by the words that enter its
    /// namespace.
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
    tokio::time::timeout(PATIENCE, wait).await.context("timed out")
}

/// The time within which a node has to do as instructed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The interval at which a node publishes its metrics, with a margin.
const PUBLISHED_EVERY: Duration = Duration::from_millis(1_200);
