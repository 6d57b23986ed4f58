//! The load: visitors who carry out a plan over HTTP, and the records of the responses.

pub mod arrivals;
pub mod http;
pub mod oracle;
pub mod visitor;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::records::{Action, Outcome, Phase, Record};
use arrivals::{Arrival, Skew, Step};
use http::{Answer, Http};
use visitor::{Sent, Verdict, Visitor};

/// Visitors of one service.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    http: Http,
    visitors: Vec<Visitor>,
    /// The text that fills a value up to its size.
    padding: String,
    started: Instant,
    /// Cookies of sessions that were signed out.
    ended: Mutex<Vec<Sent>>,
    records: Mutex<Vec<Record>>,
}

/// The planned time of a request, from which its latency counts.
#[derive(Clone, Copy)]
struct Planned {
    phase: Phase,
    at: Duration,
    due: Instant,
}

impl Load {
    /// Visitors of the service at an address. They have not signed in, and write values of
    /// `value_bytes` bytes. The skew decides where they come from.
    pub fn new(address: &str, visitors: usize, value_bytes: usize, skew: Skew) -> Self {
        let visitor = |number| Visitor::new(number, skew.address(number));
        let shared = Shared {
            http: Http::new(address),
            visitors: (0..visitors).map(visitor).collect(),
            padding: "x".repeat(value_bytes),
            started: Instant::now(),
            ended: Mutex::default(),
            records: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Signs every visitor in.
    pub async fn sign_in(&self) {
        let shared = &self.shared;
        self.for_each_visitor(
            move |visitor, planned| {
                let shared = Arc::clone(shared);
                async move { shared.sign_in(visitor, planned).await }
            },
            Phase::Arrive,
        )
        .await;
    }

    /// Has every visitor write once.
    pub async fn write_all(&self) {
        let shared = &self.shared;
        self.for_each_visitor(
            move |visitor, planned| {
                let shared = Arc::clone(shared);
                async move { shared.write(visitor, planned).await }
            },
            Phase::Arrive,
        )
        .await;
    }

    /// Carries out a plan, and returns when the last request of it has ended.
    pub async fn carry_out(&self, phase: Phase, plan: &[Arrival]) {
        let (start, mut requests) = (Instant::now(), JoinSet::new());
        for arrival in plan {
            let due = start + arrival.at;
            tokio::time::sleep_until(due).await;
            let shared = Arc::clone(&self.shared);
            let (planned, arrival) = (Planned { phase, at: arrival.at, due }, *arrival);
            requests.spawn(async move { shared.step(arrival, planned).await });
            while requests.try_join_next().is_some() {}
        }
        requests.join_all().await;
    }

    /// Reads every session once, and tries the cookies of ended ones again.
    pub async fn audit(&self, phase: Phase) {
        let shared = &self.shared;
        self.for_each_visitor(
            move |visitor, planned| {
                let shared = Arc::clone(shared);
                async move { shared.read(visitor, planned, Action::Audit).await }
            },
            phase,
        )
        .await;
        let ended = self.shared.ended().clone();
        for sent in ended.iter().take(REPLAYED) {
            self.shared.replay(sent, Planned::now(phase)).await;
        }
    }

    /// Adds to a counter of some sessions, several times each at the same moment. Returns how many
    /// additions were acknowledged, and how many of them the counters show.
    pub async fn add_together(&self) -> (u64, u64) {
        let count = self.shared.visitors.len().min(COUNTED);
        let mut counted = (0, 0);
        for visitor in 0..count {
            let (acknowledged, shown) = self.shared.add_together(visitor).await;
            counted.0 += acknowledged;
            counted.1 += shown.min(acknowledged);
        }
        counted
    }

    /// The number of sessions that live on each of these nodes, if visitors carry the label of one.
    pub fn homes(&self, labels: &[String]) -> Option<Vec<u64>> {
        let homes: Vec<_> = self.shared.visitors.iter().filter_map(Visitor::home).collect();
        let count = |label| homes.iter().filter(|home| *home == label).count() as u64;
        (!homes.is_empty()).then(|| labels.iter().map(count).collect())
    }

    /// Everything that was recorded.
    pub fn records(&self) -> Vec<Record> {
        self.shared.records().clone()
    }

    async fn for_each_visitor<F: Future<Output = ()> + Send + 'static>(
        &self,
        act: impl Fn(usize, Planned) -> F,
        phase: Phase,
    ) {
        let mut acting = JoinSet::new();
        for visitor in 0..self.shared.visitors.len() {
            if acting.len() >= AT_A_TIME {
                acting.join_next().await;
            }
            acting.spawn(act(visitor, Planned::now(phase)));
        }
        acting.join_all().await;
    }
}

impl Shared {
    async fn step(&self, arrival: Arrival, planned: Planned) {
        let visitor = arrival.session;
        if self.visitors[visitor].is_signed_out() {
            return self.sign_in(visitor, planned).await;
        }
        match arrival.step {
            Step::Read => self.read(visitor, planned, Action::Read).await,
            Step::Write => self.write(visitor, planned).await,
            Step::Leave => self.leave(visitor, planned).await,
        }
    }

    /// Signs a visitor in, unless that is under way.
    async fn sign_in(&self, visitor: usize, planned: Planned) {
        let one = &self.visitors[visitor];
        let Some((path, is_forced)) = one.begin_sign_in() else { return };
        let action = if is_forced { Action::ForcedSignIn } else { Action::SignIn };
        let answer = self.http.send("POST", &path, (one.address(), ""), "").await;
        let outcome = one.signed_in(answer.as_ref());
        self.record(planned, action, outcome, "", answer.as_ref());
    }

