//! A member's records: what it holds, what it owns, and what it sends the other members about them.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use steadfast_core::{Ending, Limits, RecordId};

use crate::budget::{Budgets, Class};
use crate::call::{CallId, Reply, Request};
use crate::cluster::Timing;
use crate::context::{Context, Now, View};
use crate::endings::Claims;
use crate::epoch::{Epoch, EpochId, PartitionPolicy};
use crate::eviction::{Evictable, Eviction};
use crate::figures::{Copies, Slots};
use crate::handoff::{Crossing, Handoff};
use crate::holder;
use crate::member::{Boot, Member, Role};
use crate::message::Message;
use crate::outbox::Outbox;
use crate::owner::{Asked, Owner, Surroundings, Told};
use crate::ownership::{Ownership, Progress};
use crate::reader;
use crate::readers::Readers;
use crate::record::Held;
use crate::replicas::Replicas;
use crate::rules::{Rule, Rules};
use crate::slots::{SLOTS, Slot, SlotSet};
use crate::sync::{self, Sync};

/// A member's knowledge of the cluster beyond its epoch.
pub trait Standing {
    /// Returns true if this node may answer for a slot at this moment.
    fn serves(&self, slot: Slot, now: Duration) -> bool;
    /// Returns true if no other node can still serve a slot.
    fn is_clear(&self, slot: Slot, now: Duration) -> bool;
    /// Returns true if this node does not reach a boot.
    fn suspects(&self, boot: Boot) -> bool;
    /// Returns true if a member was aside for so long, and not heard in this time, that nothing is expected of
    /// it.
    fn is_lost(&self, boot: Boot, now: Duration) -> bool;
    /// Returns the remaining time of this node's lease.
    fn lease_left(&self, now: Duration) -> Duration;
}

/// The records of a member of an epoch.
// Ten fields: each but the last is a component of its own.
#[derive(Debug)]
pub struct Tenant {
    view: View,
    replicas: Replicas,
    ownership: Ownership,
    sync: Sync,
    owner: Owner,
    readers: Readers,
    handoff: Handoff,
    out: Outbox,
    upkeep: Upkeep,
    terms: Terms,
}

/// The settings of a member.
#[derive(Debug)]
struct Terms {
    limits: Limits,
    rules: Rules,
    /// True once the application wants reports of sessions that end without a request.
    keeps_endings: bool,
    /// The first epoch that listed this node.
    born: EpochId,
}

/// The work that is spread over many ticks.
#[derive(Debug)]
struct Upkeep {
    /// The slot that is swept next.
    swept: usize,
    /// Sessions whose deadline is over, to be ended once their slots are served.
    due: BTreeSet<RecordId>,
    eviction: Eviction,
    claims: Claims,
}

/// The components' view of each other and of the cluster.
struct World<'w> {
    standing: &'w dyn Standing,
    sync: &'w Sync,
    readers: &'w Readers,
    now: Duration,
}

impl Surroundings for World<'_> {
    fn serves(&self, slot: Slot) -> bool {
        self.standing.serves(slot, self.now)
    }

    fn is_equal(&self, holder: Boot, slot: Slot) -> bool {
        self.sync.is_equal(holder, slot)
    }

    fn suspects(&self, boot: Boot) -> bool {
        self.standing.suspects(boot)
    }

    fn readers(&self, slot: Slot) -> Vec<(Boot, Duration)> {
        self.readers.readers_of(slot, self.now)
    }
}

impl Evictable for (&Owner, &World<'_>) {
    fn serves(&self, slot: Slot) -> bool {
        Surroundings::serves(self.1, slot)
    }

    fn is_busy(&self, id: RecordId) -> bool {
        self.0.is_busy(id)
    }
}

impl Progress for World<'_> {
    fn is_complete(&self, holder: Boot, slot: Slot) -> bool {
        self.sync.is_complete(holder, slot)
    }

    fn is_clear(&self, slot: Slot) -> bool {
        self.standing.is_clear(slot, self.now)
    }
}

