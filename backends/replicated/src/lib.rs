//! Sessions in the memory of the application's own nodes.
//!
//! [`ReplicatedStore`] needs nothing beside the application: its processes hold the sessions, each of
//! them on several nodes. [`Replication::Backups`] keeps an owner and some backups, [`Replication::Full`]
//! keeps everything everywhere. Where a record belongs is computed from its id and the names of the nodes,
//! so a node keeps nothing of the records of others, and any node finds any record.
//!
//! ```no_run
//! use steadfast_replicated::ReplicatedStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = ReplicatedStore::builder()
//!     .bind("10.0.0.1:7946".parse()?)
//!     .seeds(["sessions.internal:7946"])
//!     .secret(std::fs::read("/run/secrets/sessions")?)
//!     .open()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//!
//! 1. A read returns at least the version that the client carries, or an error.
//! 2. An acknowledged patch survives any one crash, repair time apart; as many crashes as there are
//!    backups with [`Acknowledgements::All`].
//! 3. At rest, all holders of a record hold the same, and no other node holds it.
//! 4. A write that was not acknowledged is shown to no other request. A write that misses its
//!    acknowledgements answers "not confirmed", and stays under way until it is confirmed or its
//!    record ends.
//! 5. A deleted session or replaced secret is dead on every node from the moment the call returns,
//!    also on one that is cut off. Under [`PartitionPolicy::Degrade`], not in a split.
//! 6. A node that is promoted held a copy. 7. The last copy is never dropped. 8. No call outlives its
//!    deadline. 9. Clients push no clock. 10. Strangers change nothing. 11. Additions are exact.
//!    12. Memory of what is over returns to zero.
//!
//! Under [`PartitionPolicy::Fail`], also: at any moment at most one node serves a record. "Absent" is
//! never answered for a session that a node in sight holds as acknowledged. A restarted process changes
//! nothing by what it forgot. One wrong clock ends no session. A call is applied once, however often it
//! is asked. A node that is ready serves.
//!
//! `steadfast-replication` is the engine that keeps them, without I/O; its `PROTOCOL.md` defines the
//! protocol, and a simulator runs it under crashes, pauses, partitions, wrong clocks, drains and joins.
//!
//! # How long sessions live
//!
//! A touch is acknowledged like a write, so an answered one outlives the crash of its owner: a session
//! ends between 95 and 100 % of its idle time after the last request, since a layer touches it at most
//! every twentieth of that. Only the owner of a record ends it, by its own clock while that is within 1 s
//! of the median of the nodes' clocks, else by that median. A node whose clock is off for more than 5 s
//! says so, and is not ready.
//!
//! # Budgets
//!
//! The memory of a node is bounded, by a number of records and of bytes, of all copies that it holds, as
//! their owner and as a backup: once for sessions of visitors, by default 100,000 of them in 256 MiB, and
//! once for those of users, 1,000,000 in 1 GiB. See [`Budget`]. A session counts on every node that holds
//! it: with one backup, N nodes have room for N/2 times as many as one of them, and with
//! [`Replication::Full`] for no more than one.
//!
//! A node that holds more ends sessions of that kind that it owns: of 16, the one that was quiet for
//! longest, until it is within its budget or owns none. It does so with the write that is too many, so
//! that no flood outruns it. All nodes should have the same budgets, or one with less ends sessions for
//! which the others have room. A node that joins, drains, or has no majority where it needs one ends
//! nothing until that is over. A flood of visitors ends no session of a user.
//!
//! Listeners hear of such an end, as the event `capacity` rather than a logout. The list of the
//! sessions of a user counts for the bytes of users and never ends early.
//!
//! # Sessions that end without a request
//!
//! From the first call of `endings` on a node, that node keeps the end of each session that it owns and that
//! expired, was evicted or exceeded a cap, until it is acknowledged. So call it on all nodes. Every node with a
//! copy of the session also keeps its ending. If a node claims an ending and dies, the next owner hands it out
//! again. Each ending is reported at least once, and by a single node unless that node dies.
//!
//! An ending that is not acknowledged is dropped after 24 h. A node that holds 100,000 of them, for itself and
//! as a backup, keeps no further ones. They count for no budget.
//!
//! # Joins, restarts and leaves
//!
//! A node joins the service that its seeds name. Without seeds, it founds one. Where seeds are named, it
//! founds one only together with all of them: a seed that does not answer may be a service that is
//! running, so the node waits, and is not ready. Name as seeds the nodes that start together, or those
//! that run already.
//!
//! A drain hands every record over. By default it announces a restart, [`DrainMode::Restart`]: the node
//! keeps its vote until another process of its name is there, or for 60 s, so that nodes can be restarted
//! one after the other. With [`DrainMode::Leave`] the others decide without it from then on. Nodes that
//! come and go in this way fail no call.
//!
//! # Where a majority cannot be reached
//!
//! [`PartitionPolicy::Fail`], the default once a service has had three nodes: calls fail at a node that
//! sees no majority, and the others go on. [`PartitionPolicy::Degrade`], the default for one node and for
//! two: each side serves, and each answer says that fewer copies than configured hold the write. When the
//! sides meet, copies are merged per key, deletions win, counters are as their last writer left them, and
//! conflicts are counted. The policy never relaxes.
//!
//! Where more than half of the nodes are lost at the same moment, those that are left refuse until every
//! voter is back under its name, and then go on with what is left.
//!
//! # Deployment caveat
//!
//! A node that crashes is noticed when its connections close, one that hangs after 300 ms in which it
//! owes an answer. Its sessions wait for their next owner until its lease is over, at most 360 ms; one
//! that was drained first is not waited for. Two nodes that do not reach each other go on through a third.
//!
//! A seed may stand for several nodes, such as a headless service in Kubernetes: it is looked up
//! again and again. A node that is bound to all addresses of its host needs an address to
//! advertise. If a peer is refused (another secret, service, configuration or edition of the
//! protocol, a name that is taken), the reason is logged once. Any process with the secret can
//! speak as any node.
//!
//! A name is one process at a time: a second one under the name of a living node waits until that is
//! gone. Sessions end when all nodes end at the same moment. [`Replication::Full`] sends each write to
//! every node: use it for up to 10 of them; above that, each node logs a warning.
//!
//! # Metrics
//!
//! Each node publishes itself once a second through the facade of the `metrics` crate, labelled with
//! its name as `node`: what it holds, which nodes are there, and what goes between them. The page
//! `steadfast::guide::metrics` lists all names.
//!
//! # Map
//!
//! | module | what it is for |
//! | --- | --- |
//! | `error` | why a store cannot be opened |
//! | `system` | sockets and clocks |
//! | `credentials` | TLS by one secret |
//! | `detector` | which nodes are there, by SWIM |
//! | `links` | connections to the other nodes |
//! | `node` | an engine in real time |
//! | `status`, `metrics`, `cluster_log`, `describe` | what operators see |
//! | `store`, `open` | [`ReplicatedStore`], and its set-up |

mod error;

mod credentials;
mod detector;
mod links;
mod system;

mod cluster_log;
mod describe;
mod metrics;
mod node;
mod status;

mod open;
mod store;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
mod networked;

pub use error::OpenError;
pub use open::ReplicatedStoreBuilder;
pub use steadfast_core::Budget;
pub use steadfast_replication::membership::Drain as DrainMode;
pub use steadfast_replication::settings::{
    Acknowledgements, PartitionPolicy, Replication, Settings as ClusterSettings,
};
pub use store::ReplicatedStore;
