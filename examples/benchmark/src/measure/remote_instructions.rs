//! Instructions per request with sessions on a server. They are those of this process, not of the
//! server.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::instructions::{counted, counts};
use super::{Job, connected_runtime};
use crate::cases::Case;
use crate::client::Client;
use crate::peers::{LONG, PassThrough, Peer, remote_named};
use crate::servers::Servers;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// A peer with its sessions on a server, or `None` for the pass-through layer.
    pub peer: Option<String>,
    /// The number of requests per case.
    pub requests: usize,
}

/// Instructions per request, by case.
pub type Instructions = BTreeMap<Case, f64>;

/// Serves every case, and returns their number. Callgrind writes the figures.
pub fn run(plan: &Plan) -> anyhow::Result<usize> {
    let runtime = connected_runtime();
    let remote = plan.peer.as_deref().map(remote_named).transpose()?;
    let servers = remote.map(|_| Servers::start());
    let app = runtime.block_on(async {
        match remote.zip(servers.as_ref()) {
            Some((remote, servers)) => remote.app(&servers.address(remote.server)).await,
            None => Ok(PassThrough.app(LONG)),
        }
    })?;
    for case in Case::REMOTE {
        let client = runtime.block_on(Client::warm(app.clone(), case, plan.requests))?;
        let mut served = Ok(());
        counted(&mut || served = runtime.block_on(client.serve(case, plan.requests)));
        served?;
    }
    Ok(Case::REMOTE.len())
}

/// Runs the plan under callgrind.
pub fn count_with_callgrind(probe: &str, plan: &Plan, keep: &Path) -> anyhow::Result<Instructions> {
    let name = plan.peer.as_deref().unwrap_or("pass-through");
    let dumps = keep.join(format!("remote-{}", name.replace([' ', ','], "-")));
    let job = Job::RemoteInstructions(plan.clone());
    let counted = counts(probe, &job, Case::REMOTE.len(), &dumps)?;
    let each = |counted| counted / plan.requests as f64;
    Ok(Case::REMOTE.into_iter().zip(counted.into_iter().map(each)).collect())
}
