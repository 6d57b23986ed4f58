//! The replication protocol under every order of events.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`explore`] | reaches every state of a model, breadth first |
//! | [`cluster`] | the real cluster component of several nodes, as such a model |

pub mod cluster;
pub mod explore;
