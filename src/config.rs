//! What a layer is configured with, for the requests it serves.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use http::{HeaderName, HeaderValue};
use steadfast_core::{Keyring, Lifetime, Realm};
use tokio_util::task::TaskTracker;

use crate::calls::Calls;
use crate::cookie::carried::Affinity;
use crate::cookie::profile::CookieProfile;
use crate::watch::Watch;

/// What all requests of a layer share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) calls: Calls,
    pub(crate) realm: Realm,
    pub(crate) keyring: Replaceable<Arc<Keyring>>,
    pub(crate) cookie: CookieProfile,
    pub(crate) affinity: Affinity,
    pub(crate) header: Option<HeaderName>,
    /// The request headers that responses depend on.
    pub(crate) vary: HeaderValue,
    pub(crate) lifetime: Replaceable<Lifetime>,
    pub(crate) max_per_principal: usize,
    pub(crate) commit_on_server_error: bool,
    pub(crate) tasks: TaskTracker,
    pub(crate) watch: Arc<Watch>,
}

impl Shared {
    pub(crate) fn keyring(&self) -> Arc<Keyring> {
        self.keyring.get()
    }

    pub(crate) fn lifetime(&self) -> Lifetime {
        self.lifetime.get()
    }
}

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

    fn get(&self) -> T {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("realm", &self.realm)
            .field("cookie", &self.cookie)
            .field("header", &self.header)
            .field("lifetime", &self.lifetime())
            .field("keyring", &self.keyring())
            .finish_non_exhaustive()
    }
}
