//! Calls at the owner of their record: one write after the other, each confirmed before the next.
//!
//! A call stays first in the queue of its record while its write is under way. Once that is confirmed, the
//! record itself says what the call did, which is the answer: to the first asking, to a repetition, and
//! after a take-over by another owner alike.

mod commit;
mod decide;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use steadfast_core::RecordId;

use self::commit::Commit;
pub use self::commit::News;
use self::decide::Decision;
use crate::call::{CallId, Reply, Request};
use crate::context::Context;
use crate::member::Boot;
use crate::record::{Entry, Revision};
use crate::rules::Rule;
use crate::slots::Slot;

/// The calls and writes of the records that this node owns.
#[derive(Debug, Default)]
pub struct Owner {
    tasks: BTreeMap<RecordId, Task>,
    /// The lowest numbers of calls that are still open, by caller.
    open: BTreeMap<Boot, u64>,
}

/// What is under way with a record.
#[derive(Debug, Default)]
struct Task {
    queue: VecDeque<Asked>,
    commit: Option<Commit>,
}

/// A call at the owner of its record.
#[derive(Debug)]
pub struct Asked {
    /// Which call.
    pub call: CallId,
    /// What it asks.
    pub request: Request,
    /// When its caller gives up, by this node's clock.
    pub until: Duration,
}

/// What a step leads to.
#[derive(Debug)]
pub enum Told {
    /// The answer to a call.
    Answer(CallId, Reply),
    /// A write was confirmed.
    News(News),
}

/// How an owner sees the world beyond its records.
pub trait Surroundings {
    /// Whether this node may answer for a slot at this moment (L3).
    fn serves(&self, slot: Slot) -> bool;
    /// Whether a holder has what this node has of a slot, so that a patch is enough for it (W1).
    fn is_equal(&self, holder: Boot, slot: Slot) -> bool;
    /// Whether this node does not reach a boot.
    fn suspects(&self, boot: Boot) -> bool;
    /// Which nodes may answer reads from their copies, and until when, at the latest.
    fn readers(&self) -> Vec<(Boot, Duration)>;
}

impl Owner {
    /// How many calls and writes are under way.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The slots for which calls wait.
    pub fn waits_for(&self, cx: &Context<'_>) -> BTreeSet<Slot> {
        let waiting = self.tasks.iter().filter(|(_, task)| !task.queue.is_empty());
        waiting.map(|(id, _)| cx.slot_of(*id)).collect()
    }

    /// Notes the lowest number of a call of a boot that is still open.
    pub fn on_open(&mut self, caller: Boot, number: u64) {
        let open = self.open.entry(caller).or_default();
        *open = number.max(*open);
    }

    /// Another epoch: callers ask again, and tentative writes are found in the copies.
    pub fn on_epoch(&mut self, cx: &Context<'_>) {
        self.tasks.clear();
        self.open.retain(|boot, _| cx.view.epoch.member(*boot).is_some());
    }

    /// Takes a call; one that is here already joins it.
    pub fn ask(
        &mut self,
        asked: Asked,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        let id = asked.request.record();
        let task = self.tasks.entry(id).or_default();
        if task.queue.iter().any(|other| other.call == asked.call) {
            return Vec::new();
        }
        if let Some(reply) = task.answer_beside(&asked, world, cx) {
            self.tidy(id);
            return vec![Told::Answer(asked.call, reply)];
        }
        task.queue.push_back(asked);
        self.advance(id, world, cx)
    }

    /// Goes on with all records whose slots can be served now.
    pub fn advance_all(&mut self, world: &impl Surroundings, cx: &mut Context<'_>) -> Vec<Told> {
        let ids: Vec<_> = self.tasks.keys().copied().collect();
        ids.into_iter().flat_map(|id| self.advance(id, world, cx)).collect()
    }

    /// Looks again at writes that wait: for readers whose time is over, or holders that are suspected now.
    pub fn tick(&mut self, world: &impl Surroundings, cx: &mut Context<'_>) -> Vec<Told> {
        let mut told = Vec::new();
        let is_committing = |(_, task): &(&RecordId, &Task)| task.commit.is_some();
        let ids: Vec<_> = self.tasks.iter().filter(is_committing).map(|(id, _)| *id).collect();
        for id in ids {
            told.extend(self.settle(id, world, cx));
        }
        told.extend(self.advance_all(world, cx));
        told
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
        let commit = self.tasks.get_mut(&id).and_then(|task| task.commit.as_mut());
        if let Some(commit) = commit {
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
            if !cx.rules.keep(Rule::T7) {
                cx.replicas.confirm(id, entry.revision);
                continue;
            }
            let commit = Commit::again(id, entry, world, cx);
            self.tasks.entry(id).or_default().commit = Some(commit);
            told.extend(self.settle(id, world, cx));
        }
        told
    }

