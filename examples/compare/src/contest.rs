//! One contestant's run: calm load, requests at the same moment, and one fault after another.

use std::time::Duration;

use tokio::time::Instant;

use crate::fault::Fault;
use crate::load::Load;
use crate::load::arrivals::{Skew, Workload};
use crate::options::Options;
use crate::procfs::{self, Machine, Part, Usage};
use crate::progress::Progress;
use crate::records::{Phase, Record};
use crate::service::leash::Workplace;
use crate::service::{Programs, Service};
use crate::strategy::Strategy;
use crate::units::{self, Size, Units};

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
    /// The faults, each with its time since the start of its phase.
    pub faults: Vec<(Fault, Duration)>,
    /// The processes, ports and secrets that an operator has to handle.
    pub operations: Operations,
    /// The unit costs, if the run measures them.
    pub units: Option<Units>,
}

/// The cost of the calm load.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processor time of the nodes, in milliseconds.
    pub nodes_ms: f64,
    /// Processor time of the balancer, in milliseconds.
    pub balancer_ms: f64,
    /// Processor time of the server, in milliseconds.
    pub server_ms: f64,
    /// Memory of a node on average after the load, in kilobytes.
    pub node_kb: u64,
    /// Memory of the server in kilobytes, 0 without one.
    pub server_kb: u64,
    /// The share of the machine that other programs used, from 0 to 1.
    pub others: f64,
}

/// The processes, ports and secrets that an operator has to handle.
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

/// The settings that all contestants share.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The comparison.
    pub options: &'a Options,
    /// The directory of temporary files.
    pub workplace: &'a Workplace,
    /// The programs of the nodes.
    pub programs: &'a Programs,
}

/// Runs a contestant: from an empty store through the calm load, and once more for each fault.
///
/// # Errors
///
/// If one of its processes does not start, or ends by itself.
pub async fn run(
    setting: &Setting<'_>,
    strategy: Strategy,
    progress: &Progress,
) -> anyhow::Result<Contest> {
    let (options, show) = (setting.options, |part| progress.show(strategy.title(), part));
    show("calm load");
    let (service, load) = setting.start(strategy, None).await?;
    let cost = calm(options, &load).await;
    let homes = load.homes(&service.labels());
    let together = load.add_together().await;
    let (mut records, mut faults) = (load.records(), Vec::new());
    let operations = operations(strategy, options.nodes, &service);
    service.end().await;
    for fault in options.faults.iter().copied().filter(|fault| fault.concerns(strategy)) {
        show(fault.id());
        let (mut service, load) = setting.start(strategy, Some(fault)).await?;
        let at = inflict(setting, &load, &mut service, fault).await?;
        service.end().await;
        faults.push((fault, at));
        // The sign-ins before the first phase stand for all of them.
        records.extend(load.records().into_iter().filter(|record| record.phase != Phase::Arrive));
    }
    let units = match options.weighed {
        0 => None,
        sessions => {
            show("unit costs");
            let (nodes, value_bytes) = (options.nodes, options.workload.value_bytes);
            Some(units::measure(setting, strategy, Size { nodes, value_bytes, sessions }).await?)
        }
    };
    Ok(Contest { strategy, records, cost, homes, together, faults, operations, units })
}

impl Setting<'_> {
    /// A service with an empty store, and visitors who have not signed in.
    ///
    /// # Errors
    ///
    /// If a process does not start.
    pub async fn arrange(
        &self,
        strategy: Strategy,
        nodes: usize,
        visitors: usize,
        value_bytes: usize,
    ) -> anyhow::Result<(Service, Load)> {
        let service = Service::start(self.workplace, self.programs, strategy, nodes, None).await?;
        let load = Load::new(service.address(), visitors, value_bytes, Skew::Even);
        Ok((service, load))
    }

    /// The service of a contestant, and visitors who have signed in.
    async fn start(
        &self,
        strategy: Strategy,
        to_come: Option<Fault>,
    ) -> anyhow::Result<(Service, Load)> {
        let Options { nodes, workload, .. } = *self.options;
        let (workplace, programs) = (self.workplace, self.programs);
        let service = Service::start(workplace, programs, strategy, nodes, to_come).await?;
        let Workload { sessions, value_bytes, skew, .. } = workload;
        let load = Load::new(service.address(), sessions, value_bytes, skew);
        load.sign_in().await;
        Ok((service, load))
    }
}

async fn calm(options: &Options, load: &Load) -> Cost {
    let plan = options.workload.arrivals(1, options.pace.calm);
    let (before, machine, own) = (Usage::now(), Machine::now(), procfs::own_milliseconds());
    load.carry_out(Phase::Calm, &plan).await;
    let (after, own) = (Usage::now(), procfs::own_milliseconds() - own);
    let spent = |part| after.milliseconds_since(&before, part);
    let (nodes_ms, balancer_ms, server_ms) =
        (spent(Part::Nodes), spent(Part::Balancer), spent(Part::Server));
    let ours = own + nodes_ms + balancer_ms + server_ms;
    let others = machine.map_or(0.0, |before| procfs::others(before, ours));
    load.audit(Phase::Calm).await;
    let node_kb = after.kilobytes(Part::Nodes) / after.processes(Part::Nodes).max(1);
    let server_kb = after.kilobytes(Part::Server);
    Cost { nodes_ms, balancer_ms, server_ms, node_kb, server_kb, others }
}

/// Runs load with a fault in it, and an audit. Returns the time of the fault since the start of the
/// load.
async fn inflict(
    setting: &Setting<'_>,
    load: &Load,
    service: &mut Service,
    fault: Fault,
) -> anyhow::Result<Duration> {
    let (options, phase) = (setting.options, Phase::Fault(fault));
    let pace = options.pace;
    let (plan, started) = (options.workload.arrivals(2, pace.of(fault)), Instant::now());
    let failing = async {
        tokio::time::sleep(pace.before).await;
        let at = started.elapsed();
        service.inflict(setting.workplace, fault).await?;
        if fault.is_passing() {
            tokio::time::sleep(pace.hold).await;
            service.relieve(fault).await?;
        }
        anyhow::Ok(at)
    };
    let ((), at) = tokio::join!(load.carry_out(phase, &plan), failing);
    load.audit(phase).await;
    at
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
