//! The replication protocol of steadfast's sessions, as a state machine without I/O: it opens no
//! socket, reads no clock, draws no random number and writes no log.
//!
//! `PROTOCOL.md` beside this crate defines the protocol, and names the files of each part.
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
//! | [`call`] | what callers ask of the owner of a record |
//! | [`caller`] | the way of a call to the owner |
//! | [`record`] | records as nodes hold them |
//! | [`replicas`] | what a node holds, by slot |
//! | [`message`] | what nodes send each other about records |
//! | [`frames`] | messages of a bounded length: short ones together, long lists in parts |
//! | [`context`] | what the components see of each other in one step |
//! | [`outbox`] | what a step sends, and the confirmations that ride along |
//! | [`takeover`], [`ownership`] | what a new owner does before it serves a slot |
//! | [`owner`] | calls at the owner of their record, one after the other |
//! | [`holder`], [`sync`] | how the other holders come to hold the same |
//! | [`roll`] | how lists of principals are rebuilt after a loss |
//! | [`handoff`] | what a side of a split brings to the other one |
//! | [`eviction`] | which sessions end, so that memory is bounded |
//! | [`endings`] | what ended without a request, handed out to be reported |
//! | [`reader`], [`readers`] | reads from a holder's copy, and the leases for them |
//! | [`budget`] | how much a node holds, and may hold |
//! | [`tenant`] | the records of one member: all of these, connected |
//! | [`service_clock`] | the time by which deadlines are judged |
//! | [`feed`] | who hears of changes |
//! | [`procedures`] | calls that a node answers as a client of others |
//! | [`figures`], [`description`] | what a node says of itself |
//! | [`engine`] | one node: its membership, its streams and its records |
//! | `wire` | frames as bytes, with the feature of that name |
//! | [`rules`] | the rules that a test can leave out |

pub mod budget;
pub mod call;
pub mod caller;
pub mod cluster;
pub mod context;
pub mod description;
pub mod endings;
pub mod engine;
pub mod epoch;
pub mod eviction;
pub mod feed;
pub mod figures;
pub mod handoff;
pub mod frames;
pub mod holder;
mod look;
pub mod member;
pub mod membership;
pub mod message;
mod operation;
pub mod outbox;
pub mod owner;
pub mod ownership;
pub mod paths;
pub mod placement;
pub mod procedures;
pub mod reader;
pub mod readers;
pub mod record;
pub mod replicas;
pub mod roll;
pub mod rules;
pub mod service_clock;
pub mod settings;
pub mod slots;
pub mod sync;
pub mod takeover;
pub mod tenant;
#[cfg(feature = "wire")]
pub mod wire;
