//! The steps of a call at the owners of other records.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::{Deleted, EndReason, Outcome, Principal, RecordId, Rejection};

use crate::call::{CallId, ListPage, ListRequest, Reply, Request};

/// The steps of a call that are under way.
#[derive(Debug)]
pub(super) enum Steps {
    /// The principal's list admits the session.
    Admit(u64, Principal),
    /// The list admits others before.
    Pause(Duration),
    /// The sessions above the cap end.
    End(Ends),
    /// The list is full: its sessions are looked at.
    Look(Look),
    /// The principal's list forgets the session.
    Remove(u64),
}

/// The sessions above a cap, while they end.
#[derive(Debug)]
pub(super) struct Ends {
    principal: Principal,
    open: BTreeMap<u64, RecordId>,
    ended: Vec<RecordId>,
    /// Those that had ended before, and are on the list still.
    gone: Vec<(RecordId, Principal)>,
    is_for_login: bool,
}

/// The sessions of a full list, while they are looked at, page by page: the list may not know yet that one
/// expired.
#[derive(Debug)]
pub(super) struct Look {
    principal: Principal,
    /// The awaited answer: about a session, or a page.
    open: BTreeMap<u64, Option<RecordId>>,
    /// The last session of the page, if more follow.
    next: Option<RecordId>,
    /// Those that had ended before, and are on the list still.
    gone: Vec<(RecordId, Principal)>,
}

/// The effect of an answer to a step.
#[derive(Debug)]
pub(super) enum Next {
    /// Other steps are awaited.
    Wait,
    /// These steps follow.
    Ask(Steps, Vec<(u64, Request)>),
    /// The session is admitted, and these ended for it; the others had ended before. `None`: it is not admitted
    /// yet, since there were too many to end at a time, or the list was full of others.
    Admitted { ended: Option<Vec<RecordId>>, gone: Vec<(RecordId, Principal)> },
    /// The session's end is on the list.
    Removed,
    /// The list cannot admit another session yet.
    Later,
    /// The call cannot go on.
    Answer(Reply),
}

impl Steps {
    /// Takes the answer to a step of a call. `number` draws numbers for further steps.
    pub(super) fn on_reply(
        &mut self,
        call: Option<CallId>,
        step: u64,
        reply: Reply,
        number: impl FnMut() -> u64,
    ) -> Next {
        match (self, reply) {
            (Self::Admit(awaited, _), Reply::Admitted(above))
                if *awaited == step && above.is_empty() =>
            {
                Next::Admitted { ended: Some(above), gone: Vec::new() }
            }
            (Self::Admit(awaited, principal), Reply::Admitted(above)) if *awaited == step => {
                Ends::begin(above, principal.clone(), call, number)
            }
            (Self::Admit(awaited, principal), Reply::Crowded(above)) if *awaited == step => {
                Ends::begin(above, principal.clone(), None, number)
            }
            (Self::Admit(awaited, _), Reply::Busy) if *awaited == step => Next::Later,
            (
                Self::Admit(awaited, principal),
                Reply::Outcome(Outcome::Rejected(Rejection::AtCap)),
            ) if *awaited == step => Look::begin(principal.clone(), None, number),
            (Self::Admit(awaited, _), reply) if *awaited == step => Next::Answer(reply),
            (Self::End(ends), reply) => ends.on_reply(step, reply),
            (Self::Look(look), reply) => look.on_reply(step, reply, number),
            (Self::Remove(awaited), _) if *awaited == step => Next::Removed,
            _ => Next::Wait,
        }
    }
}

impl Ends {
    /// The sessions end for a login: their records remember it, so that they end for it once only, and say so to
    /// each owner that asks.
    fn begin(
        above: Vec<RecordId>,
        principal: Principal,
        login: Option<CallId>,
        mut number: impl FnMut() -> u64,
    ) -> Next {
        let open: BTreeMap<_, _> = above.into_iter().map(|id| (number(), id)).collect();
        let end = |(step, id): (&u64, &RecordId)| {
            let (principal, reason) = (principal.clone(), EndReason::Cap);
            (*step, Request::End { id: *id, principal, reason, login })
        };
        let asks = open.iter().map(end).collect();
        let (ended, gone) = (Vec::new(), Vec::new());
        let is_for_login = login.is_some();
        Next::Ask(Steps::End(Self { principal, open, ended, gone, is_for_login }), asks)
    }

    fn on_reply(&mut self, step: u64, reply: Reply) -> Next {
        let Some(id) = self.open.remove(&step) else {
            return Next::Wait;
        };
        match reply {
            Reply::Deleted(Deleted::Ended) => self.ended.push(id),
            Reply::Deleted(_) => self.gone.push((id, self.principal.clone())),
            failed => return Next::Answer(failed),
        }
        if !self.open.is_empty() {
            return Next::Wait;
        }
        let (ended, gone) = (std::mem::take(&mut self.ended), std::mem::take(&mut self.gone));
        Next::Admitted { ended: self.is_for_login.then_some(ended), gone }
    }
}

impl Look {
    fn begin(
        principal: Principal,
        after: Option<RecordId>,
        mut number: impl FnMut() -> u64,
    ) -> Next {
        let step = number();
        let open = BTreeMap::from([(step, None)]);
        let request = ListRequest::Page(after);
        let ask = Request::List { principal: principal.clone(), request };
        let look = Self { principal, open, next: None, gone: Vec::new() };
        Next::Ask(Steps::Look(look), vec![(step, ask)])
    }

    fn on_reply(&mut self, step: u64, reply: Reply, number: impl FnMut() -> u64) -> Next {
        let Some(awaited) = self.open.remove(&step) else {
            return Next::Wait;
        };
        match (awaited, reply) {
            (None, Reply::Page(page)) if !page.settled.is_empty() => {
                return self.ask_about(&page, number);
            }
            (None, Reply::Page(page)) => self.next = page.next,
            (Some(_), Reply::Described(Some(_))) => {}
            (Some(id), Reply::Described(None)) => self.gone.push((id, self.principal.clone())),
            (_, failed) => return Next::Answer(failed),
        }
        if self.open.is_empty() { self.conclude(number) } else { Next::Wait }
    }

    fn ask_about(&mut self, page: &ListPage, mut number: impl FnMut() -> u64) -> Next {
        let principal = self.principal.clone();
        let open: BTreeMap<_, _> = page.settled.iter().map(|id| (number(), Some(*id))).collect();
        let describe = |(step, id): (&u64, &Option<RecordId>)| {
            let principal = principal.clone();
            id.map(|id| (*step, Request::Describe { id, principal }))
        };
        let asks = open.iter().filter_map(describe).collect();
        let look = Self { principal: principal.clone(), open, next: page.next, gone: Vec::new() };
        Next::Ask(Steps::Look(look), asks)
    }

    /// Repeats the login if sessions had ended; refuses it otherwise, once all have been checked.
    fn conclude(&mut self, number: impl FnMut() -> u64) -> Next {
        match self.next {
            _ if !self.gone.is_empty() => {
                Next::Admitted { ended: None, gone: std::mem::take(&mut self.gone) }
            }
            Some(next) => Self::begin(self.principal.clone(), Some(next), number),
            None => Next::Answer(Reply::Outcome(Outcome::Rejected(Rejection::AtCap))),
        }
    }
}
