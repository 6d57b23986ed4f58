//! What stands under an id, and what is under way with it.

use std::collections::VecDeque;
use std::time::Duration;

use steadfast_core::{RecordId, Version};

use super::Engine;
use super::commit::Commit;
use super::index::Procedure;
use super::message::{Held, Kept};
use super::takeover::Consult;
use crate::record::{Copy, Stamp};

/// What a node holds of one record.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// What was confirmed, and is shown.
    pub(super) kept: Kept,
    /// As a holder: what the owner has not confirmed yet.
    pub(super) tentative: Option<Box<Copy>>,
    /// The highest version that was rolled back: never given to anything else.
    pub(super) spent: Option<Version>,
    /// The number of the view in which this was last known to be what the owner has; 0 if it is not.
    pub(super) sure: u32,
    /// The number of the view whose new holders were queued to be filled.
    pub(super) filled: u32,
    /// As a node that should not hold it: since when every holder does, and in which view.
    pub(super) safe: Option<(u32, Duration)>,
}

impl Entry {
    pub(super) fn held(&self) -> Held {
        Held { kept: self.kept.clone(), tentative: self.tentative.as_deref().cloned() }
    }

    /// The version for a change of this copy.
    pub(super) fn next_version(&self, wanted: Version) -> Version {
        self.spent.map_or(wanted, |spent| wanted.max(spent.next()))
    }
}

/// A record that something is under way with: one thing at a time, the calls after it wait.
#[derive(Debug, Default)]
pub(super) struct Busy {
    pub(super) queue: VecDeque<u64>,
    pub(super) stage: Option<Stage>,
    /// The number of the view in which nobody was found to have the record.
    pub(super) absent: Option<u32>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The record is being taken over.
    Consult(Consult),
    /// A login waits to be listed, on its n-th attempt.
    Admit { call: u64, attempt: u64 },
    /// A change waits for its acknowledgements.
    Commit(Box<Commit>),
    /// A list of sessions is worked on.
    Index(Box<Procedure>),
}

impl Engine {
    pub(super) fn kept(&self, id: RecordId) -> &Kept {
        self.table.get(&id).map_or(&NOTHING, |entry| &entry.kept)
    }

    pub(super) fn live(&self, id: RecordId) -> Option<&Copy> {
        self.kept(id).live()
    }

    /// What is kept from now on, and known to be what the owner has.
    pub(super) fn keep(&mut self, id: RecordId, kept: Kept) {
        let (number, stamp) = (self.view.number, kept.stamp());
        self.table.make(id, |entry| {
            entry.kept = kept;
            entry.sure = number;
            entry.tentative = None;
        });
        self.unsettled.remove(&id);
        self.decide(id, stamp);
    }

    pub(super) fn drop_entry(&mut self, id: RecordId) {
        self.table.remove(id);
        self.unsettled.remove(&id);
        self.decide(id, Stamp::ZERO);
        for peer in self.peers.values_mut() {
            peer.stale.remove(&id);
        }
    }
}

static NOTHING: Kept = Kept::Nothing;
