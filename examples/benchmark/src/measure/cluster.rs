//! The traffic between the nodes of a replicated service, and the memory of a session on each node.

use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CountingJob, Job, median};
use crate::cases::Size;
use crate::node::{Order, Visitor};
use crate::service::{Cost, Service};

/// The number of requests and sessions, and the idle time.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub requests: usize,
    /// The duration without requests, which shows the cost of an idle service.
    pub idle: Duration,
    /// The number of sessions whose memory is measured.
    pub sessions: usize,
}

/// A mode: the number of backups of a session, or `None` for copies on all nodes.
pub type Backups = Option<u32>;

/// The modes.
pub const MODES: [Backups; 2] = [None, Some(1)];
pub const NODES: [usize; 4] = [2, 3, 4, 6];

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Cluster {
    pub traffic: Vec<Traffic>,
    pub memory: Vec<Memory>,
}

/// Bytes in both directions of all links, including TLS and without the traffic of an idle service.
#[derive(Debug, Serialize, Deserialize)]
pub struct Traffic {
    pub backups: Backups,
    pub nodes: usize,
    /// A write of 100 bytes at the owner, for each further copy.
    pub small_write: f64,
    /// A write of 4 KB at the owner, for each further copy.
    pub large_write: f64,
    /// A write of 100 bytes at a node without a copy, in total.
    pub forwarded_write: Option<f64>,
    /// One more read at a holder that is not the owner.
    pub read: f64,
    /// The leases under which that holder answers, per second with reads.
    pub leases: f64,
    /// A read at a node without a copy.
    pub read_elsewhere: Option<f64>,
    /// A new session with 100 bytes in 3 keys, for each copy beside the owner's.
    pub create: f64,
    /// An idle service, in bytes per second.
    pub idle: f64,
    /// CPU seconds of all nodes for 1,000 small writes at the owner.
    pub cpu: f64,
    /// CPU seconds of all nodes in an idle second.
    pub idle_cpu: f64,
}

/// Allocated bytes per session of 100 bytes, on each of three nodes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Memory {
    pub backups: Backups,
    pub owner: f64,
    pub backup: f64,
    /// A node that holds no copy.
    pub other: Option<f64>,
}

/// Measures both modes concurrently, because most of the time is spent waiting.
pub fn run(probe: &str, counting: &str, plan: Plan) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::default();
    for nodes in NODES {
        cluster.traffic.extend(of_both(|backups| traffic(probe, plan, nodes, backups))?);
    }
    cluster.memory = of_both(|backups| memory(probe, counting, plan, backups))?;
    cluster.traffic.sort_by_key(|traffic| (traffic.backups, traffic.nodes));
    Ok(cluster)
}

