//! Members with clients, late messages and the agreement on epochs; and what has to hold in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use steadfast_core::RecordId;
use steadfast_replication::epoch::{Acknowledgements, Change, PartitionPolicy, Settings};
use steadfast_replication::member::{Boot, Role};
use steadfast_replication::placement::Replication;
use steadfast_replication::rules::{Rule, Rules};
use steadfast_replication::slots::SlotSet;
use steadfast_replication::tenant::Tenant;

use super::Tenants;
use crate::history::checks::{check_history, is_available};
use crate::history::clients::{Clients, Habits, PATIENCE};
use crate::node;
use crate::process::Holding;
use crate::random::Random;

/// How members and their clients are.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) nodes: usize,
    pub(super) replication: Replication,
    pub(super) acknowledgements: Acknowledgements,
    /// True if the ends of sessions are remembered for seconds only.
    pub(super) forgets_soon: bool,
    /// One of how many grants of a lease is lost.
    pub(super) lost_grants: usize,
    pub(super) habits: Habits,
}

/// Members, their clients, and what happens to them.
pub(super) struct Field {
    tenants: Tenants,
    clients: Clients,
    random: Random,
    lost_grants: usize,
    /// The links whose messages are late, and until when.
    late: BTreeMap<(usize, usize), Duration>,
    /// When another process begins where one ended.
    restarts: BTreeMap<usize, Duration>,
    /// Members that stay aside.
    away: BTreeSet<usize>,
    /// Members that do not hear of epochs, and until when.
    kept_in: BTreeMap<usize, Duration>,
    rests_until: Duration,
    /// How many slots were given up.
    given_up: usize,
    /// Whether a process was lost since the members had everything again.
    has_lost: bool,
}

const STEP: Duration = Duration::from_millis(1);
/// The time in which everything is well again, at the latest.
const SETTLES: Duration = Duration::from_secs(15);
/// The time in which an unanswered call has its effect, at the latest.
const LATE: Duration = Duration::from_secs(11);

/// Looks at members at rest, at most.
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

impl Field {
    pub(super) fn new(seed: u64, terms: &Terms, without: Option<Rule>) -> Self {
        let settings = Settings {
            replication: terms.replication,
            acknowledgements: terms.acknowledgements,
            policy: Some(PartitionPolicy::Fail),
        };
        let rules = without.map_or(Rules::default(), Rules::without);
        let rules = if terms.forgets_soon { rules.that_forget_soon() } else { rules };
        Self {
            tenants: Tenants::new(terms.nodes, settings, rules),
            clients: Clients::new(seed, terms.habits),
            random: Random::new(seed, 12),
            lost_grants: terms.lost_grants,
            late: BTreeMap::new(),
            restarts: BTreeMap::new(),
            away: BTreeSet::new(),
            kept_in: BTreeMap::new(),
            rests_until: Duration::ZERO,
            given_up: 0,
            has_lost: false,
        }
    }

    /// Lets something happen, and checks what came of it; says how many epochs and calls there were.
    pub(super) fn run(
        &mut self,
        happens: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(usize, usize), String> {
        let result = self.settle().and_then(|()| happens(self)).and_then(|()| self.judge());
        result.map_err(|what| format!("{what}, at {:?}", self.time()))?;
        Ok((self.tenants.epochs.len(), self.clients.history().calls.len()))
    }

    /// Checks the service after recovery: no call fails, all holders agree, and a single server
    /// could have given all answers.
    fn judge(&mut self) -> Result<(), String> {
        self.late.clear();
        self.away.clear();
        self.settle()?;
        let since = self.time();
        self.clients.all_is_well(since);
        self.go(Duration::from_millis(300))?;
        self.idle(LATE)?;
        self.comes_to_rest()?;
        self.clients.look_at_everything(&mut self.tenants);
        self.idle(PATIENCE)?;
        is_available(self.clients.history(), since)?;
        check_history(self.clients.history())
    }
}

/// The events of the service.
impl Field {
    pub(super) fn time(&self) -> Duration {
        self.tenants.time
    }

    pub(super) fn nodes(&self) -> usize {
        self.tenants.nodes.len()
    }

    pub(super) fn boot(&self, at: usize) -> Boot {
        self.tenants.boot(at)
    }

    /// Messages of a link are late for a while.
    pub(super) fn late(&mut self, from: usize, to: usize, span: Duration) {
        self.late.insert((from, to), self.time() + span);
    }

    pub(super) fn late_from(&mut self, at: usize, span: Duration) {
        (0..self.nodes()).for_each(|other| self.late(at, other, span));
    }

    pub(super) fn late_to(&mut self, at: usize, span: Duration) {
        (0..self.nodes()).for_each(|other| self.late(other, at, span));
    }

    pub(super) fn in_time(&mut self) {
        self.late.clear();
    }

    pub(super) fn choose(&mut self, changes: &[Change]) -> bool {
        self.tenants.choose(changes)
    }

