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
//! | reads | nothing | a load and a patch of the backup |
//! | writes | a patch | the same patch |
//! | signs in or out | a patch, or a delete | the same |
//!
//! The first read after a session was created asks the backup once more.
//!
//! # When a copy counts
//!
//! The backup decides; a copy may answer in its stead for `recheck` after it was checked, and beyond that
//! while the backup's feed of changes is alive (see `changes` of `SessionStore`): while there was a
//! change of any session within `recheck`, and no gap. A copy older than the version that the client
//! carries never answers, and neither does one that would say no. So a session that was signed out on
//! one node is dead on all of them as soon as the news arrived, and within `recheck` in any case, also
//! where the feed was cut. A process that stood still trusts no copy from before.
//!
//! # Routes
//!
//! A label is advice: any label is accepted, known or not, and none changes whose session it is. A
//! request that comes with the label of another node is served all the same, and its answer carries
//! the label of this one, once a session. Whether the balancer follows the labels shows in
//! `steadfast_routes_total{route="hit|backup|misrouted|unknown|none"}`, in the gauge
//! `steadfast_astray_share{node="…"}`, and in one warning.
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
//! | `copies` | the near cache, and what must not come back into it |
//! | `feed` | what the backup says of changes, and whether that can be trusted |
//! | `behind` | writes that are acknowledged before the backup has them |
//! | `shed` | sessions that are to move; `peers`, where to |
//! | `traffic` | whether the balancer follows the routes |
//! | `alone` | a node without a backup |

mod store;

mod backed;
mod copies;
mod feed;
mod behind;
mod shed;
mod peers;

mod traffic;
mod alone;

pub use store::{StickyStore, StickyStoreBuilder};
