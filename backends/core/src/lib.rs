//! The contract between the session middleware and the places where sessions live.
//!
//! [`SessionStore`] is the one trait between them. A browser holds a [`Token`]; a store keeps a
//! [`Record`]; what a request wants changed is a [`Patch`]. A store never sees a token's secret,
//! only its hash, and never sees HTTP; the middleware never sees where a record lives.
//!
//! Applications use the `steadfast` crate, which re-exports what they need from here. This crate is
//! for authors of stores: implement [`SessionStore`] and [`Operate`], build the two decisions that
//! must be the same everywhere on [`Record::verify`] and [`Record::apply`], and run the kit in
//! `conformance` (behind the feature of that name) against it.
//!
//! # Map
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`token`] | what the browser holds: a selector that names the record, a secret that opens it |
//! | [`proof`] | what stores see of a secret: its hash, under a keyring and a realm |
//! | [`record`] | what a store keeps, and who may open it |
//! | [`facts`] | what a session says of itself beside its values |
//! | [`sealed`] | the form of a sealed value |
//! | [`patch`] | what a request wants changed, and how it is applied |
//! | [`store`] | the contract: [`SessionStore`] and its words |
//! | [`forward`] | stores in front of other stores |
//! | [`operate`] | operating a store: readiness, drain, collection, statistics |
//! | [`description`] | what an operator sees of the nodes of a store |
//! | [`budget`] | how much memory sessions may take |
//! | [`event`], [`kind`] | what logs and metrics have of sessions |
//! | [`mod@timestamp`] | times as whole milliseconds |
//! | [`mod@env`] | the clock and the randomness, injected |

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod token;
pub mod proof;
pub mod principal;

pub mod record;
pub mod facts;
pub mod values;
pub mod json;
pub mod sealed;
pub mod patch;
pub mod limits;
pub mod rejection;
pub mod lifetime;

pub mod store;
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
pub use env::{Clock, Env, ManualClock, Random, RandomError, SystemClock, SystemRandom};
pub use error::{Scope, StoreError};
pub use event::Event;
pub use facts::Facts;
pub use json::{DecodeCategory, DecodeError, EncodeError};
pub use kind::SessionKind;
pub use lifetime::{Lifetime, LifetimeError};
pub use limits::{LimitError, Limits};
pub use operate::{Drained, Operate, Probe, Scan, Scanned, Stats, Store};
pub use patch::{Admission, AtCap, Authentication, Counters, Op, PRE_AUTH, Patch, Rotation};
pub use principal::{Principal, PrincipalError, Realm, RealmError};
pub use proof::{KeyError, KeyId, Keyring, Proof, Rehash, SecretHash};
pub use record::{Owner, Patched, Record, Refusal, Replaced, Verdict, Version};
pub use rejection::Rejection;
pub use route::{RouteLabel, RouteLabelError, Routed};
pub use sealed::Sealed;
pub use store::{
    Absence, Applied, Carry, Change, ChangeStream, Deleted, Deletion, EndReason, Found, Hint,
    Lookup, Outcome, Revocation, SessionInfo, SessionStore,
};
pub use timestamp::Timestamp;
pub use token::{RecordId, Secret, Token};
pub use values::{RawJson, Values};
