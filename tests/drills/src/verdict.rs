//! Checks whether a single server that never fails could have given the clients these responses.
//!
//! Each session has three keys: its life, its number and its counter. Each of them has to be
//! linearizable. A client carries the version that it saw last, so none of its reads may be older
//! than that version.

use std::collections::BTreeMap;

use linearizability::{Event, Step, check};
use serde_json::Value;

use crate::history::{Answer, Call, History, Operation, What};

/// The result of checking a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub sessions: usize,
    /// Acknowledged writes.
    pub acknowledged: usize,
    /// Numbers and counters that, at the end, lack an acknowledged write or have a surplus one.
    pub lost_writes: usize,
    /// Numbers and counters that are right at the end, but were read wrongly before.
    pub misread: usize,
    /// Sessions that a node showed after it had confirmed their end.
    pub revived: usize,
    /// Sessions that were gone although no call had ended them.
    pub lost_sessions: usize,
    /// Descriptions of the faults, for human readers.
    pub notes: Vec<String>,
}

impl Verdict {
    pub fn of(history: &History) -> Self {
        let mut sessions = BTreeMap::<u64, Vec<&Call>>::new();
        for call in &history.calls {
            sessions.entry(call.session).or_default().push(call);
        }
        let ends = history.events.iter().find(|event| event.what == What::Ends);
        let over = ends.map_or(0, |event| event.at);
        let mut verdict = Self::default();
        // Without a confirmed login, the client has no token.
        sessions.retain(|_, calls| calls.iter().any(|call| is_login(call)));
        sessions.values_mut().for_each(drop_ambiguous);
        for (session, calls) in sessions {
            verdict.add(session, &calls, over);
        }
        verdict
    }

    pub fn finds_nothing(&self) -> bool {
        [self.lost_writes, self.misread, self.revived, self.lost_sessions] == [0; 4]
    }

    fn add(&mut self, session: u64, calls: &[&Call], over: u64) {
        self.sessions += 1;
        let is_write = |call: &&&Call| call.operation.writes() && call.answer.is_done();
        self.acknowledged += calls.iter().filter(is_write).count();
        self.add_life(session, calls);
        for (name, event) in [("number", number as fn(&Call) -> _), ("counter", counter)] {
            let events: Vec<_> = calls.iter().filter_map(|call| event(call)).collect();
            self.add_key(&format!("the {name} of session {session}"), &events, over);
        }
    }

    fn add_life(&mut self, session: u64, calls: &[&Call]) {
        let events: Vec<_> = calls.iter().filter_map(|call| life(call)).collect();
        if let Err(why) = check(&events) {
            let is_revived = is_revived(&events);
            self.revived += usize::from(is_revived);
            self.lost_sessions += usize::from(!is_revived);
            self.notes.push(format!("the life of session {session}: {why}"));
        }
    }

    fn add_key(&mut self, key: &str, events: &[Event], over: u64) {
        if let Err(why) = check(events) {
            let lasts = |event: &&Event| event.step.changes() || event.invoked >= over;
            let is_lost = check(&events.iter().filter(lasts).copied().collect::<Vec<_>>()).is_err();
            self.lost_writes += usize::from(is_lost);
            self.misread += usize::from(!is_lost);
            self.notes.push(format!("{key}: {why}"));
        }
    }
}

impl Operation {
    fn writes(self) -> bool {
        !matches!(self, Self::Peek | Self::Count)
    }
}

fn is_login(call: &Call) -> bool {
    call.operation == Operation::Login && call.answer.is_done()
}

/// A missing counter was either never added to, or belongs to no session. It proves nothing once
/// the session may have ended.
fn drop_ambiguous(calls: &mut Vec<&Call>) {
    let ends = calls.iter().filter(|call| call.operation == Operation::Logout);
    let end = ends.map(|call| call.start).min().unwrap_or(u64::MAX);
    calls.retain(|call| call.end < end || !call.shows_no_counter());
}

