//! The replication protocol under every order of events, and under faults that overlap.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`explore`] | reaches every state of a model, breadth first |
//! | [`cluster`] | the real cluster component of several nodes, as such a model |
//! | [`membership`] | several memberships on a network with faults |
//! | [`mishaps`] | memberships through one mishap each |
//! | [`tenants`] | the records of several members, under epochs that follow each other fast |
//! | [`process`] | what the simulation drives |
//! | [`world`] | nodes, clocks, links and time |
//! | [`faults`] | what breaks |
//! | [`history`] | what clients were told, and whether one server could have told it |
//! | [`run`] | one run of all of these |
//! | [`scenarios`] | runs in which one thing goes wrong that once did |
//! | [`node`] | the engine of a node, as the simulation drives it |
//! | [`primary`] | a service that is right or wrong on demand, to test the simulation with |

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