/// The components of a tenant, each to be used beside the others.
struct Parts<'p> {
    cx: Context<'p>,
    world: World<'p>,
    owner: &'p mut Owner,
    ownership: &'p mut Ownership,
    eviction: &'p mut Eviction,
}

impl Tenant {
    /// A member that holds nothing.
    pub fn new(view: View, (limits, budgets): (Limits, Budgets), rules: Rules) -> Self {
        Self {
            replicas: Replicas::new(*view.epoch.key()),
            ownership: Ownership::default(),
            sync: Sync::default(),
            owner: Owner::default(),
            readers: Readers::default(),
            handoff: Handoff::default(),
            out: Outbox::default(),
            upkeep: Upkeep {
                swept: 0,
                due: BTreeSet::new(),
                eviction: Eviction::new(budgets, view.me),
                claims: Claims::default(),
            },
            terms: Terms { limits, rules, keeps_endings: false, born: view.epoch.id() },
            view,
        }
    }

    /// The epoch as this node looks at it.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Returns the records that this node holds.
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    #[cfg(test)]
    pub(crate) fn replicas_mut(&mut self) -> &mut Replicas {
        &mut self.replicas
    }

    /// Returns the state of its slots.
    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Its part in the slots.
    pub fn slots(&self) -> Slots {
        let (taking_over, settled) = self.ownership.waiting();
        let is_here = |slot: &Slot| self.replicas.complete_in(*slot) == Some(self.view.number());
        let is_followed = |slot: &Slot| self.view.follows(*slot) && !self.view.owns(*slot);
        let followed: Vec<_> = Slot::all().filter(is_followed).collect();
        let complete = followed.iter().filter(|slot| is_here(slot)).count();
        Slots {
            served: self.ownership.ready().len(),
            waiting: taking_over + settled,
            complete,
            filling: followed.len() - complete,
            given_up: Slot::all().filter(|slot| self.view.epoch.is_given_up(*slot)).count(),
        }
    }

    /// Returns true if it holds a slot of another owner without a lease to read it.
    pub fn lacks_lease(&self, slot: Slot, now: Duration) -> bool {
        let is_holder = self.view.holders(slot).contains(&self.view.me);
        let may_read = |owner| self.readers.may_read(owner, slot, now);
        is_holder && !self.view.owner(slot).is_some_and(may_read)
    }

    /// Lets the sessions end whose deadline is over; says how many there are.
    pub fn collect(&mut self, now: Now) -> usize {
        let own = Slot::all().filter(|slot| self.view.owns(*slot));
        let due: Vec<_> = own.flat_map(|slot| self.replicas.due(slot, now.wall)).collect();
        let count = due.len();
        self.upkeep.due.extend(due);
        count
    }

    /// Keeps sessions that end without a request until they are reported, from now on.
    pub fn keep_endings(&mut self) {
        self.terms.keeps_endings = true;
    }

    /// Hands out ends that are to be reported: of slots that are this node's, and of which everything is here.
    pub fn claim_endings(&mut self, limit: usize, now: Now) -> Vec<Ending> {
        let endings = self.ownership.ready().iter().flat_map(|slot| self.replicas.endings(slot));
        self.upkeep.claims.claim(limit, endings, now.wall)
    }

    /// Returns the number of records that it holds.
    pub fn copies(&self) -> Copies {
        let mut copies = Copies::default();
        for slot in Slot::all() {
            let of = if self.view.owns(slot) { &mut copies.owned } else { &mut copies.backups };
            *of += self.replicas.len(slot);
        }
        copies
    }

    /// Returns the number of copies of own records that other holders may lack, and the number of
    /// their slots.
    pub fn lacking(&self) -> (usize, usize) {
        let (mut copies, mut slots) = (0, 0);
        for slot in Slot::all().filter(|slot| self.view.owns(*slot)) {
            let others = self.view.followers(slot);
            let lacking = others.iter().filter(|boot| !self.sync.is_complete(**boot, slot)).count();
            copies += lacking * self.replicas.len(slot);
            slots += lacking;
        }
        (copies, slots)
    }