/// Returns true if the session was seen after its end was confirmed.
fn is_revived(events: &[Event]) -> bool {
    let ends = events.iter().filter(|event| event.step == ENDED && event.is_certain);
    let end = ends.map(|event| event.until).min().unwrap_or(u64::MAX);
    events.iter().any(|event| event.step == ALIVE && event.invoked > end)
}

/// 0 before the login, 1 while the session lives, 2 after its end.
fn life(call: &Call) -> Option<Event> {
    let step = match call.operation {
        Operation::Login => Step::Replace { from: 0, to: 1 },
        Operation::Logout => ENDED,
        _ if !call.answer.is_done() || call.shows_no_counter() => return None,
        _ if call.shows_no_session() => Step::Missed(1),
        _ => ALIVE,
    };
    call.event(step)
}

fn number(call: &Call) -> Option<Event> {
    match call.operation {
        Operation::Put(number) => call.change(Step::Write(number)),
        Operation::Peek => call.read("n"),
        _ => None,
    }
}

fn counter(call: &Call) -> Option<Event> {
    match call.operation {
        Operation::Add => call.change(Step::Count(call.told()["value"].as_i64())),
        Operation::Count => call.read("value"),
        _ => None,
    }
}

impl Call {
    /// Returns the value in the response body, or null.
    fn told(&self) -> Value {
        match &self.answer {
            Answer::Told { body, .. } => serde_json::from_str(body).unwrap_or_default(),
            _ => Value::Null,
        }
    }

    /// Returns true if the call was answered for no session, or for another one.
    fn shows_no_session(&self) -> bool {
        let has_new_token = matches!(self.answer, Answer::Told { token: true, .. });
        has_new_token || self.operation == Operation::Peek && self.told()["user"].is_null()
    }

    fn shows_no_counter(&self) -> bool {
        self.operation == Operation::Count
            && self.answer.is_done()
            && self.told()["value"].is_null()
    }

    fn change(&self, step: Step) -> Option<Event> {
        let is_elsewhere = self.answer.is_done() && self.shows_no_session();
        if is_elsewhere { None } else { self.event(step) }
    }

    fn read(&self, field: &str) -> Option<Event> {
        let shows = self.answer.is_done() && !self.shows_no_session();
        shows.then(|| self.event(Step::Read(self.told()[field].as_i64().unwrap_or(0)))).flatten()
    }

    /// A call without a response may have taken effect, unless no node accepted its connection.
    fn event(&self, step: Step) -> Option<Event> {
        match &self.answer {
            Answer::Refused => None,
            answer if answer.is_done() => Some(Event::answered(step, self.start, self.end)),
            _ => Some(Event::unanswered(step.untold(), self.start)),
        }
    }
}

