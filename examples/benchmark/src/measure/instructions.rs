//! Instructions per request, counted by callgrind.
//!
//! The process runs one workload after the other, each prepared and warmed up first. Callgrind counts
//! within [`counted`] alone, and writes down what it counted whenever that returns: start-up and
//! preparation cancel.

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
    /// What is counted of each workload.
    pub requests: usize,
    pub workloads: Vec<Workload>,
}

/// Requests of a case in sessions of a size, with so many of them in the store.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Workload {
    Requests {
        case: Case,
        size: Size,
        sessions: usize,
    },
    /// The SHA-256 of a secret, by callgrind's means.
    Hash,
}

impl Workload {
    /// A case as the tables name it.
    pub fn of(case: Case, sessions: usize) -> Self {
        Self::Requests { case, size: case.size(), sessions }
    }
}

/// Runs the workloads, and says how many there were. The figures are callgrind's to give.
pub fn run(plan: &Plan) -> anyhow::Result<usize> {
    let (peer, runtime) = (peers::named(&plan.peer)?, runtime());
    let mut filled: Option<(Size, Client)> = None;
    for workload in &plan.workloads {
        let Workload::Requests { case, size, sessions } = *workload else {
            counted(&mut || hash(plan.requests));
            continue;
        };
        // Where nothing is kept, more sessions are no more than more cookies.
        let sessions = if peer.has_sessions() { sessions } else { sessions.min(plan.requests) };
        // A larger store of the same sessions is the smaller one with more of them.
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

/// Callgrind knows this function by its name.
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

/// Has the plan run under callgrind, and says how many instructions each workload took a request.
pub fn count_with_callgrind(probe: &str, plan: &Plan, keep: &Path) -> anyhow::Result<Vec<f64>> {
    let dumps = keep.join(plan.peer.replace(' ', "-"));
    let counted = counts(probe, &Job::Instructions(plan.clone()), plan.workloads.len(), &dumps)?;
    Ok(counted.into_iter().map(|counted| counted / plan.requests as f64).collect())
}

/// The instructions of each of so many calls of [`counted`].
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

/// Says what is missing if there is no callgrind.
pub fn check_callgrind() -> anyhow::Result<()> {
    output(Command::new("valgrind").arg("--version"))
        .map(drop)
        .context("instructions are counted by valgrind, which is missing: apt-get install valgrind")
}

fn instructions(dump: &Path) -> anyhow::Result<f64> {
    let text = fs::read_to_string(dump).with_context(|| dump.display().to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("summary: "));
    let Some(counted) = line.and_then(|line| line.trim().parse().ok()) else {
        bail!("{} has no summary", dump.display());
    };
    ensure!(counted > 0.0, "callgrind counted nothing: is {COUNTED} there?");
    Ok(counted)
}

/// In full: with a wildcard callgrind would write nothing down in between.
const COUNTED: &str = concat!(module_path!(), "::counted");
