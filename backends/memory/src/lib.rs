//! Sessions in the memory of one node.
//!
//! [`MemoryStore`] is the store to start with, and the right one while a service is one process:
//! nothing to run, nothing that can be unavailable. Its sessions end with the process.
//!
//! # Budgets
//!
//! Memory is bounded, by a number of records and of bytes, once for sessions that nobody signed in to
//! and once for those that somebody did: see [`Budget`]. Where a budget is used up, the session that
//! was not used for the longest time ends. A flood of visitors never ends the session of a user.
//!
//! Eviction follows the writes by about a hundred records, and by a thousand while many threads write
//! at once. Each record counts for the next power of two of the bytes it takes, 512 for a small one.
//!
//! # Expiry
//!
//! A record that expired is absent at once. What it held is given back little by little by the calls
//! that follow; `collect` of `Operate` gives everything back now.
//!
//! # Deployment caveat
//!
//! Several nodes behind a load balancer need a store that they share, or one that keeps clients on
//! their node. A deployment of a new version ends every session.
//!
//! # Map
//!
//! | module | what it is for |
//! | --- | --- |
//! | `store` | [`MemoryStore`], its set-up, and the traits |
//! | `sessions` | what each operation does, and the order of the locks |
//! | `lru_cache` | what goes when a budget is used up; `weight`, what counts for it; `lru`, a part of it; `slot`, what stands there |
//! | `index` | whose sessions are whose, and the floors under logins; `list`, the sessions of one principal |
//! | `expiry` | the queue of deadlines |
//! | `sync` | locks and atomics, from where a model checker can replace them |

mod store;

mod sessions;

mod hash;
mod lru_cache;
mod weight;
mod lru;
mod slot;

mod changes;
mod expiry;
mod index;
mod list;
mod sync;

#[cfg(test)]
mod tests;

pub use steadfast_core::Budget;
pub use store::{MemoryStore, MemoryStoreBuilder};
