//! Where shared state comes from. `tests/interleavings` compiles the files that use it over a
//! model checker's types instead, and runs them in every order.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError, atomic};