    /// Returns true if its own slots are served and complete at all of their holders, and the
    /// others complete here.
    pub fn is_settled(&self) -> bool {
        self.ownership.waiting() == (0, 0) && self.is_filled() && self.lacking().1 == 0
    }

    /// Returns the number of calls and writes under way here.
    pub fn under_way(&self) -> usize {
        self.owner.len()
    }

    /// The messages to send, in order.
    pub fn take_messages(&mut self) -> Vec<(Boot, Message)> {
        self.out.take()
    }

    /// Enters an epoch: every slot begins again.
    pub fn on_epoch(&mut self, view: View, standing: &dyn Standing, now: Now) -> Vec<Told> {
        let before = std::mem::replace(&mut self.view, view);
        let before = self.cross(&before.epoch);
        self.drop_given_up(before);
        self.out.clear();
        self.handoff.on_epoch();
        self.sync = Sync::default();
        self.readers.on_epoch();
        self.withdraw(now.mono);
        let Parts { mut cx, owner, ownership, .. } = self.parts(standing, now);
        owner.on_epoch(&cx);
        let settled = ownership.on_epoch(&mut cx);
        self.settled(&settled, standing, now)
    }

    /// Sets apart what the side that this node leaves wrote by itself; the number of the last epoch before this
    /// one in which it was among those that it joins (D1).
    fn cross(&mut self, before: &Epoch) -> u64 {
        let after = &self.view.epoch;
        let crossing = Crossing::of(before, after, self.view.me, self.terms.born);
        if let Crossing::With(since) = crossing
            && self.terms.rules.keep(Rule::D1)
        {
            self.handoff.pack(&self.replicas, since, after);
        }
        match crossing {
            Crossing::With(since) | Crossing::Without(since)
                if before.id().lineage != after.id().lineage =>
            {
                self.replicas.part(since);
                since
            }
            _ => before.id().number,
        }
    }

    /// Drops what this node has of slots that were given up while it was away: an end may have missed it (G3).
    fn drop_given_up(&mut self, before: u64) {
        let number = self.view.number();
        for slot in Slot::all() {
            let given_up = self.view.epoch.given_up_in(slot);
            let was_away = given_up.is_some_and(|epoch| before < epoch && epoch < number);
            let is_old = self.replicas.complete_in(slot) < given_up;
            if was_away && is_old && self.terms.rules.keep(Rule::G3) {
                self.replicas.clear(slot);
            }
        }
    }

    /// Says that it is out of the slots that it served last, to those that own them now, and which nodes may
    /// still read them.
    fn withdraw(&mut self, now: Duration) {
        let left = |(boot, until): (Boot, Duration)| (boot, until.saturating_sub(now));
        for member in self.view.epoch.members() {
            let is_theirs = |slot: &Slot| {
                self.view.owner(*slot) == Some(member.boot)
                    && self.view.epoch.last_served(*slot).owner(*slot) == Some(self.view.me)
            };
            let slots: SlotSet = Slot::all().filter(is_theirs).collect();
            if member.boot != self.view.me && !slots.is_empty() {
                let readers = self.readers.readers_of_any(&slots, now);
                let readers = readers.into_iter().map(left).collect();
                self.out.send(member.boot, Message::Withdrawn { slots, readers });
            }
        }
    }

