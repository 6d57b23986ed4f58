//! The source of atomics. `tests/interleavings` compiles the files that use it over a model checker's types
//! instead, and runs them in every order.

pub(crate) use std::sync::atomic;
