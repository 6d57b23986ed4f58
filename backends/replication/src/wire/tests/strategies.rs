//! Every frame that there is.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::data;
use crate::cluster::{self, Ballot, Promise};
use crate::engine::Packet;
use crate::epoch::tests::{boot, grown, joining, next, reborn};
use crate::epoch::{Acknowledgements, Change, Epoch, EpochId, Lineage, PartitionPolicy, Settings};
use crate::member::{Boot, Member, Versions};
use crate::membership::{self, Described, Hello, Message, Refusal};
use crate::message;
use crate::paths::{self, Content, Covered};
use crate::placement::Replication;
use crate::rules::Rules;
use crate::slots::{SLOTS, Slot, SlotSet};
use crate::wire::Ends;

pub(super) const ENDS: Ends = Ends { from: Boot::new([1; 16]), to: Boot::new([2; 16]) };

pub(super) fn packet() -> impl Strategy<Value = Packet> {
    prop_oneof![part().prop_map(Packet::Stream), datagram().prop_map(Packet::Cluster)]
}

pub(super) fn any_boot() -> impl Strategy<Value = Boot> {
    prop_oneof![Just(ENDS.from), Just(ENDS.to), any::<[u8; 16]>().prop_map(Boot::new)]
}

fn epoch_id() -> impl Strategy<Value = EpochId> {
    (any::<[u8; 16]>(), any::<u64>())
        .prop_map(|(lineage, number)| EpochId { lineage: Lineage::new(lineage), number })
}

fn part() -> impl Strategy<Value = paths::Packet<message::Message>> {
    let content =
        (1..u64::MAX, data::message()).prop_map(|(number, message)| Content { number, message });
    let covered =
        (any::<u64>(), any::<u64>()).prop_map(|(stream, below)| Covered { stream, below });
    let content = option::of(content);
    (any_boot(), any_boot(), epoch_id(), any::<u64>(), any::<u64>(), covered, content).prop_map(
        |(from, to, epoch, stream, first, covered, content)| paths::Packet {
            from,
            to,
            epoch,
            stream,
            first,
            covered,
            content,
        },
    )
}

pub(super) fn packet_of(from: Boot, to: Boot) -> paths::Packet<message::Message> {
    paths::Packet {
        from,
        to,
        epoch: grown(1).id(),
        stream: 1,
        first: 1,
        covered: Covered::default(),
        content: None,
    }
}

fn datagram() -> impl Strategy<Value = membership::Frame> {
    let relay = (any_boot(), framed(message().boxed()))
        .prop_map(|(to, frame)| Message::Relay { to, frame: Box::new(frame) });
    prop_oneof![
        framed(message().boxed()),
        framed(agreement().prop_map(Message::Cluster).boxed()),
        framed(relay.boxed()),
    ]
}

fn framed(message: BoxedStrategy<Message>) -> impl Strategy<Value = membership::Frame> {
    (any_boot(), option::of(epoch_id()), message)
        .prop_map(|(from, epoch, message)| membership::Frame { from, epoch, message })
}