const ALIVE: Step = Step::Read(1);
const ENDED: Step = Step::Replace { from: 1, to: 2 };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Event as Moment, Run};

    const LOGIN: (Operation, &str) = (Operation::Login, r#"{"user":"s0"}"#);
    const OK: &str = r#"{"ok":true}"#;
    const GONE: &str = r#"{"user":null,"n":null}"#;

    #[test]
    fn a_sound_history_has_no_fault() {
        let verdict = judged(&[
            LOGIN,
            (Operation::Put(1), OK),
            (Operation::Peek, r#"{"user":"s0","n":1}"#),
            (Operation::Add, r#"{"value":1}"#),
            (Operation::Count, r#"{"value":1}"#),
            (Operation::Logout, OK),
            (Operation::Peek, GONE),
        ]);
        assert!(verdict.finds_nothing(), "{verdict:?}");
        assert_eq!((verdict.sessions, verdict.acknowledged), (1, 4));
    }

    #[test]
    fn a_lost_number_is_found() {
        let last = (Operation::Peek, r#"{"user":"s0","n":1}"#);
        let verdict = judged(&[LOGIN, (Operation::Put(1), OK), (Operation::Put(2), OK), last]);
        assert_eq!((verdict.lost_writes, verdict.misread), (1, 0), "{verdict:?}");
    }

    #[test]
    fn a_lost_addition_is_found() {
        let add = (Operation::Add, r#"{"value":1}"#);
        let verdict = judged(&[LOGIN, add, add, (Operation::Count, r#"{"value":1}"#)]);
        assert_eq!((verdict.lost_writes, verdict.misread), (1, 0), "{verdict:?}");
    }

    #[test]
    fn a_stale_read_that_mends_is_misread() {
        let stale = (Operation::Peek, r#"{"user":"s0","n":null}"#);
        let last = (Operation::Peek, r#"{"user":"s0","n":1}"#);
        let verdict = judged(&[LOGIN, (Operation::Put(1), OK), stale, last]);
        assert_eq!((verdict.lost_writes, verdict.misread), (0, 1), "{verdict:?}");
    }

    #[test]
    fn a_revived_session_is_found() {
        let back = (Operation::Peek, r#"{"user":"s0","n":null}"#);
        let verdict = judged(&[LOGIN, (Operation::Logout, OK), back]);
        assert_eq!((verdict.revived, verdict.lost_sessions), (1, 0), "{verdict:?}");
    }

    #[test]
    fn a_counter_after_the_end_says_nothing() {
        let (add, none) =
            ((Operation::Add, r#"{"value":1}"#), (Operation::Count, r#"{"value":null}"#));
        let ended = judged(&[LOGIN, add, (Operation::Logout, OK), none]);
        assert!(ended.finds_nothing(), "{ended:?}");
        assert_eq!(judged(&[LOGIN, add, none]).lost_writes, 1);
    }

    #[test]
    fn a_lost_session_is_found() {
        let verdict = judged(&[LOGIN, (Operation::Peek, GONE)]);
        assert_eq!((verdict.revived, verdict.lost_sessions), (0, 1), "{verdict:?}");
    }

    #[test]
    fn a_write_to_another_session_shows_loss() {
        let mut history = history(&[LOGIN, (Operation::Put(1), OK)]);
        history.calls[1].answer = told(OK, true);
        assert_eq!(Verdict::of(&history).lost_sessions, 1);
    }

    #[test]
    fn an_unanswered_write_may_be_present() {
        for number in ["null", "1"] {
            let body = format!(r#"{{"user":"s0","n":{number}}}"#);
            let mut history = history(&[LOGIN, (Operation::Put(1), OK), (Operation::Peek, &body)]);
            history.calls[1].answer = Answer::Cut;
            assert!(Verdict::of(&history).finds_nothing());
        }
    }

    #[test]
    fn a_write_that_was_refused_is_not_there() {
        let seen = (Operation::Peek, r#"{"user":"s0","n":1}"#);
        let mut history = history(&[LOGIN, (Operation::Put(1), OK), seen]);
        history.calls[1].answer = Answer::Refused;
        assert_eq!(Verdict::of(&history).lost_writes, 1);
    }

    #[test]
    fn a_doubtful_end_may_have_happened() {
        let mut history = history(&[LOGIN, (Operation::Logout, OK), (Operation::Peek, GONE)]);
        history.calls[1].answer = Answer::Late;
        assert!(Verdict::of(&history).finds_nothing());
    }

    fn judged(calls: &[(Operation, &str)]) -> Verdict {
        Verdict::of(&history(calls))
    }

    /// Builds a history of sequential calls, the last of which is a final read.
    fn history(calls: &[(Operation, &str)]) -> History {
        let run = Run { drill: "kill".to_owned(), number: 1, users: 1, rate: 1 };
        let events = vec![Moment { at: 10 * calls.len() as u64 - 10, what: What::Ends }];
        let call = |(n, (operation, body)): (usize, &(Operation, &str))| {
            let (start, end) = (10 * n as u64, 10 * n as u64 + 5);
            let (route, answer) = (String::new(), told(body, *operation == Operation::Login));
            Call {
                due: start,
                start,
                end,
                node: 0,
                session: 0,
                route,
                operation: *operation,
                answer,
            }
        };
        History { run, events, calls: calls.iter().enumerate().map(call).collect() }
    }

    fn told(body: &str, token: bool) -> Answer {
        Answer::Told { status: 200, body: body.to_owned(), token }
    }
}
