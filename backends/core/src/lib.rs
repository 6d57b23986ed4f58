//! The contract between the session middleware and the stores that hold sessions.
//!
//! [`SessionStore`] is the trait between the two. A browser holds a [`Token`], a store keeps a
//! [`Record`], and a request changes it with a [`Patch`]. A store never sees a token's secret, only
//! its hash, and it never sees HTTP. The middleware never sees where a record is stored.
//!
//! Applications use the `steadfast` crate, which re-exports the items they need. This crate is for
//! authors of stores: implement [`SessionStore`] and [`Operate`], base their decisions on
//! [`Record::verify`] and [`Record::apply`], which must be the same everywhere, and run the tests in
//! `conformance` (with the feature of that name).
//!
//! # Map
//!
//! | module | purpose |
//! | --- | --- |
//! | [`token`] | the client's credential: a selector that names the record, a secret that opens it |
//! | [`proof`] | the hash of a secret, under a keyring and a realm |
//! | [`record`], [`mod@version`] | the stored form of a session, and the decisions about it |
//! | [`facts`] | a session's lifetime, persistence and labels |
//! | [`sealed`] | the form of a sealed value |
//! | [`writes`], [`patch`] | changes to values, changes to a record |
//! | [`store`], [`outcome`] | the contract: [`SessionStore`], and the answers of stores |
//! | [`endings`] | sessions that ended without a request, kept until they are reported |
//! | [`forward`] | stores that wrap other stores |
//! | [`operate`] | operations: readiness, drain, collection, statistics |
//! | [`description`] | the nodes of a store, for operators |
//! | [`budget`] | bounds on memory |
//! | [`event`], [`kind`] | events and counts of sessions, for logs and metrics |
//! | [`mod@timestamp`] | times in whole milliseconds |
//! | [`mod@env`] | the clock and the source of randomness, injected |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod base64url;
pub mod token;
pub mod proof;
pub mod principal;

pub mod record;
pub mod version;
pub mod facts;
pub mod values;
pub mod json;
pub mod sealed;
pub mod writes;
pub mod patch;
pub mod limits;
pub mod rejection;
pub mod lifetime;

pub mod store;
pub mod outcome;
pub mod endings;
pub mod forward;
pub mod route;
pub mod error;
pub mod operate;
pub mod description;
pub mod budget;

pub mod timestamp;
pub mod env;
pub mod event;
pub mod kind;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use budget::Budget;
pub use description::Description;
pub use endings::{CLAIMED_FOR, Ending, Endings};
pub use env::{Clock, Env, ManualClock, Random, RandomError, SystemClock, SystemRandom};
pub use error::{Scope, StoreError};
pub use event::Event;
pub use facts::Facts;
pub use json::{DecodeCategory, DecodeError, EncodeError};
pub use kind::SessionKind;
pub use lifetime::{Lifetime, LifetimeError};
pub use limits::{LimitError, Limits};
pub use operate::{Drained, Operate, Probe, Scan, Scanned, Stats, Store};
pub use outcome::{Applied, ClientState, Deleted, Deletion, EndReason, Outcome, Revocation};
pub use patch::{AtCap, Authentication, LoginPolicy, Patch, Rotation};
pub use principal::{Principal, PrincipalError, Realm, RealmError};
pub use proof::{KeyError, KeyId, Keyring, Proof, Rehash, SecretHash};
pub use record::{ApplyError, Owner, Patched, Record, Replaced, Verdict};
pub use rejection::Rejection;
pub use route::{RouteLabel, RouteLabelError, Routed};
pub use sealed::Sealed;
pub use store::{
    Absence, Change, ChangeStream, Found, Lookup, RequestHint, SessionInfo, SessionStore,
};
pub use timestamp::Timestamp;
pub use token::{RecordId, Secret, Token};
pub use values::{PRE_AUTH, RawJson, Values};
pub use version::Version;
pub use writes::{Counters, Op, Writes};
