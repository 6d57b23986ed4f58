//! The behaviour of stores on a failing network, tested at every byte of every call.

#![allow(missing_docs, missing_debug_implementations, reason = "these are tests")]

pub mod deployment;
pub mod scene;
pub mod verdict;

pub mod case;
pub mod worker;
pub mod feed;

pub mod report;
pub mod book;
pub mod ledger;
pub mod draw;

pub mod history;
