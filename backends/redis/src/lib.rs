//! Sessions in Redis, shared by all nodes of a service.
//!
//! [`RedisStore`] keeps nothing in the process. A load is one command and a commit is one script, on
//! one connection that all requests share. Each decision about a record is made atomically on the
//! server that has it. The store runs on a single server, with sentinels, and in a cluster, with or
//! without TLS, on Redis 7.0 and later. [`RedisStore::check`] does once what requests do, and reports
//! what is missing.
//! An application that already has a connection can pass it to [`RedisStore::with_connection`].
//!
//! # What it costs
//!
//! The table shows round trips, counted at the server. A login takes two because the request loads
//! its session first, and one more at the cap. `split` costs the same as a cluster.
//!
//! | | load | write | read and write | login | logout | list |
//! | --- | ---: | ---: | ---: | ---: | ---: | ---: |
//! | one server, sentinels | 1 | 1 | 2 | 2 | 2 | 2 |
//! | a cluster | 1 | 1 | 2 | 3 | 3 | 2 |
//!
//! Redis stores a hash compactly as long as no field exceeds `hash-max-listpack-value`, 64 bytes by
//! default. Setting it to 256 saves about 100 bytes per session.
//!
//! # The feed
//!
//! [`changes`](steadfast_core::SessionStore::changes) reports the changes that scripts publish. It
//! subscribes on every server that has records, so that it does not depend on servers of a cluster
//! forwarding messages to each other. Each node numbers its messages and soon afterwards publishes
//! their count, so that a gap becomes `Missed` within about half a second. Four times per second, a
//! listener publishes an echo on each server, with a script that only a server that accepts writes
//! runs. If an echo does not return within 750 ms, the feed is `Down`. The feed does not report
//! records that end without a script: by a manual `DEL`, an eviction, or Redis' own expiry.
//!
//! # Time
//!
//! The application's clock decides when a session ends; every call sends its time. Redis' own expiry
//! is set relative to that clock and an hour later, or a day if the store keeps endings. It only frees
//! memory: it does not end sessions, and the records it removes are not counted.
//!
//! # Endings
//!
//! After the first call of [`endings`](steadfast_core::SessionStore::endings), the store reports
//! sessions that expire or exceed the cap. Until then, nothing differs. Call it in each node: one
//! that did not call it removes an expired record that a request asks for, without a report.
//!
//! A sorted set has the time at which each session may have ended, and a claim looks at the records
//! that are due. An expired record stays until its end is acknowledged, or for a day after its
//! deadline. A session that the cap ends leaves a field with the user and the time, in the same atomic step.
//! So a crash loses no ending.
//!
//! - A session is reported five minutes after its deadline, so that a node with a slow clock can
//!   use it until then, or after a [`collect`](steadfast_core::Operate::collect).
//! - What the server itself removes is not reported: by an eviction, by a failover that loses
//!   writes, or a day after the deadline without a claim.
//! - A session that was stored before the first call is reported if it was used since, or if a
//!   `collect` finds it.
//! - The set takes about 100 bytes per session, until the deadline that the session had. An expired
//!   record takes its memory for some minutes longer.
//! - On a single server no call takes another round trip. In a cluster, a create, a login and a
//!   touch take one more, and a claim asks for 16 sets.
//!
//! # Durability
//!
//! Redis answers before its replicas have a write. If the primary is lost, the writes of the last
//! moments may be lost with it, including a logout, whose session is then live again. Set
//! [`wait`](RedisStoreBuilder::wait) if that is not acceptable: an operation that ends a session or
//! replaces its secret then fails unless that many replicas confirm it. If a failover still promotes
//! a replica without the write, that is up to Redis' election, which prefers the replica with the most
//! data. A server that restarts without persistence starts without sessions.
//!
//! A primary that hangs, and wakes after the sentinels have replaced it, still acts as the primary
//! until a sentinel demotes it, which may take some seconds. Nodes leave it when a sentinel announces
//! its successor, usually within 0.3 s of its waking. Until then it serves values, secrets and ended
//! sessions as they were before it hung, and loses what is written to it. Operations that wait for
//! replicas fail instead. With `min-replicas-to-write 1` it refuses writes once its replica has been
//! gone for `min-replicas-max-lag`. No setting prevents it from serving old reads.
//!
//! # Outages
//!
//! Callers set their own timeouts. A broken connection is reopened by the next call. A connection whose
//! oldest call has had no answer for 400 ms is replaced, but stays in use until a new one is open.
//! Attempts to connect are at least 100 ms apart, and so are attempts at the addresses of one host. A
//! command that a server may have received is only repeated if the repetition is recognized: reads,
//! new records and new secrets. All others fail as not confirmed. A server that is full, read-only or
//! lacks replicas only fails writes, and sessions can still be ended if the server allows it.
//!
//! # Deployment caveat
//!
//! Set `maxmemory-policy noeviction`. With any other policy, Redis may end sessions when its memory is
//! full, and even evict signed-in users to make room for visitors; [`RedisStore::check`] warns about
//! it. With `noeviction`, writes fail when the memory is full, but reads and sign-outs still work.
//!
//! # Privileges
//!
//! The store needs no more privileges than this user has, shown as a line of an ACL file. All tests run
//! as this user. The pattern is for the default prefix. `select` is only needed for a database other
//! than 0, `cluster|slots` and `asking` only in a cluster, `role` only with sentinels, and `wait` only
//! with [`wait`](RedisStoreBuilder::wait). `info` and `pubsub|numsub` are only used for warnings, and
//! `scan` only for administration.
//!
//! ```text
#![doc = include_str!("../users.acl")]
//! ```
//!
//! Disable the user `default`, but keep its privileges, `user default off resetpass ~* &* +@all`: a
//! server replays its append-only file as that user, and silently skips commands the user may not run.
//!
//! # Map
//!
//! | module | purpose |
//! | --- | --- |
//! | `store` | [`RedisStore`], its builder and the store traits |
//! | `sessions`, `index` | operations on one record, and on the sessions of a principal |
//! | `endings`, `keeper` | the queue of sessions that ended without a request |
//! | `operate`, `changes` | administration, and the change feed |
//! | `keys`, `codec` | the names of keys, and the encoding of records |
//! | `script`, `request`, `outcome` | the scripts, their arguments and their answers |
//! | `connection` | a server, the primary behind sentinels, the servers of a cluster; a given connection |

mod store;
mod address;
mod error;
mod tls;
mod check;

mod sessions;
mod seen;
mod change;
mod index;
mod keeper;
mod endings;
mod operate;
mod feed;
mod changes;

mod keys;
mod codec;

mod script;
mod request;
mod outcome;
mod script_reply;
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
