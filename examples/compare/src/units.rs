//! Unit costs: one read, write or sign-in, the memory of a session, and a service at rest.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::contest::Setting;
use crate::load::arrivals::{Step, paced};
use crate::observe::{Memory, Observed, observe};
use crate::records::Phase;
use crate::strategy::Strategy;

/// The unit costs of a strategy at one size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Units {
    /// The name of the strategy in options.
    pub strategy: String,
    /// The number of nodes.
    pub nodes: usize,
    /// The size of the value in each session, in bytes.
    pub value_bytes: usize,
    /// The number of sessions whose memory was measured.
    pub sessions: usize,
    /// An idle second.
    pub rest: Cost,
    /// A sign-in, with as many concurrent ones as the load allows.
    pub create: Cost,
    /// A read of a session, with [`READ_RATE`] of them in a second.
    pub read: Cost,
    /// A write of the value.
    pub write: Cost,
    /// A sign-out, a try of the old cookie, and a sign-in.
    pub turnover: Cost,
    /// Memory of a node without sessions, in bytes.
    pub node_base: f64,
    /// Memory of the server without sessions, in bytes.
    pub server_base: f64,
    /// Memory of a node for each session of the service, in bytes, on average over the nodes.
    pub node_session: f64,
    /// Memory of the server for each session, in bytes.
    pub server_session: f64,
}

/// The cost of one operation.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes between nodes, and between nodes and server.
    pub bytes: f64,
    /// Processor time of all processes, in milliseconds.
    pub cpu_ms: f64,
}

/// The size at which unit costs are taken.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The number of nodes.
    pub nodes: usize,
    /// The size of the value in each session, in bytes.
    pub value_bytes: usize,
    /// The number of sessions whose memory is measured.
    pub sessions: usize,
}

/// Measures the unit costs of a strategy, on a service of its own.
///
/// # Errors
///
/// If a process does not start, or the system does not tell what it counted.
pub async fn measure(
    setting: &Setting<'_>,
    strategy: Strategy,
    size: Size,
) -> anyhow::Result<Units> {
    let Size { nodes, value_bytes, sessions } = size;
    let (service, load) = setting.arrange(strategy, nodes, sessions, value_bytes).await?;
    // Nodes that have just met exchange more than later.
    tokio::time::sleep(STARTING).await;
    let empty = Memory::now();
    let rest = observe(&service, tokio::time::sleep(REST)).await?;
    let create = observe(&service, load.sign_in()).await?;
    load.write_all().await;
    tokio::time::sleep(SETTLING).await;
    let full = Memory::now();
    let few = sessions.min(PACED);
    let carry_out = async |step, count: usize, rate| {
        let plan = paced(step, count, sessions, rate);
        observe(&service, load.carry_out(Phase::Calm, &plan)).await
    };
    let write = carry_out(Step::Write, few, READ_RATE).await?;
    let read = carry_out(Step::Read, few, READ_RATE).await?;
    let turnover = carry_out(Step::Leave, few / 4, READ_RATE / 4.0).await?;
    service.end().await;
    let per_session = |full: f64, empty: f64| ((full - empty) / sessions as f64).max(0.0);
    Ok(Units {
        strategy: strategy.id().to_owned(),
        nodes,
        value_bytes,
        sessions,
        rest: rest.per(rest.length.as_secs_f64()),
        create: create.without(&rest).per(sessions as f64),
        read: read.without(&rest).per(few as f64),
        write: write.without(&rest).per(few as f64),
        turnover: turnover.without(&rest).per((few / 4) as f64),
        node_base: empty.node.round(),
        server_base: empty.server.round(),
        node_session: rounded(per_session(full.node, empty.node)),
        server_session: rounded(per_session(full.server, empty.server)),
    })
}

impl Observed {
    /// Subtracts the cost of the same time at rest.
    fn without(&self, rest: &Self) -> Self {
        let share = self.length.as_secs_f64() / rest.length.as_secs_f64();
        let left = |all: f64, rest: f64| (all - rest * share).max(0.0);
        let (bytes, cpu_ms) = (left(self.bytes, rest.bytes), left(self.cpu_ms, rest.cpu_ms));
        Self { length: self.length, bytes, cpu_ms }
    }

    fn per(&self, count: f64) -> Cost {
        Cost { bytes: rounded(self.bytes / count), cpu_ms: rounded(self.cpu_ms / count) }
    }
}

/// To thousandths.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Reads and writes per second while unit costs are taken.
pub const READ_RATE: f64 = 300.0;

/// The number of reads or writes in an average.
const PACED: usize = 1_200;

const STARTING: Duration = Duration::from_secs(4);
const SETTLING: Duration = Duration::from_millis(700);
const REST: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_free_of_what_rest_costs() {
        let second = Duration::from_secs(1);
        let rest = Observed { length: second, bytes: 10.0, cpu_ms: 1.0 };
        let all = Observed { length: second * 4, bytes: 140.0, cpu_ms: 3.0 };
        let unit = all.without(&rest).per(10.0);
        assert_eq!((unit.bytes, unit.cpu_ms), (10.0, 0.0));
    }
}