    /// Everything of these slots is here: what was tentative is written again, and the other holders are
    /// compared.
    fn settled(&mut self, slots: &[Slot], standing: &dyn Standing, now: Now) -> Vec<Told> {
        let is_new =
            |slot: &&Slot| self.view.epoch.last_served(**slot).owner(**slot) != Some(self.view.me);
        let taken_over = slots.iter().filter(is_new).map(|slot| self.replicas.len(*slot)).sum();
        let mut told = vec![Told::TookOver(taken_over)];
        let Parts { mut cx, world, owner, .. } = self.parts(standing, now);
        for slot in slots {
            told.extend(owner.commit_again(*slot, &world, &mut cx));
        }
        for slot in slots {
            for follower in self.view.followers(*slot) {
                self.sync.begin(follower, &SlotSet::from_iter([*slot]));
            }
        }
        let sends = self.sync.go_on(&self.replicas);
        self.out.send_all(sends);
        told
    }

    /// Notes the lowest number of a call of a boot that is still open.
    pub fn on_open(&mut self, caller: Boot, number: u64) {
        self.owner.on_open(caller, number);
    }

    /// Takes a call for a record that this node owns.
    pub fn ask(&mut self, asked: Asked, standing: &dyn Standing, now: Now) -> Vec<Told> {
        if !self.view.owns(self.replicas.slot_of(asked.id)) {
            return Vec::new();
        }
        let Parts { mut cx, world, owner, .. } = self.parts(standing, now);
        owner.ask(asked, &world, &mut cx)
    }

    /// Takes the answer to a step that this node asked the owner of another record.
    pub fn on_step(
        &mut self,
        step: (RecordId, u64),
        reply: Reply,
        standing: &dyn Standing,
        now: Now,
    ) -> Vec<Told> {
        let Parts { mut cx, world, owner, .. } = self.parts(standing, now);
        owner.on_step(step, reply, &world, &mut cx)
    }

    /// Answers a read from this node's own copy, if that may be.
    pub fn read(&mut self, request: &Request, standing: &dyn Standing, now: Now) -> Option<Reply> {
        let Request::Load { id, proof, seen } = request else {
            return None;
        };
        let slot = self.replicas.slot_of(*id);
        let owner =
            self.view.owner(slot).filter(|_| self.view.holders(slot).contains(&self.view.me))?;
        if self.readers.has_to_ask(owner, now.mono) {
            self.out.send(owner, Message::AskReadLease(now.mono));
        }
        let Parts { cx, world, .. } = self.parts(standing, now);
        reader::read(*id, (proof.as_ref(), *seen), world.readers, &cx)
    }

    /// Handles a message of a member in this epoch.
    pub fn receive(
        &mut self,
        from: Boot,
        message: Message,
        standing: &dyn Standing,
        now: Now,
    ) -> Vec<Told> {
        match message {
            Message::Call { number, open, within, request } => {
                self.owner.on_open(from, open);
                let id = request.record(self.replicas.key());
                let call = CallId { caller: from, number };
                let until = now.mono.saturating_add(within);
                self.ask(Asked { call, id, request, until }, standing, now)
            }
            Message::Open(number) => {
                self.owner.on_open(from, number);
                Vec::new()
            }
            Message::Acknowledge { id, revision } => {
                let Parts { mut cx, world, owner, .. } = self.parts(standing, now);
                owner.on_acknowledge(from, id, revision, &world, &mut cx)
            }
            Message::Lacks { id, revision } => {
                let Parts { mut cx, owner, .. } = self.parts(standing, now);
                owner.on_lacks(from, id, revision, &mut cx);
                Vec::new()
            }
            Message::Inspected(_)
            | Message::Page { .. }
            | Message::Records { .. }
            | Message::Names { .. } => self.on_material(from, message, standing, now),
            Message::Compared { .. } | Message::Noted(_) | Message::Want { .. } => {
                self.on_progress(from, message);
                Vec::new()
            }
            Message::Merge { slot, records, is_last } if self.view.owns(slot) => {
                self.merge(from, slot, (records, is_last), standing, now)
            }
            Message::AskNames(lists) => {
                self.ownership.on_ask_names(from, lists);
                Vec::new()
            }
            Message::Merged(slot) if self.view.owner(slot) == Some(from) => {
                self.handoff.on_merged(slot);
                Vec::new()
            }
            message => {
                self.on_order(from, message, standing, now);
                Vec::new()
            }
        }
    }

