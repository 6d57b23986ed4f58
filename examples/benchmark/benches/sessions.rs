//! Measures everything and writes `results/`: `cargo bench`. `cargo bench -- --quick` takes a few
//! minutes and writes beside the build. `cargo bench -- cluster` measures only the traffic between
//! nodes, and keeps all other results.

use std::iter;
use std::path::Path;
use std::thread;
use std::time::Duration;

use benchmark::cases::{Case, Size};
use benchmark::measure::instructions::{self, Workload, check_callgrind, count_with_callgrind};
use benchmark::measure::memory::Memory;
use benchmark::measure::{
    CountingJob, Job, allocations, ask, cluster, distance, memory, overlap, remote_instructions,
    scaling, time, wire,
};
use benchmark::peers::{self, PassThrough, Peer, REMOTE};
use benchmark::report::{Machine, Results, write};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let (effort, place) = match is_quick {
        true => (Effort::quick(), Path::new(env!("CARGO_TARGET_TMPDIR"))),
        false => (Effort::full(), Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/results"))),
    };
    let results = match arguments.iter().any(|argument| argument == "cluster") {
        true => Results { cluster: cluster(&effort)?, ..Results::read(place).unwrap_or_default() },
        false => measure(&effort)?,
    };
    println!("{}", write(&results, place)?);
    println!("written to {}", place.display());
    Ok(())
}

/// The number of requests, rounds and sessions of each measurement.
struct Effort {
    time: time::Plan,
    scaling: scaling::Plan,
    requests: usize,
    sessions: &'static [usize],
    memory: &'static [(usize, u64)],
    distance: distance::Plan,
    cluster: cluster::Plan,
}

impl Effort {
    fn full() -> Self {
        Self {
            time: time::Plan { rounds: 21, requests: 4_000, sessions: 1_000 },
            scaling: scaling::Plan { rounds: 11, requests: 20_000, sessions: 2_000 },
            requests: 1_000,
            sessions: &[1_000, 10_000, 100_000],
            memory: &[(100_000, 15), (1_000_000, 75)],
            distance: distance::Plan { rounds: 21, requests: 1_000 },
            cluster: cluster::Plan {
                requests: 1_000,
                idle: Duration::from_secs(30),
                sessions: 20_000,
            },
        }
    }

    fn quick() -> Self {
        Self {
            time: time::Plan { rounds: 5, requests: 1_000, sessions: 1_000 },
            scaling: scaling::Plan { rounds: 3, requests: 5_000, sessions: 2_000 },
            requests: 200,
            sessions: &[1_000, 4_000],
            memory: &[(10_000, 3)],
            distance: distance::Plan { rounds: 7, requests: 300 },
            cluster: cluster::Plan { requests: 400, idle: Duration::from_secs(6), sessions: 2_000 },
        }
    }
}

fn measure(effort: &Effort) -> anyhow::Result<Results> {
    check_callgrind()?;
    let mut results = Results { machine: Machine::this()?, ..Results::default() };
    measure_remote(effort, &mut results)?;
    results.cluster = cluster(effort)?;
    progress("overlapping requests");
    results.overlap = ask(PROBE, &Job::Overlap(overlap::Plan { requests: 64 }))?;
    progress("allocations");
    let plan = allocations::Plan { requests: effort.requests };
    results.allocations = ask(COUNTING, &CountingJob::Allocations(plan))?;
    progress("time");
    results.time = ask(PROBE, &Job::Time(effort.time))?;
    progress("two threads");
    results.scaling = ask(PROBE, &Job::Scaling(effort.scaling))?;
    count(effort, &mut results)?;
    for &(sessions, lifetime) in effort.memory {
        progress(&format!("memory of {sessions} sessions"));
        for (peer, memory) in weigh(sessions, Duration::from_secs(lifetime))? {
            results.memory.entry(peer).or_default().push(memory);
        }
    }
    Ok(results)
}

/// Measures sessions on the nodes themselves.
fn cluster(effort: &Effort) -> anyhow::Result<cluster::Cluster> {
    progress("what goes between nodes");
    cluster::run(PROBE, COUNTING, effort.cluster)
}

/// Measures sessions on a server.
fn measure_remote(effort: &Effort, results: &mut Results) -> anyhow::Result<()> {
    progress("the wire");
    results.wire = ask(PROBE, &Job::Wire(wire::Plan { requests: effort.requests }))?;
    progress("reads against the driver's own");
    results.distance = ask(PROBE, &Job::Distance(effort.distance))?;
    let keep = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for peer in iter::once(None).chain(REMOTE.iter().map(|peer| Some(peer.name.to_owned()))) {
        let name = peer.clone().unwrap_or_else(|| PassThrough.name().to_owned());
        progress(&format!("instructions, {name}"));
        let plan = remote_instructions::Plan { peer, requests: effort.requests };
        let counted = remote_instructions::count_with_callgrind(PROBE, &plan, keep)?;
        results.remote_instructions.insert(name, counted);
    }
    Ok(())
}

/// Measures the memory of every peer's sessions concurrently, because most of the time is spent
/// waiting for them to expire.
fn weigh(sessions: usize, lifetime: Duration) -> anyhow::Result<Vec<(String, Memory)>> {
    let weigh = |peer: String| {
        let plan = memory::Plan { peer: peer.clone(), sessions, lifetime };
        anyhow::Ok((peer, ask(COUNTING, &CountingJob::Memory(plan))?))
    };
    thread::scope(|scope| {
        let peers = peers::with_sessions().map(|peer| peer.name().to_owned());
        let weighing: Vec<_> = peers.map(|peer| scope.spawn(move || weigh(peer))).collect();
        weighing.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

/// Counts instructions with callgrind, in one process per peer.
fn count(effort: &Effort, results: &mut Results) -> anyhow::Result<()> {
    let few = effort.sessions[0];
    let cases = Case::ALL.map(|case| Workload::of(case, few.max(effort.requests)));
    let keys = KEYS.iter().flat_map(|&keys| {
        let size = Size { keys, bytes: 42 };
        [Case::Read, Case::Write].map(|case| Workload::Requests { case, size, sessions: few })
    });
    let sessions = effort
        .sessions
        .iter()
        .flat_map(|&sessions| [Case::Read, Case::Write].map(|case| Workload::of(case, sessions)));
    let workloads: Vec<_> =
        cases.into_iter().chain(keys).chain(sessions).chain([Workload::Hash]).collect();
    for peer in peers::ALL {
        progress(&format!("instructions, {}", peer.name()));
        let name = peer.name().to_owned();
        let plan = instructions::Plan {
            peer: name.clone(),
            requests: effort.requests,
            workloads: workloads.clone(),
        };
        let counted = count_with_callgrind(PROBE, &plan, Path::new(env!("CARGO_TARGET_TMPDIR")))?;
        results.instructions.insert(name, workloads.iter().copied().zip(counted).collect());
    }
    Ok(())
}

fn progress(what: &str) {
    eprintln!("measuring {what}");
}

/// From one key to the most that a record may have.
const KEYS: [usize; 4] = [1, 4, 16, 64];

const PROBE: &str = env!("CARGO_BIN_EXE_probe");
const COUNTING: &str = env!("CARGO_BIN_EXE_counting");
