//! Sessions in the memory of the application's own nodes.
//!
//! [`ReplicatedStore`] needs nothing beside the application: its processes hold the sessions, each of
//! them on several nodes. [`Copies::Backups`] keeps an owner and some backups, [`Copies::All`] keeps
//! everything everywhere. Where a record belongs is computed from its id and the names of the nodes,
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
//! 1. A read returns at least the version that the client carries, or an error that says so.
//! 2. An acknowledged patch survives any one crash, repair time apart; as many crashes as there are
//!    backups with [`Acks::All`].
//! 3. At rest, all holders of a record hold the same, and nobody else holds it.
//! 4. What was not acknowledged is shown to no other request: a write that misses its
//!    acknowledgements is rolled back, and a copy that nobody confirmed is replicated first.
//! 5. What was deleted, and a secret that was replaced, is dead on every node from the moment the call
//!    returned, also on one that is cut off. Under [`Partition::Degrade`], not in a split.
//! 6. Who is promoted held a copy. 7. The last copy is never dropped. 8. No call outlives its
//!    deadline. 9. Clients push no clock. 10. Strangers change nothing. 11. Additions are exact.
//! 12. Memory of what is over returns to zero.
//!
//! The engine that keeps them does no I/O. A simulator in this crate runs it under crashes, pauses,
//! partitions in one or both directions, wrong views, drains, restarts, nodes that join and leave, and
//! clocks that are 5 min apart, drawn from a seed. Its checks are named after the invariants, and find
//! what breaks when one of the rules is left out. In a run of 1,000 seeds, with 2,906,191 calls, of
//! which 1,556,587 were reads and 121,455 failed, and 4,232 faults, none was found broken. A second
//! simulator runs whole nodes over a simulated network.
//!
//! # How long sessions live
//!
//! A touch is acknowledged like a write, so an answered one outlives the crash of its owner: a session
//! ends between 95 and 100 % of its idle time after the last request, since a layer touches it at most
//! every twentieth of that. Only the owner of a record ends it, by its own clock, and while a majority
//! takes it for alive; the others drop it six minutes later. Wall clocks may differ by 5 min, and a
//! life is by no more than that longer or shorter.
//!
//! A node that was alone for 24 h, while the others went on, forgets what it holds when it is back:
//! nobody remembers longer what ended meanwhile.
//!
//! # Budgets
//!
//! The memory of a node is bounded, by a number of records and of bytes, of all copies that it holds, as
//! their owner and as a backup: once for sessions that nobody signed in to, by default 100,000 of them
//! in 256 MiB, and once for those that somebody did, 1,000,000 in 1 GiB. See [`Budget`]. A session
//! counts on every node that holds it: with one backup, N nodes have room for N/2 times as many as one
//! of them, and with [`Copies::All`] for no more than one.
//!
//! A node that holds more ends sessions of that kind that it owns: of 16, the one that was quiet for
//! longest, until it is within its budget or owns none. It does so with the write that is too many, so
//! that no flood outruns it, and is over its budget by what is on its way between the nodes. All nodes
//! should have the same budgets, or one with less ends sessions for which the others have room. Who
//! joins, drains, or sees no majority where it needs one ends nothing until that is over. A flood of
//! visitors ends no session of a user.
//!
//! Listeners hear of such an end, and it is counted as the event `capacity`; but it is no logout. A
//! session that nobody signed in to is remembered by nobody, so that a flood leaves nothing behind. It
//! may come back from a node that was cut off meanwhile, which harms nobody. One of a user stays
//! ended, also on such a node: some hundred bytes of it are kept until it would have expired, beside
//! the budget. The list of the sessions of a user counts for the bytes of users and never ends early.
//!
//! # Restarts and leaves
//!
//! A drain hands every record over. By default it announces a restart, [`DrainAs::Restart`]: the node
//! goes on to count among those that decide by majority until it is gone for 60 s, so that nodes can
//! be restarted one after the other. [`DrainAs::Leave`] is over when the others agreed to decide
//! without it: of five nodes, two may leave, and one of the three that stay may be lost at once.
//!
//! Nodes that come and go in this way fail no call. A write that is under way when its record gets
//! another owner waits for that one's word: it took over what it found, and says whether it counts.
//! Where the two lose their link meanwhile, that may stay unknown, and the call is an error.
//!
//! # Where acknowledgements cannot be had
//!
//! [`Partition::Fail`], the default from three nodes up: the write is rolled back, and a node that
//! sees no majority of the nodes refuses everything. [`Partition::Degrade`], the default for one node
//! and for two: whoever is left serves, and each answer says that fewer copies than configured hold
//! the write. Both sides of a real split go on. Afterwards the copies are merged per key, deletions
//! win, counters are as their last writer left them, and conflicts are counted.
//!
//! # Deployment caveat
//!
//! Who is there is found out by SWIM: nodes probe each other, also through third ones, over the links
//! that they have. A node that is gone counts as dead after about 1.4 s, and its sessions wait that
//! long for their next owner; one that was drained first is not waited for.
//!
//! An address of a seed may stand for several nodes, such as a headless service in Kubernetes: it is
//! looked up again and again. A node that is bound to all addresses of its host has to be told which
//! one to advertise. Why a node that was reached is no peer (another secret, service or protocol, the
//! same name, a clock that is more than 5 min off) is said once in a line of `tracing`.
//!
//! Sessions end when all nodes end at once. Where more than half of the nodes are lost at once, those
//! that are left refuse until the others are back under their names. `Copies::All` sends each write
//! to every node: use it for up to 10 of them; above that, each says so in a line of `tracing`.
//!
//! # Metrics
//!
//! Each node publishes itself once a second through the facade of the `metrics` crate, labelled with
//! its name as `node`: what it holds, who is there, and what goes between the nodes. The page
//! `steadfast::guide::metrics` lists all names.
//!
//! # Map
//!
//! | module | what it is for |
//! | --- | --- |
//! | `placement` | which nodes hold a record |
//! | `record` | copies, their stamps, and how they are merged |
//! | `engine` | the replication, as a state machine |
//! | `node` | an engine in real time |
//! | `metrics` | what an operator sees |
//! | `wire` | messages as bytes |
//! | `credentials`, `link`, `sockets` | TLS, connections, queues |
//! | `membership` | who is there |
//! | `store`, `open` | [`ReplicatedStore`], and its set-up |

mod placement;
mod record;

mod engine;
mod metrics;
mod node;

mod credentials;
mod link;
mod membership;
mod sockets;
mod wire;

mod open;
mod store;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
mod in_process;
#[cfg(test)]
mod networked;
#[cfg(test)]
mod simulation;

pub use engine::config::{Acks, Copies, DrainAs, Partition};
pub use open::{OpenError, ReplicatedStoreBuilder};
pub use steadfast_core::Budget;
pub use store::ReplicatedStore;
