//! The keys of a build that seals nothing: there are none.

use std::borrow::Cow;

use steadfast_core::{Env, RandomError, RawJson};

use super::error::OpenError;
use super::place::Place;

pub(crate) enum SealKeys {}

impl SealKeys {
    pub(crate) fn seals(&self) -> bool {
        match *self {}
    }

    pub(crate) fn seal(&self, _: Place<'_>, _: &[u8], _: &Env) -> Result<RawJson, RandomError> {
        match *self {}
    }

    pub(crate) fn open<'v>(&self, _: Place<'_>, _: &'v [u8]) -> Result<Cow<'v, [u8]>, OpenError> {
        match *self {}
    }
}
