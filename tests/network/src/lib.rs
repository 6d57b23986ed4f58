//! What stores make of failures between them and their servers.

#![allow(missing_docs, missing_debug_implementations, reason = "these are tests")]

pub mod draw;
pub mod scene;

pub mod history;
