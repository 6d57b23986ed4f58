//! The engine of a node, as a simulated process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{Ending, Limits, RecordId, Revocation};
use steadfast_replication::budget::{Budgets, Class};
use steadfast_replication::call;
use steadfast_replication::cluster::{self, Timing};
use steadfast_replication::context;
use steadfast_replication::engine::{self, Engine, Packet};
use steadfast_replication::epoch::{Epoch, EpochId, Settings};
use steadfast_replication::member::{Boot, Member};
use steadfast_replication::membership::{
    self, Drain, End, Frame, Hello, Identity, Membership, Message,
};
use steadfast_replication::message;
use steadfast_replication::paths;
use steadfast_replication::record::{Held, Kept};
use steadfast_replication::tenant::Tenant;
use steadfast_replication::wire::{self, Ends};

use crate::process::{
    Discovery, Effect, Holding, KnownEpoch, Measure, Now, Process, Reply, Request, Start,
};

/// The engine of a node.
#[derive(Debug)]
pub struct Node {
    engine: Engine,
    budgets: Budgets,
    /// The addresses that have answered since the start.
    answered: BTreeSet<String>,
    drain: Option<Drain>,
    reports: Reports,
    /// The last epoch for which a digest was computed.
    known: Option<(Arc<Epoch>, KnownEpoch)>,
    effects: Vec<Effect<Packet>>,
}

/// The application's side of ended sessions.
#[derive(Debug, Default)]
struct Reports {
    are_wanted: bool,
    /// Claimed, but not yet passed to the application.
    claimed: Vec<RecordId>,
    /// The time of the last claim.
    at: Duration,
}

/// The time from a claim to its acknowledgement, in which the process may end.
const REPORTS: Duration = Duration::from_secs(1);
/// The number of ends that are claimed together.
const CLAIMED: usize = 64;

impl Process for Node {
    type Packet = Packet;
    type Hello = Hello;

    fn start(start: &Start, now: Now) -> Self {
        let Start { name, boot, address, zone, settings, budgets, seed, rules, is_told } =
            start.clone();
        let mut bytes = [7; 16];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let member = Member::joining(name, boot, address, zone);
        let identity = Identity { member, settings, seed: bytes };
        let membership = Membership::new(identity, Timing::DEFAULT, rules, now.mono);
        let mut engine = Engine::new(membership, Limits::default(), budgets, rules);
        if is_told {
            engine.keep_endings();
        }
        Self {
            engine,
            budgets,
            answered: BTreeSet::new(),
            drain: None,
            reports: Reports { are_wanted: is_told, ..Reports::default() },
            known: None,
            effects: Vec::new(),
        }
    }

    fn hello(&self) -> Hello {
        self.engine.hello()
    }

    fn connected(&mut self, now: Now, hello: Hello) {
        self.answered.insert(hello.member.address.clone());
        self.engine.connected(now.into(), hello);
    }

    fn disconnected(&mut self, now: Now, boot: Boot, was_refused: bool) {
        self.engine.disconnected(now.into(), boot, was_refused);
    }

    fn discovered(&mut self, now: Now, discovery: &Discovery) {
        let silent = discovery.unanswered.iter().filter(|at| !self.answered.contains(*at));
        let has_others = !discovery.named.is_empty();
        let discovery = membership::Discovery { has_others, silent: silent.cloned().collect() };
        self.engine.discovered(now.into(), discovery);
    }

    fn call(&mut self, now: Now, request: Request, within: Duration) -> u64 {
        let now = now.into();
        match request {
            Request::List { principal } => self.engine.list(now, principal, within),
            Request::DeleteAll { principal, except, epoch } => {
                let revocation = Revocation { except, epoch, ..Revocation::LOGOUT };
                self.engine.delete_all(now, principal, revocation, within)
            }
            request => {
                let request = self::request(request).expect("it is about a record");
                self.engine.call(now, request, within)
            }
        }
    }

