//! Calls at the owner of their record: one write after the other, each confirmed before the next.
//!
//! A call stays first in the queue of its record while its write is under way. Once that is confirmed, the
//! record itself says what the call did, which is the answer: to the first asking, to a repetition, and
//! after a take-over by another owner alike.

mod commit;
mod decide;
mod list;
mod steps;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use steadfast_core::{LoginPolicy, Outcome, Principal, Record, RecordId};

use self::commit::Commit;
pub use self::commit::News;
use self::decide::{Beside, Decision};
use self::steps::{Next, Steps};
use crate::call::{CallId, Done, ListRequest, Reply, Request};
use crate::context::Context;
use crate::epoch::Epoch;
use crate::member::Boot;
use crate::record::{Entry, Held, Kept, List, ListEntry, Revision};
use crate::replicas::Replicas;
use crate::rules::Rule;
use crate::slots::Slot;

/// The calls and writes of the records that this node owns.
#[derive(Debug, Default)]
pub struct Owner {
    tasks: BTreeMap<RecordId, Task>,
    /// The lowest numbers of calls that are still open, by caller.
    open: BTreeMap<Boot, u64>,
    last_step: u64,
}

/// The work under way with a record.
#[derive(Debug, Default)]
struct Task {
    queue: VecDeque<Asked>,
    stage: Option<Stage>,
    /// The sessions that ended for the first call, once the list of its principal admitted that.
    admitted: Option<Vec<RecordId>>,
    /// Copies that went apart, until they are merged: before the first call.
    apart: Vec<Entry>,
}

/// The event that the first call of a record waits for.
#[derive(Debug)]
enum Stage {
    Commit(Commit),
    Steps(Steps),
}

/// A call at the owner of its record.
#[derive(Debug)]
pub struct Asked {
    /// The call.
    pub call: CallId,
    /// The record.
    pub id: RecordId,
    /// The request.
    pub request: Request,
    /// The time when its caller gives up, by this node's clock.
    pub until: Duration,
}

impl Asked {
    /// The call by which the record remembers what this one did: where a session ends for a login, the login.
    fn remembered(&self) -> CallId {
        match &self.request {
            Request::End { login: Some(login), .. } => *login,
            _ => self.call,
        }
    }
}

/// An effect of a step.
#[derive(Debug)]
pub enum Told {
    /// The answer to a call.
    Answer(CallId, Reply),
    /// A write was confirmed.
    News(News),
    /// This number of records moved here from another owner.
    TookOver(usize),
    /// Copies of a record that went apart are being merged.
    Merged,
    /// The owner of another record has to be asked; its answer is awaited under a number, or not at all.
    Step(Option<(RecordId, u64)>, Request),
}

/// An owner's view of the world beyond its records.
pub trait Surroundings {
    /// Returns true if this node may answer for a slot at this moment (L3).
    fn serves(&self, slot: Slot) -> bool;
    /// Returns true if a holder has this node's state of a slot, so that it only needs a patch
    /// (W1).
    fn is_equal(&self, holder: Boot, slot: Slot) -> bool;
    /// Returns true if this node does not reach a boot.
    fn suspects(&self, boot: Boot) -> bool;
    /// Returns the nodes that may answer reads of a slot from their copies, and until when.
    fn readers(&self, slot: Slot) -> Vec<(Boot, Duration)>;
}

impl Owner {
    /// Returns the number of calls and writes under way.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Returns true if there is none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Notes the lowest number of a call of a boot that is still open.
    pub fn on_open(&mut self, caller: Boot, number: u64) {
        let open = self.open.entry(caller).or_default();
        *open = number.max(*open);
    }

    /// Returns true if a call may be repeated, so that its outcome has to be remembered.
    pub fn is_open(&self, call: CallId, epoch: &Epoch) -> bool {
        let lowest = self.open.get(&call.caller).copied().unwrap_or_default();
        call.number >= lowest && epoch.member(call.caller).is_some()
    }

