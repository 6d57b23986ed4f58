//! A visitor: the cookies of a browser, and the oracle of the session that they belong to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header;
use serde_json::Value;

use super::http::Answer;
use super::oracle::{Register, Seen};
use crate::records::{Outcome, Place};

/// A visitor with one session after another.
#[derive(Debug)]
pub struct Visitor {
    name: String,
    /// The address that it comes from.
    address: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    cookies: BTreeMap<String, String>,
    register: Register,
    /// Counts the sessions, so that an answer is judged by the session that its request belonged to.
    epoch: u32,
    /// Set from a loss to the next sign-in.
    is_lost: bool,
    is_signing_in: bool,
    /// Set while a sign-out is under way: the session may end at any moment then.
    is_leaving: bool,
}

/// The state of a visitor when a request was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The address that the request comes from.
    pub from: String,
    /// The header `Cookie`.
    pub cookies: String,
    epoch: u32,
    at: Duration,
}

/// The verdict on an answer, and what it revealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The verdict.
    pub outcome: Outcome,
    /// Set on the first answer that shows that the session is gone: true if an acknowledged value is
    /// gone with it.
    pub loss: Option<bool>,
}

impl Visitor {
    /// A visitor who has not signed in.
    pub fn new(number: usize, address: String) -> Self {
        Self { name: format!("visitor{number}"), address, state: Mutex::default() }
    }

    /// The address that it comes from.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Begins a sign-in: its path, and true if a loss is the reason. `None` if one is under way.
    pub fn begin_sign_in(&self) -> Option<(String, bool)> {
        let mut state = self.state();
        if state.is_signing_in {
            return None;
        }
        state.is_signing_in = true;
        Some((format!("/login?u={}", self.name), state.is_lost))
    }

    /// True from the end of a session until the visitor has signed in again.
    pub fn is_signed_out(&self) -> bool {
        self.state().cookies.is_empty()
    }

    /// The state for a request that is sent now.
    pub fn send(&self, now: Duration) -> Sent {
        self.state().sent(&self.address, now)
    }

    /// The state for a write that is sent now, and the number that it writes.
    pub fn send_write(&self, now: Duration) -> (Sent, u64) {
        let mut state = self.state();
        let number = state.register.begin(now);
        (state.sent(&self.address, now), number)
    }

    /// The state for a sign-out that is sent now.
    pub fn send_sign_out(&self, now: Duration) -> Sent {
        let mut state = self.state();
        state.is_leaving = true;
        state.sent(&self.address, now)
    }

    /// Begins a session with the answer to a sign-in.
    pub fn signed_in(&self, answer: Option<&Answer>) -> Outcome {
        let mut state = self.state();
        state.is_signing_in = false;
        let Some(answer) = answer else { return Outcome::Unanswered };
        if answer.status != 200 {
            return Outcome::Refused;
        }
        *state = State { epoch: state.epoch + 1, ..State::default() };
        state.keep_cookies(answer);
        Outcome::Good
    }

    /// Judges the answer to a read.
    pub fn judge_read(&self, sent: &Sent, answer: Option<&Answer>) -> Verdict {
        let mut state = self.state();
        let answer = match state.usable(sent, answer) {
            Ok(answer) => answer,
            Err(outcome) => return Verdict { outcome, loss: None },
        };
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if told["user"] != *self.name {
            return state.lose();
        }
        state.keep_cookies(answer);
        let outcome = match state.register.judge(told["n"][0].as_u64().unwrap_or(0), sent.at) {
            Seen::Fresh => Outcome::Good,
            Seen::Stale => Outcome::Stale,
        };
        Verdict { outcome, loss: None }
    }

    /// Judges the answer to a write of a number.
    pub fn judge_write(
        &self,
        sent: &Sent,
        number: u64,
        answer: Option<&Answer>,
        now: Duration,
    ) -> Verdict {
        let mut state = self.state();
        let answer = match state.usable(sent, answer) {
            Ok(answer) => answer,
            Err(outcome) => return Verdict { outcome, loss: None },
        };
        // A node that does not know the session opens an anonymous one for the value.
        if set_cookies(answer).any(|(name, _)| name == SESSION) {
            return state.lose();
        }
        state.keep_cookies(answer);
        state.register.acknowledge(number, now);
        Verdict { outcome: Outcome::Good, loss: None }
    }

