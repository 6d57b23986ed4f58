//! Any bytes where a record is stored: they are a record that is stored as just that again, or none.
//!
//! An input is the object of values in a row of Postgres, or the fields of a hash in Redis, names and
//! contents in turn, each after its length.

#![no_main]

use std::collections::BTreeMap;

use fuzz::Input;
use libfuzzer_sys::fuzz_target;
use steadfast::Limits;

fuzz_target!(|data: &[u8]| match data {
    [b'{', ..] => row(data),
    _ => hash(Input::new(data)),
});

fn row(object: &[u8]) {
    let Ok(object) = std::str::from_utf8(object) else { return };
    let values = steadfast_postgres::fuzzing::values(object);
    let texts = serde_json::from_str::<BTreeMap<String, String>>(object).ok();
    let texts = texts.filter(|texts| texts.keys().all(|key| Limits::check_key(key).is_ok()));
    assert_eq!(values.is_some(), texts.is_some(), "{object}");
    let (Some(values), Some(texts)) = (values, texts) else { return };
    let texts = texts.iter().map(|(key, text)| (key.as_str(), text.as_bytes()));
    assert!(values.iter().eq(texts), "{object}");
}

fn hash(mut input: Input<'_>) {
    let mut fields = Vec::new();
    while !input.is_empty() {
        fields.push(input.slice().to_vec());
    }
    let Some(record) = steadfast_redis::fuzzing::decode(&fields) else { return };
    let again = steadfast_redis::fuzzing::encode(&record);
    assert_eq!(steadfast_redis::fuzzing::decode(&again), Some(record));
}
