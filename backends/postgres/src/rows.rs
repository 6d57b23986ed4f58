//! Conversion between records and rows.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use steadfast_core::{
    Facts, Limits, Owner, Principal, Realm, Record, RecordId, Replaced, SecretHash, SessionInfo,
    StoreError, Timestamp, Values, Version,
};
use uuid::Uuid;

use crate::connection::{Malformed, Row};

/// Returns the parts of hashes that the server compares.
pub(crate) fn compared<'h>(hashes: impl IntoIterator<Item = &'h SecretHash>) -> Vec<Vec<u8>> {
    hashes.into_iter().map(|hash| hash.compared().to_vec()).collect()
}

/// Maps an epoch to `bigint`, keeping the order.
pub(crate) fn epoch(epoch: u64) -> i64 {
    (epoch ^ (1 << 63)) as i64
}

/// Returns JSON as text. It is UTF-8, unless it was not made by an encoder.
pub(crate) fn text(json: &[u8]) -> Result<&str, StoreError> {
    let text = std::str::from_utf8(json).ok().filter(|text| !text.contains('\0'));
    text.ok_or(StoreError::Unsupported("values that are no UTF-8 text"))
}

pub(crate) fn whole(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Unsupported("versions and fences from 2^63"))
}

/// Parses the record in a row of `LOAD` or `SCAN`, unless a later release wrote it.
pub(crate) fn record(row: &Row) -> Result<Record, StoreError> {
    match row.get::<i32>(1) {
        Ok(format) if format > i32::from(Record::FORMAT) => Err(newer(format.into())),
        Ok(_) => known(row).map_err(StoreError::corrupt),
        Err(error) => Err(StoreError::corrupt(error)),
    }
}

/// Returns the error for a record in an unknown format.
pub(crate) fn newer(format: i64) -> StoreError {
    let found = u16::try_from(format).unwrap_or(u16::MAX);
    StoreError::NewerFormat { found, known: Record::FORMAT }
}

fn known(row: &Row) -> Result<Record, Malformed> {
    let replaced = match (row.get::<Option<&[u8]>>(3)?, row.get(4)?) {
        (Some(hash), Some(until)) => Some(Box::new(Replaced {
            hash: secret_hash(hash)?,
            until: Timestamp::from_millis(until),
        })),
        _ => None,
    };
    let fence = u64::try_from(row.get::<i64>(16)?)?;
    let owner = match row.get::<Option<&str>>(15)? {
        Some(label) => Some(Box::new(Owner { label: label.parse()?, fence })),
        None => None,
    };
    Ok(Record {
        secret: secret_hash(row.get(2)?)?,
        replaced,
        version: Version(u64::try_from(row.get::<i64>(5)?)?),
        values: values(row.get(6)?)?,
        created: time(row, 7)?,
        authenticated: row.get::<Option<i64>>(8)?.map(Timestamp::from_millis),
        idle_deadline: time(row, 9)?,
        absolute_deadline: time(row, 10)?,
        principal: principal(row.get(11)?, row.get(12)?)?,
        sign_in: u64::try_from(row.get::<i64>(13)?)?,
        facts: Facts::new(row.get::<Option<&[u8]>>(14)?.unwrap_or_default())?,
        owner,
    })
}

/// Parses the session in a row of `LIST`.
pub(crate) fn session(row: &Row) -> Result<SessionInfo, Malformed> {
    let authenticated = row.get::<Option<i64>>(2)?.map(Timestamp::from_millis);
    let info = SessionInfo::new(id(row)?, time(row, 1)?, authenticated, time(row, 3)?);
    let facts = Facts::new(row.get::<Option<&[u8]>>(5)?.unwrap_or_default())?;
    Ok(info.with_facts(time(row, 4)?, facts))
}

/// Parses the id at the start of a row.
pub(crate) fn id(row: &Row) -> Result<RecordId, Malformed> {
    Ok(row.get::<Uuid>(0)?.into())
}

pub(crate) fn secret_hash(bytes: &[u8]) -> Result<SecretHash, Malformed> {
    SecretHash::from_bytes(bytes).ok_or_else(|| "a hash has the wrong form".into())
}

pub(crate) fn time(row: &Row, column: usize) -> Result<Timestamp, Malformed> {
    Ok(Timestamp::from_millis(row.get(column)?))
}

/// Parses an object of strings. The parser's message may quote a value and is dropped.
pub(crate) fn values(object: &str) -> Result<Values, Malformed> {
    let Entries(entries) =
        serde_json::from_str(object).map_err(|_| "the values are no texts by key")?;
    if entries.iter().any(|(Text(key), _)| Limits::check_key(key).is_err()) {
        return Err("a key has the wrong form".into());
    }
    Ok(entries.iter().map(|(Text(key), Text(value))| (key, value.as_bytes())).collect())
}

/// The entries of an object, in order.
struct Entries<'t>(Vec<(Text<'t>, Text<'t>)>);

impl<'t> Deserialize<'t> for Entries<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'t> Visitor<'t> for Each {
            type Value = Entries<'t>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Entries<'t>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

/// A string. It is only copied if it contains an escape.
struct Text<'t>(Cow<'t, str>);

impl<'t> Deserialize<'t> for Text<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;

        impl<'t> Visitor<'t> for Whole {
            type Value = Text<'t>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'t str) -> Result<Text<'t>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'t>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Whole)
    }
}

pub(crate) fn principal(
    realm: Option<&str>,
    id: Option<&str>,
) -> Result<Option<Principal>, Malformed> {
    match (realm, id) {
        (Some(realm), Some(id)) => Ok(Some(Principal::new(Realm::new(realm)?, id)?)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_an_object_of_strings() {
        let packed =
            values(r#"{"b": "\"x\"", "a": "[1, 2]", "é": "\ud83d\ude00\\u0000"}"#).unwrap();
        let expected = [("a", "[1, 2]"), ("b", "\"x\""), ("é", "\u{1f600}\\u0000")];
        let expected = expected.map(|(key, value)| (key, value.as_bytes()));
        assert_eq!(packed.iter().collect::<Vec<_>>(), expected);
        for wrong in ["", "[]", "null", r#"{"a": 1}"#, r#"{"a": ["b"]}"#, r#"{"": "1"}"#, "{}{}"] {
            assert!(values(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_epoch_keeps_its_order() {
        let epochs = [0, 1, i64::MAX as u64, 1 << 63, u64::MAX].map(epoch);
        assert!(epochs.is_sorted_by(|one, other| one < other));
    }
}
