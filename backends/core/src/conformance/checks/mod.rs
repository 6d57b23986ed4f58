//! The checks, one for each thing the contract says, grouped by theme.
//!
//! Each opens a service of its own and panics, naming what is broken, if the store does not keep
//! the contract. [`conformance_tests!`](crate::conformance_tests) makes a test of every one.

pub mod creation;
pub mod patches;

pub mod keys;
pub mod secrets;
pub mod sign_ins;

pub mod deadlines;
pub mod endings;

pub mod principals;

pub mod cancellation;
pub mod formats;
pub mod operation;
pub mod resending;
