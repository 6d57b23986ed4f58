//! Sessions on the node that a load balancer sends their clients to.
//!
//! A node serves its sessions from copies in its own memory. [`StickyStore`] tells each client the
//! *label* of its node, in a cookie that a stock balancer can read, and the balancer sends the client
//! there. What makes that safe is a *backup*: a store that all nodes share, to which every change is
//! written before the answer. When a node ends, whichever node gets its clients takes their sessions
//! over from there.
//!
//! # What a request costs
//!
//! | request | with the route's node | after a change of nodes, once |
//! | --- | --- | --- |
//! | reads | a load of the backup once per `recheck` (1 s) and session, otherwise nothing | a load and a patch of the backup |
//! | writes | a patch | the same patch |
//! | signs in or out | a patch, or a delete | the same |
//!
//! However many requests a session in use has, its copy is checked once in this time; a session that
//! is not used costs nothing. The first read after a session was created asks the backup once more.
//! Over a backup in the same process, such as `MemoryStore`, reads cost nothing at all.
//!
//! # How long a copy is valid
//!
//! The backup decides. A copy answers in its place for `recheck` after it was checked, unless the
//! backup tells of a change before: then it answers no more. News of a change usually takes
//! milliseconds (see `changes` of `SessionStore`), but it can be lost, and a server tells nobody when a
//! record is deleted by hand, evicted, or lost in a failover. So no such feed spares a copy its check:
//! a session that was signed out on one node is dead on all of them within `recheck` in any case. Only a
//! feed that is complete (`ChangeStream::is_complete`) replaces the checks.
//!
//! A copy never answers below the version that the client carries, and never says no: where the proof,
//! the key of a hash or the sign-in differs, the backup is asked.
//!
//! # Writing behind
//!
//! With `write_behind`, plain writes are acknowledged before the backup has them. They are bound to the
//! owner and the sign-in of the copy: when another node takes the session over, what it did not change
//! is made up for, and when another user signs in, it is dropped. While the backup is away the node
//! tries again with a growing pause of up to 5 s, one record at a time. A drain waits for the rest for
//! `drain_within` (10 s). Each acknowledged write that is lost is counted and logged.
//!
//! # Metrics
//!
//! A node with a backup shows its feed, its copies and its takeovers, and with `write_behind` what the
//! backup does not have yet and what it will never have; every node shows how the routes of requests
//! relate to it. The page `steadfast::guide::metrics` lists all names.
//!
//! # Routes
//!
//! A label is advice: any label is accepted, known or not, and none changes whose session it is. A
//! request that comes with the label of another node is served all the same, and its answer carries
//! the label of this one, once a session. Whether the balancer follows the labels shows in
//! `steadfast_routes_total`, in `steadfast_astray_share`, and in one warning.
//!
//! # Without a backup
//!
//! Sessions end with their node, and with every deployment. It shows: `session.status()` says `Lost`
//! for a client whose session was on another node, or in an earlier process of this one, and the
//! event `lost` is counted. `list` and `delete_all` are unsupported, because no node sees all sessions.
//!
//! # Map
//!
//! | module | what it is for |
//! | --- | --- |
//! | `store` | [`StickyStore`], its set-up, and the traits |
//! | `backed` | a node with a backup: what each operation does here and there |
//! | `copies` | the near cache, and what must not come back into it; `principals`, whose they are |
//! | `checks` | questions to the backup that several requests wait for |
//! | `feed` | what the backup says of changes, and whether that can be trusted |
//! | `behind` | writes that are acknowledged before the backup has them; `pace`, when they are retried |
//! | `shed` | sessions that are to move; `peers`, where to |
//! | `traffic`, `metrics` | what an operator sees |
//! | `alone` | a node without a backup |

mod store;

mod backed;
mod copies;
mod checks;
mod principals;
mod feed;
mod behind;
mod pace;
mod shed;
mod peers;

mod traffic;
mod metrics;
mod alone;

pub use store::{StickyStore, StickyStoreBuilder};