fn of_both<T: Send>(
    measure: impl Fn(Backups) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let measure = &measure;
    thread::scope(|scope| {
        let both = MODES.map(|backups| scope.spawn(move || measure(backups)));
        both.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

/// Measures one service.
pub fn traffic(probe: &str, plan: Plan, nodes: usize, backups: Backups) -> anyhow::Result<Traffic> {
    let mut service = Service::start(probe, Job::Node, nodes, backups)?;
    let copies = backups.map_or((nodes - 1) as f64, f64::from);
    // All visitors share one owner and one backup, so that the link between these is warm.
    let visitors = service.visitors(&create(20 * nodes, Size::LARGE), &ROUTE)?;
    let idle = service.idle(plan.idle)?;
    let mut visited = Visited { service, visitors, idle };
    let (many, few) = (plan.requests, plan.requests / 4);

    let small = visited.cost(1, SMALL, many, PER_SECOND)?;
    let large = visited.cost(1, LARGE, few, PER_SECOND)?;
    let (read, leases) = visited.reads(many / 2)?;
    let is_elsewhere = nodes > 2 && backups.is_some();
    let mut elsewhere = |path| {
        let cost = is_elsewhere.then(|| visited.cost(3, path, many, PER_SECOND)).transpose()?;
        anyhow::Ok(cost.map(|cost| cost.bytes / many as f64))
    };
    Ok(Traffic {
        backups,
        nodes,
        small_write: small.bytes / many as f64 / copies,
        large_write: large.bytes / few as f64 / copies,
        forwarded_write: elsewhere(SMALL)?,
        read,
        leases,
        read_elsewhere: elsewhere(READ)?,
        create: visited.created(few)?.bytes / few as f64 / copies,
        idle: idle.rate(),
        cpu: small.cpu.as_secs_f64() * 1_000.0 / many as f64,
        idle_cpu: idle.cpu.as_secs_f64() / idle.time.as_secs_f64(),
    })
}

/// A service, its visitors, and the cost of an idle second.
struct Visited {
    service: Service,
    visitors: Vec<Visitor>,
    idle: Cost,
}

impl Visited {
    /// Measures the cost of requests at a node with warm links.
    fn cost(
        &mut self,
        node: usize,
        path: &str,
        requests: usize,
        rate: u32,
    ) -> anyhow::Result<Cost> {
        // Requests leases for half a second.
        self.service.ask::<()>(node, &visit(&self.visitors, path, rate as usize / 2, rate))?;
        self.service.cost(node, &visit(&self.visitors, path, requests, rate), self.idle)
    }

    /// Measures the cost of one more read at the backup, and of its leases per second. Returns the
    /// medians of several rounds, because a node that the system stops for longer than a lease has
    /// to ask the owner.
    fn reads(&mut self, requests: usize) -> anyhow::Result<(f64, f64)> {
        let (mut reads, mut leases) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let some = self.cost(2, READ, requests, PER_SECOND)?;
            let more = self.cost(2, READ, 4 * requests, 4 * PER_SECOND)?;
            let read = (more.bytes - some.bytes) / (3 * requests) as f64;
            reads.push(read);
            leases.push((some.bytes - read * requests as f64) / some.time.as_secs_f64());
        }
        Ok((median(reads), median(leases)))
    }

    fn created(&mut self, sessions: usize) -> anyhow::Result<Cost> {
        self.service.cost(1, &create(sessions, Size::SMALL), self.idle)
    }
}

/// Measures the memory of sessions on three nodes.
pub fn memory(probe: &str, counting: &str, plan: Plan, backups: Backups) -> anyhow::Result<Memory> {
    // The holders of a session follow from its id and the names of the nodes, so one service shows
    // which sessions of another one share their holders.
    let visitors = {
        let mut scout = Service::start(probe, Job::Node, 3, backups)?;
        let order = Order::Create { sessions: 2 * plan.sessions, size: TINY, per_second: 10_000 };
        scout.visitors(&order, &ROUTE)?
    };
    let mut service = Service::start(counting, CountingJob::Node, 3, backups)?;
    let before = heaps(&mut service)?;
    let sessions = visitors.len() as f64;
    service.ask::<()>(1, &Order::Store { visitors, size: Size::SMALL })?;
    thread::sleep(AT_REST_AFTER);
    let after = heaps(&mut service)?;
    let [owner, backup, other] = [0, 1, 2].map(|n| (after[n] - before[n]) as f64 / sessions);
    Ok(Memory { backups, owner, backup, other: backups.is_some().then_some(other) })
}

fn heaps(service: &mut Service) -> anyhow::Result<Vec<i64>> {
    (1..=3).map(|node| service.ask(node, &Order::Heap)).collect()
}

fn create(sessions: usize, size: Size) -> Order {
    Order::Create { sessions, size, per_second: PER_SECOND }
}

fn visit(visitors: &[Visitor], path: &str, requests: usize, per_second: u32) -> Order {
    let (visitors, path) = (visitors.to_vec(), path.to_owned());
    Order::Visit { visitors, path, requests, per_second }
}

/// The route of the sessions that requests use.
const ROUTE: [&str; 2] = ["n1", "n2"];

const SMALL: &str = "/put/100";
const LARGE: &str = "/put/4096";
const READ: &str = "/read";

const TINY: Size = Size { keys: 1, bytes: 0 };

/// Requests per second. At this rate a link is warm, and every write is sent separately.
const PER_SECOND: u32 = 250;

const ROUNDS: usize = 3;

/// The time after which no part of a write is in progress.
const AT_REST_AFTER: Duration = Duration::from_secs(1);
