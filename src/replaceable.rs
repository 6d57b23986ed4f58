//! Settings that can be replaced in a running service.

use std::sync::{Arc, PoisonError, RwLock};

use steadfast_core::{Lifetime, Record, Timestamp};

/// A setting that can be replaced while requests are served. Clones are the same setting.
#[derive(Clone)]
pub(crate) struct Replaceable<T>(Arc<RwLock<T>>);

impl<T: Clone> Replaceable<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(value)))
    }

    pub(crate) fn replace(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }

    pub(crate) fn get(&self) -> T {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Replaceable<Lifetime> {
    /// When a session ends however much it is used. The lifetimes of today may be stricter than those it
    /// began under.
    pub(crate) fn absolute_deadline(&self, record: &Record) -> Timestamp {
        let begun = record.authenticated.unwrap_or(record.created);
        self.get().absolute_deadline(begun).min(record.absolute_deadline)
    }
}
