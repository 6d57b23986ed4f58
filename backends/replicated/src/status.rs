//! The status of a node, for callers that wait for it.

use steadfast_replication::context::Now;
use steadfast_replication::engine::{Agreement, Engine};
use steadfast_replication::epoch::EpochId;
use steadfast_replication::figures::{Health, Members};
use steadfast_replication::membership::Problem;
use steadfast_replication::settings::Replication;

/// The status of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Status {
    /// The epoch that it is in.
    pub(crate) epoch: Option<EpochId>,
    pub(crate) members: Members,
    pub(crate) agreement: Agreement,
    /// The reason why the node is not ready. That it has no lease is left out: a node at rest asks
    /// for none.
    pub(crate) problem: Option<Problem>,
    pub(crate) under_replicated: usize,
    /// True if there are too many members for each to hold everything.
    pub(crate) is_crowded: bool,
}

impl Status {
    pub(crate) fn of(engine: &Engine, now: Now) -> Self {
        let figures = engine.figures(now);
        let members = figures.members.unwrap_or_default();
        let Health { under_replicated, .. } = figures.health;
        let epoch = engine.membership().epoch();
        let is_full = epoch.is_some_and(|epoch| epoch.settings().replication == Replication::Full);
        Self {
            epoch: epoch.map(|epoch| epoch.id()),
            members,
            agreement: engine.agreement(now),
            problem: engine.problem(now).filter(|problem| *problem != Problem::NoLease),
            under_replicated,
            is_crowded: is_full && members.full > CROWDED_ABOVE,
        }
    }

    /// Returns true if the node is a full member of a service.
    pub(crate) fn has_joined(&self) -> bool {
        self.epoch.is_some() && self.problem.is_none()
    }
}

/// The number of members that may hold everything before each node warns.
const CROWDED_ABOVE: usize = 10;
