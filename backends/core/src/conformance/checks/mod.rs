//! The checks, one for each point of the contract, grouped by theme.
//!
//! Each opens its own service. It panics and names the broken point if the store violates the
//! contract. [`conformance_tests!`](crate::conformance_tests) makes a test of each.

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
pub mod reports;
pub mod resending;