    /// Returns true if a call or a write of a record is under way.
    pub fn is_busy(&self, id: RecordId) -> bool {
        self.tasks.contains_key(&id)
    }

    /// Another epoch: callers ask again, and tentative writes are found in the copies.
    pub fn on_epoch(&mut self, cx: &Context<'_>) {
        self.tasks.clear();
        self.open.retain(|boot, _| cx.view.epoch.member(*boot).is_some());
    }
}

/// An event for a record.
impl Owner {
    /// Takes a call; one that is here already joins it.
    pub fn ask(
        &mut self,
        asked: Asked,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        let id = asked.id;
        let task = self.tasks.entry(id).or_default();
        if task.queue.iter().any(|other| other.call == asked.call) {
            return Vec::new();
        }
        if let Some(reply) = task.answer_beside(&asked, world, cx) {
            self.tidy(id);
            return vec![Told::Answer(asked.call, reply)];
        }
        if task.is_overtaken_by(&asked.request) {
            task.stage = None;
            task.admitted = None;
            task.queue.push_front(asked);
        } else {
            task.queue.push_back(asked);
        }
        self.advance(id, world, cx)
    }

    /// A holder has a write.
    pub fn on_acknowledge(
        &mut self,
        from: Boot,
        id: RecordId,
        revision: Revision,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        if let Some(commit) = self.commit_mut(id) {
            commit.on_acknowledge(from, revision);
        }
        self.settle(id, world, cx)
    }

    /// A holder lacks what a write changes: it gets the record whole.
    pub fn on_lacks(&self, from: Boot, id: RecordId, revision: Revision, cx: &mut Context<'_>) {
        if let Some(entry) = cx.replicas.tentative(id).filter(|entry| entry.revision == revision) {
            let message = commit::whole(id, entry, cx.rules);
            cx.out.send(from, message);
        }
    }

    /// The owner of another record answered a step.
    pub fn on_step(
        &mut self,
        (id, step): (RecordId, u64),
        reply: Reply,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        let last = &mut self.last_step;
        let number = || {
            *last += 1;
            *last
        };
        let Some(task) = self.tasks.get_mut(&id) else {
            return Vec::new();
        };
        let call = task.queue.front().map(|asked| asked.call);
        let Some(Stage::Steps(steps)) = &mut task.stage else {
            return Vec::new();
        };
        let mut told = Vec::new();
        match steps.on_reply(call, step, reply, number) {
            Next::Wait => return told,
            Next::Ask(steps, asks) => {
                task.stage = Some(Stage::Steps(steps));
                let ask = |(step, request)| Told::Step(Some((id, step)), request);
                return asks.into_iter().map(ask).collect();
            }
            Next::Admitted { ended, gone } => {
                task.admitted = ended;
                told.extend(
                    gone.into_iter()
                        .map(|(id, principal)| list_step(None, principal, ListRequest::Remove(id))),
                );
            }
            Next::Removed => {}
            Next::Later => {
                let until = cx.now.mono.saturating_add(PAUSE);
                task.stage = Some(Stage::Steps(Steps::Pause(until)));
                return told;
            }
            Next::Answer(reply) => {
                let asked = task.queue.pop_front();
                told.extend(asked.map(|asked| Told::Answer(asked.call, reply)));
            }
        }
        task.stage = None;
        told.extend(self.advance(id, world, cx));
        told
    }

    /// Goes on with all records whose slots can be served now.
    pub fn advance_all(&mut self, world: &impl Surroundings, cx: &mut Context<'_>) -> Vec<Told> {
        let ids: Vec<_> = self.tasks.keys().copied().collect();
        ids.into_iter().flat_map(|id| self.advance(id, world, cx)).collect()
    }

