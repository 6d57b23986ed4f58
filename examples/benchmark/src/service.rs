//! A replicated service of several processes, and its traffic and CPU time according to the system.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::measure::output;
use crate::node::{Order, Plan, Visitor};

/// The nodes, `n1` first. Dropping this stops them.
#[derive(Debug)]
pub struct Service {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    at: Instant,
    bytes: u64,
    links: usize,
    cpu: Duration,
}

/// The difference of two totals.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub bytes: f64,
    pub cpu: Duration,
    pub time: Duration,
}

impl Service {
    /// Starts this number of nodes, and waits until they form one service. `job` builds the
    /// argument that makes the binary a node.
    pub fn start<J: Serialize>(
        binary: &str,
        job: fn(Plan) -> J,
        nodes: usize,
        backups: Option<u32>,
    ) -> anyhow::Result<Self> {
        let mut service = Self { nodes: Vec::new() };
        for n in 1..=nodes {
            let address = free_address()?;
            let seeds = service.nodes.first().map(|first| first.address.to_string());
            let seeds = seeds.into_iter().collect();
            let plan = Plan { name: format!("n{n}"), address, seeds, backups };
            service.nodes.push(Node::start(binary, &job(plan), address)?);
        }
        for n in 1..=nodes {
            service.ask::<()>(n, &Order::Join { nodes })?;
        }
        thread::sleep(SETTLED_AFTER);
        Ok(service)
    }

    /// Sends an order to the n-th node, and waits for its answer.
    pub fn ask<T: DeserializeOwned>(&mut self, n: usize, order: &Order) -> anyhow::Result<T> {
        self.nodes[n - 1].ask(order).with_context(|| format!("node {n} of {}", self.nodes.len()))
    }

    /// Lets the first node create sessions, and returns those with one route.
    pub fn visitors(&mut self, order: &Order, route: &[&str]) -> anyhow::Result<Vec<Visitor>> {
        let mut visitors: Vec<Visitor> = self.ask(1, order)?;
        visitors.retain(|visitor| visitor.route() == route);
        ensure!(!visitors.is_empty(), "no session has the route {route:?}");
        Ok(visitors)
    }

    /// Returns the totals of the traffic between the nodes and of their CPU time.
    pub fn counted(&self) -> anyhow::Result<Counted> {
        let ports =
            self.nodes.iter().map(|node| format!("sport = :{0} or dport = :{0}", node.port()));
        let filter = format!("( {} )", ports.collect::<Vec<_>>().join(" or "));
        let sockets = output(Command::new("ss").args(["-tinHO", "state", "established", &filter]))?;
        let received = |line: &str| -> Option<u64> {
            let (_, rest) = line.split_once("bytes_received:")?;
            rest.split_ascii_whitespace().next()?.parse().ok()
        };
        let cpu = self.nodes.iter().map(Node::cpu).sum::<anyhow::Result<Duration>>()?;
        Ok(Counted {
            at: Instant::now(),
            bytes: sockets.lines().filter_map(received).sum(),
            links: sockets.lines().count(),
            cpu,
        })
    }

    /// Measures the service for a while without requests.
    pub fn idle(&self, time: Duration) -> anyhow::Result<Cost> {
        let before = self.counted()?;
        thread::sleep(time);
        self.counted()?.since(before)
    }

    /// Returns the cost of an order and of its consequences, without the cost of an idle service.
    pub fn cost(&mut self, n: usize, order: &Order, idle: Cost) -> anyhow::Result<Cost> {
        let before = self.counted()?;
        self.ask::<serde::de::IgnoredAny>(n, order)?;
        thread::sleep(QUIET_AFTER);
        Ok(self.counted()?.since(before)?.without(idle))
    }
}

impl Node {
    fn start(binary: &str, job: &impl Serialize, address: SocketAddr) -> anyhow::Result<Self> {
        let mut process = Command::new(binary)
            .arg(serde_json::to_string(job)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| binary.to_owned())?;
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("no output")?);
        let mut node = Self { process, orders, answers, address };
        node.answer::<()>()?;
        Ok(node)
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn ask<T: DeserializeOwned>(&mut self, order: &Order) -> anyhow::Result<T> {
        let orders = self.orders.as_mut().context("the node is shutting down")?;
        writeln!(orders, "{}", serde_json::to_string(order)?)?;
        self.answer()
    }

    fn answer<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("a node answered {line:?}"))
    }

    /// Returns the user and system time of all its threads, in nanoseconds.
    fn cpu(&self) -> anyhow::Result<Duration> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.id()))?;
        let mut cpu = Duration::ZERO;
        for thread in threads {
            let times = fs::read_to_string(thread?.path().join("schedstat"))?;
            let on_cpu = times.split_ascii_whitespace().next().context("no times")?;
            cpu += Duration::from_nanos(on_cpu.parse()?);
        }
        Ok(cpu)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Closing the input ends the node. A node that hangs is killed.
        self.orders = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Counted {
    fn since(self, before: Self) -> anyhow::Result<Cost> {
        ensure!(self.links == before.links, "{} links became {}", before.links, self.links);
        Ok(Cost {
            bytes: (self.bytes - before.bytes) as f64,
            cpu: self.cpu.saturating_sub(before.cpu),
            time: self.at - before.at,
        })
    }
}

impl Cost {
    /// Returns bytes per second.
    pub fn rate(&self) -> f64 {
        self.bytes / self.time.as_secs_f64()
    }

    fn without(self, idle: Self) -> Self {
        let share = self.time.as_secs_f64() / idle.time.as_secs_f64();
        Self {
            bytes: self.bytes - idle.bytes * share,
            cpu: self.cpu.saturating_sub(idle.cpu.mul_f64(share)),
            time: self.time,
        }
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The time within which connected nodes agree on the members.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// The time within which the last confirmation of a write is sent and counted.
const QUIET_AFTER: Duration = Duration::from_millis(150);
