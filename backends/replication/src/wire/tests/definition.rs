//! A reader of the definition that finds the messages in a message.

use std::collections::{BTreeMap, BTreeSet};

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use super::field;

/// The types of all fields, by message and tag.
pub(super) struct Definition {
    fields: BTreeMap<(String, u32), String>,
    messages: BTreeSet<String>,
}

impl Definition {
    pub(super) fn read() -> Self {
        let mut definition = Self { fields: BTreeMap::new(), messages: BTreeSet::new() };
        let mut message = "";
        for line in include_str!("../replication.proto").lines().map(str::trim) {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["message", name, ..] => {
                    message = name;
                    definition.messages.insert(name.to_owned());
                }
                ["//", ..] => {}
                [.., of, _, "=", tag] => {
                    let tag = tag.trim_end_matches(';').parse().unwrap();
                    definition.fields.insert((message.to_owned(), tag), of.to_owned());
                }
                _ => {}
            }
        }
        definition
    }

    /// A message with unknown fields around its own, and around those of each message in it.
    pub(super) fn extended(&self, message: &str, mut rest: &[u8]) -> Vec<u8> {
        let mut longer = unknown();
        while !rest.is_empty() {
            let (tag, wire_type) = decode_key(&mut rest).unwrap();
            encode_key(tag, wire_type, &mut longer);
            let fixed = match wire_type {
                WireType::SixtyFourBit => 8,
                WireType::ThirtyTwoBit => 4,
                _ => 0,
            };
            longer.extend(rest.split_off(..fixed).unwrap());
            if fixed > 0 {
                continue;
            }
            let value = decode_varint(&mut rest).unwrap();
            if wire_type == WireType::Varint {
                encode_varint(value, &mut longer);
                continue;
            }
            let part = rest.split_off(..value as usize).unwrap();
            let of = &self.fields[&(message.to_owned(), tag)];
            let part = match self.messages.contains(of) {
                true => self.extended(of, part),
                false => part.to_vec(),
            };
            encode_varint(part.len() as u64, &mut longer);
            longer.extend(part);
        }
        longer.extend(unknown());
        longer
    }
}

fn unknown() -> Vec<u8> {
    [field(1_000, &[1, 2, 3]), field(1_001, &[])].concat()
}
