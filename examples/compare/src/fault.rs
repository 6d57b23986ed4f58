//! Faults: each goes wrong under load, and shows another side of a strategy.

use std::str::FromStr;

use anyhow::bail;

use crate::strategy::Strategy;

/// Something that goes wrong under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One node is killed, as by a power cut, and does not come back.
    Kill,
    /// One node stands still for a while, as a machine that swaps or a paused container does.
    Stop,
    /// One node ends as it does in a deployment: it drains and does not come back.
    Drain,
    /// The server that sessions are on stands still for a while.
    Outage,
}

impl Fault {
    /// All faults, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Stop, Self::Drain, Self::Outage];

    /// The name in options and in JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Drain => "drain",
            Self::Outage => "outage",
        }
    }

    /// The event, as the heading of its measures and its timelines.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Kill => "A node is killed under load",
            Self::Stop => "A node stands still under load, then goes on",
            Self::Drain => "A node drains and ends under load",
            Self::Outage => "The server stands still under load, then goes on",
        }
    }

    /// The word at its moment in a timeline.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Stop | Self::Outage => "stopped",
            Self::Drain => "drains",
        }
    }

    /// True if it ends by itself after a while.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Stop | Self::Outage)
    }

    /// True if a strategy can meet it.
    pub fn concerns(self, strategy: Strategy) -> bool {
        self != Self::Outage || strategy.server().is_some()
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
