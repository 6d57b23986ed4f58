//! Several nodes over one backup: what each may serve, and what is never lost between them.

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