    /// Takes what a member brings from its side of a split.
    fn merge(
        &mut self,
        from: Boot,
        slot: Slot,
        (records, is_last): (Vec<(RecordId, Held)>, bool),
        standing: &dyn Standing,
        now: Now,
    ) -> Vec<Told> {
        if is_last {
            self.handoff.take(from, slot);
        }
        let Parts { mut cx, world, owner, .. } = self.parts(standing, now);
        let records = records.into_iter().filter(|(id, _)| cx.slot_of(*id) == slot).collect();
        owner.take_apart(records, &world, &mut cx)
    }

    /// Hands over what this node has from its side of a split, to itself, too, and tells others what of theirs
    /// is merged.
    fn hand_over(&mut self, standing: &dyn Standing, now: Now) -> Vec<Told> {
        let mut told = Vec::new();
        for (owner, message) in self.handoff.go_on(&self.view) {
            match message {
                Message::Merge { slot, records, is_last } if owner == self.view.me => {
                    told.extend(self.merge(owner, slot, (records, is_last), standing, now));
                }
                message => self.out.send(owner, message),
            }
        }
        let Self { handoff, owner, replicas, .. } = self;
        for (from, slot) in handoff.merged(|slot| owner.is_merging(slot, replicas)) {
            match from == self.view.me {
                true => self.handoff.on_merged(slot),
                false => self.out.send(from, Message::Merged(slot)),
            }
        }
        told
    }

    /// Returns true if calls of this node for a slot have to wait: its owner lacks records that
    /// this node knows.
    pub fn is_handing_over(&self, slot: Slot) -> bool {
        self.handoff.waits(slot)
    }

    /// Handles what holders of a slot have of it, and what its owner has.
    fn on_material(
        &mut self,
        from: Boot,
        message: Message,
        standing: &dyn Standing,
        now: Now,
    ) -> Vec<Told> {
        let Parts { mut cx, ownership, .. } = self.parts(standing, now);
        let settled = match message {
            Message::Inspected(parts) => ownership.on_inspected(from, parts, &mut cx),
            Message::Names { slots, lists, is_last } => {
                ownership.on_names(from, &slots, (lists, is_last), &mut cx)
            }
            Message::Page { slot, page } if cx.view.owns(slot) => {
                ownership.on_page(from, slot, &page, &mut cx)
            }
            Message::Records { slot, records, is_last } if cx.view.owns(slot) => {
                ownership.on_records(from, slot, (records, is_last), &mut cx)
            }
            Message::Page { slot, page } if cx.view.owner(slot) == Some(from) => {
                let want = sync::on_page(slot, &page, &mut cx);
                cx.out.send(from, want);
                Vec::new()
            }
            Message::Records { slot, records, .. } if cx.view.owner(slot) == Some(from) => {
                sync::on_records(records, &mut cx);
                Vec::new()
            }
            _ => Vec::new(),
        };
        self.settled(&settled, standing, now)
    }

    /// Handles how far a holder is.
    fn on_progress(&mut self, from: Boot, message: Message) {
        match message {
            Message::Compared { equal, differing } => {
                let told = self.sync.on_compared(from, &equal, &differing);
                self.out.send_all(told.map(|message| (from, message)));
            }
            Message::Noted(slots) => self.sync.on_noted(from, &slots),
            Message::Want { slot, ids, next } => {
                let messages = self.sync.on_want(from, slot, (&ids, next), &self.replicas);
                self.out.send_all(messages.into_iter().map(|message| (from, message)));
            }
            _ => {}
        }
        let sends = self.sync.go_on(&self.replicas);
        self.out.send_all(sends);
    }

