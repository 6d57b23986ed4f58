//! Sessions in PostgreSQL, 13 or later, for any number of nodes. Tested with 15 and 18.
//!
//! [`PostgresStore`] keeps a row for each record. Every call is one statement and one round trip; a
//! patch is merged in the database, under the lock of its row, so that nodes never lose each other's
//! writes. A node keeps nothing: whichever of them a request comes to, it finds the session.
//!
//! # Setting up
//!
//! [`migrate`](PostgresStoreBuilder::migrate) makes a schema `steadfast` with the tables and functions.
//! Run it as the role that is to own them, with the deployment of a new version or at each start. The
//! application itself needs no more than this:
//!
//! ```sql
#![doc = include_str!("sql/grants.sql")]
//! ```
//!
//! # What is stored
//!
//! The id of each session, the hash of its secret, its values, times and principal. No secret: who
//! steals the table can open no session with it. Values are in the clear.
//!
//! The functions compare hashes on the server, a byte at a time. That leaks nothing of use: who learns
//! a hash cannot find the secret behind it.
//!
//! # Time
//!
//! The application's clock decides what expired, not the server's. Every node takes expired rows out of
//! the table now and then, five minutes late, in batches that skip what others have in hand.
//!
//! # Failure
//!
//! A connection is looked at before it is lent, so that one that the server closed fails no call. A
//! statement is sent again only if it is certain that the first had no effect, or if a late copy of it
//! changes nothing: reads, touches, deletions, and rotations without counters or expectations. Any other
//! that was cut off fails, and whether it happened is not known. While no host can be written to, calls
//! fail immediately.
//!
//! A record that something else has locked is `Busy` after 0.4 to 0.8 s, and takes two connections at
//! most. Where the server refuses another connection, callers wait for one of those there are.
//!
//! Of several hosts the one that can be written to serves. When it is gone, the others are asked, and a
//! standby that was promoted is found within a second.
//!
//! # Beside a pool of the application
//!
//! The store has connections of its own, also where the application has a pool. What may be sent again after
//! a failure depends on what was sent and answered before it, which a pool does not tell; and a statement
//! that waits in the queue of a pool, after a slow report, keeps every request waiting for its session.
//!
//! So count them: each node has at most [`connections`](PostgresStoreBuilder::connections), 10 by default, and
//! one that listens unless [`tell_changes`](PostgresStoreBuilder::tell_changes) is off. A statement takes one
//! for as long as it runs, so a service with little traffic needs two or three. A pooler in front of the
//! server can serve the store and the application's pool.
//!
//! # Deployment caveats
//!
//! - **A standby may lack what the primary confirmed.** With asynchronous replication a failover loses the
//!   last commits, and a session that was ended in them lives again. With a synchronous standby
//!   (`synchronous_standby_names`) it loses nothing.
//! - **Two primaries** are nothing a client can tell apart: whatever promotes a standby has to keep the old
//!   primary from coming back as one.
//! - **A pooler in between** has to be announced: [`pooler`](PostgresStoreBuilder::pooler). Through one that
//!   lends connections for a transaction, changes are heard within about 0.1 s, or sooner with
//!   [`listen_at`](PostgresStoreBuilder::listen_at).
//! - **Release 0.1** cannot run beside later ones: stop its nodes, migrate, then start.
//!
//! # Map
//!
//! | module | what it is for |
//! | --- | --- |
//! | `store` | [`PostgresStore`], its set-up, and the traits; `address`, where the database is |
//! | `sessions` | what each operation does; `patches` and `rows`, its arguments and answers |
//! | `pool` | connections, and what is sent a second time; `shares`, what a record may take of them |
//! | `connection` | one connection; `hosts`, which server it leads to |
//! | `changes` | what happened on any node |
//! | `schema` | migrations; `sql/functions.sql` has what a patch does; `check`, whether a role may do all of it |

mod store;
mod address;
mod error;

mod sessions;
mod patches;
mod rows;
mod sweep;

mod pool;
mod metrics;
mod shares;
mod hosts;
mod connection;
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
