//! Changes of an epoch.

use prost::Message as _;

use super::proto::change::Change as Kind;
use super::scalars::{boot, boot_bytes, boots, boots_bytes, required};
use super::{WireError, epoch, list, proto, slots};
use crate::epoch::Change;
use crate::member::Member;

/// The highest number of changes that one message may ask for.
const CHANGES: usize = 1_024;

pub(super) fn encode(changes: &[Change]) -> Vec<u8> {
    let change = |change: &Change| proto::Change { change: Some(kind(change)) };
    proto::ChangeList { item: changes.iter().map(change).collect() }.encode_to_vec()
}

fn kind(change: &Change) -> Kind {
    match change {
        Change::Join(member) => Kind::Join(to_candidate(member)),
        Change::BecomeFull(boot) => Kind::BecomeFull(boot_bytes(*boot)),
        Change::SetAside(boot) => Kind::SetAside(boot_bytes(*boot)),
        Change::ComeBack(boot) => Kind::ComeBack(boot_bytes(*boot)),
        Change::LoseVote(boot) => Kind::LoseVote(boot_bytes(*boot)),
        Change::Drain(boot) => Kind::Drain(boot_bytes(*boot)),
        Change::Leave(boot) => Kind::Leave(boot_bytes(*boot)),
        Change::GiveUp(given_up, silent) => {
            let (slots, silent) = (Some(slots::encode(given_up)), boots_bytes(silent));
            Kind::GiveUp(proto::GiveUp { slots, silent })
        }
        Change::Reconfigure(settings) => Kind::Reconfigure(epoch::to_settings(settings)),
        Change::RaiseProtocol => Kind::RaiseProtocol(proto::Empty {}),
    }
}

pub(super) fn decode(changes: &[u8]) -> Result<Vec<Change>, WireError> {
    let changes =
        list::decode(changes, CHANGES, |of: proto::Change| of.change.map(change).transpose());
    Ok(changes?.into_iter().flatten().collect())
}

fn change(kind: Kind) -> Result<Change, WireError> {
    Ok(match kind {
        Kind::Join(of) => Change::Join(candidate(Some(of))?),
        Kind::BecomeFull(of) => Change::BecomeFull(boot(&of)?),
        Kind::SetAside(of) => Change::SetAside(boot(&of)?),
        Kind::ComeBack(of) => Change::ComeBack(boot(&of)?),
        Kind::LoseVote(of) => Change::LoseVote(boot(&of)?),
        Kind::Drain(of) => Change::Drain(boot(&of)?),
        Kind::Leave(of) => Change::Leave(boot(&of)?),
        Kind::GiveUp(proto::GiveUp { slots: of, silent }) => {
            let given_up = slots::decode(&required(of, "the slots to give up")?)?;
            Change::GiveUp(given_up, boots(&silent)?)
        }
        Kind::Reconfigure(of) => Change::Reconfigure(epoch::settings(Some(of))?),
        Kind::RaiseProtocol(_) => Change::RaiseProtocol,
    })
}

pub(super) fn to_candidate(member: &Member) -> proto::Candidate {
    let node = Some(epoch::to_node(member));
    proto::Candidate { node, member: Some(epoch::to_member(member, 0)) }
}

pub(super) fn candidate(candidate: Option<proto::Candidate>) -> Result<Member, WireError> {
    let proto::Candidate { node, member } = required(candidate, "a candidate")?;
    let node = epoch::node(required(node, "a node")?)?;
    epoch::member(required(member, "a member")?, &[node])
}
