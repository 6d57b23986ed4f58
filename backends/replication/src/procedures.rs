//! Calls that this node answers as a client of others: the sessions of a principal, listed or ended.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::{Deleted, EndReason, Principal, RecordId, SessionInfo};

use crate::call::{ListPage, ListRequest, Reply, Request};

/// The procedures that are under way, by the number of their call.
#[derive(Debug, Default)]
pub struct Procedures {
    open: BTreeMap<u64, Procedure>,
}

#[derive(Debug)]
struct Procedure {
    principal: Principal,
    aim: Aim,
    until: Duration,
    /// The number of awaited answers about sessions.
    awaited: usize,
    /// Sessions of the page that are asked about after the others.
    later: Vec<RecordId>,
    /// The last session of the last page, if more follow.
    next: Option<RecordId>,
}

#[derive(Debug)]
enum Aim {
    List(Vec<SessionInfo>),
    End { except: Option<RecordId>, reason: EndReason, ended: u64 },
}

/// The effect of an answer.
#[derive(Debug)]
pub enum Outcome {
    /// These have to be asked, for the procedure.
    Ask(Vec<Request>),
    /// The procedure is over.
    Over(Reply),
}

impl Procedures {
    /// Begins to list the sessions of a principal; what to ask.
    pub fn list(&mut self, number: u64, principal: Principal, until: Duration) -> Request {
        self.begin(number, principal, Aim::List(Vec::new()), until)
    }

    /// Begins to end the sessions of a principal, but for one; what to ask. A floor is raised first, so that
    /// no login below it is admitted any more.
    pub fn end(
        &mut self,
        number: u64,
        principal: Principal,
        (except, floor, reason): (Option<RecordId>, Option<u64>, EndReason),
        until: Duration,
    ) -> Request {
        let first =
            self.begin(number, principal.clone(), Aim::End { except, reason, ended: 0 }, until);
        let raise = |epoch| Request::List { principal, request: ListRequest::Raise(epoch) };
        floor.map_or(first, raise)
    }

    fn begin(&mut self, number: u64, principal: Principal, aim: Aim, until: Duration) -> Request {
        let first = page(&principal, None);
        let procedure =
            Procedure { principal, aim, until, awaited: 0, later: Vec::new(), next: None };
        self.open.insert(number, procedure);
        first
    }

    /// Returns the time when the caller of a procedure gives up.
    pub fn until(&self, number: u64) -> Option<Duration> {
        self.open.get(&number).map(|procedure| procedure.until)
    }

    /// Returns the number of procedures under way.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Returns true if there is none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes an answer that a procedure awaits.
    pub fn on_reply(&mut self, number: u64, reply: Reply) -> Option<Outcome> {
        let outcome = self.open.get_mut(&number)?.on_reply(reply);
        if matches!(outcome, Outcome::Over(_)) {
            self.open.remove(&number);
        }
        Some(outcome)
    }
}

impl Procedure {
    fn on_reply(&mut self, reply: Reply) -> Outcome {
        match (reply, &mut self.aim) {
            (Reply::Done, _) => return Outcome::Ask(vec![page(&self.principal, None)]),
            (Reply::Page(page), _) => return self.on_page(page),
            (Reply::Described(info), Aim::List(infos)) => infos.extend(info),
            (Reply::Deleted(deleted), Aim::End { ended, .. }) => {
                *ended += u64::from(deleted == Deleted::Ended);
            }
            (reply, _) => return Outcome::Over(reply),
        }
        self.awaited = self.awaited.saturating_sub(1);
        self.go_on()
    }

    /// Asks about the sessions that are on their way first: those that end for them are found ended afterwards,
    /// so that no list is longer than the cap.
    fn on_page(&mut self, page: ListPage) -> Outcome {
        self.next = page.next;
        self.later = page.settled;
        self.ask_all(page.reserved)
    }

    fn ask_all(&mut self, ids: Vec<RecordId>) -> Outcome {
        let requests: Vec<_> = ids.into_iter().filter_map(|id| self.ask(id)).collect();
        self.awaited = requests.len();
        if requests.is_empty() { self.go_on() } else { Outcome::Ask(requests) }
    }

    fn ask(&self, id: RecordId) -> Option<Request> {
        let principal = self.principal.clone();
        match &self.aim {
            Aim::List(_) => Some(Request::Describe { id, principal }),
            Aim::End { except, .. } if *except == Some(id) => None,
            Aim::End { reason, .. } => {
                Some(Request::End { id, principal, reason: *reason, login: None })
            }
        }
    }

