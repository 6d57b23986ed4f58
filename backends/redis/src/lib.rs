//! Sessions in Redis, shared by all nodes of a service.
//!
//! [`RedisStore`] keeps nothing in the process. A load is one command, a commit one script, both over
//! one connection that all requests share; what is decided about a record is decided in one step on
//! the server that has it. It runs on one server, behind sentinels, and in a cluster, with or without
//! TLS, on Redis 7.0 and later. [`RedisStore::check`] does once what requests will do, and says what is
//! missing. An application that has a connection already can hand it over:
//! [`RedisStore::with_connection`].
//!
//! # What it costs
//!
//! Round trips, counted at the server; a login is two because the request loads its session first. At
//! the cap a login is one more. `split` counts as a cluster.
//!
//! | | load | write | read and write | login | logout | list |
//! | --- | ---: | ---: | ---: | ---: | ---: | ---: |
//! | one server, sentinels | 1 | 1 | 2 | 2 | 2 | 2 |
//! | a cluster | 1 | 1 | 2 | 3 | 3 | 2 |
//!
//! Redis keeps a hash in one piece of memory while no field is longer than `hash-max-listpack-value`, 64
//! bytes by default; 256 saves about 100 bytes per session.
//!
//! # The feed
//!
//! [`changes`](steadfast_core::SessionStore::changes) tells what scripts publish. It subscribes on every
//! server that has records, so that it does not depend on what the servers of a cluster tell each other.
//! Messages are numbered per node, and a node tells soon afterwards how many there were: a gap is
//! `Missed` within about half a second. A listener publishes something over each server four times a
//! second, in a script that only a server which takes writes runs; what does not come back within 750 ms
//! makes the feed `Down`. The feed does not tell of records that end without a script: a `DEL` by hand,
//! an eviction, or Redis' own expiry.
//!
//! # Time
//!
//! A session ends by the application's clock, which every call brings along. Redis' own expiry is
//! relative to that, an hour longer, and gives memory back; it ends nothing, and nobody counts what it
//! takes.
//!
//! # Durability
//!
//! Redis answers before its replicas have what was written. If the primary is lost, so may be what it
//! confirmed in the last moments, a logout among it: the session is live again. Set
//! [`wait`](RedisStoreBuilder::wait) where that must not be: then what ends a session or replaces its
//! secret is confirmed when that many replicas have it, or fails. A failover that promotes a replica
//! without it is then left to what Redis itself promises of elections: it prefers the replica that has
//! the most. A server that restarts without a file of its data restarts without sessions.
//!
//! A primary that hangs, and wakes after the sentinels have replaced it, takes itself for the primary
//! until a sentinel tells it, which may take some seconds. Nodes leave it when a sentinel announces
//! the other one, usually within 0.3 s of its waking. Until then it serves values, secrets and ended
//! sessions as they were before it hung, and loses what is written to it; what waits for copies fails
//! instead. `min-replicas-to-write 1` has it refuse writes once its replica was gone for
//! `min-replicas-max-lag`; nothing keeps it from serving old reads.
//!
//! # Outages
//!
//! Deadlines are the caller's. A connection that breaks is opened again by the next call; one whose
//! oldest call has no answer for 400 ms is replaced, and used on while no other can be had. Attempts to
//! connect are at least 100 ms apart, and the addresses of a host are tried 100 ms apart. What may have
//! been received is sent a second time only where the second is known for what it is: reads, new
//! records, new secrets. Everything else fails as not confirmed. A server that is full, read-only or
//! lacks replicas fails writes alone, and sessions can still be ended where the server allows it.
//!
//! # Deployment caveat
//!
//! Set `maxmemory-policy noeviction`. Any other policy lets Redis end sessions when its memory is full,
//! logged-in ones for the sake of visitors; [`RedisStore::check`] warns of it. With it, writes fail when
//! the memory is full, and reads and sign-outs go on.
//!
//! # Privileges
//!
//! The store needs no more than this user, as a line of an ACL file; it is what all tests run under.
//! The pattern is for the default prefix. A cluster of one database needs no `select`; without a
//! cluster, nothing needs `cluster|slots` and `asking`, without sentinels nothing needs `role`, and
//! without [`wait`](RedisStoreBuilder::wait) nothing needs that. `info` and `pubsub|numsub` only serve
//! warnings, and `scan` the administration.
//!
//! ```text
#![doc = include_str!("../users.acl")]
//! ```
//!
//! Turn the user `default` off, but leave it its rights, `user default off resetpass ~* &* +@all`: a
//! server replays its append-only file as that user, and drops in silence what that user may not do.
//!
//! # Map
//!
//! | module | what it is for |
//! | --- | --- |
//! | `store` | [`RedisStore`], its set-up, and the traits |
//! | `sessions` | what is done to one record; `index`, to the sessions of a principal |
//! | `operate`, `changes` | what an administrator asks; what happened elsewhere |
//! | `keys`, `codec` | how everything is named and kept |
//! | `script` | the scripts; `request`, what they are told; `made`, what they answer |
//! | `connection` | one server, the primary behind sentinels, the servers of a cluster; a connection that is given |

mod store;
mod address;
mod error;
mod tls;
mod check;

mod sessions;
mod seen;
mod index;
mod operate;
mod feed;
mod changes;

mod keys;
mod codec;

mod script;
mod request;
mod made;
mod reply;

mod connection;
mod metrics;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub use address::{Address, AddressError};
pub use error::{CheckError, SetupError};
pub use keys::{Prefix, PrefixError};
pub use store::{RedisStore, RedisStoreBuilder};
pub use tls::Tls;
