//! Decisions: the result of a call, given its record. Nothing else decides it.

use std::collections::VecDeque;

use steadfast_core::{
    Absence, ClientState, Deleted, Deletion, EndReason, Ending, Found, Lookup, Outcome, Patch,
    Proof, Record, RecordId, StoreError, Verdict,
};

use super::{Asked, list};
use crate::call::{CallEffect, Done, Failure, Reply, Request};
use crate::context::Context;
use crate::record::{Copy, Delta, Entry, Kept, ListChange, Stamp, Tombstone, Unreported};
use crate::rules::Rule;

/// The decision on a call.
#[derive(Debug)]
pub(super) enum Decision {
    /// Its caller gave it up.
    GivenUp,
    Answer(Reply),
    Write(Box<NewWrite>),
    /// The list of its principal has to admit it first.
    Admit(Box<Request>),
}

/// A write that is decided.
#[derive(Debug)]
pub(super) struct NewWrite {
    pub(super) kept: Kept,
    /// The change, if it is not the whole record.
    pub(super) part: Option<Part>,
    /// The outcome of the call; `None` for a change without a call.
    pub(super) effect: Option<CallEffect>,
    /// The outcomes of other calls that a merged copy remembers.
    pub(super) done: Vec<Done>,
}

impl NewWrite {
    /// A write that a call asked for, or none, and that goes whole to other holders.
    pub(super) fn whole(kept: Kept, effect: Option<CallEffect>) -> Self {
        Self { kept, part: None, effect, done: Vec::new() }
    }
}

/// The change that a write makes to a record.
#[derive(Debug)]
pub(super) enum Part {
    Session(Delta),
    List(ListChange),
}

impl From<ListChange> for Part {
    fn from(change: ListChange) -> Self {
        Self::List(change)
    }
}

/// The inputs of a decision besides the record.
#[derive(Debug)]
pub(super) struct Beside<'t> {
    /// The lowest number of its caller that is open.
    pub(super) lowest: u64,
    /// The sessions that ended so that the list of its principal could admit it, once that did.
    pub(super) admitted: Option<&'t [RecordId]>,
    /// The calls of the record that wait: it, and others.
    pub(super) queue: &'t VecDeque<Asked>,
}

/// Returns the decision on a call.
pub(super) fn decide(asked: &Asked, beside: &Beside<'_>, cx: &Context<'_>) -> Decision {
    let Beside { lowest, admitted, queue } = *beside;
    let id = asked.id;
    let entry = cx.replicas.confirmed(id);
    let done =
        entry.and_then(|entry| entry.done.iter().find(|done| done.call == asked.remembered()));
    if let Some(done) = done {
        return Decision::Answer(with_client_state(done.effect.reply(), id, cx));
    }
    if asked.call.number < lowest && cx.rules.keep(Rule::C2) {
        return Decision::Answer(Reply::Failed(Failure::GivenUp));
    }
    // A session that has not ended yet cannot have been reported.
    let is_report = matches!(asked.request, Request::MarkReported { .. });
    // Other calls see the end as a write of its own, which no later owner can undo.
    if let Some(write) = expiry(id, cx).filter(|_| !is_report) {
        return Decision::Write(Box::new(write));
    }
    let kept = entry.map(|entry| &entry.kept);
    match &asked.request {
        Request::Create { record, .. } => {
            let policy = list::admission_of_create(&asked.request);
            admit(create(record, kept, id, cx), policy, admitted)
        }
        Request::Update { patch, .. } => {
            let record = kept.and_then(Kept::record);
            let policy = record.and_then(|record| list::admission_of_patch(id, patch, record));
            admit(update(id, patch, kept, cx), policy, admitted)
        }
        Request::Load { proof, .. } => Decision::Answer(load(id, proof.as_ref(), kept, cx)),
        Request::Delete { proof, sign_in, reason, .. } => {
            let deletion = Deletion { proof: proof.as_ref(), sign_in: *sign_in, reason: *reason };
            delete(&deletion, kept, cx)
        }
        Request::End { principal, reason, .. } => match list::described(id, principal, kept, cx) {
            Some(_) => delete(&Deletion::for_reason(*reason), kept, cx),
            None => Decision::Answer(Reply::Deleted(Deleted::Gone)),
        },
        Request::Describe { principal, .. } => {
            Decision::Answer(Reply::Described(list::described(id, principal, kept, cx)))
        }
        Request::MarkReported { .. } => report(kept, cx),
        Request::List { principal, request } => list::decide(principal, (request, queue), kept, cx),
    }
}

