//! Sessions in Redis, shared by all nodes of a service.
//!
//! [`RedisStore`] keeps nothing in the process. A load is one command, a commit one script, both over
//! one connection that all requests share; what is decided about a record is decided in one step on
//! the server that has it. It runs on one server, behind sentinels, and in a cluster, with or without
//! TLS, on Redis 7.0 and later.
//!
//! # What it costs
//!
//! Round trips, counted at the server; a login is two because the request loads its session first.
//!
//! | | load | write | read and write | login | logout |
//! | --- | ---: | ---: | ---: | ---: | ---: |
//! | one server, sentinels | 1 | 1 | 2 | 2 | 2 |
//! | a cluster | 1 | 1 | 2 | 3 | 2, and 1 behind it |
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
//! # Outages
//!
//! A connection that breaks is opened again by the next call, and one that answers nothing is given up
//! by whoever gives up on it. A call waits for its own answer only, and attempts to connect are at least
//! 100 ms apart. What may have been received is sent a second time only where the second is known for
//! what it is: reads, new records, new secrets. Everything else fails as not confirmed.
//!
//! # Deployment caveat
//!
//! Set `maxmemory-policy noeviction`. Any other policy lets Redis end sessions when its memory is full,
//! logged-in ones for the sake of visitors; [`RedisStore::check_eviction`] warns of it. With it, writes
//! fail when the memory is full.
//!
//! # Privileges
//!
//! The store needs no more than this user, as a line of an ACL file; it is what all tests run under.
//! The pattern is for the default prefix. A cluster of one database needs no `select`; without a
//! cluster, nothing needs `cluster|slots` and `asking`, and without sentinels nothing needs `role`.
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
//! | `connection` | one server, the primary behind sentinels, the servers of a cluster |

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

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub use address::{Address, AddressError};
pub use error::{CheckError, SetupError};
pub use keys::{Prefix, PrefixError};
pub use store::{RedisStore, RedisStoreBuilder};
pub use tls::Tls;
