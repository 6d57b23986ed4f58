//! A node's description of itself and its cluster, for operators.

use crate::budget::Totals;
pub use crate::cluster::Suspected;
use crate::epoch::{EpochId, PartitionPolicy};
use crate::figures::Slots;
use crate::member::{Boot, Name, Role};
use crate::settings::Settings;

/// A node and its cluster, as the node sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: Name,
    /// Its boot.
    pub boot: Boot,
    /// The cluster; `None` while the node is in none.
    pub cluster: Option<ClusterDescription>,
    /// Its part in the slots.
    pub slots: Slots,
    /// The sessions that it holds.
    pub held: Totals,
    /// Its traffic.
    pub traffic: Traffic,
    /// The lead of its wall clock over the service's time, in milliseconds; negative if the clock
    /// is slow.
    pub clock_offset_millis: i64,
    /// The reason why it is not ready, if it is not.
    pub problem: Option<String>,
}

/// An epoch, as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The identity of the epoch.
    pub epoch: EpochId,
    /// The version of the protocol that all members speak.
    pub protocol: u32,
    /// The settings that all members share.
    pub settings: Settings,
    /// The behaviour when a majority of the voters is unreachable.
    pub policy: PartitionPolicy,
    /// The members, by name.
    pub members: Vec<MemberDescription>,
}

/// A member, as another one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its name.
    pub name: Name,
    /// Its boot.
    pub boot: Boot,
    /// The address at which other nodes reach it.
    pub address: String,
    /// The zone in which it runs.
    pub zone: Option<String>,
    /// Its role.
    pub role: Role,
    /// True if it votes for the next epoch.
    pub votes: bool,
    /// The path to it; `None` for the describing node itself.
    pub reach: Option<Reach>,
    /// The lead of its wall clock over the service's time, in milliseconds, if known.
    pub clock_offset_millis: Option<i64>,
}

/// The path from a node to another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// True if a direct link is open.
    pub is_linked: bool,
    /// The reason for suspecting it, if the node does.
    pub suspected: Option<Suspected>,
    /// The other nodes that said a short while ago that they do not reach it.
    pub suspected_by: Vec<Name>,
}

/// The traffic of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets of other nodes that it passed on since it began.
    pub relayed: u64,
    /// Its own calls that are open.
    pub open_calls: usize,
}
