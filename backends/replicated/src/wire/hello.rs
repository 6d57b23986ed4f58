//! What both sides of a link say before anything else.

use prost::Message as _;

use super::scalars::label;
use super::{WireError, proto};
use crate::placement::Name;

/// Who a node is, and what it understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) cluster: String,
    pub(crate) name: Name,
    pub(crate) protocol: u64,
    pub(crate) features: u64,
    /// Its wall clock, in milliseconds since 1970.
    pub(crate) wall: u64,
    /// Where it is dialled.
    pub(crate) address: String,
    /// Where others are that it knows.
    pub(crate) known: Vec<String>,
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { cluster, name, protocol, features, wall, address, known } = self.clone();
        let name = name.as_str().to_owned();
        proto::Hello { cluster, name, protocol, features, wall, address, known }.encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let proto::Hello { cluster, name, protocol, features, wall, address, known } =
            proto::Hello::decode(bytes)?;
        let name = label(&name)?;
        Ok(Self { cluster, name, protocol, features, wall, address, known })
    }
}
