//! How it is measured: each job in a process of its own, so that none sees what another left behind.

pub mod allocations;
pub mod cluster;
pub mod distance;
pub mod instructions;
pub mod memory;
pub mod overlap;
pub mod remote_instructions;
pub mod scaling;
pub mod time;
pub mod wire;

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use crate::node;

/// What a process is started for. It prints its answer as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub enum Job {
    Time(time::Plan),
    Scaling(scaling::Plan),
    Overlap(overlap::Plan),
    /// Under callgrind, which takes note of the answer.
    Instructions(instructions::Plan),
    /// Under callgrind, too.
    RemoteInstructions(remote_instructions::Plan),
    Wire(wire::Plan),
    Distance(distance::Plan),
    /// To the end of its input, by which it is told what to do.
    Node(node::Plan),
}

impl Job {
    /// Does the job in this process.
    pub fn run(self) -> anyhow::Result<String> {
        Ok(match self {
            Self::Time(plan) => serde_json::to_string(&time::run(&plan)?)?,
            Self::Scaling(plan) => serde_json::to_string(&scaling::run(&plan)?)?,
            Self::Overlap(plan) => serde_json::to_string(&overlap::run(&plan)?)?,
            Self::Instructions(plan) => serde_json::to_string(&instructions::run(&plan)?)?,
            Self::RemoteInstructions(plan) => {
                serde_json::to_string(&remote_instructions::run(&plan)?)?
            }
            Self::Wire(plan) => serde_json::to_string(&wire::run(&plan)?)?,
            Self::Distance(plan) => serde_json::to_string(&distance::run(&plan)?)?,
            Self::Node(plan) => serde_json::to_string(&node::run(plan, None)?)?,
        })
    }
}

/// What needs the allocator that counts.
#[derive(Debug, Serialize, Deserialize)]
pub enum CountingJob {
    Allocations(allocations::Plan),
    Memory(memory::Plan),
    Node(node::Plan),
}

impl CountingJob {
    /// Does the job in this process; `heap` says what was allocated so far.
    pub fn run(self, heap: &dyn Fn() -> Heap) -> anyhow::Result<String> {
        Ok(match self {
            Self::Allocations(plan) => serde_json::to_string(&allocations::run(&plan, heap)?)?,
            Self::Memory(plan) => serde_json::to_string(&memory::run(&plan, heap)?)?,
            Self::Node(plan) => serde_json::to_string(&node::run(plan, Some(heap))?)?,
        })
    }
}

/// What the allocator was asked for since the process began.
#[derive(Clone, Copy, Debug)]
pub struct Heap {
    /// Allocations and reallocations.
    pub allocations: usize,
    /// Bytes that are allocated now.
    pub live: i64,
}

/// The job that a process was started for: its last argument.
pub fn job<J: DeserializeOwned>() -> anyhow::Result<J> {
    let text = std::env::args().next_back().context("a job is missing")?;
    Ok(serde_json::from_str(&text)?)
}

/// Has a job done by another process.
pub fn ask<T: DeserializeOwned>(binary: &str, job: &impl Serialize) -> anyhow::Result<T> {
    let answer = output(Command::new(binary).arg(serde_json::to_string(job)?))?;
    serde_json::from_str(&answer).with_context(|| format!("{binary} answered {answer:?}"))
}

pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_owned();
    let name = OsStr::to_string_lossy(&program);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| name.to_string())?;
    ensure!(output.status.success(), "{name}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime needs nothing")
}

/// One that reaches servers.
fn connected_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("the system lets it wait for sockets")
}

/// Keeps this thread on one core, so that a run of one task does not wander.
fn pin(core: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(core) = cores.get(core) {
        core_affinity::set_for_current(*core);
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
