//! The values of a record: raw JSON by key, parsed only on access.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::ser::{Error as _, Serialize, Serializer};

use crate::json::{self, DecodeCategory, DecodeError, EncodeError};

/// A value as JSON text. Stores keep it byte for byte; its `Debug` shows only the length.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Vec<u8>);

impl RawJson {
    /// Encodes a value so that it decodes to the same value: every finite number to its last bit.
    ///
    /// It cannot detect a `Deserialize` that does not match the type's `Serialize`; use
    /// [`encode_checked`](Self::encode_checked) for that. Neither detects a type that writes two
    /// different values as the same JSON.
    ///
    /// # Errors
    ///
    /// Returns an error when JSON cannot represent the value, or its `Serialize` fails.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        json::encode(value).map(Self)
    }

    /// Encodes a value, and decodes it again to check that it is unchanged.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`encode`](Self::encode), and an error when the value does not decode to
    /// itself. That happens for some types, such as untagged enums with similar variants.
    pub fn encode_checked<T>(value: &T) -> Result<Self, EncodeError>
    where
        T: Serialize + DeserializeOwned,
    {
        let json = json::encode(value)?;
        json::check_reads_back::<T>(&json)?;
        Ok(Self(json))
    }

    /// Checks that `text` is one JSON value, and keeps it unchanged. Its depth is checked by
    /// [`Limits`](crate::Limits).
    ///
    /// # Errors
    ///
    /// Returns an error when the text is not JSON in UTF-8.
    pub fn parse(text: impl Into<Vec<u8>>) -> Result<Self, DecodeError> {
        let text = text.into();
        let malformed = DecodeError { category: DecodeCategory::Syntax, line: 0, column: 0 };
        let json = std::str::from_utf8(&text).map_err(|_| malformed)?;
        serde_json::from_str::<IgnoredAny>(json)?;
        Ok(Self(text))
    }

    /// Copies JSON that a record already held, without checking it again.
    pub fn copied(json: &[u8]) -> Self {
        Self(json.to_vec())
    }

    /// Decodes the value.
    ///
    /// # Errors
    ///
    /// Returns an error when the JSON does not match the type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        json::decode(&self.0)
    }

    /// Returns the JSON text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the value as a counter, if it is an integer within an `i64`.
    pub fn as_integer(&self) -> Option<i64> {
        integer(&self.0)
    }
}

impl From<i64> for RawJson {
    fn from(value: i64) -> Self {
        Self(value.to_string().into_bytes())
    }
}

/// Serializes the value itself, not its text.
impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: serde_json::Value = serde_json::from_slice(&self.0).map_err(S::Error::custom)?;
        value.serialize(serializer)
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawJson({} bytes)", self.0.len())
    }
}

/// The values of a record, sorted by key, in one allocation.
///
/// They are packed, because a service holds millions of them: each entry consists of the key's
/// length (1 byte), the value's length (4 bytes), the key and the value. A lookup skips over the
/// values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values(Box<[u8]>);

impl Values {
    /// Creates an empty set of values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the raw JSON under a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        for (name, value) in self.entries() {
            match name.cmp(key.as_bytes()) {
                Ordering::Less => {}
                Ordering::Equal => return Some(value),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// Returns all keys with their raw JSON, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries().map(|(key, value)| (utf8(key), value))
    }

    /// Returns the pre-auth keys, which a sign-in removes, sorted.
    pub fn pre_auth_keys(&self) -> impl Iterator<Item = &str> {
        let marked = self.entries().filter(|(key, _)| key.first() == Some(&(PRE_AUTH as u8)));
        marked.map(|(key, _)| utf8(key))
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.entries().count()
    }

    /// Returns true if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes of all keys and values, as counted against the limit of a record.
    pub fn size(&self) -> usize {
        self.size_of(self.len())
    }

    /// Returns the same as `size`, for a known number of keys, without visiting the entries.
    pub(crate) fn size_of(&self, keys: usize) -> usize {
        self.packed_len() - keys * LENGTHS
    }

    /// Returns the bytes occupied in memory.
    pub fn packed_len(&self) -> usize {
        self.0.len()
    }

    /// Returns all keys and their raw JSON, sorted by key. Keys are UTF-8.
    pub(crate) fn entries(&self) -> Entries<'_> {
        Entries(&self.0)
    }
}

