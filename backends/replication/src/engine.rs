//! One node: the components, connected.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{
    Change, EndReason, Ending, Limits, Outcome as Written, Principal, RecordId, Revocation, Scan,
    Scanned, Stats,
};

use crate::budget::{Budgets, Class};
use crate::call::{CallId, Failure, ListRequest, Reply, Request};
use crate::caller::{Asker, Caller, Due};
use crate::context::{Now, View};
use crate::description::{Description, Traffic};
use crate::epoch::{Epoch, EpochId};
use crate::feed::Feed;
use crate::figures::Figures;
use crate::frames::Frames;
pub use crate::look::Agreement;
use crate::look::Look;
use crate::member::{Boot, Member, Role};
use crate::membership::{self, Discovery, Drain, End, Frame, Hello, Membership, Problem};
use crate::message::Message;
use crate::operation::Operation;
use crate::owner::{Asked, News, Told};
use crate::paths::{self, Arrival, Paths};
use crate::procedures::{Outcome, Procedures};
use crate::record::Kept;
use crate::rules::{Rule, Rules};
use crate::service_clock::ServiceClock;
use crate::settings::Settings;
use crate::slots::Slot;
use crate::tenant::{Standing, Tenant};

/// One node of a replicated store.
///
/// It is given calls, packets and the time, and answers with [`Effect`]s.
// Ten fields: each but the first and the last is a component of its own.
#[derive(Debug)]
pub struct Engine {
    terms: Terms,
    membership: Membership,
    paths: Paths<Message>,
    caller: Caller,
    procedures: Procedures,
    clock: ServiceClock,
    feed: Feed,
    operation: Operation,
    /// The state of a node that is a member of an epoch.
    tenant: Option<Tenant>,
    step: Step,
}

/// The settings of a node.
#[derive(Clone, Copy, Debug)]
struct Terms {
    me: Boot,
    limits: Limits,
    budgets: Budgets,
    rules: Rules,
    /// True once the application wants reports of sessions that end without a request.
    keeps_endings: bool,
}

/// The effects of a step so far.
#[derive(Debug, Default)]
struct Step {
    /// The queue of events left to handle: each may add others.
    todo: VecDeque<Todo>,
    effects: Vec<Effect>,
    frames: Frames,
    /// Calls that wait until it is known whether this node's clock is right, since it jumped.
    held: Vec<Held>,
}

#[derive(Debug)]
enum Held {
    /// A call of this node.
    Own(u64),
    /// A call of another one.
    Of(Boot, Message),
}

#[derive(Debug)]
enum Todo {
    Told(Told),
    Answer(u64, Asker, Reply),
    Ask(Asker, Request, Duration),
}

/// A packet on a link.
#[derive(Clone, Debug)]
pub enum Packet {
    /// About the cluster.
    Cluster(Frame),
    /// About records.
    Stream(paths::Packet<Message>),
}

/// An effect of a step.
#[derive(Debug)]
#[non_exhaustive]
pub enum Effect {
    /// A packet is to be sent over the link to a boot.
    Send(Boot, Packet),
    /// The answer to a call of this node.
    Answer(u64, Reply),
    /// An event of a record that this node owns.
    Changed(Change),
    /// This node, its owner, ended a session whose deadline was over.
    Expired(RecordId),
    /// This node, its owner, ended a session for its budget.
    Evicted(RecordId),
    /// A drain came to its end; said again whenever the node is asked to drain again.
    Drained {
        /// Sessions that this node held when the drain began, and that others hold now.
        moved: u64,
        /// Sessions that end with this node, since no other one is there.
        lost: u64,
    },
    /// Something about the cluster.
    Cluster(membership::Effect),
}

impl Engine {
    /// A node that begins.
    pub fn new(membership: Membership, limits: Limits, budgets: Budgets, rules: Rules) -> Self {
        let me = membership.me();
        Self {
            terms: Terms { me, limits, budgets, rules, keeps_endings: false },
            membership,
            paths: Paths::new(me, rules),
            caller: Caller::default(),
            procedures: Procedures::default(),
            clock: ServiceClock::default(),
            feed: Feed::default(),
            operation: Operation::default(),
            tenant: None,
            step: Step::default(),
        }
    }

