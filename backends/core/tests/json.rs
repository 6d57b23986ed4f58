//! An encoded value decodes to itself, or is rejected.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use proptest::collection::{btree_map, btree_set, hash_map, hash_set, vec};
use proptest::num::{f32, f64};
use proptest::option;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use steadfast_core::{DecodeCategory, EncodeError, RawJson};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn numbers_come_back_to_the_last_bit(
        double in f64::ANY, single in f32::ANY, signed: i128, unsigned: u128, small: (i8, u64, i64),
    ) {
        prop_assert_eq!(comes_back(&double)?, double.is_finite());
        prop_assert_eq!(comes_back(&single)?, single.is_finite());
        prop_assert!(comes_back(&(signed, unsigned, small))?);
    }

    #[test]
    fn texts_and_bytes_come_back(text: String, letter: char, bytes: Vec<u8>) {
        prop_assert!(comes_back(&(text, letter))?);
        prop_assert!(comes_back(&Bytes(bytes))?);
    }

    #[test]
    fn options_round_trip_unless_their_value_is_null(
        nested in option::of(option::of(any::<u8>())), unit in option::of(Just(())),
        named in option::of(option::of(any::<u8>()).prop_map(Newtype)),
        float in option::of(f64::ANY),
    ) {
        prop_assert_eq!(comes_back(&nested)?, nested != Some(None));
        prop_assert_eq!(comes_back(&unit)?, unit.is_none());
        prop_assert_eq!(comes_back(&named)?, !matches!(named, Some(Newtype(None))));
        prop_assert_eq!(comes_back(&float)?, float.is_none_or(::core::primitive::f64::is_finite));
        prop_assert_eq!(comes_back(&vec![nested])?, nested != Some(None));
    }

    #[test]
    fn maps_and_sets_come_back(
        by_number in btree_map(any::<i128>(), any::<bool>(), 0..4),
        by_float in vec((f64::NORMAL | f64::SUBNORMAL, f32::NORMAL), 0..4),
        by_letter in btree_map(any::<char>(), option::of(any::<u8>()), 0..4),
        by_answer in btree_map(any::<bool>(), any::<()>(), 0..4),
        by_variant in btree_map(any::<bool>().prop_map(Direction::of), any::<u8>(), 0..4),
        hashed in hash_map(any::<String>(), f64::NORMAL, 0..9),
        set in hash_set(any::<(i64, String)>(), 0..9), sorted in btree_set(any::<u128>(), 0..4),
    ) {
        prop_assert!(comes_back(&by_number)?);
        prop_assert!(comes_back(&by_float)?);
        prop_assert!(comes_back(&by_letter)?);
        prop_assert!(comes_back(&by_answer)?);
        prop_assert!(comes_back(&by_variant)?);
        prop_assert!(is_equal_again(&hashed)?);
        prop_assert!(is_equal_again(&set)?);
        prop_assert!(comes_back(&sorted)?);
    }

    #[test]
    fn enums_round_trip_or_are_rejected(part in part(), more in part()) {
        comes_back(&External::Newtype(part.clone()))?;
        comes_back(&External::Tuple(part.clone(), more.clone()))?;
        comes_back(&External::Struct { part: part.clone() })?;
        comes_back(&Internal::Struct { part: part.clone() })?;
        comes_back(&Internal::Newtype(part.clone()))?;
        comes_back(&Adjacent::Newtype(part.clone()))?;
        comes_back(&Adjacent::Struct { part: part.clone() })?;
        comes_back(&Untagged::Struct { part: part.clone() })?;
        comes_back(&Untagged::Double(part.double))?;
        comes_back(&Untagged::Text(part.text.clone()))?;
        comes_back(&Untagged::Wide(part.wide))?;
        comes_back(&Flat { id: 7, part: part.clone() })?;
        comes_back(&vec![Some(Newtype((part, more)))])?;
    }

    #[test]
    fn numbers_that_serde_buffers_come_back(double in f64::NORMAL, single in f32::NORMAL) {
        let numbers = Buffered::Numbers { double, single };
        prop_assert!(comes_back(&numbers)?);
    }
}

#[test]
fn values_without_content_come_back() {
    assert!(comes_back(&()).unwrap());
    assert!(comes_back(&Nothing).unwrap());
    assert!(comes_back(&None::<u8>).unwrap());
    assert!(comes_back(&[(); 3]).unwrap());
    assert!(comes_back(&(External::Unit, Internal::Unit, Adjacent::Unit)).unwrap());
    assert_eq!(RawJson::encode(&Some(Nothing)), Err(EncodeError::NullInSome));
    assert_eq!(RawJson::encode(&Some(serde_json::Value::Null)), Err(EncodeError::NullInSome));
}