    fn receive(&mut self, now: Now, link: Boot, packet: Packet) {
        self.engine.receive(now.into(), link, packet);
    }

    fn tick(&mut self, now: Now) {
        self.engine.tick(now.into());
        self.report(now);
        let is_drained = self.engine.tenant().is_none() || self.engine.is_drained();
        if self.drain == Some(Drain::Restart) && is_drained {
            self.effects.push(Effect::Drained);
        }
    }

    fn drain(&mut self, now: Now, leaves: bool) {
        let drain = if leaves { Drain::Leave } else { Drain::Restart };
        self.drain = Some(drain);
        self.engine.drain(now.into(), drain);
    }

    fn reconfigure(&mut self, now: Now, settings: Settings) {
        self.engine.reconfigure(now.into(), settings);
    }

    fn suspect(&mut self, now: Now, boot: Boot) {
        self.engine.reported_dead(now.into(), boot);
    }

    fn take_effects(&mut self) -> Vec<Effect<Packet>> {
        self.note_epoch();
        let mut effects = std::mem::take(&mut self.effects);
        effects.extend(self.engine.take_effects().into_iter().filter_map(effect));
        effects
    }

    fn epoch(&self) -> Option<KnownEpoch> {
        self.known.as_ref().map(|(_, known)| known.clone())
    }

    fn settings(&self) -> Option<Settings> {
        self.engine.membership().epoch().map(|epoch| *epoch.settings())
    }

    fn measure(&self, to: Boot, packet: &Packet) -> Measure {
        let ends = Ends { from: self.engine.membership().me(), to };
        let records = match packet {
            Packet::Stream(paths::Packet { content: Some(content), .. }) => {
                records(&content.message)
            }
            _ => 0,
        };
        Measure { bytes: wire::encode(packet, ends).len(), records }
    }

    fn word_in(&self, packet: &Packet) -> Option<([u8; 16], u64)> {
        let me = self.engine.membership().me();
        let epoch = match packet {
            Packet::Stream(paths::Packet { from, epoch, content: Some(content), .. }) => {
                Some(*epoch).filter(|_| *from == me && is_word_of_holder(&content.message))
            }
            Packet::Cluster(Frame { epoch, message: Message::Cluster(message), .. }) => {
                epoch.filter(|_| is_word_of_voter(message))
            }
            _ => None,
        };
        epoch.map(|epoch| (lineage(epoch), epoch.number))
    }

    fn serves(&self, now: Now, id: RecordId) -> bool {
        let tenant = self.engine.tenant();
        tenant.is_some_and(|tenant| {
            self.engine.membership().serves(tenant.replicas().slot_of(id), now.mono)
        })
    }

    fn is_ready(&self, now: Now) -> bool {
        let waiting = self.engine.tenant().map(|tenant| tenant.ownership().waiting());
        self.engine.membership().problem(now.mono).is_none() && waiting == Some((0, 0))
    }

    fn is_settled(&self, now: Now) -> bool {
        let is_filled = self.engine.tenant().is_some_and(Tenant::is_filled);
        is_filled && self.is_ready(now)
    }

    fn is_holder(&self, id: RecordId) -> bool {
        self.engine.tenant().is_some_and(|tenant| {
            let (view, slot) = (tenant.view(), tenant.replicas().slot_of(id));
            view.holders(slot).contains(&view.me)
        })
    }

    fn holdings(&self) -> BTreeMap<RecordId, Holding> {
        self.held().map(|(id, held)| (id, holding(held))).collect()
    }

    fn open(&self) -> Vec<(&'static str, usize)> {
        let under_way = self.engine.tenant().map_or(0, Tenant::under_way);
        let tentative = self.held().filter(|(_, held)| held.tentative.is_some()).count();
        vec![
            ("open calls", self.engine.open_calls()),
            ("calls and writes under way", under_way),
            ("tentative writes", tentative),
            ("lists with entries that are not settled", self.unsettled()),
            ("sessions of visitors above its budget", self.above_budget()),
        ]
    }