    /// Tells the other members which slots they need not keep.
    fn free(&mut self, standing: &dyn Standing, now: Now) {
        let serves = |slot| standing.serves(slot, now.mono);
        let is_complete = |boot, slot| self.sync.is_complete(boot, slot);
        let free = self.ownership.take_free(serves, is_complete, &self.view);
        for member in self.view.epoch.members().iter().filter(|_| !free.is_empty()) {
            let is_other = |slot: &Slot| !self.view.followers(*slot).contains(&member.boot);
            let slots: SlotSet = free.iter().filter(is_other).collect();
            if member.boot != self.view.me && !slots.is_empty() {
                self.out.send(member.boot, Message::Free(slots));
            }
        }
    }

    /// Handles what the owner of a slot wants of a holder.
    fn on_order(&mut self, from: Boot, message: Message, standing: &dyn Standing, now: Now) {
        let Parts { mut cx, .. } = self.parts(standing, now);
        let view = cx.view;
        let owns = |slot: Slot| view.owner(slot) == Some(from);
        match message {
            Message::Replicate { id, revision, write, done } if owns(cx.slot_of(id)) => {
                holder::on_replicate(from, (id, revision), *write, done, &mut cx);
            }
            Message::Confirm(writes) => {
                let writes: Vec<_> =
                    writes.into_iter().filter(|(id, _)| owns(cx.slot_of(*id))).collect();
                holder::on_confirm(&writes, &mut cx);
            }
            Message::Inspect(slots) => {
                let slots = slots.iter().filter(|slot| owns(*slot)).collect();
                holder::inspect(from, &slots, &mut cx);
            }
            Message::Pull { slot, since, after } if owns(slot) => {
                let page = cx.replicas.page(slot, after, since, sync::LISTING);
                cx.out.send(from, Message::Page { slot, page });
            }
            Message::Fetch { slot, ids } if owns(slot) => {
                let records = sync::records(slot, &ids, cx.replicas);
                cx.out.send_all(records.into_iter().map(|message| (from, message)));
            }
            Message::Compare(slots) => {
                let slots: Vec<_> = slots.into_iter().filter(|(slot, _)| owns(*slot)).collect();
                cx.out.send(from, sync::compare(&slots, cx.replicas));
            }
            Message::Complete(slots) => {
                let slots = slots.iter().filter(|slot| owns(*slot)).collect();
                holder::on_complete(from, slots, &mut cx);
            }
            Message::Forget(records) => {
                let records = records.into_iter().filter(|(id, _)| owns(cx.slot_of(*id)));
                let records: Vec<_> = records.collect();
                holder::on_forget(&records, &mut cx);
            }
            Message::Free(slots) => {
                let is_free = |slot: &Slot| owns(*slot) && !view.follows(*slot);
                let slots: Vec<_> = slots.iter().filter(is_free).collect();
                slots.into_iter().for_each(|slot| cx.replicas.clear(slot));
            }
            message => self.on_lease(from, message, standing, now),
        }
    }

    /// Handles read leases.
    fn on_lease(&mut self, from: Boot, message: Message, standing: &dyn Standing, now: Now) {
        match message {
            Message::AskReadLease(asked) => {
                let left = standing.lease_left(now.mono);
                let length =
                    if self.terms.rules.keep(Rule::R1) { left } else { Timing::DEFAULT.lease };
                let may_read = |slot: &Slot| {
                    self.view.owns(*slot)
                        && self.sync.is_complete(from, *slot)
                        && standing.serves(*slot, now.mono)
                };
                let slots: SlotSet = Slot::all().filter(may_read).collect();
                if !slots.is_empty() {
                    self.readers.grant(from, slots.clone(), length, now.mono);
                    self.out.send(from, Message::ReadLease { slots, asked, length });
                }
            }
            Message::ReadLease { slots, asked, length } => {
                self.readers.on_lease(from, asked, length, slots);
            }
            Message::Withdrawn { slots, readers } => {
                let others = readers.into_iter().filter(|(boot, _)| *boot != self.view.me);
                others.for_each(|(boot, left)| {
                    self.readers.grant(boot, slots.clone(), left, now.mono);
                });
            }
            _ => {}
        }
    }

