//! The parts of messages: boots, names, epochs, times.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{WireError, proto};
use crate::cluster::Ballot;
use crate::epoch::{EpochId, Lineage};
use crate::member::{Boot, Name};

/// A part that has to be there.
pub(super) fn required<T>(part: Option<T>, name: &'static str) -> Result<T, WireError> {
    part.ok_or(WireError::Part(name))
}

pub(super) fn bytes_of<const N: usize>(
    bytes: &[u8],
    name: &'static str,
) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::Part(name))
}

pub(super) fn boot(bytes: &[u8]) -> Result<Boot, WireError> {
    bytes_of(bytes, "a boot").map(Boot::new)
}

pub(super) fn boot_bytes(boot: Boot) -> Vec<u8> {
    boot.to_bytes().to_vec()
}

/// Boots, one after the other.
pub(super) fn boots(bytes: &[u8]) -> Result<BTreeSet<Boot>, WireError> {
    bytes.chunks(16).map(boot).collect()
}

pub(super) fn boots_bytes(boots: &BTreeSet<Boot>) -> Vec<u8> {
    boots.iter().flat_map(|boot| boot.to_bytes()).collect()
}

/// A boot, or the one at the end of the link if it is absent.
pub(super) fn boot_or(bytes: &[u8], end: Boot) -> Result<Boot, WireError> {
    if bytes.is_empty() { Ok(end) } else { boot(bytes) }
}

pub(super) fn boot_unless(of: Boot, end: Boot) -> Vec<u8> {
    if of == end { Vec::new() } else { boot_bytes(of) }
}

pub(super) fn name(text: &str) -> Result<Name, WireError> {
    text.parse().map_err(|_| WireError::Part("a name"))
}

pub(super) fn epoch_id(id: Option<proto::EpochId>) -> Result<EpochId, WireError> {
    let proto::EpochId { lineage, number } = required(id, "an epoch")?;
    Ok(EpochId { lineage: Lineage::new(bytes_of(&lineage, "a lineage")?), number })
}

pub(super) fn to_epoch_id(id: EpochId) -> Option<proto::EpochId> {
    let EpochId { lineage, number } = id;
    Some(proto::EpochId { lineage: lineage.to_bytes().to_vec(), number })
}

pub(super) fn ballot(ballot: Option<proto::Ballot>) -> Result<Ballot, WireError> {
    let proto::Ballot { number, proposer } = required(ballot, "a ballot")?;
    Ok(Ballot { number, proposer: boot(&proposer)? })
}

pub(super) fn to_ballot(ballot: Ballot) -> proto::Ballot {
    proto::Ballot { number: ballot.number, proposer: boot_bytes(ballot.proposer) }
}

pub(super) fn to_nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
