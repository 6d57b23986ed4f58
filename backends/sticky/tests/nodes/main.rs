//! Several nodes over one backup: the answers each may give, and the writes that are never lost.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod server;
mod service;

mod copies;
mod moving;
mod behind;
mod sign_ins;
mod figures;
mod alone;
mod routes;