    /// Looks at everything that waits for time to pass; the slots for which a lease can be asked now.
    pub fn tick(&mut self, standing: &dyn Standing, now: Now) -> (Vec<Told>, SlotSet) {
        let Swept { due, unsettled } = self.sweep(now);
        self.upkeep.due.extend(due);
        let due = self.take_due(standing, now);
        let Parts { mut cx, world, owner, ownership, .. } = self.parts(standing, now);
        let mut told = owner.tick(&world, &mut cx);
        told.extend(owner.expire(due, &world, &mut cx));
        if cx.rules.keep(Rule::Q1) {
            told.extend(owner.fence(&unsettled, &cx));
        }
        let mut settled = ownership.lose(|boot| standing.is_lost(boot, now.mono), &mut cx);
        settled.extend(ownership.name(&mut cx));
        let ready = ownership.make_ready(&world, &cx);
        told.extend(self.settled(&settled, standing, now));
        told.extend(self.hand_over(standing, now));
        self.upkeep.eviction.tick();
        told.extend(self.evict(EVICTED_IN_TICK, standing, now));
        self.free(standing, now);
        let sends = self.sync.go_on(&self.replicas);
        self.out.send_all(sends);
        self.out.tick(now.mono);
        (told, ready)
    }

    /// Ends a few sessions if something grew, and there is too much now: no flood outruns it.
    pub fn make_room(&mut self, standing: &dyn Standing, now: Now) -> Vec<Told> {
        match self.replicas.take_has_grown() {
            true => self.evict(EVICTED_AT_ONCE, standing, now),
            false => Vec::new(),
        }
    }

    fn evict(&mut self, most: usize, standing: &dyn Standing, now: Now) -> Vec<Told> {
        let Parts { mut cx, world, owner, eviction, .. } = self.parts(standing, now);
        let mut told = Vec::new();
        for class in Class::ALL {
            for _ in 0..most {
                let parts = (cx.view, &*cx.replicas);
                let state = (&*owner, &world);
                let Some(id) = eviction.choose(class, parts, &state, cx.rules) else { break };
                told.extend(owner.evict(id, &world, &mut cx));
            }
        }
        told
    }

    /// Some of the sessions that are due in slots that are served now. Forgets the records that
    /// this node does not own.
    fn take_due(&mut self, standing: &dyn Standing, now: Now) -> Vec<RecordId> {
        let Self { view, replicas, upkeep, .. } = self;
        upkeep.due.retain(|id| view.owns(replicas.slot_of(*id)));
        let is_served = |id: &&RecordId| standing.serves(replicas.slot_of(**id), now.mono);
        let due: Vec<_> = upkeep.due.iter().filter(is_served).take(ENDED).copied().collect();
        upkeep.due.retain(|id| !due.contains(id));
        due
    }

    /// The slots to be given up: what was acknowledged in them will not be found any more.
    pub fn hopeless(
        &mut self,
        standing: &dyn Standing,
        now: Now,
    ) -> BTreeMap<BTreeSet<Boot>, SlotSet> {
        let Parts { cx, ownership, .. } = self.parts(standing, now);
        ownership.hopeless(&cx)
    }

    /// Goes on with calls, since this node's lease may have begun.
    pub fn advance(&mut self, standing: &dyn Standing, now: Now) -> Vec<Told> {
        self.free(standing, now);
        let Parts { mut cx, world, owner, .. } = self.parts(standing, now);
        owner.advance_all(&world, &mut cx)
    }

    /// Returns true if calls or ends of sessions wait for a lease.
    pub fn waits_for_lease(&self) -> bool {
        let Upkeep { due, eviction, .. } = &self.upkeep;
        !self.owner.is_empty() || !due.is_empty() || eviction.waits_for_lease()
    }