    /// Its part in the cluster.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Its state as a member of an epoch.
    pub fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }

    /// The number of its open calls.
    pub fn open_calls(&self) -> usize {
        self.caller.len() + self.procedures.len()
    }

    /// Its greeting on a new link.
    pub fn hello(&self) -> Hello {
        self.membership.hello()
    }

    /// Notes a link to another node, and what that said of itself.
    pub fn connected(&mut self, now: Now, hello: Hello) {
        let now = self.begin(now);
        self.paths.connected(hello.member.boot);
        let effects = self.membership.connected(hello, now.mono);
        self.on_cluster(effects, now);
        self.finish(now);
    }

    /// Notes that the link to a boot ended, and whether its other side closed it and refused another one.
    pub fn disconnected(&mut self, now: Now, boot: Boot, was_refused: bool) {
        let now = self.begin(now);
        self.paths.disconnected(boot);
        let effects = self.membership.disconnected(boot, was_refused, now.mono);
        self.on_cluster(effects, now);
        self.finish(now);
    }

    /// Notes what discovery names.
    pub fn discovered(&mut self, now: Now, discovery: Discovery) {
        let now = self.begin(now);
        let effects = self.membership.discovered(discovery, now.mono);
        self.on_cluster(effects, now);
        self.finish(now);
    }

    /// Notes that discovery reports a member dead: a reason to ask it.
    pub fn reported_dead(&mut self, now: Now, boot: Boot) {
        let now = self.begin(now);
        let effects = self.membership.reported_dead(boot, now.mono);
        self.on_cluster(effects, now);
        self.finish(now);
    }

    /// Hands over what this node serves; a [`Drained`](Effect::Drained) effect says when that is done. Asked
    /// again, the node answers again.
    pub fn drain(&mut self, now: Now, drain: Drain) {
        let now = self.begin(now);
        self.operation.drain(self.live());
        let effects = self.membership.ask_to_drain(drain, now.mono);
        self.on_cluster(effects, now);
        self.finish(now);
    }

    /// Gives the service other settings: an operator's call.
    pub fn reconfigure(&mut self, now: Now, settings: Settings) {
        let now = self.begin(now);
        let effects = self.membership.reconfigure(settings, now.mono);
        self.on_cluster(effects, now);
        self.finish(now);
    }

    /// Founds the service again from an epoch whose majority is lost: the call of an operator who knows that
    /// the voters that are missing never return.
    pub fn found_from(&mut self, now: Now, epoch: EpochId) {
        let now = self.begin(now);
        let effects = self.membership.found_from(epoch, now.mono);
        self.on_cluster(effects, now);
        self.finish(now);
    }

    /// Has changes of all records told as effects from now on; says whether those of all members are. They
    /// begin with `Missed` once all members tell of theirs, and with `Down` and `Missed` again in each epoch.
    pub fn listen(&mut self, now: Now) -> bool {
        let now = self.begin(now);
        if self.feed.listen(self.others()) {
            self.begin_to_listen();
        }
        self.finish(now);
        self.hears_all()
    }

    /// Returns true if this node hears of the changes of all members.
    pub fn hears_all(&self) -> bool {
        self.tenant.is_some() && self.feed.listens() && self.feed.hears_all()
    }

    /// Returns true if this node's clock has just jumped, and calls wait for the clocks of others.
    pub fn awaits_clocks(&mut self, now: Now) -> bool {
        let now = self.begin(now);
        self.finish(now);
        self.clock.is_doubtful(now.mono)
    }

    /// Ends, as soon as a lease allows it, the own sessions whose deadline is over; says how many there are. It
    /// looks at all records of this node.
    pub fn collect(&mut self, now: Now) -> u64 {
        let now = self.begin(now);
        let due = self.tenant.as_mut().map_or(0, |tenant| tenant.collect(now));
        self.tick_tenant(now);
        self.finish(now);
        due as u64
    }

    /// Keeps the sessions of this node that end without a request until they are reported, from now on.
    pub fn keep_endings(&mut self) {
        self.terms.keeps_endings = true;
        if let Some(tenant) = &mut self.tenant {
            tenant.keep_endings();
        }
    }

    /// Claims at most `limit` endings of sessions that this node owns. It hands them out again once the
    /// claim lapses, as does another node that owns them by then, unless
    /// [`MarkReported`](Request::MarkReported) is called.
    pub fn claim_endings(&mut self, now: Now, limit: usize) -> Vec<Ending> {
        let now = self.begin(now);
        let claim = |tenant: &mut Tenant| tenant.claim_endings(limit, now);
        let claimed = self.tenant.as_mut().map(claim).unwrap_or_default();
        self.finish(now);
        claimed
    }

    /// Returns true if this node is a full member that serves its slots, or is about to, had a
    /// lease within 5 s, and has a correct clock. An idle node has no lease: the call requests one,
    /// so repeat it every few milliseconds for a second or so.
    pub fn is_ready(&mut self, now: Now) -> bool {
        let own = now;
        let now = self.begin(now);
        self.clock.on_use();
        let effects = self.membership.want_lease(now.mono);
        self.on_cluster(effects, now);
        self.finish(now);
        self.problem(own).is_none()
    }

    /// Returns the reason why this node is not ready, if it is not.
    pub fn problem(&self, now: Now) -> Option<Problem> {
        self.look(now).problem()
    }

    /// Returns the number of nodes that hold sessions, to this node's knowledge.
    pub fn agreement(&self, now: Now) -> Agreement {
        self.look(now).agreement()
    }

    /// Returns the figures of this node.
    pub fn figures(&self, now: Now) -> Figures {
        self.look(now).figures()
    }

    /// This node and its cluster, for an operator.
    pub fn describe(&self, now: Now) -> Description {
        self.look(now).description()
    }

    fn look(&self, now: Now) -> Look<'_> {
        let traffic = Traffic { relayed: self.paths.relayed(), open_calls: self.open_calls() };
        Look {
            membership: &self.membership,
            tenant: self.tenant.as_ref(),
            clock: &self.clock,
            counts: self.operation.counts,
            traffic,
            now,
        }
    }

    /// Returns true if this node owns the slot of a new record, and can serve it.
    pub fn would_own(&self, id: RecordId) -> bool {
        let is_ready = |tenant: &Tenant| tenant.ownership().is_ready(tenant.replicas().slot_of(id));
        self.tenant.as_ref().is_some_and(is_ready)
    }

    /// Returns up to the given number of sessions that this node has a copy of, after an id and
    /// ordered by id.
    pub fn scan(&self, after: Option<RecordId>, limit: usize) -> Scan {
        let Some(tenant) = &self.tenant else {
            return Scan::default();
        };
        let mut page = tenant.replicas().sessions_after(after, limit.saturating_add(1));
        let has_more = page.len() > limit;
        if has_more {
            page.pop_last();
        }
        let last = page.last_key_value().map(|(id, _)| *id).or(after);
        let records = page.into_iter().map(|(id, copy)| {
            let record = Some(Arc::clone(&copy.record));
            Scanned { id, record }
        });
        Scan { records: records.collect(), next: last.filter(|_| has_more) }
    }

    /// Returns this node's usage: sessions, and the bytes that count for its budgets.
    pub fn stats(&self) -> Stats {
        let held = self.tenant.as_ref().map(|tenant| tenant.replicas().totals());
        let held = held.unwrap_or_default();
        let authenticated = held.of(Class::Users).records;
        Stats { records: held.records(), authenticated, bytes: held.bytes() }
    }

    /// Asks the owner of a record; the answer is an effect with the same number, which is never used twice.
    pub fn call(&mut self, now: Now, request: Request, within: Duration) -> u64 {
        let now = self.begin(now);
        self.clock.on_use();
        self.operation.counts.calls.asked += 1;
        let number = self.ask(Asker::Client, request, now.mono.saturating_add(within), now);
        self.finish(now);
        number
    }

    /// Lists the live sessions of a principal; the answer is an effect.
    pub fn list(&mut self, now: Now, principal: Principal, within: Duration) -> u64 {
        let now = self.begin(now);
        let (number, until) = (self.caller.number(), now.mono.saturating_add(within));
        let first = self.procedures.list(number, principal, until);
        self.step.todo.push_back(Todo::Ask(Asker::Procedure(number), first, until));
        self.clock.on_use();
        self.operation.counts.calls.asked += 1;
        self.finish(now);
        number
    }

    /// Ends the sessions of a principal; the answer is an effect.
    pub fn delete_all(
        &mut self,
        now: Now,
        principal: Principal,
        revocation: Revocation,
        within: Duration,
    ) -> u64 {
        let now = self.begin(now);
        let (number, until) = (self.caller.number(), now.mono.saturating_add(within));
        let Revocation { except, epoch, reason } = revocation;
        let first = self.procedures.end(number, principal, (except, epoch, reason), until);
        self.step.todo.push_back(Todo::Ask(Asker::Procedure(number), first, until));
        self.clock.on_use();
        self.operation.counts.calls.asked += 1;
        self.finish(now);
        number
    }

    /// Takes a packet that came over the link to a boot.
    pub fn receive(&mut self, now: Now, link: Boot, packet: Packet) {
        let now = self.begin(now);
        match packet {
            Packet::Cluster(frame) => {
                let effects = self.membership.receive(frame, now.mono);
                self.on_cluster(effects, now);
                self.advance(now);
            }
            Packet::Stream(packet) => {
                let (from, epoch) = (packet.from, packet.epoch);
                let arrival = self.paths.receive(link, packet, now.mono);
                if matches!(arrival, Arrival::Behind | Arrival::Ahead) {
                    let effects = self.membership.on_packet(from, epoch, now.mono);
                    self.on_cluster(effects, now);
                }
            }
        }
        self.finish(now);
    }

    /// Looks at everything that waits for time to pass: to be called every 10 to 25 ms, after all packets
    /// that wait.
    pub fn tick(&mut self, now: Now) {
        let now = self.begin(now);
        let effects = self.membership.tick(now.mono);
        self.on_cluster(effects, now);
        // First: what is given up is not to be among what is sent again.
        self.give_up(now);
        self.paths.tick(now.mono);
        self.tick_tenant(now);
        for number in self.caller.waiting() {
            self.route(number, now);
        }
        self.answer_drain();
        self.tell_open(now);
        self.ask_clocks(now);
        self.finish(now);
    }

    /// Gives up the calls whose time is over. Their frames are not sent again: after a cut, a write
    /// that was reported as not confirmed must not replace a later one (C4).
    fn give_up(&mut self, now: Now) {
        let over = self.caller.give_up(now.mono);
        if over.is_empty() {
            return;
        }
        let numbers: BTreeSet<_> = over.iter().map(|(number, ..)| *number).collect();
        let open = self.caller.lowest_open();
        self.paths.amend(|message| message.retract(&numbers, open));
        for (number, asker, is_write) in over {
            self.operation.counts.calls.unconfirmed += u64::from(is_write);
            self.step.todo.push_back(Todo::Answer(number, asker, Reply::Failed(Failure::Timeout)));
        }
    }

    fn tick_tenant(&mut self, now: Now) {
        let Some(tenant) = &mut self.tenant else {
            return;
        };
        let (told, ready) = tenant.tick(&self.membership, now);
        let (waits, is_filled) = (tenant.waits_for_lease(), tenant.is_filled());
        let hopeless = tenant.hopeless(&self.membership, now);
        self.on_told(told);
        let mut effects = self.membership.set_filled(is_filled, now.mono);
        effects.extend(self.membership.give_up(hopeless, now.mono));
        if self.is_drained() {
            effects.extend(self.membership.set_empty(now.mono));
        }
        if !ready.is_empty() {
            effects.extend(self.membership.make_ready(&ready, now.mono));
        }
        if waits {
            effects.extend(self.membership.want_lease(now.mono));
        }
        self.on_cluster(effects, now);
    }

    /// Says what a drain came to, once it is over.
    fn answer_drain(&mut self) {
        let Some(begun) = self.operation.draining() else {
            return;
        };
        let has_left = self.operation.has_left();
        let (moved, lost) = match has_left || self.is_moved() {
            true => (begun, 0),
            false if self.is_alone() => (0, self.live()),
            false => return,
        };
        self.operation.answer();
        self.step.effects.push(Effect::Drained { moved, lost });
    }

    /// Returns true if others hold everything that this node held, and no longer need it.
    fn is_moved(&self) -> bool {
        self.is_drained() && !self.membership.is_leaving()
    }

    /// Returns true if this node is in no epoch, or drains in one that has no place for its
    /// records.
    fn is_alone(&self) -> bool {
        let Some(epoch) = self.membership.epoch() else {
            return true;
        };
        let has_role = |role| move |member: &Member| member.role == role;
        let drains = epoch.member(self.terms.me).is_none_or(has_role(Role::Draining));
        drains && !epoch.members().iter().any(has_role(Role::Full))
    }

    /// Returns the number of sessions that this node holds.
    fn live(&self) -> u64 {
        self.tenant.as_ref().map_or(0, |tenant| tenant.replicas().totals().records())
    }

    /// Begins a step: in it, the service's time takes the place of this node's wall clock.
    fn begin(&mut self, now: Now) -> Now {
        self.clock.look(now);
        if self.clock.is_doubtful(now.mono) {
            self.ask_clocks(now);
        }
        Now { wall: self.clock.service_time(now, self.terms.rules), ..now }
    }

    /// The service's time, as known by now.
    fn again(&self, now: Now) -> Now {
        let own = Now { wall: self.clock.own(now.mono), ..now };
        Now { wall: self.clock.service_time(own, self.terms.rules), ..now }
    }

    fn ask_clocks(&mut self, now: Now) {
        if self.clock.has_to_ask(now.mono) {
            let wall = self.clock.own(now.mono);
            self.tell_members(&Message::AskClock { asked: now.mono, wall });
        }
    }

    fn tell_members(&mut self, message: &Message) {
        self.others().into_iter().for_each(|boot| self.send(boot, message.clone()));
    }

    /// The other members that are not aside.
    fn others(&self) -> BTreeSet<Boot> {
        let members = self.membership.epoch().map(|epoch| epoch.members()).unwrap_or_default();
        let is_other =
            |member: &&Member| member.boot != self.terms.me && member.role != Role::Aside;
        members.iter().filter(is_other).map(|member| member.boot).collect()
    }

    /// Tells all members, after a rest, that what its calls did need not be remembered any more.
    fn tell_open(&mut self, now: Now) {
        let (Some(open), Some(tenant)) = (self.caller.at_rest(now.mono), &mut self.tenant) else {
            return;
        };
        tenant.on_open(self.terms.me, open);
        self.tell_members(&Message::Open(open));
    }

    /// Returns true if this node was asked to drain, and others hold everything that it held.
    pub fn is_drained(&self) -> bool {
        self.tenant.as_ref().is_some_and(Tenant::is_drained)
    }

    /// The change that it asks for.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.step.effects)
    }

    /// Sends what the step queued.
    fn finish(&mut self, now: Now) {
        self.deliver(now);
        for (to, message) in self.step.frames.take() {
            self.queue(to, message);
        }
        for (link, packet) in self.paths.take_packets(now.mono) {
            self.step.effects.push(Effect::Send(link, Packet::Stream(packet)));
        }
    }

    /// Handles the messages that arrived in order, and what they lead to.
    fn deliver(&mut self, now: Now) {
        self.settle(now);
        while let Some((from, message)) = self.paths.next_message(now.mono) {
            let (epoch, now) = (self.epoch(), self.again(now));
            for message in self.step.frames.open(from, message) {
                if self.epoch() != epoch {
                    break;
                }
                self.handle(from, message, now);
                self.settle(now);
            }
        }
        if !self.step.held.is_empty() && !self.clock.is_doubtful(now.mono) {
            self.release(self.again(now));
        }
    }

    /// Goes on with the calls that waited for the clocks of others.
    fn release(&mut self, now: Now) {
        for held in std::mem::take(&mut self.step.held) {
            match held {
                Held::Own(number) => self.route(number, now),
                Held::Of(from, message) => self.handle(from, message, now),
            }
        }
        self.settle(now);
    }

    /// Does what is left to do, and hands the messages of it over to the streams.
    fn settle(&mut self, now: Now) {
        self.work(now);
        self.make_room(now);
        self.flush();
    }

    /// Ends a few sessions if a budget is exceeded by what was written.
    fn make_room(&mut self, now: Now) {
        if let Some(tenant) = &mut self.tenant {
            let told = tenant.make_room(&self.membership, now);
            self.on_told(told);
            self.work(now);
        }
    }

    fn handle(&mut self, from: Boot, message: Message, now: Now) {
        match message {
            message @ Message::Call { .. } if self.clock.is_doubtful(now.mono) => {
                self.step.held.push(Held::Of(from, message));
            }
            Message::Reply { number, reply } => {
                let effects = self.membership.on_answer(from, now.mono);
                self.on_cluster(effects, now);
                if let Some(asker) = self.caller.on_reply(from, number) {
                    self.step.todo.push_back(Todo::Answer(number, asker, *reply));
                }
            }
            Message::AskClock { asked, wall } => {
                self.clock.on_question(from, wall, now.mono);
                let wall = self.clock.own(now.mono);
                self.send(from, Message::Clock { asked, wall });
            }
            Message::Listen => {
                self.feed.on_listen(from);
                self.send(from, Message::Telling);
            }
            Message::Telling => {
                if self.feed.on_telling(from) {
                    self.step.effects.push(Effect::Changed(Change::Missed));
                }
            }
            Message::Changed(change) => self.step.effects.push(Effect::Changed(change)),
            Message::Clock { asked, wall } => self.clock.on_clock(from, wall, asked, now.mono),
            message => {
                self.clock.on_use();
                if let Message::Withdrawn { slots, .. } = &message {
                    self.membership.on_withdrawn(from, slots);
                }
                let is_read = matches!(message, Message::AskReadLease(_));
                let is_asked = is_read && self.terms.rules.keep(Rule::R3);
                if is_asked || matches!(message, Message::Call { .. }) {
                    let effects = self.membership.want_lease(now.mono);
                    self.on_cluster(effects, now);
                }
                let Some(tenant) = &mut self.tenant else { return };
                let told = tenant.receive(from, message, &self.membership, now);
                self.on_told(told);
            }
        }
    }

    /// Hands an answer to where it is awaited.
    fn answer(&mut self, number: u64, asker: Asker, reply: Reply, now: Now) {
        match asker {
            Asker::Client => {
                let is_degraded =
                    matches!(&reply, Reply::Outcome(Written::Applied(a)) if a.degraded);
                self.operation.counts.calls.degraded += u64::from(is_degraded);
                self.step.effects.push(Effect::Answer(number, reply));
            }
            Asker::Step(record, step) => {
                if let Some(tenant) = &mut self.tenant {
                    let told = tenant.on_step((record, step), reply, &self.membership, now);
                    self.on_told(told);
                }
            }
            Asker::Procedure(procedure) => self.on_procedure(procedure, reply),
            Asker::Fence(id, principal) => {
                let request = match reply {
                    Reply::Described(Some(_)) => ListRequest::Settle(id),
                    Reply::Described(None) => ListRequest::Release(id),
                    _ => return,
                };
                let request = Request::List { principal, request };
                let until = now.mono.saturating_add(BACKGROUND);
                self.step.todo.push_back(Todo::Ask(Asker::Background, request, until));
            }
            Asker::Background => {}
        }
    }

    fn on_procedure(&mut self, number: u64, reply: Reply) {
        let Some(until) = self.procedures.until(number) else {
            return;
        };
        match self.procedures.on_reply(number, reply) {
            Some(Outcome::Ask(requests)) => {
                let ask = |request| Todo::Ask(Asker::Procedure(number), request, until);
                self.step.todo.extend(requests.into_iter().map(ask));
            }
            Some(Outcome::Over(reply)) => self.step.effects.push(Effect::Answer(number, reply)),
            None => {}
        }
    }

    /// Opens a call, and sends it to the owner of its record.
    fn ask(&mut self, asker: Asker, request: Request, until: Duration, now: Now) -> u64 {
        let number = self.caller.open(asker, request, until);
        self.route(number, now);
        number
    }

    fn on_told(&mut self, told: Vec<Told>) {
        self.step.todo.extend(told.into_iter().map(Todo::Told));
    }

    /// Handles the notifications of this step and their consequences.
    fn work(&mut self, now: Now) {
        while let Some(todo) = self.step.todo.pop_front() {
            match todo {
                Todo::Told(told) => self.handle_told(told, now),
                Todo::Answer(number, asker, reply) => self.answer(number, asker, reply, now),
                Todo::Ask(asker, request, until) => drop(self.ask(asker, request, until, now)),
            }
        }
    }

    fn handle_told(&mut self, told: Told, now: Now) {
        match told {
            Told::Answer(CallId { caller, number }, reply) if caller == self.terms.me => {
                if let Some(asker) = self.caller.on_reply(self.terms.me, number) {
                    self.answer(number, asker, reply, now);
                }
            }
            Told::Answer(CallId { caller, number }, reply) => {
                self.send(caller, Message::Reply { number, reply: Box::new(reply) });
            }
            Told::Step(awaited, request) => {
                let asker = match (awaited, &request) {
                    (Some((record, step)), _) => Asker::Step(record, step),
                    (None, Request::Describe { id, principal }) => {
                        Asker::Fence(*id, principal.clone())
                    }
                    (None, _) => Asker::Background,
                };
                self.ask(asker, request, now.mono.saturating_add(BACKGROUND), now);
            }
            Told::News(news) => self.tell_of(&news),
            Told::TookOver(records) => {
                self.operation.counts.records.taken_over += records as u64;
            }
            Told::Merged => self.operation.counts.records.merged += 1,
        }
    }

    fn tell_of(&mut self, news: &News) {
        self.count(news);
        let Some(change) = change(news) else {
            return;
        };
        for listener in self.feed.others().collect::<Vec<_>>() {
            self.send(listener, Message::Changed(change));
        }
        if self.feed.listens() {
            self.step.effects.push(Effect::Changed(change));
        }
    }

    /// Counts sessions that no call ended.
    fn count(&mut self, news: &News) {
        let before = news.before.as_ref().and_then(Kept::record);
        let (Some(before), Kept::Ended(end)) = (before, &news.after) else {
            return;
        };
        match end.reason {
            EndReason::Expired => self.step.effects.push(Effect::Expired(news.id)),
            EndReason::Evicted => {
                self.operation.counts.records.evicted[Class::of(before) as usize] += 1;
                self.step.effects.push(Effect::Evicted(news.id));
            }
            _ => {}
        }
    }

    /// Hands the tenant's messages over to the streams.
    fn flush(&mut self) {
        let messages = self.tenant.as_mut().map(Tenant::take_messages).unwrap_or_default();
        messages.into_iter().for_each(|(to, message)| self.send(to, message));
    }

    fn send(&mut self, to: Boot, message: Message) {
        for message in self.step.frames.add(to, message) {
            self.queue(to, message);
        }
    }

    fn queue(&mut self, to: Boot, message: Message) {
        if let Some(epoch) = self.epoch() {
            let size = message.size();
            self.paths.send(to, epoch, message, size);
        }
    }

    fn epoch(&self) -> Option<EpochId> {
        self.membership.epoch().map(|epoch| epoch.id())
    }

    /// Asks the owner of a call's record, unless this node can answer.
    fn route(&mut self, number: u64, now: Now) {
        if self.clock.is_doubtful(now.mono) {
            self.step.held.push(Held::Own(number));
            return;
        }
        let (Some(tenant), Some(request)) = (&mut self.tenant, self.caller.request(number)) else {
            return;
        };
        let id = request.record(tenant.replicas().key());
        let slot = tenant.replicas().slot_of(id);
        let Some(owner) = tenant.view().owner(slot).filter(|_| !tenant.is_handing_over(slot))
        else {
            return;
        };
        if owner != self.terms.me
            && let Some(reply) = tenant.read(request, &self.membership, now)
        {
            let asker = self.caller.close(number);
            self.step.todo.extend(asker.map(|asker| Todo::Answer(number, asker, reply)));
            return;
        }
        let is_client = self.caller.is_of_client(number);
        let lacks_lease =
            matches!(request, Request::Load { .. }) && tenant.lacks_lease(slot, now.mono);
        let Some(Due { number, request, within }) = self.caller.ask(number, owner, now.mono) else {
            return;
        };
        let is_forwarded = is_client && owner != self.terms.me;
        let counts = &mut self.operation.counts.calls;
        counts.forwarded += u64::from(is_forwarded);
        counts.lease_misses += u64::from(is_forwarded && lacks_lease);
        let open = self.caller.lowest_open();
        if owner == self.terms.me {
            tenant.on_open(self.terms.me, open);
            let call = CallId { caller: self.terms.me, number };
            let until = now.mono.saturating_add(within);
            let told = tenant.ask(Asked { call, id, request, until }, &self.membership, now);
            self.on_told(told);
            let effects = self.membership.want_lease(now.mono);
            self.on_cluster(effects, now);
        } else {
            self.membership.on_awaited(owner, now.mono);
            self.send(owner, Message::Call { number, open, within, request });
        }
    }

    fn on_cluster(&mut self, effects: Vec<membership::Effect>, now: Now) {
        for effect in effects {
            match effect {
                membership::Effect::Send(to, frame) => {
                    self.step.effects.push(Effect::Send(to, Packet::Cluster(frame)));
                }
                membership::Effect::Learned(epoch) => self.on_epoch(&epoch, now),
                membership::Effect::Ended(End::Left) => {
                    self.operation.leave();
                    let effect = membership::Effect::Ended(End::Left);
                    self.step.effects.push(Effect::Cluster(effect));
                    self.answer_drain();
                }
                effect => self.step.effects.push(Effect::Cluster(effect)),
            }
        }
    }

    /// Another epoch: everything that is open begins again in it.
    fn on_epoch(&mut self, epoch: &Arc<Epoch>, now: Now) {
        self.paths.on_epoch(epoch);
        self.step.frames.on_epoch();
        let given_up = |slot: &Slot| epoch.given_up_in(*slot) == Some(epoch.id().number);
        self.operation.counts.records.given_up += Slot::all().filter(given_up).count() as u64;
        self.clock
            .on_epoch(|boot| epoch.member(boot).is_some_and(|member| member.role != Role::Aside));
        if self.feed.on_epoch(self.others()) {
            self.step.effects.push(Effect::Changed(Change::Down));
        }
        let Terms { me, limits, budgets, rules, keeps_endings } = self.terms;
        let view = || View::new(me, Arc::clone(epoch));
        let is_same_service = |tenant: &Tenant| tenant.view().epoch.key() == epoch.key();
        let tenant = self.tenant.take().filter(is_same_service);
        let mut tenant = tenant.unwrap_or_else(|| Tenant::new(view(), (limits, budgets), rules));
        if keeps_endings {
            tenant.keep_endings();
        }
        let told = tenant.on_epoch(view(), &self.membership, now);
        self.tenant = Some(tenant);
        self.on_told(told);
        if self.feed.listens() {
            self.begin_to_listen();
        }
        for number in self.caller.ask_again() {
            self.route(number, now);
        }
        self.settle(now);
    }

    /// Asks all members to tell of changes. A member that is alone hears itself.
    fn begin_to_listen(&mut self) {
        if self.feed.hears_all() && self.tenant.is_some() {
            self.step.effects.push(Effect::Changed(Change::Missed));
        }
        self.tell_members(&Message::Listen);
    }

    /// A lease may have begun.
    fn advance(&mut self, now: Now) {
        if let Some(tenant) = &mut self.tenant {
            let told = tenant.advance(&self.membership, now);
            self.on_told(told);
        }
    }
}

