//! The answers of a list of a principal's sessions, and its requests to these sessions.

use std::collections::VecDeque;
use std::time::Duration;

use steadfast_core::{
    Authentication, LoginPolicy, Outcome, Patch, Principal, Record, RecordId, Rejection,
    SessionInfo,
};

use super::Asked;
use super::decide::{Decision, NewWrite};
use crate::call::{ListRequest, Reply, Request};
use crate::context::Context;
use crate::record::{Floor, Kept, List, ListChange, ListEntry, ListStep};
use crate::rules::Rule;

/// The result of a request to a list.
pub(super) fn decide(
    principal: &Principal,
    (request, queue): (&ListRequest, &VecDeque<Asked>),
    kept: Option<&Kept>,
    cx: &Context<'_>,
) -> Decision {
    let empty = List::new(principal.clone());
    let list = kept.and_then(Kept::list).unwrap_or(&empty);
    match request {
        ListRequest::Admit { id, authenticated, until, policy } => {
            let entry =
                ListEntry { authenticated: *authenticated, until: *until, is_settled: false };
            admit(list, (*id, entry), policy, cx)
        }
        ListRequest::Settle(id) if list.get(*id).is_some_and(|entry| !entry.is_settled) => {
            change(list, ListStep::Settle(*id), cx)
        }
        ListRequest::Remove(id) if list.get(*id).is_some() => {
            change(list, ListStep::Remove(removed(queue)), cx)
        }
        ListRequest::Release(id) if list.get(*id).is_some() => {
            change(list, ListStep::Release(*id), cx)
        }
        ListRequest::Settle(_) | ListRequest::Remove(_) | ListRequest::Release(_) => {
            Decision::Answer(Reply::Done)
        }
        ListRequest::Page(after) => Decision::Answer(Reply::Page(list.page(*after, PAGE))),
        ListRequest::Raise(epoch) => {
            let epoch = list.floor().map_or(*epoch, |floor| floor.epoch.max(*epoch));
            let is_fresh = |floor: &Floor| floor.until > cx.now.wall + FLOOR_KEPT - FLOOR_FRESH;
            if list.floor().filter(is_fresh).is_some_and(|floor| floor.epoch == epoch) {
                return Decision::Answer(Reply::Done);
            }
            let floor = Floor { epoch, until: cx.now.wall + FLOOR_KEPT };
            change(list, ListStep::Raise(floor), cx)
        }
    }
}

/// The sessions that the calls which wait remove: one write is enough for all of them, or the sessions of a
/// principal would end one after the other.
fn removed(queue: &VecDeque<Asked>) -> Vec<RecordId> {
    let removed = queue.iter().filter_map(|asked| match &asked.request {
        Request::List { request: ListRequest::Remove(id), .. } => Some(*id),
        _ => None,
    });
    removed.take(PAGE).collect()
}

/// Admits a session, and names those that end for it: also those that ended before the login was asked again
/// (Q3).
fn admit(
    list: &List,
    (id, entry): (RecordId, ListEntry),
    policy: &LoginPolicy,
    cx: &Context<'_>,
) -> Decision {
    let floor = list.floor().filter(|floor| floor.until > cx.now.wall);
    if floor.is_some_and(|floor| policy.epoch < Some(floor.epoch)) {
        let outcome = Outcome::Rejected(Rejection::StaleEpoch);
        return Decision::Answer(Reply::Outcome(outcome));
    }
    if let Some(reply) = refusal(list, id, policy) {
        return Decision::Answer(reply);
    }
    let Some(mut above) = list.above_cap(id, policy.cap) else {
        return Decision::Answer(Reply::Busy);
    };
    let named = list.displaced_by(id);
    let is_crowded = list.over_cap(id, policy.cap) > above.len();
    if is_crowded || named.len() + above.len() > 2 * List::NAMED {
        return Decision::Answer(Reply::Crowded(above));
    }
    above.retain(|id| !named.contains(id));
    let is_named = above.is_empty() || !cx.rules.keep(Rule::Q3);
    let named = [named, &above].concat();
    let there = list.get(id);
    let entry = there.map_or(entry, |there| again(there, entry));
    if is_named && there == Some(&entry) {
        return Decision::Answer(Reply::Admitted(named));
    }
    let named = if cx.rules.keep(Rule::Q3) { named } else { Vec::new() };
    change(list, ListStep::Reserve(id, entry, named), cx)
}

