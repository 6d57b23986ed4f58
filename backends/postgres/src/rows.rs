//! A record as a row, and back.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use steadfast_core::{
    Facts, KeyId, Limits, Owner, Principal, Proof, Realm, Record, RecordId, Replaced, SecretHash,
    SessionInfo, StoreError, Timestamp, Values, Version,
};
use uuid::Uuid;

use crate::connection::{Malformed, Row};

pub(crate) type Hash = Vec<u8>;

pub(crate) fn hash(hash: &SecretHash) -> Hash {
    hash.compared().to_vec()
}

pub(crate) fn hashes(proof: &Proof) -> Vec<Hash> {
    proof.hashes().map(hash).collect()
}

/// Milliseconds since 1970. What is finer is cut off: a deadline is never later than it was.
pub(crate) fn millis(time: Timestamp) -> i64 {
    time.as_millis()
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
pub(crate) fn record(row: &Row) -> Result<Record, Malformed> {
    let replaced = match (row.get::<Option<&[u8]>>(2)?, row.get(3)?) {
        (Some(hash), Some(until)) => {
            Some(Box::new(Replaced { hash: secret_hash(hash)?, until: time(until)? }))
        }
        _ => None,
    };
    let fence = u64::try_from(row.get::<i64>(13)?)?;
    let owner = match row.get::<Option<&str>>(12)? {
        Some(label) => Some(Box::new(Owner { label: label.parse()?, fence })),
        None => None,
    };
    Ok(Record {
        secret: secret_hash(row.get(1)?)?,
        replaced,
        version: Version(u64::try_from(row.get::<i64>(4)?)?),
        values: values(row.get(5)?)?,
        created: time(row.get(6)?)?,
        authenticated: row.get::<Option<i64>>(7)?.map(time).transpose()?,
        idle_deadline: time(row.get(8)?)?,
        absolute_deadline: time(row.get(9)?)?,
        principal: principal(row.get(10)?, row.get(11)?)?,
        sign_in: 0,
        facts: Facts::default(),
        owner,
    })
}

/// The session in a row of `LIST`.
pub(crate) fn session(row: &Row) -> Result<SessionInfo, Malformed> {
    Ok(SessionInfo {
        id: id(row)?,
        created: time(row.get(1)?)?.into(),
        authenticated: row.get::<Option<i64>>(2)?.map(time).transpose()?.map(Into::into),
        deadline: time(row.get(3)?)?.into(),
    })
}

/// The id that a row begins with.
pub(crate) fn id(row: &Row) -> Result<RecordId, Malformed> {
    Ok(row.get::<Uuid>(0)?.into())
}

fn secret_hash(bytes: &[u8]) -> Result<SecretHash, Malformed> {
    let (key, digest) = bytes.split_first_chunk().ok_or("the hash is too short")?;
    let key = KeyId::from_parts(u32::from_be_bytes(*key), "").ok_or("the key has no name")?;
    Ok(SecretHash::from_parts(key, digest.try_into()?))
}

fn time(millis: i64) -> Result<Timestamp, Malformed> {
    Ok(Timestamp::from_millis(millis))
}

/// An object of strings. The parser's message may show a value, and is not passed on.
pub(crate) fn values(object: &str) -> Result<Values, Malformed> {
    let Entries(entries) =
        serde_json::from_str(object).map_err(|_| "the values are no texts by key")?;
    if entries.iter().any(|(Text(key), _)| Limits::check_key(key).is_err()) {
        return Err("a key has the wrong form".into());
    }
    Ok(entries.iter().map(|(Text(key), Text(value))| (key, value.as_bytes())).collect())
}

/// What is in an object, in its order.
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

/// A string, copied only where it holds an escape.
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

fn principal(realm: Option<&str>, id: Option<&str>) -> Result<Option<Principal>, Malformed> {
    match (realm, id) {
        (Some(realm), Some(id)) => Ok(Some(Principal::new(Realm::new(realm)?, id)?)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_an_object_of_strings_and_nothing_else() {
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

    #[test]
    fn a_time_survives_to_the_millisecond_and_is_never_later() {
        for at in [0, 1, -1, 253_402_300_799_999] {
            assert_eq!(millis(time(at).unwrap()), at);
        }
    }

    #[test]
    fn a_hash_survives_and_any_other_length_is_none() {
        let kept = SecretHash::from_parts(KeyId::from_parts(7, "").unwrap(), [9; 32]);
        let bytes = hash(&kept);
        assert_eq!(secret_hash(&bytes).unwrap(), kept);
        for wrong in [&bytes[..3], &bytes[..35], &[&bytes[..], &[0]].concat()] {
            assert!(secret_hash(wrong).is_err());
        }
    }
}