/// A write that signs a user in waits until their list admits the session.
fn admit(decision: Decision, policy: Option<Request>, admitted: Option<&[RecordId]>) -> Decision {
    match (decision, policy, admitted) {
        (Decision::Write(_), Some(policy), None) => Decision::Admit(Box::new(policy)),
        (Decision::Write(mut write), Some(_), Some(gone)) => {
            if let Some(CallEffect::Applied { ended, .. }) = &mut write.effect {
                *ended = gone.to_vec();
            }
            Decision::Write(write)
        }
        (decision, _, _) => decision,
    }
}

/// The end of a session whose deadline is over.
pub(super) fn expiry(id: RecordId, cx: &Context<'_>) -> Option<NewWrite> {
    let copy = cx.replicas.confirmed(id)?.kept.live()?;
    copy.record.is_expired(cx.now.wall).then(|| end(copy, EndReason::Expired, None, cx))
}

/// The merge of a copy that went apart, unless it adds nothing (D1).
pub(super) fn merge(id: RecordId, other: &Entry, cx: &Context<'_>) -> Option<NewWrite> {
    let own = cx.replicas.confirmed(id).map(|entry| &entry.kept);
    let kept = match own {
        None => Some(other.kept.clone()),
        Some(own) => own.merged(&other.kept, stamp(own.stamp().max(other.kept.stamp()), cx)),
    };
    kept.map(|kept| NewWrite { done: other.done.clone(), ..NewWrite::whole(kept, None) })
}

/// The early end of a session, for a budget. That of a visitor's need not be remembered, unless it is to be
/// reported.
pub(super) fn eviction(id: RecordId, cx: &Context<'_>) -> Option<NewWrite> {
    let copy = cx.replicas.confirmed(id)?.kept.live()?;
    let mut write = end(copy, EndReason::Evicted, None, cx);
    if let Kept::Ended(tombstone) = &mut write.kept
        && copy.record.principal.is_none()
        && tombstone.unreported.is_none()
    {
        tombstone.until = cx.now.wall;
    }
    Some(write)
}

fn create(record: &Record, kept: Option<&Kept>, id: RecordId, cx: &Context<'_>) -> Decision {
    match kept {
        Some(Kept::Live(there)) if there.record.secret == record.secret => {
            let effect = applied(&there.record);
            return Decision::Answer(with_client_state(effect.reply(), id, cx));
        }
        Some(_) => return Decision::Answer(Reply::Outcome(Outcome::Exists)),
        None => {}
    }
    if let Err(limit) = cx.limits.check_values(&record.values) {
        return Decision::Answer(Reply::Outcome(Outcome::Rejected(limit.into())));
    }
    let copy = Copy::new(record.clone(), stamp(Stamp::ZERO, cx));
    let effect = Some(applied(record));
    Decision::Write(Box::new(NewWrite::whole(Kept::Live(copy), effect)))
}

fn load(id: RecordId, proof: Option<&Proof>, kept: Option<&Kept>, cx: &Context<'_>) -> Reply {
    let record = match kept {
        Some(Kept::Live(copy)) => &copy.record,
        Some(Kept::Ended(Tombstone { reason: EndReason::Expired, .. })) => {
            return Reply::Lookup(Lookup::Absent(Absence::Expired));
        }
        Some(Kept::Ended(_) | Kept::List(_)) | None => {
            return Reply::Lookup(Lookup::Absent(Absence::Unknown));
        }
    };
    match proof.map(|proof| record.verify(proof, cx.now.wall)) {
        None | Some(Verdict::Right) => {
            let client_state = client_state(id, record, cx);
            Reply::Lookup(Lookup::Found(Found { id, record: record.clone(), client_state }))
        }
        Some(Verdict::Superseded) => Reply::Lookup(Lookup::Superseded),
        Some(Verdict::Wrong) => Reply::Lookup(Lookup::Absent(Absence::Unknown)),
        Some(Verdict::UnknownKey(key)) => Reply::Failed(Failure::UnknownKey(key)),
    }
}

