//! A replicated service of several processes, and what the system counted of them.

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

/// Its nodes, `n1` first. They end with this value.
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

/// What was counted so far.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    at: Instant,
    bytes: u64,
    links: usize,
    cpu: Duration,
}

/// What was counted from one time to another.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub bytes: f64,
    pub cpu: Duration,
    pub time: Duration,
}

impl Service {
    /// Starts so many nodes, and waits until they are one service. `job` is the argument that makes
    /// a node of the binary.
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

    /// Tells the n-th node what to do, and waits until it has.
    pub fn ask<T: DeserializeOwned>(&mut self, n: usize, order: &Order) -> anyhow::Result<T> {
        self.nodes[n - 1].ask(order).with_context(|| format!("node {n} of {}", self.nodes.len()))
    }

    /// Has the first node create sessions, and gives those of one route.
    pub fn visitors(&mut self, order: &Order, route: &[&str]) -> anyhow::Result<Vec<Visitor>> {
        let mut visitors: Vec<Visitor> = self.ask(1, order)?;
        visitors.retain(|visitor| visitor.route() == route);
        ensure!(!visitors.is_empty(), "no session has the route {route:?}");
        Ok(visitors)
    }

    /// What the system counted between the nodes and of them so far.
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

    /// What happens in a while in which nobody asks for anything.
    pub fn idle(&self, time: Duration) -> anyhow::Result<Cost> {
        let before = self.counted()?;
        thread::sleep(time);
        self.counted()?.since(before)
    }

    /// What an order costs, and what follows from it, without what would have happened anyhow.
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
        let orders = self.orders.as_mut().context("the node is ending")?;
        writeln!(orders, "{}", serde_json::to_string(order)?)?;
        self.answer()
    }

    fn answer<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("a node answered {line:?}"))
    }

    /// User and system time of all its threads, to the nanosecond.
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
        // It ends with its input; a node that hangs does not outlive the service either.
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
    /// Bytes in a second.
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

/// By then, nodes that see each other agreed on who they are.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// By then, the last confirmation of a write went out and was counted.
const QUIET_AFTER: Duration = Duration::from_millis(150);