    /// Judges the answer to a sign-out. The visitor gives the session up even without a good answer,
    /// because it may have ended.
    pub fn judge_sign_out(&self, sent: &Sent, answer: Option<&Answer>) -> Verdict {
        let mut state = self.state();
        let outcome = state.usable(sent, answer).err().unwrap_or(Outcome::Good);
        if outcome != Outcome::Overtaken {
            state.is_leaving = false;
            // The node does not know the visitor.
            if answer.is_some_and(|answer| answer.status == 401) {
                return state.lose();
            }
            state.cookies.clear();
            state.epoch += 1;
        }
        Verdict { outcome, loss: None }
    }

    /// Keeps what an answer says about the session, other than a session of its own.
    pub fn keep_companions(&self, sent: &Sent, answer: &Answer) {
        let mut state = self.state();
        let is_other = set_cookies(answer).any(|(name, _)| name == SESSION);
        if sent.epoch == state.epoch && !is_other {
            state.keep_cookies(answer);
        }
    }

    /// The label of the node that the session lives on, if the visitor carries one.
    pub fn home(&self) -> Option<String> {
        let state = self.state();
        let route = state.cookies.get(ROUTE)?;
        route.split('.').next().map(str::to_owned)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn sent(&self, from: &str, at: Duration) -> Sent {
        let pairs: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Sent { from: from.to_owned(), cookies: pairs.join("; "), epoch: self.epoch, at }
    }

    /// The answer, if it belongs to this session and is not an error.
    fn usable<'a>(&self, sent: &Sent, answer: Option<&'a Answer>) -> Result<&'a Answer, Outcome> {
        let answer = answer.ok_or(Outcome::Unanswered)?;
        if answer.status >= 500 {
            return Err(Outcome::Refused);
        }
        if sent.epoch != self.epoch {
            return Err(Outcome::Overtaken);
        }
        if answer.status == 200 { Ok(answer) } else { Err(Outcome::Refused) }
    }

    fn lose(&mut self) -> Verdict {
        if self.is_leaving {
            return Verdict { outcome: Outcome::Overtaken, loss: None };
        }
        let held_a_value = self.register.has_acknowledged();
        self.cookies.clear();
        self.epoch += 1;
        self.is_lost = true;
        Verdict { outcome: Outcome::Missing, loss: Some(held_a_value) }
    }

    fn keep_cookies(&mut self, answer: &Answer) {
        for (name, rest) in set_cookies(answer) {
            if rest.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                let value = rest.split(';').next().unwrap_or_default();
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

/// The place of a node among those that the route in a request's cookies names. `None` without a route.
pub fn place(cookies: &str, node: u8) -> Option<Place> {
    let pairs = cookies.split("; ").filter_map(|pair| pair.split_once('='));
    let (_, route) = pairs.into_iter().find(|(name, _)| *name == ROUTE)?;
    let label = format!("n{}", node + 1);
    Some(match route.split('.').position(|one| one == label) {
        Some(0) => Place::Owner,
        Some(_) => Place::Copy,
        None => Place::Elsewhere,
    })
}

/// True if an answer to a read shows a signed-in user.
pub fn is_signed_in(answer: &Answer) -> bool {
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    answer.status == 200 && told["user"].is_string()
}

/// Names, and values with their attributes.
fn set_cookies(answer: &Answer) -> impl Iterator<Item = (&str, &str)> {
    let lines = answer.headers.get_all(header::SET_COOKIE).iter();
    lines.filter_map(|line| line.to_str().ok()?.split_once('='))
}

const SESSION: &str = "__Host-id";
const ROUTE: &str = "__Host-id-route";

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    #[test]
    fn a_read_of_the_own_value_is_good() {
        let visitor = signed_in();
        let (sent, number) = visitor.send_write(at(1));
        let verdict = visitor.judge_write(&sent, number, Some(&answer(200, "{}", &[])), at(2));
        assert_eq!(verdict, Verdict { outcome: Outcome::Good, loss: None });
        assert_eq!(read(&visitor, r#"{"user":"visitor7","n":[1,"x"]}"#).outcome, Outcome::Good);
        assert_eq!(read(&visitor, r#"{"user":"visitor7","n":null}"#).outcome, Outcome::Stale);
    }

    #[test]
    fn a_lost_session_counts_once() {
        let visitor = signed_in();
        let (first, second) = (visitor.send(at(3)), visitor.send(at(3)));
        let signed_out = answer(200, r#"{"user":null,"n":null}"#, &[]);
        let verdict = visitor.judge_read(&first, Some(&signed_out));
        assert_eq!(verdict, Verdict { outcome: Outcome::Missing, loss: Some(false) });
        let verdict = visitor.judge_read(&second, Some(&signed_out));
        assert_eq!(verdict, Verdict { outcome: Outcome::Overtaken, loss: None });
        assert!(visitor.is_signed_out());
    }

    #[test]
    fn a_write_into_another_session_is_a_loss() {
        let visitor = signed_in();
        let (sent, number) = visitor.send_write(at(1));
        let other = answer(200, "{}", &["__Host-id=other; Path=/"]);
        let verdict = visitor.judge_write(&sent, number, Some(&other), at(2));
        assert_eq!(verdict.outcome, Outcome::Missing);
    }

    #[test]
    fn errors_are_failures_and_no_losses() {
        let visitor = signed_in();
        let sent = visitor.send(at(1));
        let refused = visitor.judge_read(&sent, Some(&answer(503, "", &[])));
        assert_eq!(refused, Verdict { outcome: Outcome::Refused, loss: None });
        let unanswered = visitor.judge_read(&sent, None);
        assert_eq!(unanswered, Verdict { outcome: Outcome::Unanswered, loss: None });
        assert!(!visitor.is_signed_out());
    }

    #[test]
    fn only_a_loss_forces_a_sign_in() {
        let visitor = signed_in();
        let sent = visitor.send(at(1));
        visitor.judge_sign_out(&sent, Some(&answer(200, "{}", &[])));
        assert!(visitor.is_signed_out());
        assert!(visitor.begin_sign_in().is_some_and(|(_, is_forced)| !is_forced));
        assert!(visitor.begin_sign_in().is_none());
        visitor.signed_in(Some(&answer(200, "{}", &["__Host-id=other"])));
        let sent = visitor.send(at(2));
        visitor.judge_read(&sent, Some(&answer(200, r#"{"user":null}"#, &[])));
        assert!(visitor.begin_sign_in().is_some_and(|(_, is_forced)| is_forced));
    }

    #[test]
    fn an_unanswered_sign_out_may_end_the_session() {
        let visitor = signed_in();
        let (read, sign_out) = (visitor.send(at(1)), visitor.send_sign_out(at(1)));
        let signed_out = answer(200, r#"{"user":null}"#, &[]);
        let verdict = visitor.judge_read(&read, Some(&signed_out));
        assert_eq!(verdict, Verdict { outcome: Outcome::Overtaken, loss: None });
        assert_eq!(visitor.judge_sign_out(&sign_out, None).outcome, Outcome::Unanswered);
        assert!(visitor.is_signed_out());
        assert!(visitor.begin_sign_in().is_some_and(|(_, is_forced)| !is_forced));
    }

    #[test]
    fn the_route_tells_where_a_request_was_served() {
        let cookies = "__Host-id=token; __Host-id-route=n2.n3";
        let places = [1, 2, 0].map(|node| place(cookies, node));
        assert_eq!(places, [Some(Place::Owner), Some(Place::Copy), Some(Place::Elsewhere)]);
        assert_eq!(place("__Host-id=token", 1), None);
    }

    #[test]
    fn cookies_are_kept_and_removed() {
        let visitor = signed_in();
        assert_eq!(visitor.home().as_deref(), Some("n2"));
        assert_eq!(visitor.send(at(1)).cookies, "__Host-id=token; __Host-id-route=n2.n3");
        let sent = visitor.send(at(1));
        let gone = answer(200, r#"{"user":"visitor7"}"#, &["__Host-id-route=; Max-Age=0"]);
        visitor.judge_read(&sent, Some(&gone));
        assert_eq!(visitor.send(at(1)).cookies, "__Host-id=token");
    }

    fn signed_in() -> Visitor {
        let visitor = Visitor::new(7, String::new());
        let cookies = ["__Host-id=token; Path=/; Secure", "__Host-id-route=n2.n3; Path=/"];
        assert_eq!(visitor.signed_in(Some(&answer(200, "{}", &cookies))), Outcome::Good);
        visitor
    }

    fn read(visitor: &Visitor, body: &str) -> Verdict {
        let sent = visitor.send(at(9));
        visitor.judge_read(&sent, Some(&answer(200, body, &[])))
    }

    fn answer(status: u16, body: &str, cookies: &[&'static str]) -> Answer {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie.parse().unwrap());
        }
        Answer { status, headers, body: body.to_owned().into() }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}
