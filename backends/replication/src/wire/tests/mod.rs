//! The encoding of frames.

mod data;
mod definition;
mod strategies;

use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};

use self::definition::Definition;
use self::strategies::{ENDS, epoch, packet, slots};
use super::*;
use crate::epoch::tests::{boot, full, grown, joining, next};
use crate::epoch::{Change, Epoch};
use crate::member::Member;
use crate::message::Message;
use crate::paths::Content;
use crate::slots::{Slot, SlotSet};

#[test]
fn gossip_is_passed_on_as_it_is() {
    let frame = encode_gossip(vec![1, 2, 3]);
    assert!(matches!(decode(&frame, ENDS), Ok(Some(Frame::Gossip(gossip))) if gossip == [1, 2, 3]));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_packet_survives_the_round_trip(packet in packet()) {
        same(&packet, &encode(&packet, ENDS));
    }

    #[test]
    fn a_set_of_slots_survives_the_round_trip(slots in slots()) {
        let encoded = super::slots::encode(&slots);
        prop_assert!(encoded.encoded_len() <= 520);
        prop_assert_eq!(super::slots::decode(&encoded).unwrap(), slots);
    }

    #[test]
    fn an_epoch_survives_the_round_trip(epoch in epoch()) {
        let bytes = super::epoch::encode(&epoch).encode_to_vec();
        let back = super::epoch::decode(proto::Epoch::decode(&*bytes).unwrap());
        prop_assert_eq!(back.unwrap(), epoch);
    }

    #[test]
    fn additions_of_later_versions_are_skipped(packet in packet()) {
        let definition = Definition::read();
        same(&packet, &definition.extended("Frame", &encode(&packet, ENDS)));
    }

    /// Shows CL-08.
    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(
        bytes: Vec<u8>,
        packet in packet(),
        at: Index,
        cut: bool,
    ) {
        let _ = decode(&bytes, ENDS);
        let mut body = encode(&packet, ENDS);
        let at = at.index(body.len());
        let end = if cut { body.len() } else { at };
        body.splice(at..end, bytes);
        let _ = decode(&body, ENDS);
    }
}

#[test]
fn an_unknown_message_kind_is_skipped() {
    for body in [&[][..], &field(15, &[1, 2, 3]), &field(5_000, &[])] {
        assert!(decode(body, ENDS).unwrap().is_none());
    }
    let datagram = field(2, &field(500, &[]));
    assert!(decode(&datagram, ENDS).unwrap().is_none());
}

#[test]
fn unknown_messages_keep_their_number() {
    let epoch = scalars::to_epoch_id(grown(1).id());
    let message = Some(proto::Message::decode(&*field(500, &[])).unwrap());
    let packet = proto::Packet { epoch, number: 7, message, ..Default::default() };
    let frame = proto::Frame { kind: Some(Kind::Packet(packet)) };
    let Some(Frame::Packet(Packet::Stream(packet))) = decode(&frame.encode_to_vec(), ENDS).unwrap()
    else {
        panic!("that is not a packet");
    };
    let content = packet.content.unwrap();
    assert!(matches!(content, Content { number: 7, message: Message::Unknown }));
}

#[test]
fn a_relayed_frame_has_no_other_inside() {
    let mut frame = proto::Datagram::default();
    for _ in 0..2 {
        let relay = proto::Relay { to: vec![0; 16], frame: Some(frame.into()) };
        let message = Some(proto::datagram::Message::Relay(relay.into()));
        frame = proto::Datagram { message, ..Default::default() };
    }
    let frame = proto::Frame { kind: Some(Kind::Datagram(frame)) };
    assert!(decode(&frame.encode_to_vec(), ENDS).is_err());
}

#[test]
fn an_epoch_of_50_members_fits_8_kb() {
    let members = (0..50).map(|n| Member {
        address: format!("node-{n}.sessions.internal.example:7400"),
        zone: Some(format!("zone-{}", n % 3)),
        votes: true,
        ..full(n)
    });
    let first = grown(1);
    let mut epoch =
        Epoch::of(first.id().lineage, *first.key(), *first.settings(), members.collect());
    // Half of the slots are served in the next epoch, scattered: two memberships are remembered.
    let half: SlotSet = Slot::all().filter(is_first_half).collect();
    for n in 0..3 {
        let aside = [Change::SetAside(boot(n))];
        epoch = epoch.successor(&aside, &half, crate::rules::Rules::default()).unwrap();
        let size = super::epoch::encode(&epoch).encoded_len();
        assert!(size <= 8_192, "{size} bytes");
    }
}

fn is_first_half(slot: &Slot) -> bool {
    (slot.index() as u32).wrapping_mul(0x9e37_79b1) < 1 << 31
}

#[test]
fn packets_on_a_direct_link_omit_boots() {
    let frame = |from, to| Packet::Stream(strategies::packet_of(boot(from), boot(to)));
    let [direct, relayed] = [(0, 1), (2, 1)].map(|(from, to)| encode(&frame(from, to), ENDS).len());
    assert_eq!(direct + 18, relayed);
}

#[test]
fn an_epoch_with_impossible_parts_is_refused() {
    let epoch = super::epoch::encode(&next(&grown(3), &[Change::Join(joining(3))]).unwrap());
    let refused = |change: fn(&mut proto::Epoch)| {
        let mut other = epoch.clone();
        change(&mut other);
        assert!(super::epoch::decode(other).is_err());
    };
    refused(|epoch| epoch.members.clear());
    refused(|epoch| epoch.nodes.clear());
    refused(|epoch| epoch.served.clear());
    refused(|epoch| epoch.served_in.clear());
    refused(|epoch| epoch.served_in.push(1));
    refused(|epoch| epoch.key.clear());
    refused(|epoch| epoch.policy = 0);
    refused(|epoch| epoch.policy = 9);
    refused(|epoch| epoch.id = None);
    refused(|epoch| epoch.founder.clear());
    refused(|epoch| epoch.ancestry = field(1, &[]));
    refused(|epoch| epoch.given_up = vec![0, 4_097, 1]);
    refused(|epoch| epoch.given_up = vec![0, 1]);
    refused(|epoch| epoch.members.extend(epoch.members.clone()));
}

/// Shows CL-07.
#[test]
fn a_list_has_a_limit() {
    let member = proto::Member::default();
    let list = |length| proto::MemberList { item: vec![member.clone(); length] }.encode_to_vec();
    let decode =
        |length| list::decode(&list(length), 5, |_: proto::Member| Ok(())).map(|l| l.len());
    assert_eq!(decode(5), Ok(5));
    assert_eq!(decode(6), Err(WireError::TooMany(5)));
}

/// Shows CL-07.
#[test]
fn groups_are_not_nested_without_end() {
    let mut groups = Vec::new();
    for _ in 0..100_000 {
        encode_key(25, WireType::StartGroup, &mut groups);
    }
    assert!(decode(&groups, ENDS).is_err());
    assert!(decode(&field(2, &groups), ENDS).is_err());
}

/// Returns true if a frame carries exactly this packet.
#[track_caller]
fn same(packet: &Packet, frame: &[u8]) {
    let Some(Frame::Packet(back)) = decode(frame, ENDS).unwrap() else {
        panic!("its kind is known");
    };
    assert_eq!(format!("{back:?}"), format!("{packet:?}"));
    assert_eq!(encode(&back, ENDS), encode(packet, ENDS));
}

fn field(tag: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(tag, WireType::LengthDelimited, &mut bytes);
    encode_varint(content.len() as u64, &mut bytes);
    bytes.extend(content);
    bytes
}
