//! JSON encoding that rejects values which would not decode to the same value.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::error::Category;

/// The reason why a value cannot be kept as JSON. It never contains the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value contains an infinite number or NaN, which JSON would turn into `null`.
    #[error("JSON cannot represent infinity or NaN")]
    NotFinite,
    /// The value contains a `Some` that JSON writes as `null`, such as `Some(None)`. It would
    /// decode as `None`.
    #[error("a nested option that is null would decode as none")]
    NullInSome,
    /// The value contains a map with two keys that have the same text in JSON.
    #[error("two keys of a map have the same JSON text")]
    DuplicateKey,
    /// The type's `Serialize` fails, for example on a map whose keys are neither strings nor
    /// numbers.
    #[error("serialization failed")]
    Serialize,
    /// The type's `Deserialize` fails on the output of its `Serialize`, or yields a different
    /// value.
    #[error("the value would not decode to itself")]
    Unreadable,
}

/// The reason why JSON cannot be decoded as a type. It names the place and never contains the
/// value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{category} at line {line}, column {column}")]
#[non_exhaustive]
pub struct DecodeError {
    /// The kind of error.
    pub category: DecodeCategory,
    /// The line, from 1; 0 if unknown.
    pub line: usize,
    /// The column, from 1; 0 if unknown.
    pub column: usize,
}

/// A kind of decoding error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeCategory {
    /// The text is not JSON.
    Syntax,
    /// The text ends too early.
    Incomplete,
    /// The JSON does not match the type.
    Type,
}

impl fmt::Display for DecodeCategory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "malformed JSON",
            Self::Incomplete => "incomplete JSON",
            Self::Type => "JSON of another type",
        })
    }
}

/// Keeps only the place and the kind: the message of a serde_json error quotes the value.
#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` has")]
impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        let category = match error.classify() {
            Category::Data => DecodeCategory::Type,
            Category::Eof => DecodeCategory::Incomplete,
            Category::Syntax | Category::Io => DecodeCategory::Syntax,
        };
        Self { category, line: error.line(), column: error.column() }
    }
}

/// Decodes a value.
pub(crate) fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, DecodeError> {
    Ok(serde_json::from_slice(json)?)
}

/// Encodes a value, unless one of its parts would decode to something else.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let notes = Notes::default();
    let mut json = Vec::with_capacity(128);
    let exact =
        Exact { inner: &mut serde_json::Serializer::new(&mut json), notes: &notes, in_some: false };
    if value.serialize(exact).is_err() {
        return Err(notes.flaw.get().unwrap_or(EncodeError::Serialize));
    }
    if notes.has_maps.get() && has_duplicate_keys(&json) {
        return Err(EncodeError::DuplicateKey);
    }
    Ok(json)
}

fn has_duplicate_keys(json: &[u8]) -> bool {
    serde_json::from_slice(json).is_ok_and(|Distinct(is_distinct)| !is_distinct)
}

/// Checks that the JSON of a type decodes as that type and encodes to the same JSON again.
pub(crate) fn check_reads_back<T>(json: &[u8]) -> Result<(), EncodeError>
where
    T: Serialize + DeserializeOwned,
{
    let read: T = serde_json::from_slice(json).map_err(|_| EncodeError::Unreadable)?;
    let again = encode(&read).map_err(|_| EncodeError::Unreadable)?;
    if json == again || is_reordered(json, &again) { Ok(()) } else { Err(EncodeError::Unreadable) }
}

/// Returns true if two texts differ only in the order of their elements, because hash sets and maps
/// have no fixed order. The bytes must match up to order too: comparing parsed numbers could equate
/// two large numbers that are written differently.
fn is_reordered(one: &[u8], other: &[u8]) -> bool {
    let bytes = |json: &[u8]| {
        let mut bytes = json.to_vec();
        bytes.sort_unstable();
        bytes
    };
    let elements = |json: &[u8]| {
        let mut value = serde_json::from_slice(json).ok()?;
        sort(&mut value);
        Some(value)
    };
    one.len() == other.len() && bytes(one) == bytes(other) && elements(one) == elements(other)
}

fn sort(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(elements) => {
            elements.iter_mut().for_each(sort);
            elements.sort_by_cached_key(ToString::to_string);
        }
        serde_json::Value::Object(entries) => entries.values_mut().for_each(sort),
        _ => {}
    }
}

/// Problems found while serializing. A serializer's own error can only carry a text.
#[derive(Default)]
struct Notes {
    flaw: Cell<Option<EncodeError>>,
    has_maps: Cell<bool>,
}

/// A serializer that forwards everything, except for values that would not decode to themselves.
struct Exact<'n, S> {
    inner: S,
    notes: &'n Notes,
    /// True inside a `Some`, where `null` would decode as `None`.
    in_some: bool,
}

