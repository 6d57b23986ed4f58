//! Instructions per request, counted by callgrind.
//!
//! The process runs the workloads sequentially. Each is prepared and warmed up first. Callgrind
//! counts only within [`counted`], and writes a dump whenever that returns, so start-up and
//! preparation are not counted.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::{Job, output, runtime};
use crate::cases::{Case, Size};
use crate::client::Client;
use crate::peers::{self, LONG};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub peer: String,
    /// The number of requests per workload.
    pub requests: usize,
    pub workloads: Vec<Workload>,
}

/// Requests of a case in sessions of a size, with this number of sessions in the store.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Workload {
    Requests {
        case: Case,
        size: Size,
        sessions: usize,
    },
    /// The SHA-256 of a secret, as callgrind executes it.
    Hash,
}

impl Workload {
    /// Returns the workload of a case in the tables.
    pub fn of(case: Case, sessions: usize) -> Self {
        Self::Requests { case, size: case.size(), sessions }
    }
}

/// Runs the workloads, and returns their number. Callgrind writes the figures.
pub fn run(plan: &Plan) -> anyhow::Result<usize> {
    let (peer, runtime) = (peers::named(&plan.peer)?, runtime());
    let mut filled: Option<(Size, Client)> = None;
    for workload in &plan.workloads {
        let Workload::Requests { case, size, sessions } = *workload else {
            counted(&mut || hash(plan.requests));
            continue;
        };
        // Without a store, more sessions are only more cookies.
        let sessions = if peer.has_sessions() { sessions } else { sessions.min(plan.requests) };
        // Adds sessions to the previous store, to get a larger one of the same kind.
        let client = match filled.take() {
            Some((known, client)) if known == size && client.sessions() <= sessions => client,
            _ => runtime.block_on(async { Client::new(peer.app(LONG)) }),
        };
        let missing = sessions - client.sessions();
        let client = runtime.block_on(client.with_sessions(missing, size))?;
        count(&runtime, &client, case, plan.requests)?;
        filled = (!case.rotates()).then_some((size, client));
    }
    Ok(plan.workloads.len())
}

fn count(runtime: &Runtime, client: &Client, case: Case, requests: usize) -> anyhow::Result<()> {
    if !case.rotates() {
        runtime.block_on(client.check(case))?;
        runtime.block_on(client.serve(case, requests.min(client.sessions())))?;
    }
    let mut served = Ok(());
    counted(&mut || served = runtime.block_on(client.serve(case, requests)));
    served
}

/// Callgrind finds this function by its name.
#[inline(never)]
pub(super) fn counted(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

fn hash(times: usize) {
    let hash = peers::hash_a_secret();
    for _ in 0..times {
        black_box(hash());
    }
}

/// Runs the plan under callgrind. Returns the instructions per request of each workload.
pub fn count_with_callgrind(probe: &str, plan: &Plan, keep: &Path) -> anyhow::Result<Vec<f64>> {
    let dumps = keep.join(plan.peer.replace(' ', "-"));
    let counted = counts(probe, &Job::Instructions(plan.clone()), plan.workloads.len(), &dumps)?;
    Ok(counted.into_iter().map(|counted| counted / plan.requests as f64).collect())
}

/// Returns the instructions of each call of [`counted`].
pub(super) fn counts(
    probe: &str,
    job: &Job,
    calls: usize,
    dumps: &Path,
) -> anyhow::Result<Vec<f64>> {
    fs::create_dir_all(dumps)?;
    let job = serde_json::to_string(job)?;
    output(
        Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--toggle-collect={COUNTED}"))
            .arg(format!("--dump-after={COUNTED}"))
            .arg(format!("--callgrind-out-file={}", dumps.join("dump").display()))
            .args([probe, &job]),
    )?;
    (1..=calls).map(|n| instructions(&dumps.join(format!("dump.{n}")))).collect()
}

/// Returns an error with the missing package if callgrind is not installed.
pub fn check_callgrind() -> anyhow::Result<()> {
    output(Command::new("valgrind").arg("--version")).map(drop).context(
        "valgrind, which counts the instructions, is not installed: run `apt-get install valgrind`",
    )
}

fn instructions(dump: &Path) -> anyhow::Result<f64> {
    let text = fs::read_to_string(dump).with_context(|| dump.display().to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("summary: "));
    let Some(counted) = line.and_then(|line| line.trim().parse().ok()) else {
        bail!("{} has no summary", dump.display());
    };
    ensure!(counted > 0.0, "callgrind counted nothing: does {COUNTED} exist?");
    Ok(counted)
}

/// The full name. With a wildcard, callgrind would not write a dump per call.
const COUNTED: &str = concat!(module_path!(), "::counted");
