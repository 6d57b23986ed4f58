// The first definition of a link is the one that is used: the README has its own, for readers of the files.
//! [choosing]: guide::choosing
//! [handlers]: guide::handlers
//! [configuration]: guide::configuration
//! [security]: guide::security
//! [deploying]: guide::deploying
//! [browsers]: guide::browsers
//! [accounts]: guide::accounts
//! [streams]: guide::streams
//! [operating]: guide::operating
//! [metrics]: guide::metrics
//! [stores]: guide::stores
//! [upgrading]: guide::upgrading
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod layer;
pub mod service;
pub mod future;
pub mod body;
pub mod handler;
mod response;

mod session;
mod seal;
mod cookie;
mod error;

mod sessions;
mod reports;
mod label_index;
mod end_everybody;
mod records;
mod events;
mod endings;
mod labels;
mod cutoff;
mod bounds;
mod layer_state;
mod replaceable;
mod store_client;
mod breaker;
mod measure;
mod end_watcher;
mod sync;

#[cfg(feature = "axum")]
pub mod extract;
#[cfg(feature = "health")]
mod health;
mod backends;
mod connect;
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
pub mod bridge;

#[cfg(feature = "testing")]
pub mod testing;
pub mod guide;

// Not as `core`, or `use steadfast::*` would hide the standard one.
pub use steadfast_core as store;
pub use steadfast_core::{
    AtCap, Budget, Facts, Keyring, Lifetime, Limits, Principal, Realm, RecordId, SessionInfo,
    SessionStore, StoreError,
};

#[allow(unused_imports, unreachable_pub, reason = "empty without a backend")]
pub use backends::*;
#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
pub use bridge::Bridge;
pub use connect::{Connect, ConnectError, connect};
pub use cookie::companion::Affinity;
pub use cookie::header::HeaderError;
pub use cookie::profile::{CookieError, CookieProfile, SameSite};
pub use error::{Error, SessionFailure};
pub use events::{Actor, SessionEvent, SessionEventKind};
pub use handler::HandlerLayer;
#[cfg(feature = "health")]
pub use health::Health;
pub use layer::SessionLayer;
pub use seal::OpenError;
#[cfg(feature = "seal")]
pub use seal::{SealKeyError, SealKeys};
pub use session::{
    AsKey, Key, KeyName, Login, Saved, Session, SessionChange, SessionChanges, SessionDeadlines,
    SignedIn, Status,
};
pub use sessions::{Issued, SessionExport, Sessions};
pub use store_client::Timeouts;