    /// Looks again at writes that wait: for readers whose time is over, or holders that are suspected now.
    pub fn tick(&mut self, world: &impl Surroundings, cx: &mut Context<'_>) -> Vec<Told> {
        let is_committing = |task: &Task| matches!(task.stage, Some(Stage::Commit(_)));
        let tasks = self.tasks.iter().filter(|(_, task)| is_committing(task));
        let ids: Vec<_> = tasks.map(|(id, _)| *id).collect();
        let mut told: Vec<_> = ids.into_iter().flat_map(|id| self.settle(id, world, cx)).collect();
        self.tasks.values_mut().for_each(|task| task.give_up_steps(cx.now.mono));
        told.extend(self.advance_all(world, cx));
        told
    }

    /// Writes again what was tentative when this node took a slot over (T7).
    pub fn commit_again(
        &mut self,
        slot: Slot,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        let mut told = Vec::new();
        for id in cx.replicas.tentatives(slot) {
            let Some(entry) = cx.replicas.tentative(id).cloned() else { continue };
            if cx.rules.keep(Rule::T7) {
                let commit = Commit::again(id, entry, world, cx);
                self.begin(id, commit);
                told.extend(self.settle(id, world, cx));
            } else {
                cx.replicas.confirm(id, entry.revision);
            }
        }
        told
    }

    /// Takes copies that went apart (D1).
    pub fn take_apart(
        &mut self,
        records: Vec<(RecordId, Held)>,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        let mut told = Vec::new();
        for (id, held) in records {
            self.tasks.entry(id).or_default().apart.extend(held.confirmed);
            told.extend(self.advance(id, world, cx));
        }
        told
    }

    /// Returns true if diverged copies of a slot are still to be merged.
    pub fn is_merging(&self, slot: Slot, replicas: &Replicas) -> bool {
        let mut apart = self.tasks.iter().filter(|(_, task)| !task.apart.is_empty());
        apart.any(|(id, _)| replicas.slot_of(*id) == slot)
    }

    /// Asks after the sessions of these lists that were not settled in time: the owner that
    /// reserved the entry may have ended (Q1).
    pub fn fence(&self, lists: &[RecordId], cx: &Context<'_>) -> Vec<Told> {
        let list = |id: &RecordId| cx.replicas.confirmed(*id)?.kept.list();
        let late = |list: &List| {
            let is_late = |entry: &ListEntry| entry.authenticated + SETTLED < cx.now.wall;
            let late = list.open().filter(|(_, entry)| is_late(entry)).map(|(id, _)| id);
            let principal = list.principal.clone();
            late.take(FENCED).map(move |id| (id, principal.clone())).collect::<Vec<_>>()
        };
        let late = lists.iter().filter_map(list).flat_map(late);
        let describe = |(id, principal)| Told::Step(None, Request::Describe { id, principal });
        late.map(describe).collect()
    }

    /// Ends sessions whose deadline is over.
    pub fn expire(
        &mut self,
        ids: impl IntoIterator<Item = RecordId>,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        let mut told = Vec::new();
        for id in ids {
            let is_free = !self.tasks.contains_key(&id) && world.serves(cx.slot_of(id));
            if let Some(write) = decide::expiry(id, cx).filter(|_| is_free) {
                let commit = Commit::of(id, write, None, self, world, cx);
                self.begin(id, commit);
                told.extend(self.settle(id, world, cx));
            }
        }
        told
    }
}

/// The sessions that end early.
impl Owner {
    /// Ends a session for a budget; if its deadline is over, for that.
    pub fn evict(
        &mut self,
        id: RecordId,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        if !cx.rules.keep(Rule::B1) {
            cx.replicas.remove(id);
            return Vec::new();
        }
        let Some(write) = decide::expiry(id, cx).or_else(|| decide::eviction(id, cx)) else {
            return Vec::new();
        };
        let commit = Commit::of(id, write, None, self, world, cx);
        self.begin(id, commit);
        self.settle(id, world, cx)
    }
}

