//! Epochs.

use std::collections::BTreeMap;

use prost::Message as _;

use super::scalars::{boot, boot_bytes, bytes_of, epoch_id, name, required, to_epoch_id};
use super::slots::{decode_indices, decode_numbers, encode_indices, encode_numbers};
use super::{WireError, list, proto};
use crate::epoch::parts::{Parts, Serving};
use crate::epoch::{Acknowledgements, Ancestor, Epoch, Founding, PartitionPolicy, Settings};
use crate::member::{Boot, Member, Name, Role, Versions};
use crate::placement::{Placement, Replication};
use crate::slots::{HashKey, SLOTS};

/// The longest zone, in bytes.
pub const MAX_ZONE: usize = 64;

/// The longest address, in bytes: a name and a port.
pub const MAX_ADDRESS: usize = 263;

/// The highest number of members of an epoch.
const MEMBERS: usize = 1_024;

/// The highest number of lineages that an epoch may descend from.
const ANCESTORS: usize = 4_096;

/// The highest number of nodes that an epoch may name, each as often as it was a member when a slot
/// was last served. One takes a byte of a frame, and about 200 in memory.
const NODES: usize = 1 << 14;

/// The nodes that an epoch names, with their indices.
#[derive(Default)]
struct Directory(BTreeMap<(Name, Boot, Option<String>), u32>);

impl Directory {
    fn index(&mut self, member: &Member) -> u32 {
        let next = self.0.len() as u32;
        let node = (member.name.clone(), member.boot, member.zone.clone());
        *self.0.entry(node).or_insert(next)
    }

    fn encode(self) -> Vec<u8> {
        let mut nodes: Vec<_> = self.0.into_iter().collect();
        nodes.sort_by_key(|(_, index)| *index);
        let node = |((name, boot, zone), _): ((Name, Boot, _), _)| {
            let (name, boot) = (name.as_str().to_owned(), boot_bytes(boot));
            proto::Node { name, boot, zone }
        };
        proto::NodeList { item: nodes.into_iter().map(node).collect() }.encode_to_vec()
    }
}

pub(super) fn encode(epoch: &Epoch) -> proto::Epoch {
    let parts = Parts::of(epoch);
    let Parts { members, served, .. } = &parts;
    let mut nodes = Directory::default();
    let members = members.iter().map(|member| to_member(member, nodes.index(member)));
    let members = members.collect();
    let served: Vec<_> = served.iter().map(|serving| to_serving(serving, &mut nodes)).collect();
    proto::Epoch {
        id: to_epoch_id(parts.id),
        key: parts.key.to_bytes().to_vec(),
        settings: Some(to_settings(&parts.settings)),
        policy: to_policy(Some(parts.policy)).into(),
        nodes: nodes.encode(),
        members: proto::MemberList { item: members }.encode_to_vec(),
        served_in: encode_indices(&parts.served_in, served.len()),
        served: proto::ServingList { item: served }.encode_to_vec(),
        given_up: encode_numbers(&parts.given_up),
        ancestry: to_ancestry(&parts.ancestry),
        founder: parts.founder.as_str().to_owned(),
        protocol: parts.protocol,
    }
}

fn to_ancestry(ancestry: &[Ancestor]) -> Vec<u8> {
    let ancestor = |ancestor: &Ancestor| {
        let why = match ancestor.why {
            Founding::Loss => proto::Founding::Loss,
            Founding::Split => proto::Founding::Split,
        };
        proto::Ancestor { epoch: to_epoch_id(ancestor.epoch), why: why.into() }
    };
    proto::AncestorList { item: ancestry.iter().map(ancestor).collect() }.encode_to_vec()
}

pub(super) fn to_node(member: &Member) -> proto::Node {
    let (name, boot) = (member.name.as_str().to_owned(), boot_bytes(member.boot));
    proto::Node { name, boot, zone: member.zone.clone() }
}

pub(super) fn to_member(member: &Member, node: u32) -> proto::Member {
    let role = match member.role {
        Role::Joining => proto::Role::Joining,
        Role::Full => proto::Role::Full,
        Role::Draining => proto::Role::Draining,
        Role::Aside => proto::Role::Aside,
    };
    proto::Member {
        node,
        address: member.address.clone(),
        role: role.into(),
        votes: member.votes,
        lowest: member.protocol.lowest,
        highest: member.protocol.highest,
        started_with: member.started_with.as_ref().map(to_settings),
    }
}

fn to_serving(serving: &Serving, nodes: &mut Directory) -> proto::Serving {
    let Serving { number, settings, placement } = serving;
    let seats = placement.seats().iter().map(|seat| nodes.index(seat)).collect();
    proto::Serving { number: *number, settings: Some(to_settings(settings)), seats }
}

pub(super) fn to_settings(settings: &Settings) -> proto::Settings {
    let backups = match settings.replication {
        Replication::Full => None,
        Replication::Backups(backups) => Some(backups),
    };
    let acknowledgements = match settings.acknowledgements {
        Acknowledgements::One => proto::Acknowledgements::One,
        Acknowledgements::All => proto::Acknowledgements::All,
    };
    proto::Settings {
        backups,
        acknowledgements: acknowledgements.into(),
        policy: to_policy(settings.policy).into(),
    }
}

