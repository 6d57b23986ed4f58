//! Values sealed at rest: what is stored of a value, and what a stored one was.

pub(crate) mod error;
mod place;

#[cfg(feature = "seal")]
mod keys;
#[cfg(not(feature = "seal"))]
mod none;

use std::borrow::Cow;
use std::sync::Arc;

use steadfast_core::{Env, Patch, RawJson, Realm, RecordId};

pub use error::OpenError;
#[cfg(feature = "seal")]
pub use keys::{SealKeyError, SealKeys};
#[cfg(not(feature = "seal"))]
pub(crate) use none::SealKeys;

use crate::error::Error;
use crate::replaceable::Replaceable;
use place::Place;

/// Seals and opens the values of a layer's sessions; without keys they stay as they are.
#[derive(Clone, Default)]
pub(crate) struct Seal(Option<Replaceable<Arc<SealKeys>>>);

impl Seal {
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The patch as it is sent to a record; `None` if it is sent as it is.
    pub(crate) fn patch(
        &self,
        realm: &Realm,
        id: RecordId,
        patch: &Patch,
        env: &Env,
    ) -> Result<Option<Box<Patch>>, Error> {
        let Some(keys) = self.keys().filter(|keys| keys.seals() && patch.writes()) else {
            return Ok(None);
        };
        let seal = |key: &str, value: &RawJson| {
            let place = Place { realm, id, key };
            keys.seal(place, value.as_bytes(), env)
        };
        Ok(Some(Box::new(patch.clone().try_map_values(seal)?)))
    }

    /// The value that was stored under a key of a record.
    pub(crate) fn open<'v>(
        &self,
        realm: &Realm,
        id: RecordId,
        key: &str,
        stored: &'v [u8],
    ) -> Result<Cow<'v, [u8]>, Error> {
        let Some(keys) = self.keys() else { return Ok(Cow::Borrowed(stored)) };
        let opened = keys.open(Place { realm, id, key }, stored);
        opened.map_err(|source| Error::NotOpened { key: key.to_owned(), source })
    }

    fn keys(&self) -> Option<Arc<SealKeys>> {
        self.0.as_ref().map(Replaceable::get)
    }
}

#[cfg(feature = "seal")]
impl Seal {
    pub(crate) fn under(keys: SealKeys) -> Self {
        Self(Some(Replaceable::new(Arc::new(keys))))
    }

    /// Replaces the keys, and says whether there were any.
    pub(crate) fn replace(&self, keys: SealKeys) -> bool {
        let replaced = self.0.as_ref().map(|known| known.replace(Arc::new(keys)));
        replaced.is_some()
    }
}