/// The next step of a record.
impl Owner {
    /// Answers what can be answered of a record, and begins its next write.
    fn advance(
        &mut self,
        id: RecordId,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        let mut told = self.merge(id, world, cx);
        while let Some((call, decision)) = self.next(id, world, cx) {
            match decision {
                Decision::GivenUp => self.pop(id),
                Decision::Answer(reply) => {
                    self.pop(id);
                    told.push(Told::Answer(call, noting_copies(reply, id, world, cx)));
                }
                Decision::Admit(request) => told.push(self.ask_admission(id, *request)),
                Decision::Write(write) => {
                    let first = self.tasks.get(&id).and_then(|task| task.queue.front());
                    let call = first.map(Asked::remembered);
                    let commit = Commit::of(id, *write, call, self, world, cx);
                    self.begin(id, commit);
                    told.extend(self.confirm(id, world, cx));
                }
            }
        }
        self.tidy(id);
        told
    }

    /// Merges the copies of a record that went apart, one after the other. Each is dropped once it adds nothing
    /// to what is confirmed.
    fn merge(
        &mut self,
        id: RecordId,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(task) = self.tasks.get_mut(&id).filter(|task| task.may_merge())
            && let Some(other) = task.apart.first()
            && world.serves(cx.slot_of(id))
        {
            match decide::merge(id, other, cx) {
                Some(write) => {
                    let is_known = cx.replicas.confirmed(id).is_some();
                    told.extend(is_known.then_some(Told::Merged));
                    let commit = Commit::of(id, write, None, self, world, cx);
                    self.begin(id, commit);
                    told.extend(self.confirm(id, world, cx));
                }
                None => drop(task.apart.remove(0)),
            }
        }
        told
    }

    /// Returns the decision on the first call of a record, unless the call has to wait.
    fn next(
        &self,
        id: RecordId,
        world: &impl Surroundings,
        cx: &Context<'_>,
    ) -> Option<(CallId, Decision)> {
        let task = self.tasks.get(&id).filter(|task| task.stage.is_none())?;
        let asked = task.queue.front()?;
        let is_read = matches!(asked.request, Request::Load { .. });
        let is_served = world.serves(cx.slot_of(id)) || is_read && !cx.rules.keep(Rule::R2);
        if asked.until <= cx.now.mono {
            return Some((asked.call, Decision::GivenUp));
        }
        let lowest = self.open.get(&asked.call.caller).copied().unwrap_or_default();
        let beside = Beside { lowest, admitted: task.admitted.as_deref(), queue: &task.queue };
        is_served.then(|| (asked.call, decide::decide(asked, &beside, cx)))
    }

