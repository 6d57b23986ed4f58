//! The checks, one for each thing the contract says, grouped by theme.
//!
//! Each opens a service of its own and panics, naming what is broken, if the store does not keep
//! the contract. [`conformance_tests!`](crate::conformance_tests) makes a test of every one.

pub mod creation;
pub mod patches;

pub mod secrets;

pub mod deadlines;
pub mod endings;

pub mod principals;

pub mod cancellation;
pub mod operation;
pub mod resending;
