//! A node's view of itself, for its operators.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::budget::Totals;
use crate::context::Now;
use crate::description::{ClusterDescription, Description, MemberDescription, Traffic};
use crate::epoch::Epoch;
use crate::figures::{Copies, Counts, Figures, Health, Members, Slots};
use crate::member::{Member, Name, Role};
use crate::membership::{Membership, Problem};
use crate::service_clock::ServiceClock;
use crate::tenant::Tenant;

/// The components of a node, to be looked at.
#[derive(Debug)]
pub(crate) struct Look<'e> {
    pub(crate) membership: &'e Membership,
    pub(crate) tenant: Option<&'e Tenant>,
    pub(crate) clock: &'e ServiceClock,
    pub(crate) counts: Counts,
    pub(crate) traffic: Traffic,
    /// The state at a time of the node's own wall clock.
    pub(crate) now: Now,
}

/// Returns the known number of nodes that hold sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// The members that slots are placed on.
    pub full_members: usize,
    /// True if this node is one of them, and its slots are complete at all of their holders.
    pub is_settled: bool,
}

impl Look<'_> {
    /// Returns the reason why the node is not ready, if it is not.
    pub(crate) fn problem(&self) -> Option<Problem> {
        let mono = self.now.mono;
        let problem = self.membership.problem(mono).or_else(|| self.clock_problem());
        problem.or_else(|| self.slot_problem()).or_else(|| self.lease_problem())
    }

    /// A new epoch ends all leases: the next one is about to be.
    fn lease_problem(&self) -> Option<Problem> {
        let ownership = self.tenant?.ownership();
        let now = self.now.mono;
        let is_new = now.saturating_sub(ownership.since()) < TAKE_OVER_WITHIN;
        let had_lease = self.membership.had_lease(now, LEASE_WITHIN);
        let is_missing = !ownership.ready().is_empty() && !had_lease && !is_new;
        is_missing.then_some(Problem::NoLease)
    }

    fn clock_problem(&self) -> Option<Problem> {
        let millis = self.clock.is_off(self.now.mono).then(|| self.clock_offset())?;
        Some(Problem::Clock { millis })
    }

    fn slot_problem(&self) -> Option<Problem> {
        let ownership = self.tenant?.ownership();
        let (taking_over, settled) = ownership.waiting();
        let is_late = self.now.mono.saturating_sub(ownership.since()) >= TAKE_OVER_WITHIN;
        let waiting = taking_over + settled;
        (is_late && waiting > 0).then(|| Problem::Slots { waiting, missing: self.missing() })
    }

    /// The names of the holders that a take-over waits for.
    fn missing(&self) -> Vec<Name> {
        let missing = self.tenant.map(|tenant| tenant.ownership().missing()).unwrap_or_default();
        let epoch = self.membership.epoch();
        let name = |boot| Some(epoch?.member(boot)?.name.clone());
        let names = missing.into_values().flatten().filter_map(name);
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(crate) fn agreement(&self) -> Agreement {
        let full_members = self.members().map_or(0, |members| members.full);
        let is_full = self.own_role() == Some(Role::Full);
        let is_settled = is_full && self.tenant.is_some_and(Tenant::is_settled);
        Agreement { full_members, is_settled }
    }

    fn own_role(&self) -> Option<Role> {
        let me = self.membership.epoch()?.member(self.membership.me())?;
        Some(me.role)
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            health: self.health(),
            members: self.members(),
            slots: self.slots(),
            copies: self.tenant.map_or(Copies::default(), Tenant::copies),
            held: self.held(),
            counts: self.counts,
            relayed: self.traffic.relayed,
            open_calls: self.traffic.open_calls,
        }
    }

    fn health(&self) -> Health {
        let (copies, slots) = self.tenant.map(Tenant::lacking).unwrap_or_default();
        let members = self.membership.epoch().map(|epoch| epoch.members()).unwrap_or_default();
        let is_suspected = |member: &&Member| self.membership.suspects(member.boot);
        Health {
            is_ready: self.problem().is_none(),
            is_degraded: self.is_degraded(),
            under_replicated: copies,
            unsynced: slots,
            suspects: members.iter().filter(is_suspected).count(),
            clock_offset_millis: self.clock_offset(),
        }
    }

    /// Returns true if there are fewer full members than a record should have copies: with `Full`,
    /// fewer than there are members.
    fn is_degraded(&self) -> bool {
        let Some((epoch, members)) = self.membership.epoch().zip(self.members()) else {
            return true;
        };
        members.full < epoch.wanted_copies()
    }

    fn members(&self) -> Option<Members> {
        self.membership.epoch().map(|epoch| members(epoch))
    }

    fn slots(&self) -> Slots {
        self.tenant.map_or(Slots::default(), Tenant::slots)
    }

    fn held(&self) -> Totals {
        self.tenant.map_or(Totals::default(), |tenant| tenant.replicas().totals())
    }

    fn clock_offset(&self) -> i64 {
        self.clock.offset_millis(self.now)
    }

    pub(crate) fn description(&self) -> Description {
        let me = self.membership.hello().member;
        Description {
            name: me.name,
            boot: me.boot,
            cluster: self.membership.epoch().map(|epoch| self.cluster(epoch)),
            slots: self.slots(),
            held: self.held(),
            traffic: self.traffic,
            clock_offset_millis: self.clock_offset(),
            problem: self.problem().map(|problem| problem.to_string()),
        }
    }

    fn cluster(&self, epoch: &Epoch) -> ClusterDescription {
        ClusterDescription {
            epoch: epoch.id(),
            protocol: epoch.protocol(),
            settings: *epoch.settings(),
            policy: epoch.policy(),
            members: epoch.members().iter().map(|member| self.member(member)).collect(),
        }
    }

    fn member(&self, member: &Member) -> MemberDescription {
        let Member { name, boot, address, zone, role, votes, .. } = member.clone();
        let is_me = boot == self.membership.me();
        let reach = (!is_me).then(|| self.membership.reach(boot, self.now.mono));
        let clock_offset_millis = match is_me {
            true => Some(self.clock_offset()),
            false => self.clock.offset_of(boot, self.now),
        };
        MemberDescription { name, boot, address, zone, role, votes, reach, clock_offset_millis }
    }
}

fn members(epoch: &Epoch) -> Members {
    let with = |role: Role| epoch.members().iter().filter(|member| member.role == role).count();
    Members {
        epoch: epoch.id().number,
        joining: with(Role::Joining),
        full: with(Role::Full),
        draining: with(Role::Draining),
        aside: with(Role::Aside),
        voters: epoch.voters().len(),
    }
}

/// The longest time since the last lease of a node that is ready.
const LEASE_WITHIN: Duration = Duration::from_secs(5);

/// The time that own slots may wait to be served in an epoch: three times that of a take-over after
/// a crash.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(1);
