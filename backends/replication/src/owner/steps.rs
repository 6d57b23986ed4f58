//! What a call waits for at the owners of other records.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::{Deleted, EndReason, Principal, RecordId};

use crate::call::{CallId, Reply, Request};

/// The steps of a call that are under way.
#[derive(Debug)]
pub(super) enum Steps {
    /// The principal's list admits the session.
    Admit(u64, Principal),
    /// The list admits others before.
    Pause(Duration),
    /// The sessions above the cap end.
    End(Ends),
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

/// What an answer to a step leads to.
#[derive(Debug)]
pub(super) enum Next {
    /// Other steps are awaited.
    Wait,
    /// These steps follow.
    Ask(Steps, Vec<(u64, Request)>),
    /// The session is admitted, and these ended for it; the others had ended before. `None`: it is not admitted
    /// yet, since there were too many to end at a time.
    Admitted { ended: Option<Vec<RecordId>>, gone: Vec<(RecordId, Principal)> },
    /// The list knows that the session ended.
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
            (Self::Admit(awaited, _), reply) if *awaited == step => Next::Answer(reply),
            (Self::End(ends), reply) => ends.on_reply(step, reply),
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
