//! Faults: each goes wrong under load, and shows another side of a strategy.

use std::str::FromStr;

use anyhow::bail;

use crate::strategy::{Program, Strategy};

/// A fault under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One node is killed, as by a power cut, and does not come back.
    Kill,
    /// One node stops for a while, like a swapping machine or a paused container.
    Stop,
    /// One node ends as it does in a deployment: it drains and does not come back.
    Drain,
    /// The server that stores the sessions stops for a while.
    Outage,
    /// Another node starts, and takes its share.
    Join,
    /// The server that stores the sessions is killed, and its replica takes over.
    Failover,
}

impl Fault {
    /// All faults, in the order of the report.
    pub const ALL: [Self; 6] =
        [Self::Kill, Self::Stop, Self::Drain, Self::Outage, Self::Join, Self::Failover];

    /// The faults of a ten-minute run.
    pub const USUAL: [Self; 4] = [Self::Kill, Self::Stop, Self::Drain, Self::Outage];

    /// The name in options and in JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Drain => "drain",
            Self::Outage => "outage",
            Self::Join => "join",
            Self::Failover => "failover",
        }
    }

    /// The heading of its measures and its timelines.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Kill => "A node is killed under load",
            Self::Stop => "A node stands still under load, then goes on",
            Self::Drain => "A node drains and ends under load",
            Self::Outage => "The server stands still under load, then goes on",
            Self::Join => "Another node joins under load",
            Self::Failover => "The server is killed under load, and its replica takes over",
        }
    }

    /// The label of its moment in a timeline.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Kill | Self::Failover => "killed",
            Self::Stop | Self::Outage => "stopped",
            Self::Drain => "drains",
            Self::Join => "joins",
        }
    }

    /// True if it ends by itself after a while.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Stop | Self::Outage)
    }

    /// True if a strategy can meet it. The baseline is given one server, so it meets no failover.
    pub fn concerns(self, strategy: Strategy) -> bool {
        match self {
            Self::Outage => strategy.server().is_some(),
            Self::Failover => {
                strategy.server().is_some() && strategy.program() == Program::Reference
            }
            _ => true,
        }
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        if let Some(fault) = Self::ALL.into_iter().find(|fault| fault.id() == name) {
            return Ok(fault);
        }
        bail!("expected none, or some of {}", Self::ALL.map(Self::id).join(", "))
    }
}