    fn pop(&mut self, id: RecordId) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.admitted = None;
            task.queue.pop_front();
        }
    }

    fn begin(&mut self, id: RecordId, commit: Commit) {
        self.tasks.entry(id).or_default().stage = Some(Stage::Commit(commit));
    }

    /// Asks the list of its principal to admit the session of the first call.
    fn ask_admission(&mut self, id: RecordId, request: Request) -> Told {
        self.last_step += 1;
        if let Request::List { principal, .. } = &request {
            let steps = Steps::Admit(self.last_step, principal.clone());
            self.tasks.entry(id).or_default().stage = Some(Stage::Steps(steps));
        }
        Told::Step(Some((id, self.last_step)), request)
    }

    /// Confirms the write of a record, if it can be; then goes on with it.
    fn settle(
        &mut self,
        id: RecordId,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        let mut told = self.confirm(id, world, cx);
        if !told.is_empty() {
            told.extend(self.advance(id, world, cx));
        }
        told
    }

    fn confirm(
        &mut self,
        id: RecordId,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        if self.commit_mut(id).is_none_or(|commit| !commit.is_done(world, cx)) {
            return Vec::new();
        }
        let Some(task) = self.tasks.get_mut(&id) else {
            return Vec::new();
        };
        let Some(Stage::Commit(commit)) = task.stage.take() else {
            return Vec::new();
        };
        let news = commit.confirm(cx);
        let Some(news) = news else {
            return Vec::new();
        };
        let mut told = self.tell_lists(id, &news, cx);
        told.insert(0, Told::News(news));
        told
    }

    /// Tells the lists of principals that a session of theirs began, or ended. The answer to the call that ended
    /// it waits until the list knows.
    fn tell_lists(&mut self, id: RecordId, news: &News, cx: &Context<'_>) -> Vec<Told> {
        let owner_of = |kept: &Kept| kept.record().and_then(|record| record.principal.clone());
        let (before, after) = (news.before.as_ref().and_then(owner_of), owner_of(&news.after));
        if before == after {
            return Vec::new();
        }
        let remove = |principal| {
            let awaited = self.await_list(id, news, cx);
            list_step(awaited, principal, ListRequest::Remove(id))
        };
        let removed = before.map(remove);
        let is_apart = self.tasks.get(&id).is_some_and(|task| !task.apart.is_empty());
        let reserved = news.after.record().filter(|_| is_apart).and_then(|r| reserve(id, r));
        let settle = |principal| list_step(None, principal, ListRequest::Settle(id));
        removed.into_iter().chain(reserved).chain(after.map(settle)).collect()
    }

    /// Lets the call that ended a session wait for the list; under which number, if there is such a call.
    fn await_list(
        &mut self,
        id: RecordId,
        news: &News,
        cx: &Context<'_>,
    ) -> Option<(RecordId, u64)> {
        let task = self.tasks.get_mut(&id).filter(|_| news.after.is_ended())?;
        let done = cx.replicas.confirmed(id).map(|entry| entry.done.as_slice()).unwrap_or_default();
        let is_done = |asked: &Asked| done.iter().any(|done| done.call == asked.remembered());
        task.queue.front().filter(|asked| is_done(asked))?;
        self.last_step += 1;
        task.stage = Some(Stage::Steps(Steps::Remove(self.last_step)));
        Some((id, self.last_step))
    }

    fn commit_mut(&mut self, id: RecordId) -> Option<&mut Commit> {
        match &mut self.tasks.get_mut(&id)?.stage {
            Some(Stage::Commit(commit)) => Some(commit),
            _ => None,
        }
    }

    fn tidy(&mut self, id: RecordId) {
        let is_idle =
            |task: &Task| task.queue.is_empty() && task.stage.is_none() && task.apart.is_empty();
        if self.tasks.get(&id).is_some_and(is_idle) {
            self.tasks.remove(&id);
        }
    }

    /// Returns the calls that a record still has to remember: those that may be repeated.
    fn remembered(&self, entry: &Entry, cx: &Context<'_>) -> Vec<Done> {
        let is_open = |done: &&Done| self.is_open(done.call, &cx.view.epoch);
        entry.done.iter().filter(is_open).cloned().collect()
    }
}

/// Says with what was written whether fewer members than configured hold it.
fn noting_copies(
    mut reply: Reply,
    id: RecordId,
    world: &impl Surroundings,
    cx: &Context<'_>,
) -> Reply {
    if let Reply::Outcome(Outcome::Applied(applied)) = &mut reply {
        let wanted = cx.view.epoch.wanted_copies();
        let holders = cx.view.holders(cx.slot_of(id)).iter();
        let there = holders.filter(|boot| !world.suspects(**boot)).count();
        applied.degraded = wanted > 1 && there < wanted;
    }
    reply
}

/// The time after which a login repeats its request for admission, while others are being admitted.
const PAUSE: Duration = Duration::from_millis(20);

/// The time that an entry of a list may take to be settled.
const SETTLED: Duration = Duration::from_secs(1);

/// The number of sessions of a list that are checked at a time.
const FENCED: usize = 16;

fn list_step(awaited: Option<(RecordId, u64)>, principal: Principal, request: ListRequest) -> Told {
    Told::Step(awaited, Request::List { principal, request })
}

