//! Entry points for the fuzz targets. They are not part of the public API and may change at any
//! time.

use redis::Value;
use steadfast_core::{Limits, Record};

use crate::codec;

/// Decodes a record from alternating names and contents of fields.
pub fn decode(fields: &[Vec<u8>]) -> Option<Record> {
    let answer = fields.iter().cloned().map(Value::BulkString).collect();
    codec::decode(Value::Array(answer), &Limits::default()).ok().flatten()
}

/// Encodes a record as alternating names and contents of fields.
pub fn encode(record: &Record) -> Vec<Vec<u8>> {
    let values = record.values.iter();
    let values = values.flat_map(|(key, value)| [format!("v{key}").into(), value.to_vec()]);
    [codec::OWN.into(), codec::encode(record, "")].into_iter().chain(values).collect()
}
