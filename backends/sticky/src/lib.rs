//! Sessions on the node that a load balancer routes their clients to.
//!
//! A node serves sessions from copies in its own memory. [`StickyStore`] gives each client the *label*
//! of its node in a cookie that common load balancers can read, and the load balancer routes the
//! client there. A *backup* makes this safe: a store that all nodes share, to which every change is
//! written before the answer. When a node ends, the nodes that receive its clients take their
//! sessions over from the backup.
//!
//! # What a request costs
//!
//! | request | with the route's node | after a change of nodes, once |
//! | --- | --- | --- |
//! | reads | a load of the backup once per `recheck` (1 s) and session, otherwise nothing | a load and a patch of the backup |
//! | writes | a patch | the same patch |
//! | signs in or out | a patch, or a delete | the same |
//!
//! A session in use is checked once per `recheck`, regardless of its number of requests. A session
//! that is not used costs nothing. The first read after the creation of a session asks the backup
//! once more. With a backup in the same process, such as `MemoryStore`, reads cost nothing.
//!
//! # How long a copy is valid
//!
//! The backup is the authority. A copy answers in its place for `recheck` after a check, or until the
//! backup reports a change. Such news usually arrives within milliseconds (see `changes` of
//! `SessionStore`), but it can be lost, and a server does not report a record that was deleted by
//! hand, evicted, or lost in a failover. Copies are therefore checked even with a feed, and a session
//! that was signed out on one node is gone from all nodes within `recheck` in any case. Only a feed
//! that is complete (`ChangeStream::is_complete`) replaces the checks.
//!
//! A copy never answers with a version below the client's, and never refuses a request: if the proof,
//! the key of a hash or the sign-in differs, the backup is asked.
//!
//! # Write-behind
//!
//! With `write_behind`, plain writes are acknowledged before the backup has them. They are bound to
//! the owner and the sign-in of the copy. If another node takes the session over, the writes to keys
//! that it did not change are still applied. If another user signs in, they are dropped. During an
//! outage of the backup, the node retries one record at a time, with growing pauses of up to 5 s. A
//! drain waits up to `drain_within` (10 s) for the rest. Each acknowledged write that is lost is
//! counted and logged.
//!
//! # Metrics
//!
//! A node with a backup reports its feed, its copies and its takeovers; with `write_behind` also the
//! writes that the backup lacks and those that were lost. Every node reports how the routes of
//! requests relate to it. The page `steadfast::guide::metrics` lists all names.
//!
//! # Routes
//!
//! A label is a hint. Any label is accepted, and none changes which user a session belongs to. A
//! request with the label of another node is served, and its answer carries the label of this node,
//! once per session. `steadfast_routes_total`, `steadfast_astray_share` and one warning in the log
//! show whether the load balancer follows the labels.
//!
//! # Without a backup
//!
//! Sessions end with their node, and with every deployment. Clients can tell: `session.status()`
//! returns `Lost` if the session was on another node, or in an earlier process of this one, and the
//! event `lost` is counted. `list` and `delete_all` are unsupported, because no node knows all
//! sessions.
//!
//! # Map
//!
//! | module | purpose |
//! | --- | --- |
//! | `store` | [`StickyStore`], its builder and the store traits |
//! | `with_backup` | a node with a backup: how each operation uses the backup and the copies |
//! | `near_cache`, `principals` | the local copies, and the copies of each principal |
//! | `checks` | checks of the backup that several requests share |
//! | `feed` | the backup's change feed, and whether it can be trusted |
//! | `write_behind`, `pace` | writes acknowledged before the backup has them, and their retries |
//! | `rehoming`, `peers` | sessions that move, and their target nodes |
//! | `routing_stats`, `metrics` | figures for operators |
//! | `standalone` | a node without a backup |

mod store;

mod with_backup;
mod near_cache;
mod checks;
mod principals;
mod feed;
mod write_behind;
mod pace;
mod rehoming;
mod peers;

mod routing_stats;
mod metrics;
mod standalone;

pub use store::{StickyStore, StickyStoreBuilder};
