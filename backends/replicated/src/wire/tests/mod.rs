mod strategies;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use self::strategies::{hello, message};
use super::*;

proptest! {
    #[test]
    fn a_message_survives_the_round_trip(message in message()) {
        same(&message, &encode(&message));
    }

    #[test]
    fn what_a_later_version_adds_is_skipped_at_every_level(message in message()) {
        same(&message, &extended(&encode(&message)).unwrap());
    }

    #[test]
    fn a_cut_frame_is_no_message_and_no_panic(message in message(), end: Index) {
        let body = encode(&message);
        let end = end.index(body.len());
        prop_assert!(end == 0 || decode(&body[..end]).is_err(), "cut at {end}");
    }

    #[test]
    fn a_hello_survives_the_round_trip_and_what_a_later_version_adds(hello in hello()) {
        let bytes = hello.encode();
        prop_assert_eq!(Hello::decode(&bytes).unwrap(), hello.clone());
        prop_assert_eq!(Hello::decode(&extended(&bytes).unwrap()).unwrap(), hello);
    }

    #[test]
    fn cl_08_arbitrary_bytes_are_refused_without_a_panic(
        bytes: Vec<u8>,
        message in message(),
        at: Index,
    ) {
        let _ = (decode(&bytes), Hello::decode(&bytes));
        let mut body = encode(&message);
        let at = at.index(body.len());
        body.splice(at..at, bytes);
        let _ = decode(&body);
    }
}

#[test]
fn every_kind_of_message_is_tried() {
    let (mut runner, message) = (TestRunner::deterministic(), message());
    let mut draw = || encode(&message.new_tree(&mut runner).unwrap().current());
    let tags: BTreeSet<_> =
        (0..2_000).map(|_| decode_key(&mut draw().as_slice()).unwrap().0).collect();
    assert!(tags.into_iter().eq((1..=24).filter(|tag| *tag != GOSSIP)));
}

#[test]
fn gossip_survives_the_round_trip() {
    for gossip in [&[][..], &[0, 7]] {
        let Some(Frame::Gossip(back)) = decode(&encode_gossip(gossip)).unwrap() else {
            panic!("that is no gossip");
        };
        assert_eq!(back, gossip);
    }
}

#[test]
fn a_kind_that_a_later_version_adds_is_skipped() {
    for body in [&[][..], &field(25, &[1, 2, 3]), &field(5_000, &[])] {
        assert!(decode(body).unwrap().is_none());
    }
}

#[test]
fn cl_07_a_list_is_no_longer_than_its_bytes() {
    for (path, tag) in PARTS {
        for len in [9, u32::MAX.into(), u64::MAX] {
            let mut bomb = Vec::new();
            encode_key(*tag, WireType::LengthDelimited, &mut bomb);
            encode_varint(len, &mut bomb);
            assert!(decode(&nested(path, bomb)).is_err(), "{path:?} {tag} {len}");
        }
    }
}

#[test]
fn cl_07_a_flood_of_empty_parts_is_no_message_or_a_small_one() {
    for (path, tag) in PARTS {
        let flood = field(*tag, &[]).repeat(100_000);
        let message = decode(&nested(path, flood));
        let written = message.map_or(0, |message| match message {
            Some(Frame::Message(message)) => encode(&message).len(),
            Some(Frame::Gossip(_)) | None => 0,
        });
        assert!(written < 100, "{path:?} {tag} {written}");
    }
}

#[test]
fn cl_07_an_empty_part_of_a_list_takes_little_memory() {
    assert!(size_of::<proto::Part>() <= 48);
    assert!(size_of::<proto::Session>() <= 56);
    assert!(size_of::<proto::Change>() <= 40);
    assert!(size_of::<proto::Member>() <= 32);
}

#[test]
fn cl_07_groups_are_not_nested_without_end() {
    let mut groups = Vec::new();
    for _ in 0..100_000 {
        encode_key(25, WireType::StartGroup, &mut groups);
    }
    assert!(decode(&groups).is_err());
    assert!(decode(&field(1, &groups)).is_err());
}