    /// Ends sessions whose deadline is over, at most so many.
    pub fn expire(
        &mut self,
        ids: impl IntoIterator<Item = RecordId>,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        let mut told = Vec::new();
        for id in ids {
            let is_free = self.tasks.get(&id).is_none_or(|task| task.commit.is_none());
            if is_free && world.serves(cx.slot_of(id)) {
                if let Some(commit) =
                    decide::expiry(id, cx).map(|w| Commit::of(id, w, None, self, world, cx))
                {
                    self.tasks.entry(id).or_default().commit = Some(commit);
                    told.extend(self.settle(id, world, cx));
                }
            }
        }
        told
    }

    /// Answers what can be answered of a record, and begins its next write.
    fn advance(
        &mut self,
        id: RecordId,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(decision) = self.next(id, world, cx) {
            match decision {
                (_, Decision::GivenUp) => drop(self.pop(id)),
                (call, Decision::Answer(reply)) => {
                    self.pop(id);
                    told.push(Told::Answer(call, reply));
                }
                (call, Decision::Write(write)) => {
                    let commit = Commit::of(id, *write, Some(call), self, world, cx);
                    self.tasks.entry(id).or_default().commit = Some(commit);
                    match self.confirm(id, world, cx) {
                        Some(news) => told.push(Told::News(news)),
                        None => break,
                    }
                }
            }
        }
        self.tidy(id);
        told
    }

    /// What to do with the first call of a record, unless that has to wait.
    fn next(
        &self,
        id: RecordId,
        world: &impl Surroundings,
        cx: &Context<'_>,
    ) -> Option<(CallId, Decision)> {
        let task = self.tasks.get(&id).filter(|task| task.commit.is_none())?;
        let asked = task.queue.front()?;
        let is_served = world.serves(cx.slot_of(id));
        if asked.until <= cx.now.mono {
            return Some((asked.call, Decision::GivenUp));
        }
        let lowest = self.open.get(&asked.call.caller).copied().unwrap_or_default();
        is_served.then(|| (asked.call, decide::decide(asked, lowest, cx)))
    }

    fn pop(&mut self, id: RecordId) -> Option<Asked> {
        self.tasks.get_mut(&id)?.queue.pop_front()
    }

    /// Confirms the write of a record, if it can be; then goes on with it.
    fn settle(
        &mut self,
        id: RecordId,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Vec<Told> {
        let Some(news) = self.confirm(id, world, cx) else {
            return Vec::new();
        };
        let mut told = vec![Told::News(news)];
        told.extend(self.advance(id, world, cx));
        told
    }

    fn confirm(
        &mut self,
        id: RecordId,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Option<News> {
        let task = self.tasks.get_mut(&id)?;
        if !task.commit.as_ref()?.is_done(world, cx) {
            return None;
        }
        task.commit.take()?.confirm(cx)
    }

    fn tidy(&mut self, id: RecordId) {
        let is_idle = |task: &Task| task.queue.is_empty() && task.commit.is_none();
        if self.tasks.get(&id).is_some_and(is_idle) {
            self.tasks.remove(&id);
        }
    }

    /// Which calls a record still has to remember: those that may be asked again.
    fn remembered(&self, entry: &Entry, cx: &Context<'_>) -> Vec<crate::call::Done> {
        let is_open = |call: CallId| {
            let lowest = self.open.get(&call.caller).copied().unwrap_or_default();
            call.number >= lowest && cx.view.epoch.member(call.caller).is_some()
        };
        entry.done.iter().filter(|done| is_open(done.call)).cloned().collect()
    }
}

impl Task {
    /// A read is answered from what is confirmed, also while a write is under way, unless that may have been
    /// shown by an earlier owner, or the client has seen it.
    fn answer_beside(
        &self,
        asked: &Asked,
        world: &impl Surroundings,
        cx: &Context<'_>,
    ) -> Option<Reply> {
        let Request::Load { id, seen, .. } = &asked.request else {
            return None;
        };
        let commit = self.commit.as_ref()?;
        let confirmed = cx.replicas.confirmed(*id).and_then(|entry| entry.kept.record());
        let version = confirmed.map(|record| record.version);
        let is_seen = seen.is_none_or(|seen| version.is_some_and(|version| version >= seen));
        if commit.is_again() || !is_seen || !world.serves(cx.slot_of(*id)) {
            return None;
        }
        match decide::decide(asked, 0, cx) {
            Decision::Answer(reply) => Some(reply),
            _ => None,
        }
    }
}
