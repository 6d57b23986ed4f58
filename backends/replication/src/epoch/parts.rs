//! An epoch taken apart, and put together again at another node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Ancestor, Epoch, EpochId, LastServed, PartitionPolicy, Served, Settings};
use crate::member::{Boot, Member, Name};
use crate::placement::Placement;
use crate::slots::{HashKey, SLOTS, Slot};

/// The parts of an epoch.
// As many fields as an epoch has.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) id: EpochId,
    pub(crate) ancestry: Vec<Ancestor>,
    pub(crate) founder: Name,
    pub(crate) key: HashKey,
    pub(crate) settings: Settings,
    pub(crate) policy: PartitionPolicy,
    pub(crate) protocol: u32,
    pub(crate) members: Vec<Member>,
    pub(crate) served: Vec<Serving>,
    /// The index of the epoch in which each slot was last served.
    pub(crate) served_in: Vec<u16>,
    pub(crate) given_up: BTreeMap<Slot, u64>,
}

/// An epoch in which slots were last served.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) number: u64,
    pub(crate) settings: Settings,
    pub(crate) placement: Placement,
}

impl Parts {
    /// The parts of an epoch.
    pub(crate) fn of(epoch: &Epoch) -> Self {
        let serving = |last: &Arc<LastServed>| Serving {
            number: last.number,
            settings: last.settings,
            placement: last.placement.clone(),
        };
        Self {
            id: epoch.id,
            ancestry: epoch.ancestry.clone(),
            founder: epoch.founder.clone(),
            key: epoch.key,
            settings: epoch.settings,
            policy: epoch.policy,
            protocol: epoch.protocol,
            members: epoch.members.clone(),
            served: epoch.served.epochs.iter().map(serving).collect(),
            served_in: epoch.served.of.to_vec(),
            given_up: epoch.served.given_up.clone(),
        }
    }

    /// The epoch; `None` if these are not the parts of one.
    pub(crate) fn assemble(self) -> Option<Epoch> {
        let epochs = self.served.len();
        let are_served = self.served_in.iter().all(|index| usize::from(*index) < epochs);
        if !are_members(&self.members) || self.served_in.len() != SLOTS || !are_served {
            return None;
        }
        let last_served = |Serving { number, settings, placement }: Serving| {
            Arc::new(LastServed { number, placement, settings })
        };
        let Self { id, ancestry, founder, members, settings, policy, protocol, key, .. } = self;
        let epochs = self.served.into_iter().map(last_served).collect();
        let served = Served { epochs, of: self.served_in.into(), given_up: self.given_up };
        let placement = Placement::new(key, &members, settings.replication);
        Some(Epoch {
            id,
            ancestry,
            founder,
            members,
            settings,
            policy,
            protocol,
            key,
            placement,
            served,
        })
    }
}

/// Returns true if these can be the members of an epoch: ordered by name, with each name and boot
/// once.
fn are_members(members: &[Member]) -> bool {
    let names: Vec<&Name> = members.iter().map(|member| &member.name).collect();
    let boots: BTreeSet<Boot> = members.iter().map(|member| member.boot).collect();
    let are_ordered = names.is_sorted_by(|one, next| one < next);
    !members.is_empty() && are_ordered && boots.len() == members.len()
}
