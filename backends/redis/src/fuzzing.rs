//! What the fuzz targets reach. No part of the interface: it changes with what it shows.

use redis::Value;
use steadfast_core::{Limits, Record};

use crate::codec;

/// The record of a hash's fields, names and contents in turn.
pub fn decode(fields: &[Vec<u8>]) -> Option<Record> {
    let answer = fields.iter().cloned().map(Value::BulkString).collect();
    codec::decode(Value::Array(answer), &Limits::default()).ok().flatten()
}

/// The fields of a record, names and contents in turn.
pub fn encode(record: &Record) -> Vec<Vec<u8>> {
    let values = record.values.iter();
    let values = values.flat_map(|(key, value)| [format!("v{key}").into(), value.to_vec()]);
    [codec::OWN.into(), codec::encode(record, "")].into_iter().chain(values).collect()
}
