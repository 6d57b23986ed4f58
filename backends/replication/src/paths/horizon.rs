//! The epochs that a node has learned.

use std::collections::{BTreeMap, BTreeSet};

use crate::epoch::{Epoch, EpochId, Lineage};
use crate::member::Boot;

/// The epoch that a node is in, and which ones it was in before.
#[derive(Clone, Debug, Default)]
pub(super) struct Horizon {
    current: Option<EpochId>,
    members: BTreeSet<Boot>,
    /// The highest number that was learned of each lineage.
    learned: BTreeMap<Lineage, u64>,
}

/// The relation of an epoch to those that a node has learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// It left that epoch, or skipped it.
    Earlier,
    /// It is in it.
    Current,
    /// It has not learned it.
    Unknown,
}

impl Horizon {
    /// Enters an epoch.
    pub(super) fn enter(&mut self, epoch: &Epoch) {
        let id = epoch.id();
        self.current = Some(id);
        self.members = epoch.members().iter().map(|member| member.boot).collect();
        let highest = self.learned.entry(id.lineage).or_default();
        *highest = id.number.max(*highest);
    }

    pub(super) fn current(&self) -> Option<EpochId> {
        self.current
    }

    /// Returns true if the current epoch lists a boot.
    pub(super) fn lists(&self, boot: Boot) -> bool {
        self.members.contains(&boot)
    }

    pub(super) fn age(&self, epoch: EpochId) -> Age {
        if Some(epoch) == self.current {
            return Age::Current;
        }
        let learned = self.learned.get(&epoch.lineage);
        let is_earlier = learned.is_some_and(|highest| epoch.number <= *highest);
        if is_earlier { Age::Earlier } else { Age::Unknown }
    }
}
