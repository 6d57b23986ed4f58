//! Where a value belongs.

use steadfast_core::{Realm, RecordId};

/// Where a value belongs: nowhere else does it open.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "seal"), expect(dead_code, reason = "nothing is sealed"))]
pub(crate) struct Place<'p> {
    pub(crate) realm: &'p Realm,
    pub(crate) id: RecordId,
    pub(crate) key: &'p str,
}