    /// Members are put aside that are well.
    pub(super) fn aside(&mut self, members: &[usize]) -> bool {
        let changes: Vec<_> =
            members.iter().map(|at| Change::SetAside(self.tenants.boot(*at))).collect();
        self.choose(&changes)
    }

    /// A member that is aside stays so.
    pub(super) fn keep_away(&mut self, at: usize) {
        self.away.insert(at);
    }

    pub(super) fn let_back(&mut self, at: usize) {
        self.away.remove(&at);
    }

    pub(super) fn suspect(&mut self, at: usize, suspected: Option<usize>) {
        let suspected = suspected.map(|at| self.tenants.boot(at));
        self.tenants.suspect(at, suspected);
    }

    /// A member learns the last epoch.
    pub(super) fn learn(&mut self, at: usize) {
        self.tenants.learn_last(at);
    }

    /// A member does not hear of epochs for a while.
    pub(super) fn keep_in(&mut self, at: usize, span: Duration) {
        self.kept_in.insert(at, self.time() + span);
    }

    /// How many slots were given up.
    pub(super) fn given_up(&self) -> usize {
        self.given_up
    }

    /// Clients ask nothing for a while.
    pub(super) fn rest(&mut self, span: Duration) {
        self.rests_until = self.time() + span;
    }

    /// Ends a process, if all members have everything again since one was lost.
    pub(super) fn crash(&mut self, at: usize) -> bool {
        let may = !self.has_lost && self.is_settled();
        if may {
            self.end(at);
        }
        may
    }

    /// Ends a process, which is put aside; another one begins later.
    pub(super) fn end(&mut self, at: usize) {
        self.has_lost = true;
        let boot = self.tenants.boot(at);
        self.tenants.crash(at);
        let pause = self.random.millis(1, 400);
        self.restarts.insert(at, self.time() + pause);
        self.tenants.choose(&[Change::SetAside(boot)]);
    }

    /// Lets time pass, in which clients ask.
    pub(super) fn go(&mut self, span: Duration) -> Result<(), String> {
        let end = self.time() + span;
        while self.time() < end {
            self.step(STEP)?;
            if self.time() >= self.rests_until {
                self.clients.act(&mut self.tenants);
            }
        }
        Ok(())
    }

    /// Lets time pass until something is so, or for so long.
    pub(super) fn go_until(
        &mut self,
        most: Duration,
        is_so: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        let end = self.time() + most;
        while self.time() < end && !is_so(self) {
            self.go(STEP)?;
        }
        Ok(())
    }

    /// Lets time pass without calls.
    fn idle(&mut self, span: Duration) -> Result<(), String> {
        let end = self.time() + span;
        while self.time() < end {
            self.step(STEP * 10)?;
        }
        Ok(())
    }

    /// Whether a member is full, and knows the last epoch.
    pub(super) fn is_full(&self, at: usize) -> bool {
        self.tenants.role(at) == Some(Role::Full) && !self.tenants.is_behind(at)
    }

    /// Whether a member that joins has what it is going to hold.
    pub(super) fn is_filled(&self, at: usize) -> bool {
        self.tenants.role(at) == Some(Role::Joining)
            && !self.tenants.is_behind(at)
            && self.tenants.tenant(at).is_some_and(Tenant::is_filled)
    }

    /// Whether all members are there, and have everything.
    pub(super) fn is_settled(&self) -> bool {
        let is_well =
            |at: usize| self.is_full(at) && self.tenants.tenant(at).is_some_and(Tenant::is_settled);
        (0..self.nodes()).all(is_well)
    }
}

/// One step after the other.
impl Field {
    fn step(&mut self, span: Duration) -> Result<(), String> {
        self.tenants.pass(span);
        let time = self.time();
        self.late.retain(|_, until| *until > time);
        (0..self.nodes()).for_each(|at| self.agree(at));
        self.has_lost = self.has_lost && !self.is_settled();
        // A longer span has time for several rounds.
        for _ in 0..span.as_millis().min(4) {
            self.deliver();
        }
        for at in 0..self.nodes() {
            if span > STEP || self.random.one_in(10) {
                let is_granted = !self.random.one_in(self.lost_grants);
                self.tenants.tick(at, is_granted);
                self.give_up(at)?;
            }
        }
        self.clients.hear(&mut self.tenants)
    }

    fn deliver(&mut self) {
        let mut links = self.tenants.busy_links();
        links.retain(|link| !self.late.contains_key(link));
        while !links.is_empty() {
            let drawn = self.random.below(links.len());
            let (from, to) = links.swap_remove(drawn);
            let count = self.random.below(8) + self.tenants.under_way(from, to) / 4;
            (0..count).for_each(|_| self.tenants.deliver(from, to));
        }
    }

