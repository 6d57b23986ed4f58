//! A write under way: from when its owner decided it, until it may be shown.

use std::collections::BTreeSet;
use std::time::Duration;

use steadfast_core::RecordId;

use super::decide::{NewWrite, Part};
use super::{Owner, Surroundings};
use crate::call::{CallId, Done};
use crate::context::Context;
use crate::member::Boot;
use crate::message::{Message, Write};
use crate::record::{Entry, Kept, List, Revision, Tombstone};
use crate::rules::{Rule, Rules};
use crate::settings::PartitionPolicy;

/// A write that is not confirmed.
#[derive(Debug)]
pub(super) struct Commit {
    id: RecordId,
    revision: Revision,
    acknowledged: BTreeSet<Boot>,
    /// Nodes that may answer from their copies for so long, where they may not go on with the old state.
    readers: Vec<(Boot, Duration)>,
    /// True if an earlier owner may have shown it.
    is_again: bool,
    /// True if it is an end that can be forgotten once all holders have it (X2).
    is_passing: bool,
}

/// A write that was confirmed.
#[derive(Debug)]
pub struct News {
    /// The record.
    pub id: RecordId,
    /// The record before.
    pub before: Option<Kept>,
    /// The record now.
    pub after: Kept,
}

impl Commit {
    /// Begins a write that was decided.
    pub(super) fn of(
        id: RecordId,
        write: NewWrite,
        call: Option<CallId>,
        owner: &Owner,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Self {
        let before = cx.replicas.confirmed(id);
        let base = before.map(|entry| entry.revision).unwrap_or_default();
        let mut done = before.map(|entry| owner.remembered(entry, cx)).unwrap_or_default();
        let done_now = call.zip(write.effect).map(|(call, effect)| Done { call, effect });
        done.extend(done_now);
        let is_other = |other: &Done| done.iter().all(|done| done.call != other.call);
        let united: Vec<_> = write.done.into_iter().filter(is_other).collect();
        done.extend(united);
        let closes = closes(before.map(|entry| &entry.kept), &write.kept);
        let revision = next(base, cx);
        let entry = Entry { revision, kept: write.kept, done };
        let patch = write.part.map(|part| match part {
            Part::Session(delta) => Write::Patch(base, delta),
            Part::List(change) => Write::List(base, change),
        });
        Self::begin(id, entry, (patch, closes, false), world, cx)
    }

    /// Begins a write again that an earlier owner began, and may have shown.
    pub(super) fn again(
        id: RecordId,
        entry: Entry,
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Self {
        let before = cx.replicas.confirmed(id).map(|entry| &entry.kept);
        let closes = closes(before, &entry.kept);
        let entry = Entry { revision: next(entry.revision, cx), ..entry };
        Self::begin(id, entry, (None, closes, true), world, cx)
    }

    fn begin(
        id: RecordId,
        entry: Entry,
        (patch, closes, is_again): (Option<Write>, bool, bool),
        world: &impl Surroundings,
        cx: &mut Context<'_>,
    ) -> Self {
        let slot = cx.slot_of(id);
        let revision = entry.revision;
        // A holder that lacks what a long list changes says so, which costs less than the list for each write.
        let is_long = entry.kept.list().is_some_and(List::is_long);
        let is_passing = is_passing(&entry.kept, cx);
        for holder in cx.view.followers(slot) {
            let has_base = is_long || world.is_equal(holder, slot) || !cx.rules.keep(Rule::W1);
            let message = match patch.as_ref().filter(|_| has_base) {
                Some(patch) => replicate(id, &entry, patch.clone(), cx.rules),
                None => whole(id, &entry, cx.rules),
            };
            cx.out.send(holder, message);
        }
        cx.replicas.stage(id, entry, cx.view.number());
        let wait = closes && cx.rules.keep(Rule::X1);
        let readers = if wait { world.readers(slot) } else { Vec::new() };
        Self { id, revision, acknowledged: BTreeSet::new(), readers, is_again, is_passing }
    }

    pub(super) fn is_again(&self) -> bool {
        self.is_again
    }

    pub(super) fn on_acknowledge(&mut self, from: Boot, revision: Revision) {
        if revision == self.revision {
            self.acknowledged.insert(from);
        }
    }

    /// Returns true if enough holders have it, and no copy without it is read.
    pub(super) fn is_done(&self, world: &impl Surroundings, cx: &Context<'_>) -> bool {
        let slot = cx.slot_of(self.id);
        let others = cx.view.holders(slot).iter().filter(|holder| **holder != cx.view.me);
        let wanted = match cx.view.epoch.policy() {
            PartitionPolicy::Fail if cx.rules.keep(Rule::P2) => cx.view.acknowledgements(slot),
            _ => {
                let there = others.clone().filter(|holder| !world.suspects(**holder)).count();
                cx.view.acknowledgements(slot).min(there)
            }
        };
        let has_it = |boot: &Boot| self.acknowledged.contains(boot);
        let reads_on = |(boot, until): &(Boot, Duration)| !has_it(boot) && *until > cx.now.mono;
        let waits_for_all = self.is_passing && cx.rules.keep(Rule::X2);
        let is_held = match waits_for_all {
            true => cx.view.followers(slot).iter().all(has_it),
            false => others.filter(|holder| has_it(holder)).count() >= wanted,
        };
        is_held && !self.readers.iter().any(reads_on)
    }

    /// Shows the write, and tells the holders that they may.
    pub(super) fn confirm(self, cx: &mut Context<'_>) -> Option<News> {
        let confirmed = cx.replicas.confirm(self.id, self.revision)?;
        for holder in cx.view.followers(cx.slot_of(self.id)) {
            cx.out.confirm(holder, self.id, self.revision, cx.now.mono);
        }
        let after = cx.replicas.confirmed(self.id)?.kept.clone();
        self.forget(cx);
        Some(News { id: self.id, before: confirmed.before, after })
    }

    /// Forgets an end that all holders have, unless a call may come again that the record remembers.
    fn forget(&self, cx: &mut Context<'_>) {
        let remembers = |entry: &Entry| !entry.done.is_empty();
        if !self.is_passing || cx.replicas.confirmed(self.id).is_some_and(remembers) {
            return;
        }
        for holder in cx.view.followers(cx.slot_of(self.id)) {
            cx.out.send(holder, Message::Forget(vec![(self.id, self.revision)]));
        }
        cx.replicas.remove(self.id);
    }
}

/// Returns true if a write is an end that is already over.
fn is_passing(kept: &Kept, cx: &Context<'_>) -> bool {
    kept.is_ended() && kept.deadline() <= cx.now.wall
}

/// The revision of the next write (V1).
fn next(base: Revision, cx: &Context<'_>) -> Revision {
    let epoch = if cx.rules.keep(Rule::V1) { cx.view.number() } else { base.epoch };
    base.next_in(epoch)
}

/// Returns true if a change revokes the right to read: an end of a session, or a new secret (X1).
fn closes(before: Option<&Kept>, after: &Kept) -> bool {
    let Some(before) = before.and_then(Kept::record) else {
        return after.is_ended();
    };
    after.record().is_none_or(|after| after.secret != before.secret)
}

/// A write for a holder that may have nothing of the record.
pub(super) fn whole(id: RecordId, entry: &Entry, rules: Rules) -> Message {
    let kept = match &entry.kept {
        Kept::Ended(end) if !rules.keep(Rule::X3) => {
            Kept::Ended(Tombstone { unreported: None, ..end.clone() })
        }
        kept => kept.clone(),
    };
    replicate(id, entry, Write::Whole(kept), rules)
}

/// A write for a holder, with what calls did: the holder may have to answer them again (C1).
fn replicate(id: RecordId, entry: &Entry, write: Write, rules: Rules) -> Message {
    let done = if rules.keep(Rule::C1) { entry.done.clone() } else { Vec::new() };
    Message::Replicate { id, revision: entry.revision, write: Box::new(write), done }
}