fn update(id: RecordId, patch: &Patch, kept: Option<&Kept>, cx: &Context<'_>) -> Decision {
    let Some(copy) = kept.and_then(Kept::live) else {
        return Decision::Answer(Reply::Outcome(Outcome::Gone));
    };
    let patched = match copy.record.apply(patch, cx.now.wall, cx.limits) {
        Ok(patched) => patched,
        Err(refusal) => return Decision::Answer(Reply::refused(refusal)),
    };
    if patched.record == *copy.record {
        let reply = applied(&copy.record).reply();
        return Decision::Answer(with_client_state(reply, id, cx));
    }
    let delta = Delta::of(patch, &copy.record, &patched.record, stamp(copy.stamp, cx));
    let (version, counters) = (patched.record.version, patched.counters);
    let effect = Some(CallEffect::Applied { version, counters, ended: Vec::new() });
    let kept = Kept::Live(copy.changed(&delta));
    let part = Some(Part::Session(delta));
    Decision::Write(Box::new(NewWrite { part, ..NewWrite::whole(kept, effect) }))
}

fn delete(deletion: &Deletion<'_>, kept: Option<&Kept>, cx: &Context<'_>) -> Decision {
    let Some(copy) = kept.and_then(Kept::live) else {
        return Decision::Answer(Reply::Deleted(Deleted::Gone));
    };
    match copy.record.delete(deletion, cx.now.wall) {
        Ok(Deleted::Ended) => {
            let effect = Some(CallEffect::Ended);
            Decision::Write(Box::new(end(copy, deletion.reason, effect, cx)))
        }
        Ok(deleted) => Decision::Answer(Reply::Deleted(deleted)),
        Err(StoreError::UnknownKey(key)) => {
            Decision::Answer(Reply::Failed(Failure::UnknownKey(key)))
        }
        Err(_) => Decision::Answer(Reply::Failed(Failure::Timeout)),
    }
}

fn end(copy: &Copy, reason: EndReason, effect: Option<CallEffect>, cx: &Context<'_>) -> NewWrite {
    let stamp = stamp(copy.stamp, cx);
    let until = cx.now.wall + cx.rules.remembered(Tombstone::KEPT);
    let unreported = unreported(copy, reason, cx).map(Box::new);
    NewWrite::whole(Kept::Ended(Tombstone { stamp, until, reason, unreported }), effect)
}

/// The part of an end that the application gets as a report, if no request asked for it (X3).
fn unreported(copy: &Copy, reason: EndReason, cx: &Context<'_>) -> Option<Unreported> {
    let has_room = cx.replicas.unreported() < UNREPORTED;
    let is_kept = cx.keeps_endings && Ending::is_kept(reason) && has_room;
    let record = &copy.record;
    let at = if reason == EndReason::Expired { record.deadline() } else { cx.now.wall };
    is_kept.then(|| Unreported { principal: record.principal.clone(), at })
}

/// Notes that the application has been told of an end.
fn report(kept: Option<&Kept>, cx: &Context<'_>) -> Decision {
    let Some(end) = kept.and_then(Kept::unreported) else {
        return Decision::Answer(Reply::Done);
    };
    let reported = end.reported(stamp(end.stamp, cx), cx.now.wall);
    // The call need not be remembered: it does nothing the second time.
    Decision::Write(Box::new(NewWrite::whole(Kept::Ended(reported), None)))
}

fn stamp(before: Stamp, cx: &Context<'_>) -> Stamp {
    before.followed_by(cx.view.me, cx.now.wall)
}

fn applied(record: &Record) -> CallEffect {
    let version = record.version;
    CallEffect::Applied { version, counters: Vec::new(), ended: Vec::new() }
}

/// An answer with what the client should carry.
fn with_client_state(mut reply: Reply, id: RecordId, cx: &Context<'_>) -> Reply {
    if let Reply::Outcome(Outcome::Applied(applied)) = &mut reply {
        let routes = cx.view.routes(cx.slot_of(id));
        applied.client_state = ClientState { routes, version: Some(applied.version) };
    }
    reply
}

fn client_state(id: RecordId, record: &Record, cx: &Context<'_>) -> ClientState {
    ClientState { routes: cx.view.routes(cx.slot_of(id)), version: Some(record.version) }
}

/// The number of ends at a node that wait to be reported. Beyond it, further ones are not kept for that.
pub(super) const UNREPORTED: usize = 100_000;
