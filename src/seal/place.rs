//! The place to which a value belongs.

use steadfast_core::{Realm, RecordId};

/// The place to which a value belongs. It opens in no other place.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "seal"), expect(dead_code, reason = "nothing is sealed"))]
pub(crate) struct Place<'p> {
    pub(crate) realm: &'p Realm,
    pub(crate) id: RecordId,
    pub(crate) key: &'p str,
}
