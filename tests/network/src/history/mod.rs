//! What clients asked and were told while a primary was replaced, and whether one server could have
//! told it.

pub mod clients;
pub mod loss;
pub mod failover;
