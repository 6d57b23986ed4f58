//! A record as a row, and back.

use std::collections::BTreeMap;
use std::error::Error;

use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;
use steadfast_core::{
    KeyId, Limits, Owner, Principal, Proof, Realm, Record, RecordId, Replaced, SecretHash,
    SessionInfo, StoreError, Values, Version,
};
use time::UtcDateTime;

pub(crate) type Hash = [u8; 36];

pub(crate) fn hash(hash: &SecretHash) -> Hash {
    let mut bytes = [0; 36];
    bytes[..4].copy_from_slice(&hash.key().0.to_be_bytes());
    bytes[4..].copy_from_slice(hash.digest());
    bytes
}

pub(crate) fn hashes(proof: &Proof) -> Vec<Hash> {
    proof.hashes().map(hash).collect()
}

/// Milliseconds since 1970. What is finer is cut off: a deadline is never later than it was.
pub(crate) fn millis(time: UtcDateTime) -> i64 {
    time.unix_timestamp() * 1_000 + i64::from(time.millisecond())
}

/// An epoch in the order of `bigint`.
pub(crate) fn epoch(epoch: u64) -> i64 {
    (epoch ^ (1 << 63)) as i64
}

/// What Postgres keeps as text. JSON is that, unless it was made by something else than an encoder.
pub(crate) fn text(json: &[u8]) -> Result<&str, StoreError> {
    let text = std::str::from_utf8(json).ok().filter(|text| !text.contains('\0'));
    text.ok_or(StoreError::Unsupported("values that are no UTF-8 text"))
}

pub(crate) fn whole(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Unsupported("versions and fences from 2^63"))
}

/// The record in a row of `LOAD` or `SCAN`.
pub(crate) fn record(row: &PgRow) -> Result<Record, Corrupt> {
    let replaced = match (row.try_get::<Option<&[u8]>, _>(2)?, row.try_get(3)?) {
        (Some(hash), Some(until)) => {
            Some(Box::new(Replaced { hash: secret_hash(hash)?, until: time(until)? }))
        }
        _ => None,
    };
    let fence = u64::try_from(row.try_get::<i64, _>(13)?)?;
    let owner = match row.try_get::<Option<&str>, _>(12)? {
        Some(label) => Some(Box::new(Owner { label: label.parse()?, fence })),
        None => None,
    };
    Ok(Record {
        secret: secret_hash(row.try_get(1)?)?,
        replaced,
        version: Version(u64::try_from(row.try_get::<i64, _>(4)?)?),
        values: values(row.try_get(5)?)?,
        created: time(row.try_get(6)?)?,
        authenticated: row.try_get::<Option<i64>, _>(7)?.map(time).transpose()?,
        idle_deadline: time(row.try_get(8)?)?,
        absolute_deadline: time(row.try_get(9)?)?,
        principal: principal(row.try_get(10)?, row.try_get(11)?)?,
        owner,
    })
}

/// The session in a row of `LIST`.
pub(crate) fn session(row: &PgRow) -> Result<SessionInfo, Corrupt> {
    Ok(SessionInfo {
        id: id(row)?,
        created: time(row.try_get(1)?)?,
        authenticated: row.try_get::<Option<i64>, _>(2)?.map(time).transpose()?,
        deadline: time(row.try_get(3)?)?,
    })
}

/// The id that a row begins with.
pub(crate) fn id(row: &PgRow) -> Result<RecordId, Corrupt> {
    Ok(row.try_get::<Uuid, _>(0)?.into())
}

/// A row is no record.
pub(crate) type Corrupt = Box<dyn Error + Send + Sync>;

fn secret_hash(bytes: &[u8]) -> Result<SecretHash, Corrupt> {
    let (key, digest) = bytes.split_first_chunk().ok_or("the hash is too short")?;
    Ok(SecretHash::from_parts(KeyId(u32::from_be_bytes(*key)), digest.try_into()?))
}

fn time(millis: i64) -> Result<UtcDateTime, Corrupt> {
    Ok(UtcDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)?)
}

/// An object of strings. The parser's message may show a value, and is not passed on.
fn values(object: &str) -> Result<Values, Corrupt> {
    let values: BTreeMap<String, String> =
        serde_json::from_str(object).map_err(|_| "the values are no texts by key")?;
    if values.keys().any(|key| Limits::check_key(key).is_err()) {
        return Err("a key has the wrong form".into());
    }
    Ok(values.iter().map(|(key, value)| (key, value.as_bytes())).collect())
}

fn principal(realm: Option<&str>, id: Option<&str>) -> Result<Option<Principal>, Corrupt> {
    match (realm, id) {
        (Some(realm), Some(id)) => Ok(Some(Principal::new(Realm::new(realm)?, id)?)),
        _ => Ok(None),
    }
}