    fn go_on(&mut self) -> Outcome {
        if self.awaited > 0 {
            return Outcome::Ask(Vec::new());
        }
        if !self.later.is_empty() {
            let later = std::mem::take(&mut self.later);
            return self.ask_all(later);
        }
        if let Some(next) = self.next.take() {
            return Outcome::Ask(vec![page(&self.principal, Some(next))]);
        }
        Outcome::Over(match &mut self.aim {
            Aim::List(infos) => Reply::Listed(std::mem::take(infos)),
            Aim::End { ended, .. } => Reply::Count(*ended),
        })
    }
}

fn page(principal: &Principal, after: Option<RecordId>) -> Request {
    Request::List { principal: principal.clone(), request: ListRequest::Page(after) }
}

#[cfg(test)]
mod tests {
    use steadfast_core::Realm;

    use super::*;
    use crate::call::Failure;

    #[test]
    fn all_pages_are_listed() {
        let mut procedures = Procedures::default();
        procedures.list(1, alice(), Duration::MAX);
        let outcome = procedures.on_reply(1, page(&[1, 2], Some(2)));
        assert!(matches!(outcome, Some(Outcome::Ask(asks)) if asks.len() == 2));
        procedures.on_reply(1, Reply::Described(None));
        let outcome = procedures.on_reply(1, Reply::Described(None));
        let Some(Outcome::Ask(asks)) = outcome else { panic!("{outcome:?}") };
        let [Request::List { request: ListRequest::Page(after), .. }] = &asks[..] else {
            panic!("{asks:?}")
        };
        assert_eq!(*after, Some(id(2)));
        let outcome = procedures.on_reply(1, page(&[], None));
        assert!(matches!(outcome, Some(Outcome::Over(Reply::Listed(_)))));
        assert!(procedures.is_empty());
    }

    #[test]
    fn a_floor_is_raised_before_sessions_end() {
        let mut procedures = Procedures::default();
        let terms = (Some(id(1)), Some(7), EndReason::Admin);
        let first = procedures.end(1, alice(), terms, Duration::MAX);
        assert!(matches!(first, Request::List { request: ListRequest::Raise(7), .. }));
        let outcome = procedures.on_reply(1, Reply::Done);
        assert!(matches!(outcome, Some(Outcome::Ask(asks)) if asks.len() == 1));
        let outcome = procedures.on_reply(1, page(&[1, 2], None));
        assert!(matches!(outcome, Some(Outcome::Ask(asks)) if asks.len() == 1), "one is kept");
        let outcome = procedures.on_reply(1, Reply::Deleted(Deleted::Ended));
        assert!(matches!(outcome, Some(Outcome::Over(Reply::Count(1)))));
    }

    #[test]
    fn one_failure_ends_a_procedure() {
        let mut procedures = Procedures::default();
        procedures.list(1, alice(), Duration::MAX);
        let outcome = procedures.on_reply(1, Reply::Failed(Failure::Timeout));
        assert!(matches!(outcome, Some(Outcome::Over(Reply::Failed(_)))));
        assert!(procedures.on_reply(1, Reply::Described(None)).is_none());
    }

    #[test]
    fn sessions_on_their_way_are_asked_about_first() {
        let mut procedures = Procedures::default();
        procedures.list(1, alice(), Duration::MAX);
        let page = ListPage { settled: vec![id(1)], reserved: vec![id(2)], next: None };
        let asked = |outcome| match outcome {
            Some(Outcome::Ask(asks)) => match &asks[..] {
                [Request::Describe { id, .. }] => *id,
                asks => panic!("{asks:?}"),
            },
            outcome => panic!("{outcome:?}"),
        };
        assert_eq!(asked(procedures.on_reply(1, Reply::Page(page))), id(2));
        assert_eq!(asked(procedures.on_reply(1, Reply::Described(None))), id(1));
    }

    fn page(settled: &[u8], next: Option<u8>) -> Reply {
        let settled = settled.iter().copied().map(id).collect();
        Reply::Page(ListPage { settled, reserved: Vec::new(), next: next.map(id) })
    }

    fn alice() -> Principal {
        Principal::new(Realm::default(), "alice").unwrap()
    }

    fn id(n: u8) -> RecordId {
        RecordId::from_bytes([n; 16])
    }
}