impl<'a, K: AsRef<str>> FromIterator<(K, &'a [u8])> for Values {
    /// Packs entries in any order. If two have the same key, the later one is kept.
    fn from_iter<I: IntoIterator<Item = (K, &'a [u8])>>(entries: I) -> Self {
        let mut sorted: Vec<_> = entries.into_iter().collect();
        sorted.sort_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
        let room = sorted.iter().map(|(key, value)| Packing::room(key.as_ref(), value.len()));
        let mut packing = Packing::with_capacity(room.sum());
        for same in sorted.chunk_by(|(one, _), (other, _)| one.as_ref() == other.as_ref()) {
            let (key, value) = &same[same.len() - 1];
            packing.push(key.as_ref().as_bytes(), value);
        }
        packing.finish()
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, value)| (key, value.len()))).finish()
    }
}

fn utf8(key: &[u8]) -> &str {
    std::str::from_utf8(key).expect("keys are packed from UTF-8 strings")
}

/// The first character of pre-auth keys. A sign-in removes their values.
pub const PRE_AUTH: char = '~';

/// The bytes before the key and the value of an entry, which hold their lengths.
const LENGTHS: usize = 1 + 4;

/// Builds [`Values`] from entries sorted by key.
pub(crate) struct Packing(Vec<u8>);

impl Packing {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Returns the bytes that an entry occupies.
    pub(crate) fn room(key: &str, value_len: usize) -> usize {
        LENGTHS + key.len() + value_len
    }

    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        let key_len = u8::try_from(key.len()).expect("a key has at most 128 bytes");
        let value_len = u32::try_from(value.len()).expect("a value is shorter than 4 GiB");
        self.0.push(key_len);
        self.0.extend_from_slice(&value_len.to_le_bytes());
        self.0.extend_from_slice(key);
        self.0.extend_from_slice(value);
    }

    /// Appends packed entries in a single copy.
    pub(crate) fn copy(&mut self, entries: &Entries<'_>) {
        self.0.extend_from_slice(entries.0);
    }

    pub(crate) fn finish(self) -> Values {
        Values(self.0.into_boxed_slice())
    }
}

/// Parses an integer as a counter does: JSON without fraction or exponent, within an `i64`.
pub(crate) fn integer(json: &[u8]) -> Option<i64> {
    serde_json::from_slice(json).ok()
}

#[derive(Clone, Default)]
pub(crate) struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    /// Splits off the entries whose keys come before this one.
    pub(crate) fn take_before(&mut self, key: &[u8]) -> Self {
        let all = self.0;
        let mut rest = self.clone();
        while rest.next().is_some_and(|(name, _)| name < key) {
            self.0 = rest.0;
        }
        Self(&all[..all.len() - self.0.len()])
    }

    /// Splits off the entry under this key, if it comes next.
    pub(crate) fn take_key(&mut self, key: &[u8]) -> Option<&'a [u8]> {
        let mut rest = self.clone();
        let (_, value) = rest.next().filter(|(name, _)| *name == key)?;
        *self = rest;
        Some(value)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&key_len, rest) = self.0.split_first()?;
        let (value_len, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(key_len.into())?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
        self.0 = rest;
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_key_and_come_sorted() {
        let values: Values =
            [("b", b"2".as_slice()), ("a", b"1"), ("b", b"3")].into_iter().collect();
        assert_eq!(values.get("a"), Some(b"1".as_slice()));
        assert_eq!(values.get("b"), Some(b"3".as_slice()));
        assert_eq!(values.get("aa"), None);
        assert_eq!(values.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((values.len(), values.size()), (2, 4));
    }

    #[test]
    fn debug_shows_keys_and_lengths_but_no_value() {
        let values: Values = [("cart", b"\"hidden\"".as_slice())].into_iter().collect();
        assert_eq!(format!("{values:?}"), r#"{"cart": 8}"#);
        assert_eq!(format!("{:?}", RawJson::encode("hidden").unwrap()), "RawJson(8 bytes)");
    }

    #[test]
    fn raw_json_is_json_in_utf_8() {
        for good in ["\"\\ud83d\"", "1e999", &("[".repeat(999) + &"]".repeat(999))] {
            assert!(RawJson::parse(good).is_ok(), "{good}");
        }
        for bad in [&b"\"\xff\""[..], b"", b"1 2", b"01"] {
            assert!(RawJson::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_a_plain_integer_counts() {
        for (json, counts) in [("3", Some(3)), ("-1", Some(-1)), ("1.0", None), ("\"3\"", None)] {
            assert_eq!(RawJson::parse(json).unwrap().as_integer(), counts, "{json}");
        }
        assert_eq!(integer(b"9223372036854775808"), None);
    }
}