fn message() -> impl Strategy<Value = Message> {
    let accepted = || (ballot(), epoch().prop_map(Arc::new));
    let about = || (epoch_id(), ballot());
    prop_oneof![
        Just(Message::Known),
        (hello().prop_map(Box::new), any::<bool>())
            .prop_map(|(hello, asks)| Message::Hello { hello, asks }),
        vec(change(), 0..5).prop_map(Message::Ask),
        Just(Message::Wait),
        refusal().prop_map(Message::Refused),
        any_boot().prop_map(Message::Suspect),
        any_boot().prop_map(Message::Trust),
        Just(Message::Ping),
        Just(Message::Pong),
        about().prop_map(|(epoch, ballot)| Message::Surrender(epoch, ballot)),
        (about(), option::of(accepted())).prop_map(|((epoch, ballot), accepted)| {
            Message::Surrendered(epoch, ballot, accepted)
        }),
        (epoch_id(), accepted())
            .prop_map(|(epoch, (ballot, first))| Message::Found(epoch, ballot, first)),
        about().prop_map(|(epoch, ballot)| Message::Founded(epoch, ballot)),
        about().prop_map(|(epoch, ballot)| Message::Declined(epoch, ballot)),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    let epochs = (option::of(epoch_id()), option::of(epoch_id()));
    let flags = (any::<bool>(), any::<bool>());
    (any_member(), epochs, any_member(), flags).prop_map(
        |(member, (listed_in, in_sight), lowest, (is_waiting, is_lost))| Hello {
            member,
            listed_in,
            in_sight,
            lowest: (lowest.name, lowest.boot),
            is_waiting,
            is_lost,
        },
    )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let versions =
        (any::<u32>(), any::<u32>()).prop_map(|(lowest, highest)| Versions { lowest, highest });
    let described = || settings().prop_map(Described);
    prop_oneof![
        Just(Refusal::Replaced),
        (versions, any::<u32>()).prop_map(|(node, service)| Refusal::Protocol { node, service }),
        (described(), described()).prop_map(|(node, service)| Refusal::Settings { node, service }),
    ]
}

fn agreement() -> impl Strategy<Value = cluster::Message> {
    use cluster::Message;

    let epoch = || epoch().prop_map(Arc::new);
    let accepted = || (ballot(), epoch());
    prop_oneof![
        epoch().prop_map(Message::Epoch),
        Just(Message::Fetch),
        ballot().prop_map(Message::Prepare),
        (ballot(), option::of(accepted()), slots(), boots()).prop_map(
            |(ballot, accepted, served, heard)| {
                Message::Promise(Promise { ballot, accepted, served, heard })
            },
        ),
        ballot().prop_map(Message::Nack),
        accepted().prop_map(|(ballot, epoch)| Message::Accept(ballot, epoch)),
        ballot().prop_map(Message::Accepted),
        (any::<u64>(), slots()).prop_map(|(number, slots)| Message::AskLease { number, slots }),
        (any::<u64>(), slots()).prop_map(|(number, slots)| Message::Lease { number, slots }),
        slots().prop_map(Message::Withdrawn),
    ]
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (any::<u32>(), any_boot()).prop_map(|(number, proposer)| Ballot { number, proposer })
}

/// Few slots, many, or stretches of them.
pub(super) fn slots() -> impl Strategy<Value = SlotSet> {
    let stretches = vec((0..SLOTS, 0..600_usize), 0..6).prop_map(|stretches| {
        stretches.into_iter().flat_map(|(from, length)| from..from + length).map(Slot::at).collect()
    });
    let scattered =
        vec(0..SLOTS, 0..50).prop_map(|slots| slots.into_iter().map(Slot::at).collect());
    let dense = vec(any::<bool>(), SLOTS)
        .prop_map(|bits| Slot::all().filter(|slot| bits[slot.index()]).collect());
    prop_oneof![2 => stretches, 2 => scattered, 1 => dense]
}

/// Epochs of a service after random changes, some of which do not apply, and losses of its
/// majority.
pub(super) fn epoch() -> impl Strategy<Value = Epoch> {
    let step = (change(), slots(), any::<[u8; 16]>(), 0..10_u8);
    (1..6_usize, vec(step, 0..8)).prop_map(|(size, steps)| {
        let mut epoch = grown(size);
        for (change, served, lineage, kind) in steps {
            let (lineage, first) = (Lineage::new(lineage), epoch.members()[0].clone());
            epoch = match kind {
                0 => epoch.found_again(lineage, first.name, epoch.members().to_vec()),
                1 => epoch.split(lineage, first.name, &[first.boot].into()),
                _ => {
                    let changed = epoch.successor(&[change], &served, Rules::default());
                    changed.unwrap_or_else(|_| next(&epoch, &[]).unwrap())
                }
            };
        }
        epoch
    })
}

fn change() -> impl Strategy<Value = Change> {
    let member = || 0..8_usize;
    prop_oneof![
        any_member().prop_map(Change::Join),
        member().prop_map(|n| Change::BecomeFull(boot(n))),
        member().prop_map(|n| Change::SetAside(boot(n))),
        member().prop_map(|n| Change::ComeBack(boot(n))),
        member().prop_map(|n| Change::LoseVote(boot(n))),
        member().prop_map(|n| Change::Drain(boot(n))),
        member().prop_map(|n| Change::Leave(boot(n))),
        (slots(), boots()).prop_map(|(slots, silent)| Change::GiveUp(slots, silent)),
        settings().prop_map(Change::Reconfigure),
        Just(Change::RaiseProtocol),
    ]
}

fn boots() -> impl Strategy<Value = BTreeSet<Boot>> {
    proptest::collection::btree_set((0..8_usize).prop_map(boot), 0..4)
}

fn any_member() -> impl Strategy<Value = Member> {
    let member = (0..8_usize, any::<bool>())
        .prop_map(|(n, is_reborn)| if is_reborn { reborn(n) } else { joining(n) });
    let versions = (0..4_u32, 0..4_u32).prop_map(|(lowest, highest)| Versions { lowest, highest });
    let (zone, settings) = (option::of("[a-z]{0,8}"), option::of(settings()));
    (member, "[a-z.:0-9]{0,30}", zone, versions, settings).prop_map(
        |(member, address, zone, protocol, started_with)| Member {
            address,
            zone,
            protocol,
            started_with,
            ..member
        },
    )
}

fn settings() -> impl Strategy<Value = Settings> {
    let replication =
        prop_oneof![Just(Replication::Full), (0..9_u32).prop_map(Replication::Backups)];
    let acknowledgements = prop_oneof![Just(Acknowledgements::One), Just(Acknowledgements::All)];
    let policy = prop_oneof![
        Just(None),
        Just(Some(PartitionPolicy::Fail)),
        Just(Some(PartitionPolicy::Degrade)),
    ];
    (replication, acknowledgements, policy).prop_map(|(replication, acknowledgements, policy)| {
        Settings { replication, acknowledgements, policy }
    })
}