/// Returns the reason for refusing a login at the cap, if the oldest sessions are not to end for
/// it. The list waits for sessions that may not come: one of them would leave room.
fn refusal(list: &List, id: RecordId, policy: &LoginPolicy) -> Option<Reply> {
    if !policy.refuses(list.others(id)) {
        return None;
    }
    Some(match policy.refuses(list.settled_others(id)) {
        true => Reply::Outcome(Outcome::Rejected(Rejection::AtCap)),
        false => Reply::Busy,
    })
}

/// The entry of a session whose principal proved again who they are: it is not as old as before.
fn again(there: &ListEntry, entry: ListEntry) -> ListEntry {
    let is_newer = entry.authenticated > there.authenticated;
    if is_newer { ListEntry { is_settled: there.is_settled, ..entry } } else { *there }
}

fn change(list: &List, step: ListStep, cx: &Context<'_>) -> Decision {
    let stamp = list.stamp.followed_by(cx.view.me, cx.now.wall);
    let change = ListChange { stamp, step };
    let kept = Kept::List(list.changed(&change));
    // No call is remembered: each of them does nothing the second time.
    Decision::Write(Box::new(NewWrite { part: Some(change.into()), ..NewWrite::whole(kept, None) }))
}

/// Returns the entry of a session in a list, if it is the principal's and live.
pub(super) fn described(
    id: RecordId,
    principal: &Principal,
    kept: Option<&Kept>,
    cx: &Context<'_>,
) -> Option<SessionInfo> {
    let record = kept.and_then(Kept::record)?;
    let is_theirs = record.principal.as_ref() == Some(principal);
    (is_theirs && !record.is_expired(cx.now.wall)).then(|| SessionInfo::of(id, record))
}

/// The admission that a new record needs.
pub(super) fn admission_of_create(request: &Request) -> Option<Request> {
    let Request::Create { id, record, policy } = request else {
        return None;
    };
    let Record { principal, created, authenticated, absolute_deadline, .. } = &**record;
    let request = ListRequest::Admit {
        id: *id,
        authenticated: authenticated.unwrap_or(*created),
        until: *absolute_deadline,
        policy: *policy,
    };
    Some(Request::List { principal: principal.clone()?, request })
}

/// The admission that an authentication in a patch needs; `None` where the record has its secret already,
/// because it was sent twice. An elevation needs none; it makes the session a newer one for the cap.
pub(super) fn admission_of_patch(id: RecordId, patch: &Patch, before: &Record) -> Option<Request> {
    let rotation = patch.rotation().filter(|rotation| rotation.hash != before.secret)?;
    let Authentication { at, absolute_deadline, principal, policy, .. } =
        rotation.authentication.as_ref()?;
    let request = ListRequest::Admit {
        id,
        authenticated: *at,
        until: *absolute_deadline,
        policy: if principal.is_some() { *policy } else { FREE },
    };
    let principal = principal.clone().or_else(|| before.principal.clone())?;
    Some(Request::List { principal, request })
}

/// Above every floor, and below every cap.
const FREE: LoginPolicy = LoginPolicy { epoch: Some(u64::MAX), ..LoginPolicy::capped(usize::MAX) };

/// The number of sessions in a page of a list.
const PAGE: usize = 512;

/// The time for which a floor is remembered.
const FLOOR_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A floor that was raised within this time is not raised again.
const FLOOR_FRESH: Duration = Duration::from_secs(60);
