//! The replication protocol under every order of events, and under overlapping faults.
//!
//! | module | purpose |
//! | --- | --- |
//! | [`explore`] | visits every state of a model, breadth first |
//! | [`cluster`] | a model of the cluster component of several nodes |
//! | [`membership`] | several memberships on a network with faults |
//! | [`mishaps`] | memberships through one mishap each |
//! | [`tenants`] | the records of several members, under epochs that follow each other fast |
//! | [`process`] | the interface of a simulated process |
//! | [`world`] | nodes, clocks, links and time |
//! | [`faults`] | faults, and their repair |
//! | [`history`] | the answers that clients got, and whether a single server could have given them
//! |
//! | [`run`] | one run of all of these |
//! | [`scenarios`] | repetitions of earlier failures |
//! | [`node`] | the engine of a node, as a simulated process |
//! | [`primary`] | a service that is right or wrong on demand, which tests the simulation |

pub mod cluster;
pub mod explore;
pub mod membership;
pub mod mishaps;
pub mod tenants;

pub mod process;
pub mod random;
pub mod world;

pub mod faults;
pub mod history;
pub mod run;
pub mod scenarios;

pub mod node;
pub mod primary;
