//! Drills: real processes of the reference application are killed, stopped and cut off from each
//! other under load, and the history of all calls is checked.

#![allow(missing_docs, missing_debug_implementations, reason = "these are tests")]

pub mod drill;
pub mod service;
pub mod network;

pub mod plan;
pub mod load;

pub mod history;
pub mod verdict;
pub mod statistics;

pub mod report;
pub mod plot;
