//! Nodes that hold sessions in their own memory, as processes: each keeps its name and its addresses
//! over its ends and starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;

use crate::client::Client;
use crate::eventually::eventually;
use crate::network_faults::Wires;
use crate::ports::{fresh_directory, own_addresses};
use crate::server::Server;

/// Nodes of one service. They are killed when this is dropped.
pub struct Cluster {
    members: Vec<Member>,
    settings: String,
    /// Further options of the reference server.
    options: Vec<String>,
    seeds: String,
    directory: PathBuf,
    wires: Option<Wires>,
}

/// A name and addresses, and the process there, if one runs.
struct Member {
    label: String,
    /// The address at which it serves.
    address: String,
    /// The address at which the other nodes reach it.
    peer_address: String,
    /// The address at which it listens for them: its wire is between the two, if it has one.
    bound: String,
    server: Option<Server>,
}

impl Member {
    fn new(n: usize) -> Self {
        let [address, peer_address] = own_addresses();
        let (label, bound) = (format!("n{}", n + 1), peer_address.clone());
        Self { label, address, peer_address, bound, server: None }
    }
}

impl Cluster {
    /// Starts this many nodes with settings as in a URL, `copies=1` for example, all together. They are
    /// ready, and agree on who is there.
    pub async fn start(nodes: usize, settings: &str) -> Self {
        Self::start_over(None, nodes, settings, &[]).await
    }

    /// The same with further options of the reference server.
    pub async fn start_with(nodes: usize, settings: &str, options: &[&str]) -> Self {
        Self::start_over(None, nodes, settings, options).await
    }

    /// The same with [`wires`](Self::wires) between the nodes.
    pub async fn start_wired(nodes: usize, settings: &str) -> Self {
        Self::start_over(Some(Wires::default()), nodes, settings, &[]).await
    }

    async fn start_over(
        wires: Option<Wires>,
        nodes: usize,
        settings: &str,
        options: &[&str],
    ) -> Self {
        let directory = fresh_directory("cluster");
        std::fs::write(directory.join("secret"), "a secret of the nodes, and of nobody else")
            .unwrap();
        let (members, settings, seeds) = (Vec::new(), settings.to_owned(), String::new());
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut cluster = Self { members, settings, options, seeds, directory, wires };
        (0..nodes).for_each(|_| cluster.admit());
        let seeds = cluster.members.iter().map(|member| member.peer_address.as_str());
        cluster.seeds = seeds.collect::<Vec<_>>().join(",");
        let launched = join_all((0..nodes).map(|n| cluster.launch(n))).await;
        for (member, server) in cluster.members.iter_mut().zip(launched) {
            member.server = Some(server);
        }
        cluster.settled().await;
        cluster
    }

    /// Starts one more node, and waits until it is ready.
    pub async fn grow(&mut self) {
        self.admit();
        self.restart(self.members.len() - 1).await;
    }

    /// Starts a node again, under its name and where it was, and waits until it is ready.
    pub async fn restart(&mut self, n: usize) {
        assert!(self.members[n].server.is_none(), "it runs already");
        self.members[n].server = Some(self.launch(n).await);
        self.ready(n).await;
    }

    /// Ends a node as a power cut does.
    pub async fn kill(&mut self, n: usize) {
        let server = self.members[n].server.take().expect("it runs");
        server.signal("KILL");
        server.ended().await;
    }

    /// Ends a node as a deployment does: it drains. Returns its standard error.
    pub async fn terminate(&mut self, n: usize) -> String {
        let server = self.members[n].server.take().expect("it runs");
        server.signal("TERM");
        let (status, said) = server.ended().await;
        assert!(status.success(), "{said}");
        said
    }

    /// Lets a node stand still.
    pub fn pause(&self, n: usize) {
        self.node(n).signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self, n: usize) {
        self.node(n).signal("CONT");
    }

    /// The faults between the nodes, if they were started with them.
    pub fn wires(&self) -> &Wires {
        self.wires.as_ref().expect("there are wires")
    }

    pub fn node(&self, n: usize) -> &Server {
        self.members[n].server.as_ref().expect("it runs")
    }

    pub fn label(&self, n: usize) -> &str {
        &self.members[n].label
    }

    /// The names of all nodes and where they serve, those included that do not run.
    pub fn addresses(&self) -> Vec<(String, String)> {
        self.members.iter().map(|member| (member.label.clone(), member.address.clone())).collect()
    }