fn to_policy(policy: Option<PartitionPolicy>) -> proto::Policy {
    match policy {
        None => proto::Policy::Unspecified,
        Some(PartitionPolicy::Fail) => proto::Policy::Fail,
        Some(PartitionPolicy::Degrade) => proto::Policy::Degrade,
    }
}

pub(super) fn decode(epoch: proto::Epoch) -> Result<Epoch, WireError> {
    let nodes = list::decode(&epoch.nodes, NODES, node)?;
    let key = HashKey::new(bytes_of(&epoch.key, "a key")?);
    let mut seats = NODES;
    let served = list::decode(&epoch.served, SLOTS, |of: proto::Serving| {
        seats = seats.checked_sub(of.seats.len()).ok_or(WireError::TooMany(NODES))?;
        serving(of, key, &nodes)
    })?;
    let parts = Parts {
        id: epoch_id(epoch.id)?,
        ancestry: list::decode(&epoch.ancestry, ANCESTORS, ancestor)?,
        founder: name(&epoch.founder)?,
        protocol: epoch.protocol,
        key,
        settings: settings(epoch.settings)?,
        policy: required(policy(epoch.policy)?, "a policy")?,
        members: list::decode(&epoch.members, MEMBERS, |of| member(of, &nodes))?,
        served_in: decode_indices(&epoch.served_in, served.len())?,
        served,
        given_up: decode_numbers(&epoch.given_up)?,
    };
    required(parts.assemble(), "a part of an epoch")
}

fn ancestor(ancestor: proto::Ancestor) -> Result<Ancestor, WireError> {
    let why = match proto::Founding::try_from(ancestor.why) {
        Ok(proto::Founding::Loss) => Founding::Loss,
        Ok(proto::Founding::Split) => Founding::Split,
        Ok(proto::Founding::Unspecified) | Err(_) => return Err(WireError::Part("a reason")),
    };
    Ok(Ancestor { epoch: epoch_id(ancestor.epoch)?, why })
}

/// A node, as a member on which slots are placed.
pub(super) fn node(node: proto::Node) -> Result<Member, WireError> {
    let (name, boot) = (name(&node.name)?, boot(&node.boot)?);
    let zone = node.zone.map(|zone| limited(zone, MAX_ZONE)).transpose()?;
    let member = Member::joining(name, boot, String::new(), zone);
    Ok(Member { role: Role::Full, ..member })
}

fn limited(text: String, limit: usize) -> Result<String, WireError> {
    if text.len() > limit { Err(WireError::Part("a short text")) } else { Ok(text) }
}

fn named(index: u32, nodes: &[Member]) -> Result<Member, WireError> {
    required(nodes.get(index as usize).cloned(), "a node")
}

pub(super) fn member(member: proto::Member, nodes: &[Member]) -> Result<Member, WireError> {
    let role = match proto::Role::try_from(member.role) {
        Ok(proto::Role::Joining) => Role::Joining,
        Ok(proto::Role::Full) => Role::Full,
        Ok(proto::Role::Draining) => Role::Draining,
        Ok(proto::Role::Aside) => Role::Aside,
        Ok(proto::Role::Unspecified) | Err(_) => return Err(WireError::Part("a role")),
    };
    let proto::Member { node, address, votes, lowest, highest, started_with, .. } = member;
    let address = limited(address, MAX_ADDRESS)?;
    let protocol = Versions { lowest, highest };
    let started_with = started_with.map(|of| settings(Some(of))).transpose()?;
    Ok(Member { address, role, votes, protocol, started_with, ..named(node, nodes)? })
}

fn serving(serving: proto::Serving, key: HashKey, nodes: &[Member]) -> Result<Serving, WireError> {
    let proto::Serving { number, settings: of, seats } = serving;
    let settings = settings(of)?;
    let seats: Result<Vec<_>, _> = seats.iter().map(|seat| named(*seat, nodes)).collect();
    Ok(Serving { number, settings, placement: Placement::new(key, &seats?, settings.replication) })
}

pub(super) fn settings(settings: Option<proto::Settings>) -> Result<Settings, WireError> {
    let settings = required(settings, "settings")?;
    let acknowledgements = match proto::Acknowledgements::try_from(settings.acknowledgements) {
        Ok(proto::Acknowledgements::One) => Acknowledgements::One,
        Ok(proto::Acknowledgements::All) => Acknowledgements::All,
        Ok(proto::Acknowledgements::Unspecified) | Err(_) => {
            return Err(WireError::Part("acknowledgements"));
        }
    };
    let replication = settings.backups.map_or(Replication::Full, Replication::Backups);
    Ok(Settings { replication, acknowledgements, policy: policy(settings.policy)? })
}

fn policy(policy: i32) -> Result<Option<PartitionPolicy>, WireError> {
    match proto::Policy::try_from(policy) {
        Ok(proto::Policy::Unspecified) => Ok(None),
        Ok(proto::Policy::Fail) => Ok(Some(PartitionPolicy::Fail)),
        Ok(proto::Policy::Degrade) => Ok(Some(PartitionPolicy::Degrade)),
        Err(_) => Err(WireError::Part("a policy")),
    }
}