impl<'n, S: Serializer> Exact<'n, S> {
    fn refuse<T>(&self, flaw: EncodeError) -> Result<T, S::Error> {
        self.notes.flaw.set(Some(flaw));
        Err(S::Error::custom(flaw))
    }

    fn null(self, write: impl FnOnce(S) -> Result<S::Ok, S::Error>) -> Result<S::Ok, S::Error> {
        if self.in_some { self.refuse(EncodeError::NullInSome) } else { write(self.inner) }
    }

    fn parts<C>(
        self,
        open: impl FnOnce(S) -> Result<C, S::Error>,
    ) -> Result<Parts<'n, C>, S::Error> {
        Ok(Parts { notes: self.notes, inner: open(self.inner)? })
    }
}

macro_rules! pass_on {
    ($($method:ident: $value:ty,)*) => {$(
        fn $method(self, value: $value) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

impl<'n, S: Serializer> Serializer for Exact<'n, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'n, S::SerializeSeq>;
    type SerializeTuple = Parts<'n, S::SerializeTuple>;
    type SerializeTupleStruct = Parts<'n, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<'n, S::SerializeTupleVariant>;
    type SerializeMap = Parts<'n, S::SerializeMap>;
    type SerializeStruct = Parts<'n, S::SerializeStruct>;
    type SerializeStructVariant = Parts<'n, S::SerializeStructVariant>;

    pass_on! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_char: char,
        serialize_str: &str,
        serialize_bytes: &[u8],
    }

    /// Some types read every number as an `f64` first. The shortest text of exactly one `f32` then
    /// decodes to its neighbour; a test of all values found no other.
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        match value {
            _ if !value.is_finite() => self.refuse(EncodeError::NotFinite),
            _ if value.abs() == 7.038_531e-26 => self.inner.serialize_f64(value.into()),
            _ => self.inner.serialize_f32(value),
        }
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            self.inner.serialize_f64(value)
        } else {
            self.refuse(EncodeError::NotFinite)
        }
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.null(S::serialize_none)
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.null(S::serialize_unit)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.null(|inner| inner.serialize_unit_struct(name))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Within { value, notes: self.notes, in_some: true })
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = Within { value, notes: self.notes, in_some: self.in_some };
        self.inner.serialize_newtype_struct(name, &value)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = Within { value, notes: self.notes, in_some: false };
        self.inner.serialize_newtype_variant(name, index, variant, &value)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.parts(|inner| inner.serialize_seq(len))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.parts(|inner| inner.serialize_tuple(len))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.parts(|inner| inner.serialize_tuple_struct(name, len))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.parts(|inner| inner.serialize_tuple_variant(name, index, variant, len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.notes.has_maps.set(true);
        self.parts(|inner| inner.serialize_map(len))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        self.parts(|inner| inner.serialize_struct(name, len))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.parts(|inner| inner.serialize_struct_variant(name, index, variant, len))
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A value inside another one.
struct Within<'n, T: ?Sized> {
    value: &'n T,
    notes: &'n Notes,
    in_some: bool,
}

impl<T: Serialize + ?Sized> Serialize for Within<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Exact { inner, notes: self.notes, in_some: self.in_some })
    }
}

/// The serializer of a sequence, a map or a struct, one element at a time.
struct Parts<'n, C> {
    inner: C,
    notes: &'n Notes,
}

impl<'n, C> Parts<'n, C> {
    fn within<'v, T: ?Sized>(&self, value: &'v T) -> Within<'v, T>
    where
        'n: 'v,
    {
        Within { value, notes: self.notes, in_some: false }
    }
}

macro_rules! elements {
    ($($kind:ident::$method:ident,)*) => {$(
        impl<C: $kind> $kind for Parts<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                let value = self.within(value);
                self.inner.$method(&value)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

macro_rules! fields {
    ($($kind:ident,)*) => {$(
        impl<C: $kind> $kind for Parts<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                let value = self.within(value);
                self.inner.serialize_field(key, &value)
            }

            fn skip_field(&mut self, key: &'static str) -> Result<(), C::Error> {
                self.inner.skip_field(key)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant, }

impl<C: SerializeMap> SerializeMap for Parts<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        let key = self.within(key);
        self.inner.serialize_key(&key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let value = self.within(value);
        self.inner.serialize_value(&value)
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

/// Accepts any JSON and reports whether every object has distinct keys: a duplicate would be lost.
struct Distinct(bool);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Self(true))
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Self, A::Error> {
        let mut known = HashSet::new();
        while let Some((key, value)) = entries.next_entry::<String, Self>()? {
            self.0 &= known.insert(key) && value.0;
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Self, A::Error> {
        while let Some(element) = elements.next_element::<Self>()? {
            self.0 &= element.0;
        }
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}
