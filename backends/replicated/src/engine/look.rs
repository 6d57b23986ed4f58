//! What an engine says of itself.

use std::sync::Arc;

use steadfast_core::{RecordId, Scan, Scanned, Stats};

use super::config::{CROWDED_ABOVE, Copies, Partition};
use super::message::is_index;
use super::table::{Class, Totals};
use super::{Counts, Engine};
use crate::placement::Name;
use crate::record::Copy;

/// How a node is, for whoever waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) has_joined: bool,
    /// Whether it has joined, and another node could leave.
    pub(crate) is_ready: bool,
    /// The members that records are placed on.
    pub(crate) members: usize,
    /// Whether they are too many for each to hold everything.
    pub(crate) is_crowded: bool,
    /// Whether all of them compute with the same ones.
    pub(crate) is_agreed: bool,
    pub(crate) under_replicated: usize,
    pub(crate) base: usize,
}

/// How a node is, in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) health: Health,
    pub(crate) counts: Counts,
    pub(crate) holdings: Holdings,
    pub(crate) held: Totals,
    /// Whether there are fewer nodes than a record should have copies.
    pub(crate) is_degraded: bool,
}

/// The copies on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) owned: usize,
    pub(crate) backups: usize,
}

impl Engine {
    pub(crate) fn health(&self) -> Health {
        Health {
            has_joined: self.is_ready(),
            is_ready: self.is_ready() && self.is_counted(),
            members: self.view.placement.len(),
            is_crowded: self.config.copies == Copies::All
                && self.view.placement.len() > CROWDED_ABOVE,
            is_agreed: self.is_agreed(),
            under_replicated: self.under_replicated(),
            base: self.agreement.base.as_ref().map_or(0, |base| base.members.len()),
        }
    }

    /// Whether this node is one of those whose majority counts, where a majority does: until then,
    /// the service cannot do without another one of them.
    fn is_counted(&self) -> bool {
        let base = self.agreement.base.as_ref();
        self.policy() == Partition::Degrade || base.is_some_and(|base| self.is_in(base))
    }

    pub(crate) fn figures(&self) -> Figures {
        let health = self.health();
        Figures {
            health,
            counts: self.counts,
            holdings: self.scrub.holdings,
            held: self.table.totals(),
            is_degraded: health.members < self.wanted_copies(),
        }
    }

    /// Whether everybody who is placed on computes with the same placement, as far as is known here.
    pub(super) fn is_agreed(&self) -> bool {
        let digest = self.view.placement.digest();
        let agrees = |name: &Name| match self.peers.get(name) {
            None => *name == self.me,
            Some(peer) => {
                peer.linked && peer.status.as_ref().is_some_and(|status| status.view == digest)
            }
        };
        self.view.placement.names().all(agrees)
    }

    pub(crate) fn would_own(&self, id: RecordId) -> bool {
        self.owns(id) || self.drain.is_some()
    }

    /// A page of copies, in the order of their ids.
    pub(crate) fn scan(&self, after: Option<RecordId>, limit: usize) -> Scan {
        let mut copies = self.copies_after(after);
        let page: Vec<_> = copies.by_ref().take(limit).collect();
        let has_more = copies.next().is_some();
        let next = page.last().map(|(id, _)| *id).or(after).filter(|_| has_more);
        let scanned =
            |(id, copy): (RecordId, &Copy)| Scanned { id, record: Some(Arc::clone(&copy.record)) };
        Scan { records: page.into_iter().map(scanned).collect(), next }
    }

    pub(crate) fn stats(&self) -> Stats {
        let totals = self.table.totals();
        let [anonymous, authenticated] = Class::ALL.map(|class| totals.of(class));
        Stats {
            records: anonymous.records + authenticated.records,
            authenticated: authenticated.records,
            bytes: anonymous.bytes + authenticated.bytes,
        }
    }

    fn copies_after(&self, after: Option<RecordId>) -> impl Iterator<Item = (RecordId, &Copy)> {
        let from = after.unwrap_or(RecordId::from_bytes([0; 16]));
        let later = self.table.range(from..).filter(move |(id, _)| Some(**id) != after);
        let copies = later.filter_map(|(id, entry)| Some((*id, entry.kept.live()?)));
        copies.filter(|(id, _)| !is_index(*id))
    }
}
