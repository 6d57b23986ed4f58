//! Descriptions of a store and its nodes, for operators.

use std::collections::BTreeMap;

use serde::Serialize;

/// A node of a store and its cluster, as that node sees them: the answer of
/// [`Operate::describe`](crate::Operate::describe).
///
/// To serde, the fields of [`cluster`](Self::cluster) and [`traffic`](Self::traffic) stand beside
/// the others. Those of the cluster are left out while the node is in none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The name of the node that answers.
    pub node: String,
    /// The start of its process: 32 hexadecimal digits, drawn at random. Logs show the first 8.
    pub boot: String,
    /// The cluster; `None` while the node is in none.
    #[serde(flatten)]
    pub cluster: Option<Cluster>,
    /// The node's part in the slots.
    pub slots: Slots,
    /// Copies that other holders of the node's slots lack.
    pub sync: Lacking,
    /// Calls and relayed messages of the node.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// The offset of the node's wall clock from the cluster's time, in milliseconds; negative if
    /// it is slow.
    pub clock_offset_ms: i64,
    /// The reason why the node is not ready, as a sentence; `None` if it is.
    pub problem: Option<String>,
}

/// The nodes that hold sessions together, as one of them sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// The epoch of the cluster.
    pub epoch: Epoch,
    /// The configuration that all members share, by the names of the settings in the store's
    /// URL. One that is left to its default may be missing.
    pub settings: BTreeMap<String, String>,
    /// The policy while no majority of the voters is reachable: `fail` or `degrade`.
    pub policy: String,
    /// The members, in the order of their names.
    pub members: Vec<Member>,
}

/// An agreement on who is a member. Each change of the members is another epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Epoch {
    /// The succession of epochs it belongs to: 32 hexadecimal digits. Clusters that were founded
    /// apart have different ones.
    pub lineage: String,
    /// Its number in the lineage, from 1.
    pub number: u64,
    /// The version of the protocol that all members speak.
    pub protocol: u32,
}

/// A member of a cluster, as another one or the member itself sees it.
///
/// To serde, the fields of [`reach`](Self::reach) stand beside the others, and are left out for the
/// node that describes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The start of its process: 32 hexadecimal digits.
    pub boot: String,
    /// The host and port at which other nodes reach it.
    pub address: String,
    /// The zone it runs in, if one was configured.
    pub zone: Option<String>,
    /// Its role: `joining` while it fills its slots, `full`, `draining`, or `aside` while it is not
    /// reached.
    pub role: String,
    /// True if it votes on the next epoch.
    pub votes: bool,
    /// Its links and suspicions, as the describing node sees them; `None` for that node itself.
    #[serde(flatten)]
    pub reach: Option<Reach>,
    /// The offset of its wall clock from the cluster's time, in milliseconds; `None` if it was not
    /// heard.
    pub clock_offset_ms: Option<i64>,
}

/// The contact between two nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// True while a direct link is open.
    pub linked: bool,
    /// The reason why the node suspects it, as a sentence; `None` if it does not.
    pub suspected: Option<String>,
    /// The names of the other nodes that do not reach it either.
    pub suspected_by: Vec<String>,
}

/// A node's part in the slots: equal shares of all sessions, each with an owner and other holders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Slots {
    /// Own slots that are complete here, and served.
    pub served: u64,
    /// Own slots that are being taken over: their sessions wait.
    pub waiting: u64,
    /// Slots of other owners that are complete here.
    pub complete: u64,
    /// Slots of other owners of which something may be missing here.
    pub filling: u64,
    /// Slots of the whole cluster that were given up, because no holder was left, and not served
    /// since.
    pub given_up: u64,
}

/// Copies that other holders of a node's slots may lack: the progress of a repair. At rest,
/// both are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lacking {
    /// Slots that are not known to be complete at another holder, counted once for each such
    /// holder.
    pub unsynced_slots: u64,
    /// Copies of records that other holders may lack.
    pub under_replicated: u64,
}

/// Calls and relayed messages of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Messages of other nodes that it passed on since its process started.
    pub relayed: u64,
    /// Its own calls that wait for an answer.
    pub open_calls: u64,
}