/// Puts a session on its principal's list regardless of the cap: it was admitted elsewhere.
fn reserve(id: RecordId, record: &Record) -> Option<Told> {
    let request = ListRequest::Admit {
        id,
        authenticated: record.authenticated.unwrap_or(record.created),
        until: record.absolute_deadline,
        policy: LoginPolicy { epoch: Some(u64::MAX), ..LoginPolicy::capped(usize::MAX) },
    };
    Some(list_step(None, record.principal.clone()?, request))
}

impl Task {
    /// Returns true if a diverged copy can be merged: no write and no step is under way.
    fn may_merge(&self) -> bool {
        self.stage.is_none()
    }

    /// Ends a pause that is over, and abandons the steps of a call that its caller abandoned.
    fn give_up_steps(&mut self, now: Duration) {
        let is_given_up = self.queue.front().is_some_and(|asked| asked.until <= now);
        let is_over = match &self.stage {
            Some(Stage::Steps(Steps::Pause(until))) => *until <= now || is_given_up,
            Some(Stage::Steps(_)) => is_given_up,
            _ => false,
        };
        if is_over {
            self.stage = None;
        }
    }

    /// Returns true if a list checks or ends a session that itself waits for a list: the session is
    /// not the principal's yet, so the list goes first, or two logins would wait for each other.
    /// The session asks for admission again.
    fn is_overtaken_by(&self, request: &Request) -> bool {
        let waits = matches!(
            &self.stage,
            Some(Stage::Steps(Steps::Admit(..) | Steps::End(_) | Steps::Look(_) | Steps::Pause(_)))
        );
        waits && matches!(request, Request::End { .. })
    }

    /// Handles calls that need not wait for those before them.
    fn answer_beside(
        &self,
        asked: &Asked,
        world: &impl Surroundings,
        cx: &Context<'_>,
    ) -> Option<Reply> {
        match &asked.request {
            Request::Load { .. } => self.load_beside(asked, world, cx),
            Request::Describe { .. } => self.describe_beside(asked, world, cx),
            _ => None,
        }
    }

    /// A session that is the principal's, and waits for another list, is described as it is: two logins that look
    /// at each other's sessions would wait for each other. One that may be about to become the principal's is
    /// described once it has.
    fn describe_beside(
        &self,
        asked: &Asked,
        world: &impl Surroundings,
        cx: &Context<'_>,
    ) -> Option<Reply> {
        let waits = matches!(&self.stage, Some(Stage::Steps(_)));
        if !waits || !self.apart.is_empty() || !world.serves(cx.slot_of(asked.id)) {
            return None;
        }
        match self.decide_beside(asked, cx)? {
            Reply::Described(Some(info)) => Some(Reply::Described(Some(info))),
            _ => None,
        }
    }

    /// A read is answered from what is confirmed, also while a write is under way, unless that may have been
    /// shown by an earlier owner, or the client has seen it.
    fn load_beside(
        &self,
        asked: &Asked,
        world: &impl Surroundings,
        cx: &Context<'_>,
    ) -> Option<Reply> {
        let Request::Load { id, seen, .. } = &asked.request else {
            return None;
        };
        let Some(Stage::Commit(commit)) = &self.stage else {
            return None;
        };
        let confirmed = cx.replicas.confirmed(*id).and_then(|entry| entry.kept.record());
        let version = confirmed.map(|record| record.version);
        let is_seen = seen.is_none_or(|seen| version.is_some_and(|version| version >= seen));
        if commit.is_again() || !self.apart.is_empty() || !is_seen || !world.serves(cx.slot_of(*id))
        {
            return None;
        }
        self.decide_beside(asked, cx)
    }

    fn decide_beside(&self, asked: &Asked, cx: &Context<'_>) -> Option<Reply> {
        let beside = Beside { lowest: 0, admitted: None, queue: &self.queue };
        match decide::decide(asked, &beside, cx) {
            Decision::Answer(reply) => Some(reply),
            _ => None,
        }
    }
}
