//! The parts of records and calls: ids, stamps, hashes, times, keys.

use std::collections::BTreeMap;

use steadfast_core::{EndReason, Limits, Proof, RecordId, SecretHash, Timestamp};

use super::{WireError, proto};
use crate::record::{Revision, Stamp};
use crate::slots::{SLOTS, Slot};

/// A part that has to be there.
pub(super) fn required<P, T>(part: Option<P>, name: &'static str) -> Result<T, WireError>
where
    T: TryFrom<P, Error = WireError>,
{
    part.ok_or(WireError::Part(name))?.try_into()
}

/// A part that may be missing.
pub(super) fn optional<P, T>(part: Option<P>) -> Result<Option<T>, WireError>
where
    T: TryFrom<P, Error = WireError>,
{
    part.map(T::try_from).transpose()
}

pub(super) fn slot(index: u32) -> Result<Slot, WireError> {
    let index = index as usize;
    if index < SLOTS { Ok(Slot::at(index)) } else { Err(WireError::Part("a slot")) }
}

pub(super) fn revision(revision: Option<proto::Revision>) -> Revision {
    let proto::Revision { epoch, number } = revision.unwrap_or_default();
    Revision { epoch, number }
}

pub(super) fn to_revision(revision: Revision) -> Option<proto::Revision> {
    let Revision { epoch, number } = revision;
    Some(proto::Revision { epoch, number })
}

pub(super) fn id(bytes: &[u8]) -> Result<RecordId, WireError> {
    bytes.try_into().map(RecordId::from_bytes).map_err(|_| WireError::Part("an id"))
}

pub(super) fn id_bytes(id: RecordId) -> Vec<u8> {
    id.as_bytes().to_vec()
}

/// An id that may be absent.
pub(super) fn id_or_none(bytes: &[u8]) -> Result<Option<RecordId>, WireError> {
    if bytes.is_empty() { Ok(None) } else { id(bytes).map(Some) }
}

pub(super) fn id_or_none_bytes(id: Option<RecordId>) -> Vec<u8> {
    id.map(id_bytes).unwrap_or_default()
}

pub(super) fn ids(bytes: &[u8]) -> Result<Vec<RecordId>, WireError> {
    Ok(chunks(bytes, "an id")?.iter().copied().map(RecordId::from_bytes).collect())
}

pub(super) fn ids_bytes<'i>(ids: impl IntoIterator<Item = &'i RecordId>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in ids {
        bytes.extend(id.as_bytes());
    }
    bytes
}

pub(super) fn stamp(bytes: &[u8]) -> Result<Stamp, WireError> {
    bytes.try_into().map(stamp_of).map_err(|_| WireError::Part(STAMP))
}

pub(super) fn stamp_bytes(stamp: Stamp) -> Vec<u8> {
    stamps_bytes([&stamp])
}

/// A stamp that is absent if it is the one before every write.
pub(super) fn stamp_or_zero(bytes: &[u8]) -> Result<Stamp, WireError> {
    if bytes.is_empty() { Ok(Stamp::ZERO) } else { stamp(bytes) }
}

pub(super) fn stamp_or_zero_bytes(stamp: Stamp) -> Vec<u8> {
    if stamp == Stamp::ZERO { Vec::new() } else { stamp_bytes(stamp) }
}

pub(super) fn stamps(bytes: &[u8]) -> Result<Vec<Stamp>, WireError> {
    Ok(chunks(bytes, STAMP)?.iter().map(stamp_of).collect())
}

fn stamp_of(bytes: &[u8; 12]) -> Stamp {
    let [a, b, c, d, e, f, g, h, writer @ ..] = *bytes;
    let time = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    Stamp { time, writer: u32::from_be_bytes(writer) }
}

pub(super) fn stamps_bytes<'s>(stamps: impl IntoIterator<Item = &'s Stamp>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for stamp in stamps {
        bytes.extend(stamp.time.to_be_bytes());
        bytes.extend(stamp.writer.to_be_bytes());
    }
    bytes
}

pub(super) fn hash(bytes: &[u8]) -> Result<SecretHash, WireError> {
    SecretHash::from_bytes(bytes).ok_or(WireError::Part("a hash"))
}

pub(super) fn hashes(list: &[Vec<u8>]) -> Result<Vec<SecretHash>, WireError> {
    list.iter().map(|bytes| hash(bytes)).collect()
}

pub(super) fn hashes_bytes(hashes: &[SecretHash]) -> Vec<Vec<u8>> {
    hashes.iter().map(SecretHash::to_bytes).collect()
}

/// The proof of these hashes; of none, there is none.
pub(super) fn proof(list: &[Vec<u8>]) -> Result<Option<Proof>, WireError> {
    let mut hashes = hashes(list)?.into_iter();
    Ok(hashes.next().map(|current| hashes.fold(current.into(), Proof::with_other)))
}

pub(super) fn proof_bytes(proof: Option<&Proof>) -> Vec<Vec<u8>> {
    proof.into_iter().flat_map(Proof::hashes).map(SecretHash::to_bytes).collect()
}

/// The reason why a session ended. A reason of a later version is a sign-out here.
pub(super) fn end_reason(number: i32) -> EndReason {
    proto::EndReason::try_from(number).unwrap_or(proto::EndReason::Logout).into()
}

pub(super) fn end_reason_number(reason: EndReason) -> i32 {
    proto::EndReason::from(reason).into()
}

pub(super) fn time(millis: i64) -> Result<Timestamp, WireError> {
    let time = Timestamp::from_millis(millis);
    (time.as_millis() == millis).then_some(time).ok_or(WireError::Part("a time"))
}

pub(super) fn optional_time(millis: Option<i64>) -> Result<Option<Timestamp>, WireError> {
    millis.map(time).transpose()
}

pub(super) fn length(length: u64) -> Result<usize, WireError> {
    length.try_into().map_err(|_| WireError::Part("a length"))
}

pub(super) fn key(key: String) -> Result<Box<str>, WireError> {
    match Limits::check_key(&key) {
        Ok(()) => Ok(key.into()),
        Err(_) => Err(WireError::Part(KEY)),
    }
}

/// Decodes a map, in the order of its keys.
pub(super) fn by_key<P, T>(
    parts: BTreeMap<String, P>,
    read: impl Fn(P) -> Result<T, WireError>,
) -> Result<Vec<(Box<str>, T)>, WireError> {
    parts.into_iter().map(|(name, part)| Ok((key(name)?, read(part)?))).collect()
}

/// Things of a fixed length that follow each other.
pub(super) fn chunks<'b, const N: usize>(
    bytes: &'b [u8],
    name: &'static str,
) -> Result<&'b [[u8; N]], WireError> {
    match bytes.as_chunks() {
        (chunks, []) => Ok(chunks),
        _ => Err(WireError::Part(name)),
    }
}

/// A big-endian number of up to 8 bytes.
pub(super) fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The highest number of elements of a list that holds a part of a slot, or the calls of a record.
pub(super) const PART: usize = 4_096;

const STAMP: &str = "a stamp";
pub(super) const KEY: &str = "a key";
