//! The history of clients during a failover, and the check whether a single server could have given
//! their answers.

pub mod clients;
pub mod loss;
pub mod failover;