    fn endings(&self) -> Vec<RecordId> {
        let is_ending = |held: &Held| match held.confirmed.as_ref().map(|entry| &entry.kept) {
            Some(Kept::Ended(tombstone)) => Ending::is_kept(tombstone.reason),
            _ => false,
        };
        self.held().filter(|(_, held)| is_ending(held)).map(|(id, _)| id).collect()
    }

    fn outcomes(&self) -> usize {
        let confirmed = self.held().filter_map(|(_, held)| held.confirmed.as_ref());
        confirmed.map(|entry| entry.done.len()).sum()
    }

    fn describe(&self, now: Now) -> String {
        let membership = self.engine.membership();
        let problem = membership.problem(now.mono).map(|problem| problem.to_string());
        let epoch = membership.epoch().map(|epoch| {
            let member = |member: &Member| format!("{} {:?}", member.name.as_str(), member.role);
            let members: Vec<_> = epoch.members().iter().map(member).collect();
            format!("{} of {}", epoch.id().number, members.join(", "))
        });
        let tenant = self.engine.tenant();
        let waiting = tenant.map(|tenant| (tenant.ownership().waiting(), tenant.is_filled()));
        format!("epoch {epoch:?}, problem {problem:?}, waiting {waiting:?}")
    }
}

impl Node {
    /// Passes the claimed ends to the application, acknowledges them, and claims more.
    fn report(&mut self, now: Now) {
        if !self.reports.are_wanted || now.mono < self.reports.at + REPORTS {
            return;
        }
        self.reports.at = now.mono;
        for id in std::mem::take(&mut self.reports.claimed) {
            self.effects.push(Effect::Told(id));
            let report = call::Request::MarkReported { id };
            self.engine.call(now.into(), report, Duration::from_secs(2));
        }
        let claimed = self.engine.claim_endings(now.into(), CLAIMED);
        self.reports.claimed = claimed.into_iter().map(|ending| ending.id).collect();
    }

    /// Returns the number of visitors' sessions above the budget that could end.
    fn above_budget(&self) -> usize {
        let Some(tenant) = self.engine.tenant() else { return 0 };
        let is_visitor = |held: &Held| {
            let record = held.confirmed.as_ref().and_then(|entry| entry.kept.record());
            record.is_some_and(|record| Class::of(record) == Class::Visitors)
        };
        let visitors = || self.held().filter(|(_, held)| is_visitor(held));
        let slot = |id| tenant.replicas().slot_of(id);
        let own = visitors().filter(|(id, _)| tenant.view().owns(slot(*id))).count();
        let above = visitors().count().saturating_sub(self.budgets.visitors.records as usize);
        // The session that was used last stays.
        above.min(own.saturating_sub(1))
    }

    /// Lists of which it is not known whether a session is the principal's.
    fn unsettled(&self) -> usize {
        let is_open = |held: &Held| {
            let list = held.confirmed.as_ref().and_then(|entry| entry.kept.list());
            list.is_some_and(|list| list.open().next().is_some())
        };
        self.held().filter(|(_, held)| is_open(held)).count()
    }

    fn held(&self) -> impl Iterator<Item = (RecordId, &Held)> {
        self.engine.tenant().into_iter().flat_map(|tenant| tenant.replicas().iter())
    }

    fn note_epoch(&mut self) {
        let epoch = self.engine.membership().epoch();
        let known = self.known.as_ref().map(|(epoch, _)| epoch);
        if epoch.map(Arc::as_ptr) != known.map(Arc::as_ptr) {
            self.known = epoch.map(|epoch| (Arc::clone(epoch), known_epoch(epoch)));
        }
    }
}

fn known_epoch(epoch: &Epoch) -> KnownEpoch {
    KnownEpoch { lineage: lineage(epoch.id()), number: epoch.id().number, digest: digest(epoch) }
}

