//! The results: tables, figures for programs, and charts.

mod chart;
mod cluster;
mod remote;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::cases::{Case, Size};
use crate::measure::allocations::Allocations;
use crate::measure::cluster::Cluster;
use crate::measure::distance::Distances;
use crate::measure::instructions::Workload;
use crate::measure::memory::Memory;
use crate::measure::overlap::Kept;
use crate::measure::remote_instructions::Instructions;
use crate::measure::scaling::Scaling;
use crate::measure::time::Times;
use crate::measure::wire::Wires;
use crate::peers::{self, Floor, PassThrough, Peer, Remote};
use crate::servers::Server;

/// All results. A further peer or kind of figure is one more entry.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    /// Instructions per request, by peer, including the hash of a secret.
    pub instructions: BTreeMap<String, Vec<(Workload, f64)>>,
    pub allocations: Allocations,
    pub time: Times,
    pub scaling: Scaling,
    pub memory: BTreeMap<String, Vec<Memory>>,
    pub overlap: BTreeMap<String, Kept>,
    pub wire: Wires,
    pub distance: Distances,
    /// Instructions per request with sessions on a server, by peer, including the pass-through
    /// layer.
    pub remote_instructions: BTreeMap<String, Instructions>,
    /// Sessions on the nodes themselves.
    #[serde(default)]
    pub cluster: Cluster,
}

/// The machine on which the run took place.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub compiler: String,
}

impl Machine {
    pub fn this() -> anyhow::Result<Self> {
        let known = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = known.lines().find_map(|line| line.strip_prefix("model name\t: "));
        let compiler = Command::new("rustc").arg("--version").output().context("rustc")?;
        Ok(Self {
            processor: model.unwrap_or("unknown processor").to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            compiler: String::from_utf8(compiler.stdout)?.trim().to_owned(),
        })
    }
}

/// Writes `results.json`, `table.md` and the charts, and returns the table.
pub fn write(results: &Results, place: &Path) -> anyhow::Result<String> {
    let table = table::of(results);
    fs::create_dir_all(place)?;
    fs::write(place.join("results.json"), serde_json::to_string_pretty(results)? + "\n")?;
    fs::write(place.join("table.md"), &table)?;
    fs::write(place.join("chart.svg"), chart::of(results))?;
    fs::write(place.join("redis.svg"), chart::of_server(results, Server::Redis))?;
    fs::write(place.join("cluster.svg"), chart::of_cluster(results))?;
    fs::write(place.join("postgres.svg"), chart::of_server(results, Server::Postgres))?;
    Ok(table)
}

impl Results {
    /// Reads the results of an earlier run.
    pub fn read(place: &Path) -> anyhow::Result<Self> {
        let path = place.join("results.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Returns the instructions of a request, as callgrind counted them.
    fn instructions(&self, peer: &dyn Peer, workload: Workload) -> Option<f64> {
        let counted = self.instructions.get(peer.name())?;
        counted.iter().find(|(known, _)| *known == workload).map(|(_, counted)| *counted)
    }

    /// Returns the instructions that a peer adds to the pass-through layer. Hashes of secrets are
    /// excluded, because callgrind's count of them does not reflect their cost.
    fn over_pass_through(&self, peer: &dyn Peer, workload: Workload) -> Option<f64> {
        let Workload::Requests { case, .. } = workload else { return None };
        let hash = self.instructions(peer, Workload::Hash)?;
        let own = self.instructions(peer, workload)? - hash * f64::from(peer.hashes(case));
        Some(own - self.instructions(&PassThrough, workload)?)
    }

    /// Returns the instructions that a peer with its sessions on a server adds to the pass-through
    /// layer, also without hashes.
    fn remote_over_pass_through(&self, peer: &Remote, case: Case) -> Option<f64> {
        let of = |name: &str| self.remote_instructions.get(name)?.get(&case).copied();
        let hash = self.instructions(&PassThrough, Workload::Hash)?;
        Some(of(peer.name)? - of(PassThrough.name())? - hash * f64::from((peer.hashes)(case)))
    }

    /// Returns the instructions of the floor for a request without a cookie.
    fn floor(&self) -> Option<f64> {
        self.instructions(&Floor, self.workload(Case::Anon)?)
    }

    /// Returns the workload of a case in the tables.
    fn workload(&self, case: Case) -> Option<Workload> {
        let counted = self.instructions.get(Floor.name())?;
        let is_it = |workload: &Workload| {
            matches!(workload, Workload::Requests { case: known, size, .. }
                if *known == case && *size == case.size())
        };
        counted.iter().map(|(workload, _)| *workload).find(is_it)
    }

    /// Returns the numbers of sessions, or of keys, with which a case was counted.
    fn grown(
        &self,
        case: Case,
        number: fn(Size, usize) -> Option<usize>,
    ) -> Vec<(usize, Workload)> {
        let counted = self.instructions.get(Floor.name()).into_iter().flatten();
        let mut grown: Vec<_> = counted
            .filter_map(|(workload, _)| match *workload {
                Workload::Requests { case: known, size, sessions } if known == case => {
                    Some((number(size, sessions)?, *workload))
                }
                _ => None,
            })
            .collect();
        grown.dedup_by_key(|(number, _)| *number);
        grown
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    peers::ALL.into_iter().map(Peer::name)
}
