//! Measurements. Each job runs in a process of its own, unaffected by others.

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

/// The job of a process. It prints its result as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub enum Job {
    Time(time::Plan),
    Scaling(scaling::Plan),
    Overlap(overlap::Plan),
    /// Runs under callgrind, which writes the figures.
    Instructions(instructions::Plan),
    /// Also runs under callgrind.
    RemoteInstructions(remote_instructions::Plan),
    Wire(wire::Plan),
    Distance(distance::Plan),
    /// Runs until its input ends, and executes the orders in it.
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

/// A job that needs the counting allocator.
#[derive(Debug, Serialize, Deserialize)]
pub enum CountingJob {
    Allocations(allocations::Plan),
    Memory(memory::Plan),
    Node(node::Plan),
}

impl CountingJob {
    /// Does the job in this process. `heap` returns the allocations so far.
    pub fn run(self, heap: &dyn Fn() -> Heap) -> anyhow::Result<String> {
        Ok(match self {
            Self::Allocations(plan) => serde_json::to_string(&allocations::run(&plan, heap)?)?,
            Self::Memory(plan) => serde_json::to_string(&memory::run(&plan, heap)?)?,
            Self::Node(plan) => serde_json::to_string(&node::run(plan, Some(heap))?)?,
        })
    }
}

/// The allocations since the process started.
#[derive(Clone, Copy, Debug)]
pub struct Heap {
    /// Allocations and reallocations.
    pub allocations: usize,
    /// Bytes that are currently allocated.
    pub live: i64,
}

/// Returns the job of this process: its last argument.
pub fn job<J: DeserializeOwned>() -> anyhow::Result<J> {
    let text = std::env::args().next_back().context("missing argument: the job")?;
    Ok(serde_json::from_str(&text)?)
}

/// Runs a job in another process, and returns its result.
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

/// A runtime that can connect to servers.
fn connected_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("the system lets it wait for sockets")
}

/// Pins this thread to one core, so that a run of one task stays there.
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