fn lineage(epoch: EpochId) -> [u8; 16] {
    let mut lineage = [0; 16];
    lineage[..8].copy_from_slice(&digest(&epoch.lineage).to_le_bytes());
    lineage
}

fn is_word_of_voter(message: &cluster::Message) -> bool {
    use cluster::Message::{Accepted, Lease, Promise};
    matches!(message, Promise(_) | Accepted(_) | Lease { .. })
}

fn is_word_of_holder(message: &message::Message) -> bool {
    use message::Message::{Acknowledge, Compared, Inspected, Noted, Page, Reply};
    matches!(message, Acknowledge { .. } | Compared { .. } | Inspected(_) | Noted(_) | Page { .. })
        || matches!(message, Reply { .. })
}

/// Returns the number of records that a message carries or lists.
fn records(message: &message::Message) -> usize {
    use message::Message::{Confirm, Fetch, Forget, Page, Records, Want};
    match message {
        Page { page, .. } => page.summaries.len(),
        Records { records, .. } => records.len(),
        Want { ids, .. } | Fetch { ids, .. } => ids.len(),
        Confirm(writes) | Forget(writes) => writes.len(),
        _ => 0,
    }
}

impl From<Now> for context::Now {
    fn from(Now { mono, wall }: Now) -> Self {
        Self { mono, wall }
    }
}

fn effect(effect: engine::Effect) -> Option<Effect<Packet>> {
    match effect {
        engine::Effect::Send(boot, packet) => Some(Effect::Send(boot, packet)),
        engine::Effect::Answer(number, reply) => Some(Effect::Answer(number, answer(reply))),
        engine::Effect::Cluster(membership::Effect::Ended(End::Left)) => Some(Effect::Drained),
        engine::Effect::Cluster(membership::Effect::Ended(end)) => {
            Some(Effect::Ended(format!("{end:?}")))
        }
        _ => None,
    }
}

/// Returns the request to the owner of a record, or `None` if it concerns several records.
pub(crate) fn request(request: Request) -> Option<call::Request> {
    Some(match request {
        Request::Create { id, record, policy } => call::Request::Create { id, record, policy },
        Request::Load { id, proof, seen } => call::Request::Load { id, proof, seen },
        Request::Update { id, patch } => call::Request::Update { id, patch },
        Request::Delete { id, proof, reason } => {
            call::Request::Delete { id, proof, sign_in: None, reason }
        }
        Request::List { .. } | Request::DeleteAll { .. } => return None,
    })
}

pub(crate) fn answer(reply: call::Reply) -> Reply {
    match reply {
        call::Reply::Outcome(outcome) => Reply::Outcome(outcome),
        call::Reply::Lookup(lookup) => Reply::Lookup(lookup),
        call::Reply::Deleted(deleted) => Reply::Deleted(deleted),
        call::Reply::Listed(listed) => Reply::Listed(listed),
        call::Reply::Count(count) => Reply::Count(count),
        call::Reply::Failed(failure) => Reply::Failed(failure.to_string()),
        step => Reply::Failed(format!("a step of another call: {step:?}")),
    }
}

/// Returns the confirmed part of a record. A record that is only tentative counts as open, not as
/// held.
pub(crate) fn holding(held: &Held) -> Holding {
    match held.confirmed.as_ref().map(|entry| (entry, &entry.kept)) {
        Some((entry, Kept::Live(copy))) => {
            Holding::Live(digest(&(entry.revision, Shown(&copy.record))))
        }
        Some((_, Kept::Ended(_))) => Holding::Tombstone,
        Some((entry, Kept::List(list))) => Holding::Other(digest(&(entry.revision, Shown(list)))),
        None => Holding::Other(0),
    }
}

/// Hashes the `Debug` output of a value.
struct Shown<T>(T);

impl<T: fmt::Debug> Hash for Shown<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut text = String::new();
        write!(text, "{:?}", self.0).expect("a string takes any text");
        text.hash(state);
    }
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
