//! The locks and atomics of this crate. `tests/interleavings` compiles the files that use them with
//! the types of a model checker instead, to explore their interleavings.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError, atomic};
