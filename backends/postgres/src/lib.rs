//! Sessions in PostgreSQL, 13 or later, for any number of nodes. Tested with 15 and 18.
//!
//! [`PostgresStore`] keeps one row per record. Each call is one statement and one round trip. A patch is
//! merged in the database, under the lock of its row, so that nodes never overwrite each other's
//! writes. A node keeps no sessions itself, so a request can go to any node.
//!
//! # Setting up
//!
//! [`migrate`](PostgresStoreBuilder::migrate) creates a schema `steadfast` with the tables and
//! functions. Run it as the role that is to own them, when a new version is deployed or at each start.
//! The application itself only needs these privileges:
//!
//! ```sql
#![doc = include_str!("sql/grants.sql")]
//! ```
//!
//! # What is stored
//!
//! The table holds the id of each session, the hash of its secret, its values, times and principal. It
//! holds no secret, so a stolen table opens no session. Values are stored as plain text.
//!
//! The functions compare hashes on the server, a byte at a time. The timing reveals nothing useful,
//! because a secret cannot be derived from its hash.
//!
//! # Time
//!
//! The application's clock decides when a session expires, not the server's. From time to time, every
//! node removes expired rows, five minutes after their deadline, in batches that skip rows locked by
//! other nodes.
//!
//! # Failure
//!
//! A connection is checked before it is lent, so that one closed by the server fails no call. A
//! statement is repeated only if the first attempt certainly had no effect, or if a late first attempt
//! would change nothing: reads, touches, deletions, and rotations without counters or expectations. Any
//! other interrupted statement fails, and its outcome is unknown. While no host can be written to, calls
//! fail immediately.
//!
//! A record that is locked elsewhere is `Busy` after 0.4 to 0.8 s, and occupies at most two
//! connections. When the server refuses another connection, callers wait for an existing one.
//!
//! With several hosts, the writable one is used. When it fails, the others are tried, and a promoted
//! standby is found within a second.
//!
//! # Connections
//!
//! Each node opens at most [`connections`](PostgresStoreBuilder::connections), 10 by default, and one
//! that listens unless [`tell_changes`](PostgresStoreBuilder::tell_changes) is off. A statement takes one
//! while it runs, so a service with little traffic needs two or three. A pooler in front of the server
//! can serve both the store and the application's pool.
//!
//! With the feature `sqlx-0_8`, `PostgresStore::with_pool` runs the store on a pool of the application
//! instead. That saves connections and costs certainty: a pool does not report what was sent before a
//! connection broke, so that more interrupted writes fail, and a slow query of the application delays
//! the sessions of all requests.
//!
//! # Deployment caveats
//!
//! - **A standby may lack commits that the primary confirmed.** With asynchronous replication, a failover
//!   loses the last commits, and a session that they ended is live again. With a synchronous standby
//!   (`synchronous_standby_names`), nothing is lost.
//! - **Two primaries** look the same to a client. The system that promotes a standby must prevent the old
//!   primary from coming back as a primary.
//! - **A pooler in between** must be declared with [`pooler`](PostgresStoreBuilder::pooler). If it assigns
//!   connections for a transaction, changes arrive within about 0.1 s, or sooner with
//!   [`listen_at`](PostgresStoreBuilder::listen_at).
//! - **Release 0.1** cannot run together with later ones: stop its nodes, migrate, then start.
//!
//! # Map
//!
//! | module | purpose |
//! | --- | --- |
//! | `store`, `address` | [`PostgresStore`], its builder and the store traits; the address of a database |
//! | `sessions`, `patches`, `rows` | the operations, their arguments and their answers |
//! | `database`, `given` | repeated statements, over the store's own connections or the application's pool |
//! | `pool`, `shares`, `settings` | the store's own connections; the limit on connections per record |
//! | `connection`, `hosts` | one connection, and the search for the primary |
//! | `changes`, `access`, `endings` | the change feed, and how it is read; the queue of sessions that ended without a request |
//! | `schema`, `check` | migrations, and the check of privileges; `sql/functions.sql` applies patches |

mod store;
mod settings;
mod address;
mod error;

mod sessions;
mod patches;
mod rows;
mod sweep;
mod endings;

mod database;
mod given;
mod pool;
mod metrics;
mod shares;
mod hosts;
mod connection;
mod access;
mod changes;

mod schema;
mod check;
mod statements;
mod names;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub use address::{AddressError, Pooler};
pub use connection::{Binding, Tls};
pub use error::{Failure, SetupError, Unreachable};
pub use hosts::Keepalive;
pub use names::NameError;
pub use store::{PostgresStore, PostgresStoreBuilder};
