//! The replication protocol of steadfast's sessions, as a state machine without I/O: it opens no
//! socket, reads no clock, draws no random number and writes no log.
//!
//! `PROTOCOL.md` beside this crate defines the protocol, and lists which parts of it are built.
//! Applications use `steadfast-replicated`, which drives it.
//!
//! # Map
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`settings`] | what all nodes are configured with alike |
//! | [`slots`] | the shares of all record ids, and sets of them |
//! | [`member`] | nodes, their boots and their roles |
//! | [`placement`] | which members hold a slot |
//! | [`epoch`] | the agreed state of the cluster, and its successors |
//! | [`cluster`] | agreement on epochs, and leases |
//! | [`paths`] | reliable streams of messages between boots, over all links |
//! | [`membership`] | joins, founding, suspicion, and what becomes of a cluster without a majority |
//! | [`rules`] | the rules that a test can leave out |

pub mod cluster;
pub mod epoch;
pub mod member;
pub mod paths;
pub mod membership;
pub mod placement;
pub mod rules;
pub mod settings;
pub mod slots;
