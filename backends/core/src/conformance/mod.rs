//! Tests of the contract, for authors of stores.
