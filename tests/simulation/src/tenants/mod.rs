//! The records of several members, with a model in place of their agreement.
//!
//! The members' records are the code that applications run. The code below them is modelled: an
//! epoch is chosen in one step, and knows each slot that a lease named; a lease is granted unless a
//! later epoch was chosen; a message arrives in its epoch, in order, or never. So take-overs follow
//! each other as fast as messages arrive, and situations that are rare in a whole service occur
//! many times a second here.

mod field;
mod standing;

pub mod plots;
pub mod storm;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{Limits, RecordId};
use steadfast_replication::budget::Budgets;
use steadfast_replication::call::{self, CallId};
use steadfast_replication::caller::{Asker, Caller, Due};
use steadfast_replication::context::{Now, View};
use steadfast_replication::epoch::{Change, Epoch, Lineage};
use steadfast_replication::member::{Boot, Member, Role};
use steadfast_replication::message::Message;
use steadfast_replication::owner::{Asked, Told};
use steadfast_replication::rules::Rules;
use steadfast_replication::settings::Settings;
use steadfast_replication::slots::{HashKey, SlotSet};
use steadfast_replication::tenant::Tenant;

use self::standing::Standing;
use crate::history::clients::Service;
use crate::node;
use crate::process::Request;
use crate::world::{Answer, Clock};

/// Several members.
#[derive(Debug)]
pub struct Tenants {
    time: Duration,
    nodes: Vec<Node>,
    /// The epochs that were chosen.
    epochs: Vec<Arc<Epoch>>,
    /// The slots that a lease of the last epoch named.
    served: SlotSet,
    /// The messages in transit, with the numbers of their epochs.
    links: BTreeMap<(Boot, Boot), VecDeque<(u64, Message)>>,
    calls: Calls,
    rules: Rules,
}

/// A machine, and the process on it.
#[derive(Debug)]
struct Node {
    boot: Boot,
    starts: u8,
    process: Option<Process>,
}

/// A member's records, and its calls.
#[derive(Debug)]
struct Process {
    tenant: Tenant,
    standing: Standing,
    caller: Caller,
}

/// Calls of clients.
#[derive(Debug, Default)]
struct Calls {
    last: u64,
    open: BTreeMap<(Boot, u64), u64>,
    answers: Vec<Answer>,
}

impl Tenants {
    /// The first epoch of a service of full members.
    pub fn new(nodes: usize, settings: Settings, rules: Rules) -> Self {
        let full = |n| Member { role: Role::Full, votes: true, ..member(n, boot(n, 0)) };
        let members = (0..nodes).map(full).collect();
        let epoch = Epoch::of(Lineage::new([1; 16]), HashKey::new([7; 16]), settings, members);
        let node = |n| Node { boot: boot(n, 0), starts: 1, process: None };
        let mut this = Self {
            time: Duration::from_secs(1_000),
            nodes: (0..nodes).map(node).collect(),
            epochs: vec![Arc::new(epoch)],
            served: SlotSet::new(),
            links: BTreeMap::new(),
            calls: Calls::default(),
            rules,
        };
        (0..nodes).for_each(|at| this.learn(at, 0));
        this
    }

    /// The epoch that was chosen last.
    pub fn epoch(&self) -> &Arc<Epoch> {
        self.epochs.last().expect("there is a first one")
    }

    /// Lets time pass.
    pub fn pass(&mut self, span: Duration) {
        self.time += span;
    }

    /// Has the next epoch chosen, if these changes apply.
    pub fn choose(&mut self, changes: &[Change]) -> bool {
        let Ok(next) = self.epoch().successor(changes, &self.served, self.rules) else {
            return false;
        };
        if !next.members().iter().any(|member| member.role == Role::Full) {
            return false;
        }
        self.epochs.push(Arc::new(next));
        self.served = SlotSet::new();
        true
    }

    /// Whether a process runs on a machine.
    pub fn is_up(&self, at: usize) -> bool {
        self.nodes[at].process.is_some()
    }

