//! What a node tells an operator of itself and its cluster.

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
    /// What goes through it.
    pub traffic: Traffic,
    /// How far its wall clock is ahead of the service's time, in milliseconds; negative if it is slow.
    pub clock_offset_millis: i64,
    /// Why it is not ready, if it is not.
    pub problem: Option<String>,
}

/// An epoch, as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Which epoch it is.
    pub epoch: EpochId,
    /// The version of the protocol that all members speak.
    pub protocol: u32,
    /// What all members are configured with alike.
    pub settings: Settings,
    /// What happens where a majority of the voters is out of reach.
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
    /// Where other nodes reach it.
    pub address: String,
    /// Where it runs.
    pub zone: Option<String>,
    /// What it does.
    pub role: Role,
    /// Whether it has a say in the next epoch.
    pub votes: bool,
    /// How it is reached; `None` for the node that describes.
    pub reach: Option<Reach>,
    /// How far its wall clock is ahead of the service's time, in milliseconds, if it was heard.
    pub clock_offset_millis: Option<i64>,
}

/// How a node reaches another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whether a direct link is open.
    pub is_linked: bool,
    /// Why the node suspects it, if it does.
    pub suspected: Option<Suspected>,
    /// The other nodes that said a short while ago that they do not reach it.
    pub suspected_by: Vec<Name>,
}

/// What goes through a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets of other nodes that it passed on since it began.
    pub relayed: u64,
    /// Its own calls that are open.
    pub open_calls: usize,
}