impl Standing for Membership {
    fn serves(&self, slot: Slot, now: Duration) -> bool {
        Self::serves(self, slot, now)
    }

    fn is_clear(&self, slot: Slot, now: Duration) -> bool {
        Self::is_clear(self, slot, now)
    }

    fn suspects(&self, boot: Boot) -> bool {
        Self::suspects(self, boot)
    }

    fn is_lost(&self, boot: Boot, now: Duration) -> bool {
        Self::is_lost(self, boot, now)
    }

    fn lease_left(&self, now: Duration) -> Duration {
        Self::lease_left(self, now)
    }
}

/// The time limit of requests to owners of other records for which no client waits.
const BACKGROUND: Duration = Duration::from_secs(10);

/// Returns the changes that listeners hear of for a write.
fn change(news: &News) -> Option<Change> {
    let News { id, before, after } = news;
    let before = before.as_ref().and_then(Kept::record);
    match after {
        Kept::List(_) => None,
        Kept::Ended(tombstone) => before.map(|_| Change::Ended(*id, tombstone.reason)),
        Kept::Live(copy) => {
            let (version, sign_in) = (copy.record.version, copy.record.sign_in);
            match before {
                Some(before) if before.version == version => None,
                Some(before) if before.sign_in != sign_in => Some(Change::SignedIn(*id, version)),
                _ => Some(Change::Patched(*id, version)),
            }
        }
    }
}
