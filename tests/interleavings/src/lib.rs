//! The state that threads share, run in every order by a model checker.
//!
//! The files under test are those of the packages themselves: only their module `sync` is another
//! one here, which takes locks and atomics from the checker. Each function in [`models`] is one
//! execution; `tests` has the checker run it over and over.

#![allow(dead_code, unreachable_pub, reason = "not everything that the files offer is used here")]

pub mod models;

#[path = "../../../src/breaker.rs"]
mod breaker;

#[path = "../../../backends/memory/src/lru.rs"]
mod lru;
#[path = "../../../backends/memory/src/changes.rs"]
mod changes;
#[path = "../../../backends/memory/src/endings.rs"]
mod endings;
#[path = "../../../backends/memory/src/expiry.rs"]
mod expiry;
#[path = "../../../backends/memory/src/hash.rs"]
mod hash;
#[path = "../../../backends/memory/src/index.rs"]
mod index;
#[path = "../../../backends/memory/src/list.rs"]
mod list;
#[path = "../../../backends/memory/src/sessions.rs"]
mod sessions;
#[path = "../../../backends/memory/src/lru_cache.rs"]
mod lru_cache;
#[path = "../../../backends/memory/src/slot.rs"]
mod slot;
#[path = "../../../backends/memory/src/weight.rs"]
mod weight;

/// What the `sync` of each package has, from the checker.
mod sync {
    pub(crate) use shuttle::sync::{Mutex, MutexGuard, PoisonError, atomic};
}
