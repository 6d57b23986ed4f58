//! Settings that can be replaced in a running service.

use std::sync::{Arc, PoisonError, RwLock};

/// A setting that can be replaced while requests are served. Clones are the same setting.
#[derive(Clone)]
pub(crate) struct Replaceable<T>(Arc<RwLock<T>>);

impl<T: Clone> Replaceable<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(value)))
    }

    pub(crate) fn replace(&self, value: T) {
        self.change(|known| *known = value);
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn get(&self) -> T {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