    /// Lets a member request changes of the next epoch, and learn the last one.
    fn agree(&mut self, at: usize) {
        let others = (0..self.nodes()).filter(|other| *other != at);
        let hears_none = others.into_iter().all(|other| self.late.contains_key(&(other, at)));
        let is_kept_in = self.kept_in.get(&at).is_some_and(|until| *until > self.time());
        if hears_none || is_kept_in {
            return;
        }
        if self.tenants.is_behind(at) && self.tenants.is_up(at) {
            if self.random.one_in(8) {
                self.tenants.learn_last(at);
            }
            return;
        }
        if !self.random.one_in(30) {
            return;
        }
        let boot = self.tenants.boot(at);
        match self.tenants.role(at) {
            Some(Role::Aside) if self.tenants.is_up(at) && !self.away.contains(&at) => {
                self.tenants.choose(&[Change::ComeBack(boot)]);
            }
            Some(Role::Joining) if self.is_filled(at) && !self.away.contains(&at) => {
                self.tenants.choose(&[Change::BecomeFull(boot)]);
            }
            Some(Role::Draining) if self.tenants.tenant(at).is_some_and(Tenant::is_drained) => {
                self.end(at);
            }
            None if self.restarts.get(&at).is_some_and(|due| *due <= self.tenants.time)
                && self.tenants.choose(&[Change::Join(self.tenants.joining(at))]) =>
            {
                self.restarts.remove(&at);
                self.tenants.learn_last(at);
            }
            _ => {}
        }
    }

    /// Gives up the slots that an owner cannot take over. Where enough of their holders live, that is wrong.
    fn give_up(&mut self, at: usize) -> Result<(), String> {
        if self.tenants.is_behind(at) {
            return Ok(());
        }
        for (silent, slots) in self.tenants.hopeless(at) {
            self.need_be_given_up(&slots)?;
            self.given_up += slots.len();
            self.tenants.choose(&[Change::GiveUp(slots, silent)]);
        }
        Ok(())
    }

    fn need_be_given_up(&self, slots: &SlotSet) -> Result<(), String> {
        let epoch = self.tenants.epoch();
        let there: BTreeMap<_, _> = (0..self.nodes())
            .filter_map(|at| Some((self.tenants.boot(at), self.tenants.tenant(at)?)))
            .collect();
        for slot in slots.iter() {
            let last = epoch.last_served(slot);
            let holders = last.holders(slot);
            let left: Vec<_> = holders.iter().filter_map(|boot| there.get(boot)).collect();
            let is_complete =
                |tenant: &&&Tenant| tenant.replicas().complete_in(slot) >= Some(last.number());
            let lost = holders.len() - left.len();
            if lost <= last.acknowledgements(slot) && left.iter().any(is_complete) {
                return Err(format!(
                    "{slot:?} is given up, and {} of its holders live",
                    left.len()
                ));
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        let end = self.time() + SETTLES;
        while !self.is_settled() {
            self.step(STEP * 2)?;
            if self.time() > end {
                let state = |at| {
                    let tenant = self.tenants.tenant(at);
                    let waiting = tenant.map(|tenant| tenant.ownership().waiting());
                    let lacking = tenant.map(Tenant::lacking);
                    (self.tenants.role(at), self.tenants.is_behind(at), waiting, lacking)
                };
                let states: Vec<_> = (0..self.nodes()).map(state).collect();
                return Err(format!("C19: the members do not settle: {states:?}"));
            }
        }
        Ok(())
    }

    /// Waits for rest. Sessions also expire at rest, and each end is a write, so one of several
    /// checks has to find none in progress.
    fn comes_to_rest(&mut self) -> Result<(), String> {
        for _ in 1..LOOKS {
            if self.rests().is_ok() {
                return Ok(());
            }
            self.idle(BETWEEN_LOOKS)?;
        }
        self.rests()
    }

    /// At rest, holders hold the same, and nothing is open.
    fn rests(&self) -> Result<(), String> {
        let mut held = BTreeMap::<RecordId, Vec<Option<Holding>>>::new();
        let tenants = || (0..self.nodes()).filter_map(|at| self.tenants.tenant(at));
        let ids = tenants().flat_map(|tenant| tenant.replicas().iter().map(|(id, _)| id));
        for id in ids.collect::<BTreeSet<_>>() {
            for tenant in tenants() {
                let (view, slot) = (tenant.view(), tenant.replicas().slot_of(id));
                let holding = tenant.replicas().get(id);
                if holding.is_some_and(|held| held.tentative.is_some()) {
                    return Err(format!("at rest, a write of {id} is tentative"));
                }
                let holding = holding.map(node::holding);
                match view.holders(slot).contains(&view.me) {
                    true => held.entry(id).or_default().push(holding),
                    false if holding.is_some() => {
                        return Err(format!("at rest, {id} is held by a node that is no holder"));
                    }
                    false => {}
                }
            }
        }
        let differing = held.iter().find(|(_, all)| all.iter().any(|one| *one != all[0]));
        differing.map_or(Ok(()), |(id, all)| {
            Err(format!("at rest, the holders of {id} differ: {all:?}"))
        })
    }
}
