//! What threads share, run in every order that a model checker can think of.
//!
//! The files under test are those of the packages themselves: only their module `sync` is another
//! one here, which takes locks and atomics from the checker. Each function in [`models`] is one
//! execution; `tests` has the checker run it over and over.

#![allow(dead_code, unreachable_pub, reason = "not everything that the files offer is used here")]

pub mod models;

#[path = "../../../src/breaker.rs"]
mod breaker;

/// What `sync` of each package has, from the checker.
mod sync {
    pub(crate) use shuttle::sync::atomic;
}