    /// The numbers of the nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|n| self.members[*n].server.is_some()).collect()
    }

    /// A client that has never been here.
    pub fn client(&self) -> Client {
        Client::new(&self.members[0].address)
    }

    /// Waits until a node takes clients.
    pub async fn ready(&self, n: usize) {
        let client = self.node(n).client();
        eventually(async || client.get("/readyz").await.status == 200).await;
    }

    /// Waits until those that run are the members, agreed on, and miss no copy; by more than one
    /// publication of their figures, so that what they say is not from before.
    pub async fn settled(&self) {
        let mut since = Instant::now();
        eventually(async || {
            if !self.is_settled().await {
                since = Instant::now();
            }
            since.elapsed() > PUBLISHED_EVERY
        })
        .await;
    }

    async fn is_settled(&self) -> bool {
        let nodes = self.running();
        let count = nodes.len() as f64;
        let figures = join_all(nodes.into_iter().map(|n| self.figures(n))).await;
        let wanted = [("members", count), ("under_replicated", 0.0)];
        figures.iter().all(|of| wanted.iter().all(|(name, value)| of.get(*name) == Some(value)))
    }

    /// Returns a node's own metrics, published once per second: the metrics that it publishes under its name alone,
    /// without `steadfast_` before their names.
    pub async fn figures(&self, n: usize) -> BTreeMap<String, f64> {
        let metrics = self.node(n).client().get("/metrics").await.ok().body;
        let labels = format!("{{node=\"{}\"}}", self.label(n));
        let figure = |line: &str| {
            let (name, value) = line.strip_prefix("steadfast_")?.split_once(&labels)?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        metrics.lines().filter_map(figure).collect()
    }

    /// Returns the copies of every running node.
    pub async fn copies(&self) -> Copies {
        let dumps = self.running().into_iter().map(|n| async move {
            let dump = self.node(n).told("/dump").await;
            let records = dump["records"].as_array().expect("a dump has records").clone();
            (n, records.into_iter().map(|record| (id(&record), record)).collect())
        });
        Copies { nodes: join_all(dumps).await.into_iter().collect() }
    }

    /// Waits until each record is on this many nodes, and the same on all of them.
    pub async fn at_rest(&self, holders: usize) {
        let started = Instant::now();
        loop {
            let faults = self.copies().await.faults(holders);
            if faults.is_empty() {
                return;
            }
            assert!(started.elapsed() < RESTS_WITHIN, "{} faults, {:#?}", faults.len(), faults[0]);
        }
    }

    fn admit(&mut self) {
        let mut member = Member::new(self.members.len());
        if let Some(wires) = &mut self.wires {
            member.bound = wires.lay(&member.peer_address);
        }
        self.members.push(member);
    }

    async fn launch(&self, n: usize) -> Server {
        let member = &self.members[n];
        let store = format!(
            "replicated:?{}&bind={}&advertise={}&seeds={}&secret-file={}/secret",
            self.settings,
            member.bound,
            member.peer_address,
            self.seeds,
            self.directory.display(),
        );
        let mut options = vec!["--store", &store, "--node", &member.label];
        options.extend(self.options.iter().map(String::as_str));
        Server::start_at(&member.address, &options).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The records of all nodes at about the same time.
#[derive(Debug)]
pub struct Copies {
    /// The copies by the number of the node, then by the id of the record.
    pub nodes: BTreeMap<usize, BTreeMap<String, Value>>,
}

impl Copies {
    /// All copies of each record, by its id.
    pub fn records(&self) -> BTreeMap<&str, Vec<&Value>> {
        let mut records = BTreeMap::<_, Vec<_>>::new();
        for (id, record) in self.nodes.values().flatten() {
            records.entry(id.as_str()).or_default().push(record);
        }
        records
    }

    /// Returns the differences from the state at rest: records on more or fewer nodes than wanted, or different ones.
    pub fn faults(&self, holders: usize) -> Vec<String> {
        let is_sound =
            |copies: &[&Value]| copies.len() == holders && copies.iter().all(|c| *c == copies[0]);
        let faulty = self.records().into_iter().filter(|(_, copies)| !is_sound(copies));
        faulty.map(|(id, copies)| format!("{id} on {}: {copies:?}", copies.len())).collect()
    }

    /// Returns true if all of these nodes hold a record, and the same one.
    pub fn are_the_same(&self, id: &str, nodes: &[usize]) -> bool {
        let copies: Vec<_> = nodes.iter().map(|node| self.nodes[node].get(id)).collect();
        copies.iter().all(|copy| copy.is_some() && *copy == copies[0])
    }
}

fn id(record: &Value) -> String {
    record["id"].as_str().expect("a record has an id").to_owned()
}

/// The interval at which a node publishes its figures, and a little more.
const PUBLISHED_EVERY: Duration = Duration::from_millis(1_200);

/// The time for which nodes may differ without writes.
const RESTS_WITHIN: Duration = Duration::from_secs(30);
