//! Nodes in network namespaces of their own, between which routes are cut. This needs root.

use std::process::Command;

use anyhow::{Context, ensure};

/// A bridge, and a namespace for each node. They are removed when this is dropped.
#[derive(Debug)]
pub struct Network {
    /// What all names begin with, no other run's do.
    prefix: String,
    subnet: String,
    nodes: usize,
}

impl Network {
    /// Lays a network for so many nodes.
    ///
    /// # Errors
    ///
    /// Without the privilege to do so.
    pub fn lay(nodes: usize) -> anyhow::Result<Self> {
        let id = std::process::id();
        let (prefix, subnet) = (format!("dr{id}"), format!("10.213.{}", id % 256));
        let network = Self { prefix, subnet, nodes };
        // Of an earlier process of this id that was killed.
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

    /// Where a node is, as the others and its clients reach it.
    pub fn address(&self, node: usize) -> String {
        self.host(HOST + 1 + node)
    }

    /// What a program is started with so that it runs where the node is. The process keeps its id.
    pub fn entry(&self, node: usize) -> [String; 4] {
        ["ip", "netns", "exec", &self.space(node)].map(str::to_owned)
    }

    /// Lets nothing pass from one node to another any more, without a word to either of them.
    ///
    /// # Errors
    ///
    /// When it is cut already.
    pub fn cut(&self, from: usize, to: usize) -> anyhow::Result<()> {
        ip(&format!("-n {} route add blackhole {}/32", self.space(from), self.address(to)))
    }

    /// Lets everything pass again.
    ///
    /// # Errors
    ///
    /// When it was not cut.
    pub fn mend(&self, from: usize, to: usize) -> anyhow::Result<()> {
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
            // The name of one end goes at once, the namespace when its last process has ended.
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
    let output = Command::new("ip").args(words.split(' ')).output().context("ip cannot be run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {words}: {}", said.trim());
    Ok(())
}

/// The number of the bridge in the subnet; those of the nodes follow.
const HOST: usize = 1;