#[test]
fn cl_07_a_key_is_never_longer_than_a_record_may_have() {
    let delta = proto::Delta { removed: vec!["k".repeat(129)], ..proto::Delta::default() };
    let change = Some(proto::Replica::Delta(proto::Delta { stamp: vec![0; 12], ..delta }));
    let replicate = proto::Replicate { id: vec![0; 16], change, ..Default::default() };
    let frame = proto::Frame { kind: Some(proto::Kind::Replicate(replicate)) };
    assert_eq!(decode(&frame.encode_to_vec()).unwrap_err(), WireError::Part("a key"));
}

/// Whether a body is this message, to the last byte.
#[track_caller]
fn same(message: &Message, body: &[u8]) {
    let Some(Frame::Message(back)) = decode(body).unwrap() else {
        panic!("that is no message");
    };
    assert_eq!(format!("{back:?}"), format!("{message:?}"));
    assert_eq!(encode(&back), encode(message));
}

/// A message with unknown fields around its own, and around those of each message in it; `None` for
/// bytes that are no message. Strategies make no text, list or id that could be one.
fn extended(message: &[u8]) -> Option<Vec<u8>> {
    let mut rest = message;
    let mut longer = unknown();
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest).ok()?;
        encode_key(tag, wire_type, &mut longer);
        match wire_type {
            WireType::Varint => encode_varint(decode_varint(&mut rest).ok()?, &mut longer),
            WireType::SixtyFourBit => longer.extend(rest.split_off(..8)?),
            WireType::ThirtyTwoBit => longer.extend(rest.split_off(..4)?),
            WireType::LengthDelimited => {
                let len = decode_varint(&mut rest).ok()?.try_into().ok()?;
                let part = rest.split_off(..len)?;
                let part = extended(part).unwrap_or_else(|| part.to_vec());
                encode_varint(part.len() as u64, &mut longer);
                longer.extend(part);
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        }
    }
    longer.extend(unknown());
    Some(longer)
}

fn unknown() -> Vec<u8> {
    #[derive(prost::Message)]
    struct Later {
        #[prost(uint64, tag = "1001")]
        number: u64,
        #[prost(fixed32, tag = "1002")]
        small: u32,
        #[prost(fixed64, tag = "1003")]
        large: u64,
        #[prost(string, repeated, tag = "1004")]
        texts: Vec<String>,
    }
    Later { number: 300, small: 1, large: 1, texts: vec!["a".into(), String::new()] }
        .encode_to_vec()
}

/// A body with a part at the end of a path of tags.
fn nested(path: &[u32], part: Vec<u8>) -> Vec<u8> {
    path.iter().rev().fold(part, |part, tag| field(*tag, &part))
}

fn field(tag: u32, content: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    encode_key(tag, WireType::LengthDelimited, &mut field);
    encode_varint(content.len() as u64, &mut field);
    [&field, content].concat()
}

const GOSSIP: u32 = 10;

/// Where a message has several of something, and under which tag.
const PARTS: &[(&[u32], u32)] = &[
    (&[1, 4], 4),
    (&[1, 4], 5),
    (&[1, 5, 1], 4),
    (&[1, 5, 1], 5),
    (&[1, 5, 1, 1], 4),
    (&[3], 1),
    (&[3], 2),
    (&[6, 4], 2),
    (&[6, 5, 2], 1),
    (&[6, 5, 2], 4),
    (&[6, 5, 2], 5),
    (&[6, 5, 2], 6),
    (&[6, 5, 2], 7),
    (&[6, 5, 2], 8),
    (&[6, 5, 2, 13], 1),
    (&[6, 6], 2),
    (&[7], 5),
    (&[7, 2, 1], 2),
    (&[7, 2, 1], 3),
    (&[7, 2, 1, 4], 1),
    (&[7, 7], 1),
    (&[8], 1),
    (&[8], 2),
    (&[8], 3),
    (&[9], 1),
    (&[14], 1),
    (&[15], 7),
    (&[15, 4], 3),
    (&[20, 3], 1),
    (&[22], 2),
    (&[24], 1),
    (&[24], 2),
];
