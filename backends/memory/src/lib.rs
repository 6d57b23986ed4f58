//! Sessions in the memory of one node.
//!
//! [`MemoryStore`] is the store to start with. It suits any service that runs as a single process:
//! there is no server to run, and nothing that can be unavailable. Its sessions end with the process.
//!
//! # Budgets
//!
//! Two budgets bound the memory, one for anonymous sessions and one for signed-in sessions. Each
//! limits the number of records and their bytes; see [`Budget`]. When a budget is used up, its least
//! recently used session is evicted. A flood of visitors therefore never ends a user's session.
//!
//! Eviction lags behind writes by about 100 records, or 1,000 while many threads write. A record is
//! charged the next power of two of its size in memory, which is 512 bytes for a small one.
//!
//! # Expiry
//!
//! An expired record is absent immediately. Later calls free its memory step by step; `collect` of
//! `Operate` frees the memory of all expired records.
//!
//! # Deployment caveat
//!
//! Several nodes behind a load balancer need a store that they share, or one that routes each client
//! to its node. Deploying a new version ends every session.
//!
//! # Map
//!
//! | module | purpose |
//! | --- | --- |
//! | `store` | [`MemoryStore`], its builder and the store traits |
//! | `sessions` | the operations, and the order of the locks |
//! | `lru_cache` | the records within their budgets: a sharded cache |
//! | `lru`, `slot`, `weight` | a shard of the cache, one record in it, and its weight |
//! | `index`, `list` | the sessions and the minimum epoch of each principal |
//! | `expiry` | the queue of deadlines |
//! | `changes`, `endings` | the change feed, and the queue of sessions that ended without a request |
//! | `sync` | locks and atomics, which a model checker can replace |

mod store;

mod sessions;

mod hash;
mod lru_cache;
mod weight;
mod lru;
mod slot;

mod changes;
mod endings;
mod expiry;
mod index;
mod list;
mod sync;

#[cfg(test)]
mod tests;

pub use steadfast_core::Budget;
pub use store::{MemoryStore, MemoryStoreBuilder};
