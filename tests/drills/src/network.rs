//! Nodes in network namespaces of their own, between which routes can be cut. Needs root.

use std::process::Command;

use anyhow::{Context, ensure};

/// A bridge, and one namespace per node. Dropping it removes them.
#[derive(Debug)]
pub struct Network {
    /// The prefix of all names, unique to this run.
    prefix: String,
    subnet: String,
    nodes: usize,
}

impl Network {
    /// Creates a network for this number of nodes.
    ///
    /// # Errors
    ///
    /// Returns an error without the privilege to create one.
    pub fn create(nodes: usize) -> anyhow::Result<Self> {
        let id = std::process::id();
        let (prefix, subnet) = (format!("dr{id}"), format!("10.213.{}", id % 256));
        let network = Self { prefix, subnet, nodes };
        // A killed process with the same id may have left a network.
        network.remove();
        let (bridge, host) = (network.bridge(), network.host(HOST));
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {host}/24 dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))?;
        (0..nodes).try_for_each(|node| network.attach(node))?;
        Ok(network)
    }

    fn attach(&self, node: usize) -> anyhow::Result<()> {
        let (space, bridge, host) = (self.space(node), self.bridge(), self.address(node));
        ip(&format!("netns add {space}"))?;
        ip(&format!("link add {space} type veth peer name eth0 netns {space}"))?;
        ip(&format!("link set {space} master {bridge} up"))?;
        ip(&format!("-n {space} addr add {host}/24 dev eth0"))?;
        ip(&format!("-n {space} link set eth0 up"))?;
        ip(&format!("-n {space} link set lo up"))
    }

    /// Returns the address at which other nodes and clients reach a node.
    pub fn address(&self, node: usize) -> String {
        self.host(HOST + 1 + node)
    }

    /// Returns the command prefix that runs a program in a node's namespace. The process keeps its
    /// id.
    pub fn command_prefix(&self, node: usize) -> [String; 4] {
        ["ip", "netns", "exec", &self.space(node)].map(str::to_owned)
    }

    /// Drops all packets from one node to another. Neither is notified.
    ///
    /// # Errors
    ///
    /// Returns an error if the route is already cut.
    pub fn cut(&self, from: usize, to: usize) -> anyhow::Result<()> {
        ip(&format!("-n {} route add blackhole {}/32", self.space(from), self.address(to)))
    }

    /// Delivers packets again.
    ///
    /// # Errors
    ///
    /// Returns an error if the route is not cut.
    pub fn repair(&self, from: usize, to: usize) -> anyhow::Result<()> {
        ip(&format!("-n {} route del blackhole {}/32", self.space(from), self.address(to)))
    }

    fn bridge(&self) -> String {
        format!("{}b", self.prefix)
    }

    fn space(&self, node: usize) -> String {
        format!("{}n{node}", self.prefix)
    }

    fn host(&self, number: usize) -> String {
        format!("{}.{number}", self.subnet)
    }

    fn remove(&self) {
        for node in 0..self.nodes {
            // The interface disappears immediately, the namespace only with its last process.
            let _ = ip(&format!("link del {}", self.space(node)));
            let _ = ip(&format!("netns del {}", self.space(node)));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

fn ip(words: &str) -> anyhow::Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output().context("cannot run `ip`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {words}: {}", said.trim());
    Ok(())
}

/// The host number of the bridge in the subnet. The nodes have the next ones.
const HOST: usize = 1;
