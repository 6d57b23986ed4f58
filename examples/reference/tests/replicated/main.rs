//! Nodes that hold sessions in their own memory, as processes: that they agree, and that nothing is
//! lost when some of them end, stand still, drain, come and go.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod agreement;
mod crashes;
mod pauses;
mod deployments;
mod routes;
mod described;
mod partitions;
mod wire;