    /// Returns true if this node drains, and no longer holds anything.
    pub fn is_drained(&self) -> bool {
        let me = self.view.epoch.member(self.view.me);
        me.is_some_and(|me| me.role == Role::Draining)
            && self.handoff.is_over()
            && Slot::all().all(|slot| self.replicas.is_empty(slot))
    }

    /// Returns true if this node knows that it has everything it is going to hold, and all that it
    /// brought is merged.
    pub fn is_filled(&self) -> bool {
        let is_here = |slot: Slot| self.replicas.complete_in(slot) == Some(self.view.number());
        self.handoff.is_over() && self.view.followed().iter().all(is_here)
    }

    /// Looks through the next slots.
    fn sweep(&mut self, now: Now) -> Swept {
        let slots: Vec<_> = {
            let first = self.upkeep.swept;
            (first..first + SWEPT).map(Slot::at).collect()
        };
        self.upkeep.swept = (self.upkeep.swept + SWEPT) % SLOTS;
        let mut swept = Swept::default();
        for slot in slots {
            let (owner, epoch) = (&self.owner, &self.view.epoch);
            self.replicas.forget_calls(slot, |call| owner.is_open(call, epoch));
            if self.view.owns(slot) {
                swept.due.extend(self.replicas.due(slot, now.wall));
                swept.unsettled.extend(self.replicas.unsettled_lists(slot));
                self.forget(slot, now);
            }
        }
        swept
    }

    /// Forgets the ends of sessions that were remembered long enough, and lists of which nothing is left,
    /// where every holder has them and there is another one than this node (X2).
    fn forget(&mut self, slot: Slot, now: Now) {
        let followers = self.view.followers(slot);
        let is_alone = self.view.epoch.members().len() == 1;
        let are_complete = followers.iter().all(|boot| self.sync.is_complete(*boot, slot));
        let is_safe =
            are_complete && (is_alone || !followers.is_empty()) && !self.is_anyone_apart();
        if !is_safe && self.terms.rules.keep(Rule::X2) {
            return;
        }
        let over = self.replicas.over(slot, now.wall);
        let over: Vec<_> = over.into_iter().filter(|(id, _)| !self.owner.is_busy(*id)).collect();
        if over.is_empty() {
            return;
        }
        for follower in followers {
            self.out.send(follower, Message::Forget(over.clone()));
        }
        over.iter().for_each(|(id, _)| self.replicas.remove(*id));
    }

    /// Returns true if a member may come back with sessions that it continued by itself.
    fn is_anyone_apart(&self) -> bool {
        let is_aside = |member: &Member| member.role == Role::Aside;
        self.view.epoch.policy() == PartitionPolicy::Degrade
            && self.view.epoch.members().iter().any(is_aside)
    }

    fn parts<'p>(&'p mut self, standing: &'p dyn Standing, now: Now) -> Parts<'p> {
        let Self { view, replicas, ownership, sync, owner, readers, out, upkeep, terms, .. } = self;
        let eviction = &mut upkeep.eviction;
        let Terms { limits, rules, keeps_endings, .. } = terms;
        let (rules, keeps_endings) = (*rules, *keeps_endings);
        let cx = Context { now, view, replicas, out, limits, rules, keeps_endings };
        let world = World { standing, sync, readers, now: now.mono };
        Parts { cx, world, owner, ownership, eviction }
    }
}

/// The results of searching some slots.
#[derive(Default)]
struct Swept {
    /// Sessions whose deadline is over.
    due: Vec<RecordId>,
    /// Lists that do not know of each of their sessions whether it is the principal's.
    unsettled: Vec<RecordId>,
}

/// The highest number of sessions that end in a tick because their deadline has passed.
const ENDED: usize = 256;

/// The highest number of sessions of a class that end whenever a record grew: more than can arrive.
const EVICTED_AT_ONCE: usize = 2;

/// The highest number of sessions of a class that end in a tick: 1,300 per second.
const EVICTED_IN_TICK: usize = 32;

/// The number of slots that are swept in a tick.
const SWEPT: usize = 16;