    /// The role of a machine's process in the last epoch.
    pub fn role(&self, at: usize) -> Option<Role> {
        self.epoch().member(self.nodes[at].boot).map(|member| member.role)
    }

    /// The boot of a machine's process, or of the last one.
    pub fn boot(&self, at: usize) -> Boot {
        self.nodes[at].boot
    }

    /// A member, as it asks to join.
    pub fn joining(&self, at: usize) -> Member {
        member(at, self.nodes[at].boot)
    }

    /// Whether a process has to learn of the last epoch.
    pub fn is_behind(&self, at: usize) -> bool {
        let known = self.nodes[at].process.as_ref().map(|process| process.tenant.view().number());
        let is_member = self.role(at).is_some();
        is_member && known.is_none_or(|known| known < self.epoch().id().number)
    }

    /// Ends a process. Messages that it sent may still arrive.
    pub fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.process = None;
        let lost = self.calls.open.keys().filter(|(boot, _)| *boot == node.boot).copied();
        for key in lost.collect::<Vec<_>>() {
            let ticket = self.calls.open.remove(&key).expect("it was just there");
            self.calls.answers.push(Answer { ticket, at: self.time, reply: None });
        }
        // Another boot.
        node.boot = boot(at, node.starts);
        node.starts += 1;
    }

    /// A process learns of an epoch, unless it knows a later one; a new one begins with it.
    pub fn learn(&mut self, at: usize, number: usize) {
        let (me, now) = (self.nodes[at].boot, self.now());
        let epoch = Arc::clone(&self.epochs[number]);
        if epoch.member(me).is_none() {
            return;
        }
        let view = || View::new(me, Arc::clone(&epoch));
        let rules = self.rules;
        let process = self.nodes[at].process.get_or_insert_with(|| Process {
            tenant: Tenant::new(view(), (Limits::default(), Budgets::default()), rules),
            standing: Standing::new(me, Arc::clone(&epoch), now.mono),
            caller: Caller::default(),
        });
        process.standing.enter(Arc::clone(&epoch), now.mono);
        let told = process.tenant.on_epoch(view(), &process.standing, now);
        let again = process.caller.ask_again();
        self.work(at, told);
        again.into_iter().for_each(|number| self.route(at, number));
    }

    /// Learns the last epoch.
    pub fn learn_last(&mut self, at: usize) {
        self.learn(at, self.epochs.len() - 1);
    }

    /// The links with something under way.
    pub fn busy_links(&self) -> Vec<(usize, usize)> {
        let index = |boot: &Boot| self.nodes.iter().position(|node| node.boot == *boot);
        let busy = self.links.iter().filter(|(_, queue)| !queue.is_empty());
        busy.filter_map(|((from, to), _)| Some((index(from)?, index(to)?))).collect()
    }

    /// How many messages of a link are under way.
    pub fn under_way(&self, from: usize, to: usize) -> usize {
        let ends = (self.nodes[from].boot, self.nodes[to].boot);
        self.links.get(&ends).map_or(0, VecDeque::len)
    }

    /// The next message of a link arrives. A receiver that is behind learns the epoch first; one that is ahead
    /// refuses the message.
    pub fn deliver(&mut self, from: usize, to: usize) {
        let ends = (self.nodes[from].boot, self.nodes[to].boot);
        let Some((number, message)) = self.links.get_mut(&ends).and_then(VecDeque::pop_front)
        else {
            return;
        };
        let known =
            |node: &Node| node.process.as_ref().map(|process| process.tenant.view().number());
        if known(&self.nodes[to]).is_none_or(|known| known < number) {
            let is_it = |epoch: &Arc<Epoch>| epoch.id().number == number;
            let at = self.epochs.iter().position(is_it).expect("it was chosen");
            self.learn(to, at);
        }
        if known(&self.nodes[to]) == Some(number) {
            self.receive(to, ends.0, message);
        }
    }

    fn receive(&mut self, at: usize, from: Boot, message: Message) {
        let now = self.now();
        let Some(process) = &mut self.nodes[at].process else { return };
        let is_asked = matches!(message, Message::Call { .. } | Message::AskReadLease(_));
        match message {
            Message::Reply { number, reply } => {
                if let Some(asker) = process.caller.on_reply(from, number) {
                    self.answer(at, number, &asker, *reply);
                }
            }
            message => {
                if let Message::Withdrawn { slots, .. } = &message {
                    process.standing.on_withdrawn(from, slots);
                }
                if is_asked {
                    self.ask_lease(at, true);
                }
                let Some(process) = &mut self.nodes[at].process else { return };
                let told = process.tenant.receive(from, message, &process.standing, now);
                self.work(at, told);
            }
        }
    }

    /// A process looks at what waits for time to pass.
    pub fn tick(&mut self, at: usize, is_granted: bool) {
        let now = self.now();
        let Some(process) = &mut self.nodes[at].process else { return };
        let over = process.caller.give_up(now.mono);
        let (told, ready) = process.tenant.tick(&process.standing, now);
        process.standing.make_ready(&ready);
        let waits = process.tenant.waits_for_lease() || !ready.is_empty();
        let (waiting, open) = (process.caller.waiting(), process.caller.at_rest(now.mono));
        self.work(at, told);
        for (number, ..) in over {
            self.answered(at, number, call::Reply::Failed(call::Failure::Timeout));
        }
        waiting.into_iter().for_each(|number| self.route(at, number));
        if let Some(open) = open {
            self.tell_open(at, open);
        }
        if waits {
            self.ask_lease(at, is_granted);
        }
    }

    fn tell_open(&mut self, at: usize, open: u64) {
        let me = self.nodes[at].boot;
        let Some(process) = &mut self.nodes[at].process else { return };
        process.tenant.on_open(me, open);
        let epoch = Arc::clone(&process.tenant.view().epoch);
        for member in epoch.members().iter().filter(|member| member.boot != me) {
            self.send(at, member.boot, Message::Open(open));
        }
    }

    /// The voters note what a process asks a lease for, and grant it, unless they chose a later epoch. The answer may
    /// be lost.
    fn ask_lease(&mut self, at: usize, is_granted: bool) {
        let (now, last) = (self.now(), self.epoch().id().number);
        let Some(process) = &mut self.nodes[at].process else { return };
        let is_last = process.tenant.view().number() == last;
        if !is_last || !process.standing.wants_lease(now.mono) {
            return;
        }
        self.served.insert_all(process.standing.ready());
        if is_granted {
            process.standing.take_lease(now.mono);
            let told = process.tenant.advance(&process.standing, now);
            self.work(at, told);
        }
    }

    /// The slots that are to be given up, with the members that did not answer.
    pub fn hopeless(&mut self, at: usize) -> BTreeMap<BTreeSet<Boot>, SlotSet> {
        let now = self.now();
        let process = self.nodes[at].process.as_mut();
        process.map(|process| process.tenant.hopeless(&process.standing, now)).unwrap_or_default()
    }

    /// A process suspects another one, or none.
    pub fn suspect(&mut self, at: usize, suspected: Option<Boot>) {
        if let Some(process) = &mut self.nodes[at].process {
            process.standing.suspect(suspected);
        }
    }

    /// A member's records.
    pub fn tenant(&self, at: usize) -> Option<&Tenant> {
        self.nodes[at].process.as_ref().map(|process| &process.tenant)
    }

    fn route(&mut self, at: usize, number: u64) {
        let (now, me) = (self.now(), self.nodes[at].boot);
        let Some(Process { tenant, standing, caller }) = &mut self.nodes[at].process else {
            return;
        };
        let Some(request) = caller.request(number) else { return };
        let slot = tenant.replicas().slot_of(request.record(tenant.replicas().key()));
        let owner = tenant.view().owner(slot).filter(|_| !tenant.is_handing_over(slot));
        let Some(owner) = owner else { return };
        if owner != me
            && let Some(reply) = tenant.read(request, standing, now)
        {
            let asker = caller.close(number);
            self.work(at, Vec::new());
            return asker.into_iter().for_each(|asker| {
                self.answer(at, number, &asker, reply.clone());
            });
        }
        let due = caller.ask(number, owner, now.mono);
        let Some(Due { number, request, within }) = due else {
            return self.work(at, Vec::new());
        };
        let open = caller.lowest_open();
        if owner != me {
            self.work(at, Vec::new());
            return self.send(at, owner, Message::Call { number, open, within, request });
        }
        tenant.on_open(me, open);
        let id = request.record(tenant.replicas().key());
        let until = now.mono.saturating_add(within);
        let asked = Asked { call: CallId { caller: me, number }, id, request, until };
        let told = tenant.ask(asked, standing, now);
        self.work(at, told);
        self.ask_lease(at, true);
    }

    /// Sends what a step queued, and handles what it told.
    fn work(&mut self, at: usize, told: Vec<Told>) {
        let me = self.nodes[at].boot;
        let messages =
            self.nodes[at].process.as_mut().map(|process| process.tenant.take_messages());
        messages.into_iter().flatten().for_each(|(to, message)| self.send(at, to, message));
        for told in told {
            match told {
                Told::Answer(CallId { caller, number }, reply) if caller == me => {
                    let process = self.nodes[at].process.as_mut();
                    let asker = process.and_then(|process| process.caller.on_reply(me, number));
                    if let Some(asker) = asker {
                        self.answer(at, number, &asker, reply);
                    }
                }
                Told::Answer(CallId { caller, number }, reply) => {
                    self.send(at, caller, Message::Reply { number, reply: Box::new(reply) });
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, at: usize, to: Boot, message: Message) {
        let node = &self.nodes[at];
        if let Some(process) = &node.process {
            let number = process.tenant.view().number();
            self.links.entry((node.boot, to)).or_default().push_back((number, message));
        }
    }

    fn answer(&mut self, at: usize, number: u64, asker: &Asker, reply: call::Reply) {
        if matches!(asker, Asker::Client) {
            self.answered(at, number, reply);
        }
    }

    fn answered(&mut self, at: usize, number: u64, reply: call::Reply) {
        if let Some(ticket) = self.calls.open.remove(&(self.nodes[at].boot, number)) {
            let reply = Some(node::answer(reply));
            self.calls.answers.push(Answer { ticket, at: self.time, reply });
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.time, wall: Clock::BEGINNING + self.time }
    }
}

impl Service for Tenants {
    fn time(&self) -> Duration {
        self.time
    }

    fn machines(&self) -> usize {
        self.nodes.len()
    }

    fn watch(&mut self, _: RecordId) {}

    fn takes_calls(&self, at: usize) -> bool {
        self.is_up(at)
    }

    /// A process whose messages are late is asked for longer.
    fn stood_still(&self, _: usize, _: Duration) -> bool {
        false
    }

    fn call(&mut self, at: usize, request: Request, within: Duration) -> Option<u64> {
        let until = self.time + within;
        let process = self.nodes[at].process.as_mut()?;
        let request = node::request(request).expect("no list is asked for");
        let number = process.caller.open(Asker::Client, request, until);
        self.calls.last += 1;
        let ticket = self.calls.last;
        self.calls.open.insert((self.nodes[at].boot, number), ticket);
        self.route(at, number);
        Some(ticket)
    }

    fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.calls.answers)
    }
}

fn member(n: usize, boot: Boot) -> Member {
    let name = format!("n{n}").parse().expect("a short name");
    Member::joining(name, boot, format!("10.0.0.{n}:7000"), None)
}

fn boot(n: usize, starts: u8) -> Boot {
    let mut bytes = [n as u8 + 1; 16];
    bytes[15] = starts;
    Boot::new(bytes)
}
