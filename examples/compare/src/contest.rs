//! One contestant's run: calm load, requests at the same moment, and a node that is killed.

use std::path::Path;
use std::time::Duration;

use crate::load::Load;
use crate::options::{Fault, Options};
use crate::procfs::{self, Machine, Part, Usage};
use crate::progress::Progress;
use crate::records::{Phase, Record};
use crate::service::Service;
use crate::service::leash::Workplace;
use crate::strategy::Strategy;

/// The records of a contestant.
#[derive(Debug)]
pub struct Contest {
    /// The contestant.
    pub strategy: Strategy,
    /// Every request.
    pub records: Vec<Record>,
    /// The cost of the calm load.
    pub cost: Cost,
    /// Sessions by the node that they live on, if visitors carry the label of one.
    pub homes: Option<Vec<u64>>,
    /// Additions at the same moment that were acknowledged, and how many of them the counters show.
    pub together: (u64, u64),
    /// The time of the kill, since the start of its phase.
    pub killed_at: Option<Duration>,
    /// The things that an operator has to run.
    pub operations: Operations,
}

/// The cost of the calm load.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processor time of the nodes, in milliseconds.
    pub nodes_ms: u64,
    /// Processor time of the balancer, in milliseconds.
    pub balancer_ms: u64,
    /// Processor time of the server, in milliseconds.
    pub server_ms: u64,
    /// Memory of a node on average after the load, in kilobytes.
    pub node_kb: u64,
    /// Memory of the server in kilobytes, 0 without one.
    pub server_kb: u64,
    /// The share of the machine that other programs used, from 0 to 1.
    pub others: f64,
}

/// The things that an operator has to run.
#[derive(Clone, Copy, Debug)]
pub struct Operations {
    /// Nodes, balancer and server.
    pub processes: usize,
    /// Ports that they listen on.
    pub ports: usize,
    /// Secrets to hand out.
    pub secrets: usize,
    /// Lines of the balancer's configuration.
    pub balancer_lines: usize,
}

/// Runs a contestant from an empty store to the audit after the last fault.
///
/// # Errors
///
/// If one of its processes does not start, or ends by itself.
pub async fn run(
    options: &Options,
    workplace: &Workplace,
    program: &Path,
    strategy: Strategy,
    progress: &Progress,
) -> anyhow::Result<Contest> {
    let show = |part| progress.show(strategy.title(), part);
    show("starting");
    let mut service = Service::start(workplace, program, strategy, options.nodes).await?;
    let workload = options.workload;
    let load = Load::new(service.address(), workload.sessions, workload.value_bytes);
    load.sign_in().await;
    show("calm load");
    let cost = calm(options, &load).await;
    let homes = load.homes(&service.labels());
    show("requests at the same moment");
    let together = load.add_together().await;
    let killed_at = if options.faults.contains(&Fault::Kill) {
        show("load while a node is killed");
        Some(kill(options, &load, &mut service).await?)
    } else {
        None
    };
    let (records, operations) = (load.records(), operations(strategy, options.nodes, &service));
    service.end().await;
    Ok(Contest { strategy, records, cost, homes, together, killed_at, operations })
}

async fn calm(options: &Options, load: &Load) -> Cost {
    let plan = options.workload.arrivals(1, options.pace.calm);
    let (before, machine, own) = (Usage::now(), Machine::now(), procfs::own_milliseconds());
    load.carry_out(Phase::Calm, &plan).await;
    let (after, own) = (Usage::now(), procfs::own_milliseconds() - own);
    let spent = |part| after.milliseconds_since(&before, part);
    let (nodes_ms, balancer_ms, server_ms) =
        (spent(Part::Nodes), spent(Part::Balancer), spent(Part::Server));
    let others = others(machine, own + nodes_ms + balancer_ms + server_ms);
    load.audit(Phase::Calm).await;
    let node_kb = after.kilobytes(Part::Nodes) / after.processes(Part::Nodes).max(1);
    let server_kb = after.kilobytes(Part::Server);
    Cost { nodes_ms, balancer_ms, server_ms, node_kb, server_kb, others }
}

/// The share of the machine that neither this program nor its processes used.
fn others(before: Option<Machine>, ours_ms: u64) -> f64 {
    let (Some(before), Some(now)) = (before, Machine::now()) else { return 0.0 };
    let ours = ours_ms as f64 / now.milliseconds_since(&before).max(1) as f64;
    (now.busy_since(&before) - ours).max(0.0)
}

async fn kill(options: &Options, load: &Load, service: &mut Service) -> anyhow::Result<Duration> {
    let (pace, started) = (options.pace, tokio::time::Instant::now());
    let plan = options.workload.arrivals(2, pace.before + pace.after);
    let killing = async {
        tokio::time::sleep(pace.before).await;
        let at = started.elapsed();
        service.kill_a_node().await.map(|()| at)
    };
    let ((), killed_at) = tokio::join!(load.carry_out(Phase::Kill, &plan), killing);
    load.audit(Phase::Kill).await;
    killed_at
}

fn operations(strategy: Strategy, nodes: usize, service: &Service) -> Operations {
    let servers = usize::from(strategy.server().is_some());
    Operations {
        processes: nodes + 1 + servers,
        ports: nodes * strategy.ports_of_a_node() + 1 + servers,
        secrets: strategy.secrets(),
        balancer_lines: service.balancer_lines(),
    }
}
