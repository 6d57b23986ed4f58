//! Session middleware for tower and axum that holds when a service scales out.

pub mod future;
mod head;
pub mod layer;
pub mod service;

mod calls;
mod cookie;
mod error;
mod session;
mod watch;

#[cfg(feature = "axum")]
pub mod extract;

pub use steadfast_core as core;
pub use steadfast_core::{
    Keyring, Lifetime, Limits, Principal, Realm, RecordId, SessionInfo, SessionStore, StoreError,
};

pub use calls::Deadlines;
pub use cookie::profile::{CookieError, CookieProfile, SameSite};
pub use error::Error;
pub use layer::SessionLayer;
pub use session::{AsKey, Key, Login, Saved, Session, Status};

#[cfg(feature = "memory")]
pub use steadfast_memory::MemoryStore;