#[test]
fn floats_at_the_edges_come_back() {
    for double in [0.0, -0.0, f64::MIN_POSITIVE, 5e-324, -5e-324, f64::MAX, 1.577_777_777_777_000_1]
    {
        assert!(comes_back(&double).unwrap(), "{double:e}");
    }
    // The one `f32` whose shortest text decodes to another number by way of an `f64`.
    for single in [7.038_531e-26, -7.038_531e-26, 1e-45, f32::MAX] {
        assert!(comes_back(&Buffered::Numbers { double: 0.0, single }).unwrap(), "{single:e}");
    }
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(RawJson::encode(&vec![Newtype(bad)]), Err(EncodeError::NotFinite));
        assert_eq!(
            RawJson::encode(&BTreeMap::from([("a", bad as f32)])),
            Err(EncodeError::NotFinite)
        );
    }
}

#[test]
fn keys_that_json_cannot_tell_apart_are_refused() {
    let rest = BTreeMap::from([("id".to_owned(), 1)]);
    assert_eq!(RawJson::encode(&vec![Rest { id: 7, rest }]), Err(EncodeError::DuplicateKey));
    let pairs = BTreeMap::from([((1, 2), 3)]);
    assert_eq!(RawJson::encode(&pairs), Err(EncodeError::Serialize));
}

#[test]
fn the_check_rejects_a_mismatched_deserialize() {
    let unreadable = Some(EncodeError::Unreadable);
    assert_eq!(RawJson::encode_checked(&Alike::Second(1)).err(), unreadable, "another variant");
    assert_eq!(RawJson::encode_checked(&Internal::Wide { wide: 1 }).err(), unreadable);
    let by_number = HashMap::from([(1, 2)]);
    assert_eq!(RawJson::encode_checked(&Internal::Map { by_number }).err(), unreadable);
}

#[test]
fn an_error_says_where_and_shows_no_value() {
    let json = RawJson::encode("hunter2").unwrap();
    let error = json.decode::<u8>().unwrap_err();
    assert_eq!((error.category, error.line, error.column), (DecodeCategory::Type, 1, 9));
    let malformed = RawJson::parse(r#"{"a": hunter2}"#).unwrap_err();
    assert_eq!((malformed.category, malformed.column), (DecodeCategory::Syntax, 7));
    let cut = RawJson::parse("[").unwrap_err();
    assert_eq!(cut.category, DecodeCategory::Incomplete);
    let refused = RawJson::encode(&Loud).unwrap_err();
    for shown in [format!("{error} {error:?}"), format!("{malformed:?}"), format!("{refused:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

/// Returns whether a value is accepted. An accepted value must decode to itself, to every digit
/// that `Debug` shows.
fn comes_back<T>(value: &T) -> Result<bool, TestCaseError>
where
    T: Serialize + DeserializeOwned + Debug,
{
    let Ok(json) = RawJson::encode_checked(value) else { return Ok(false) };
    let back = json.decode::<T>();
    let back = back.map_err(|error| TestCaseError::fail(format!("{value:?}: {error}")))?;
    prop_assert_eq!(format!("{back:?}"), format!("{value:?}"));
    Ok(true)
}

/// Returns the same for types without an order.
fn is_equal_again<T>(value: &T) -> Result<bool, TestCaseError>
where
    T: Serialize + DeserializeOwned + Debug + PartialEq,
{
    let json = RawJson::encode_checked(value);
    let Ok(json) = json else { return Ok(false) };
    prop_assert_eq!(&json.decode::<T>().unwrap(), value);
    Ok(true)
}

fn part() -> impl Strategy<Value = Part> {
    let optional = option::of(option::of(any::<i32>()));
    let numbers = (f64::ANY, f32::ANY, any::<u128>(), any::<i64>());
    (numbers, optional, any::<String>(), vec(option::of(f64::ANY), 0..3)).prop_map(
        |((double, single, wide, long), optional, text, list)| Part {
            double,
            single,
            wide,
            long,
            optional,
            text,
            list,
        },
    )
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Part {
    double: f64,
    single: f32,
    wide: u128,
    long: i64,
    optional: Option<Option<i32>>,
    text: String,
    list: Vec<Option<f64>>,
}

#[derive(Debug, Serialize, Deserialize)]
enum External {
    Unit,
    Newtype(Part),
    Tuple(Part, Part),
    Struct { part: Part },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Internal {
    Unit,
    Newtype(Part),
    Struct { part: Part },
    Wide { wide: u128 },
    Map { by_number: HashMap<u32, u32> },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "content")]
enum Adjacent {
    Unit,
    Newtype(Part),
    Struct { part: Part },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Wide(u128),
    Double(f64),
    Text(String),
    Struct { part: Part },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Alike {
    First(f64),
    Second(u8),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Buffered {
    Numbers { double: f64, single: f32 },
}

#[derive(Debug, Serialize, Deserialize)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    part: Part,
}

#[derive(Debug, Serialize, Deserialize)]
struct Rest {
    id: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Newtype<T>(T);

#[derive(Debug, Serialize, Deserialize)]
struct Nothing;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Direction {
    Up,
    Down,
}

impl Direction {
    fn of(is_up: bool) -> Self {
        if is_up { Self::Up } else { Self::Down }
    }
}

/// Bytes, which serde distinguishes from sequences.
#[derive(Debug, Deserialize)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// Quotes itself in its error.
struct Loud;

impl Serialize for Loud {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("hunter2"))
    }
}