    async fn read(&self, visitor: usize, planned: Planned, action: Action) {
        let one = &self.visitors[visitor];
        let sent = one.send(self.now());
        let answer = self.send("GET", "/peek", &sent, "").await;
        let verdict = one.judge_read(&sent, answer.as_ref());
        self.settle(visitor, planned, action, verdict, &sent, answer.as_ref()).await;
    }

    async fn write(&self, visitor: usize, planned: Planned) {
        let one = &self.visitors[visitor];
        let (sent, number) = one.send_write(self.now());
        let body = format!("[{number},\"{}\"]", self.padding);
        let answer = self.send("POST", "/put?k=n", &sent, &body).await;
        let verdict = one.judge_write(&sent, number, answer.as_ref(), self.now());
        self.settle(visitor, planned, Action::Write, verdict, &sent, answer.as_ref()).await;
    }

    /// Signs out, tries the old cookies, and signs in again.
    async fn leave(&self, visitor: usize, planned: Planned) {
        let one = &self.visitors[visitor];
        let sent = one.send_sign_out(self.now());
        let answer = self.send("POST", "/logout", &sent, "").await;
        let verdict = one.judge_sign_out(&sent, answer.as_ref());
        self.settle(visitor, planned, Action::SignOut, verdict, &sent, answer.as_ref()).await;
        if verdict.outcome == Outcome::Good {
            self.replay(&sent, Planned { due: Instant::now(), ..planned }).await;
            self.ended().push(sent);
            let planned = Planned { due: Instant::now(), ..planned };
            self.sign_in(visitor, planned).await;
        }
    }

    async fn replay(&self, sent: &Sent, planned: Planned) {
        let answer = self.send("GET", "/peek", sent, "").await;
        let outcome = match &answer {
            None => Outcome::Unanswered,
            Some(answer) if visitor::is_signed_in(answer) => Outcome::Revived,
            Some(answer) if answer.status >= 500 => Outcome::Refused,
            Some(_) => Outcome::Good,
        };
        self.record(planned, Action::Replay, outcome, &sent.cookies, answer.as_ref());
    }

    async fn add_together(&self, visitor: usize) -> (u64, u64) {
        let one = &self.visitors[visitor];
        let adding = (0..TOGETHER).map(|_| self.add(one));
        let mut acknowledged = 0;
        for added in join_all(adding).await {
            acknowledged += u64::from(added);
        }
        let answer = self.send("GET", "/get?k=together", &one.send(self.now()), "").await;
        let shown = answer.and_then(|answer| serde_json::from_slice(&answer.body).ok());
        let shown: serde_json::Value = shown.unwrap_or_default();
        (acknowledged, shown["value"].as_u64().unwrap_or(0))
    }

    async fn add(&self, visitor: &Visitor) -> bool {
        let (planned, sent) = (Planned::now(Phase::Together), visitor.send(self.now()));
        let answer = self.send("POST", "/incr?k=together", &sent, "").await;
        if let Some(answer) = &answer {
            visitor.keep_companions(&sent, answer);
        }
        let outcome = match &answer {
            None => Outcome::Unanswered,
            Some(answer) if answer.status == 200 => Outcome::Good,
            Some(_) => Outcome::Refused,
        };
        self.record(planned, Action::Increment, outcome, &sent.cookies, answer.as_ref());
        outcome == Outcome::Good
    }

    /// Records a verdict. A visitor whose session is gone signs in again, as a person would.
    async fn settle(
        &self,
        visitor: usize,
        planned: Planned,
        action: Action,
        verdict: Verdict,
        sent: &Sent,
        answer: Option<&Answer>,
    ) {
        self.record(planned, action, verdict.outcome, &sent.cookies, answer);
        let Some(held_a_value) = verdict.loss else { return };
        let outcome = if held_a_value { Outcome::Stale } else { Outcome::Good };
        self.record(planned, Action::Loss, outcome, &sent.cookies, answer);
        let planned = Planned { due: Instant::now(), ..planned };
        self.sign_in(visitor, planned).await;
    }

    async fn send(&self, method: &str, path: &str, sent: &Sent, body: &str) -> Option<Answer> {
        self.http.send(method, path, (&sent.from, &sent.cookies), body).await
    }

    fn record(
        &self,
        planned: Planned,
        action: Action,
        outcome: Outcome,
        cookies: &str,
        answer: Option<&Answer>,
    ) {
        let Planned { phase, at, due } = planned;
        let node = answer.and_then(node);
        let place = node.and_then(|node| visitor::place(cookies, node));
        let record =
            Record { phase, planned: at, took: due.elapsed(), action, outcome, node, place };
        self.records().push(record);
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, Vec<Sent>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn records(&self) -> std::sync::MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Planned {
    /// A request outside of any plan.
    fn now(phase: Phase) -> Self {
        Self { phase, at: Duration::ZERO, due: Instant::now() }
    }
}

/// The node that the balancer names.
fn node(answer: &Answer) -> Option<u8> {
    let label = answer.headers.get(SERVED_BY)?.to_str().ok()?;
    label.strip_prefix('n')?.parse::<u8>().ok()?.checked_sub(1)
}

/// The header in which the balancer names the node.
pub const SERVED_BY: &str = "x-served-by";

/// The number of visitors who sign in or are audited concurrently.
const AT_A_TIME: usize = 16;

/// The number of sessions whose counters are incremented.
const COUNTED: usize = 30;

/// The number of concurrent additions to one counter.
const TOGETHER: usize = 8;

/// The number of cookies of ended sessions that are replayed after a phase.
const REPLAYED: usize = 100;
