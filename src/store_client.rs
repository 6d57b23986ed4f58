//! The store, as the middleware calls it: every call has a timeout, and a circuit breaker if the store fails
//! as a whole.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::poll_immediate;
use steadfast_core::{
    Deleted, Deletion, Event, LoginPolicy, Lookup, Outcome, Patch, Principal, Proof, Record,
    RecordId, RequestHint, Revocation, Scope, SessionInfo, SessionStore, StoreError,
};
use tokio::time::{Instant, timeout};
use tracing::field::Empty;
use tracing::{Instrument, Span, debug_span};

use crate::breaker::{Breaker, Failure, Pass};
use crate::measure::{self, Answered, Measure, Op, ShownBreaker};

/// Time limits of store calls. A request that exceeds one fails with "not confirmed".
///
/// ```
/// use std::time::Duration;
/// use steadfast::Timeouts;
///
/// let patient = Timeouts::default().normal(Duration::from_secs(2));
/// assert_eq!(patient.critical, Duration::from_secs(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// The limit for a load, a list, and an update that keeps the secret: 1 s by default.
    pub normal: Duration,
    /// The limit for calls whose result must not stay in doubt: creating, ending, and replacing a secret. 3 s by
    /// default.
    pub critical: Duration,
}

impl Timeouts {
    /// Returns the same with another limit for normal calls.
    #[must_use]
    pub const fn normal(self, normal: Duration) -> Self {
        Self { normal, ..self }
    }

    /// Returns the same with another limit for critical calls.
    #[must_use]
    pub const fn critical(self, critical: Duration) -> Self {
        Self { critical, ..self }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { normal: Duration::from_secs(1), critical: Duration::from_secs(3) }
    }
}

/// The store, as the middleware calls it.
#[derive(Clone, Debug)]
pub(crate) struct StoreClient {
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) timeouts: Timeouts,
    breakers: Arc<Breakers>,
}

impl StoreClient {
    pub(crate) fn new(store: Arc<dyn SessionStore>) -> Self {
        Self { store, timeouts: Timeouts::default(), breakers: Arc::new(Breakers::new()) }
    }

    pub(crate) fn create(
        &self,
        id: RecordId,
        record: Record,
        policy: LoginPolicy,
    ) -> impl StoreFuture<Outcome> {
        let deadline = self.timeouts.critical;
        let call = Call { op: Op::Create, about: id.about(), deadline, purpose: Purpose::Use };
        self.within(call, self.store.create(id, record, policy))
    }

    pub(crate) fn load<'a>(
        &'a self,
        id: RecordId,
        proof: Option<&'a Proof>,
        hint: &'a RequestHint,
        purpose: Purpose,
    ) -> impl StoreFuture<Lookup> + 'a {
        let deadline = self.timeouts.normal;
        let call = Call { op: Op::Load, about: id.about(), deadline, purpose };
        self.within(call, self.store.load(id, proof, hint))
    }

    pub(crate) fn update<'a>(
        &'a self,
        id: RecordId,
        patch: &'a Patch,
        hint: &'a RequestHint,
    ) -> impl StoreFuture<Outcome> + 'a {
        let deadline = match patch.rotation() {
            Some(_) => self.timeouts.critical,
            None => self.timeouts.normal,
        };
        let call = Call { op: Op::Update, about: id.about(), deadline, purpose: Purpose::Use };
        self.within(call, self.store.update(id, patch, hint))
    }

    pub(crate) fn delete<'a>(
        &'a self,
        id: RecordId,
        deletion: &'a Deletion<'a>,
    ) -> impl StoreFuture<Deleted> + 'a {
        let deadline = self.timeouts.critical;
        let call = Call { op: Op::Delete, about: id.about(), deadline, purpose: Purpose::End };
        self.within(call, self.store.delete(id, deletion))
    }

    pub(crate) fn list<'a>(
        &'a self,
        whose: &'a Principal,
        purpose: Purpose,
    ) -> impl StoreFuture<Vec<SessionInfo>> + 'a {
        let deadline = self.timeouts.normal;
        let call = Call { op: Op::List, about: whose.about(), deadline, purpose };
        self.within(call, self.store.list(whose))
    }

    pub(crate) fn delete_all<'a>(
        &'a self,
        whose: &'a Principal,
        revocation: Revocation,
    ) -> impl StoreFuture<u64> + 'a {
        let (op, deadline) = (Op::DeleteAll, self.timeouts.critical);
        let call = Call { op, about: whose.about(), deadline, purpose: Purpose::End };
        self.within(call, self.store.delete_all(whose, revocation))
    }

    fn within<'a, T: Answered + Send + 'a>(
        &'a self,
        call: Call,
        answer: impl StoreFuture<T> + 'a,
    ) -> impl StoreFuture<T> + 'a {
        let span = debug_span!(
            target: "steadfast",
            "store_call",
            op = call.op.name(),
            outcome = Empty,
            reason = Empty,
        );
        self.measured(call, answer, span.clone()).instrument(span)
    }

    async fn measured<T: Answered + Send>(
        &self,
        call: Call,
        answer: impl StoreFuture<T>,
        span: Span,
    ) -> Result<T, StoreError> {
        let pass = self.admit(call).inspect_err(|_| {
            span.record("reason", measure::NOT_MADE);
        })?;
        let mut measure = Measure::begin(call.op, span);
        let mut answer = pin!(answer);
        // A store in memory has answered by now and needs no timer.
        let answer = match poll_immediate(answer.as_mut()).await {
            Some(answer) => answer,
            None => {
                measure.waits();
                let timely = Box::pin(timeout(call.deadline, answer)).await;
                timely.unwrap_or(Err(StoreError::Timeout))
            }
        };
        measure.end(&answer);
        self.note(call, pass, answer.as_ref().err());
        answer
    }

    fn admit(&self, call: Call) -> Result<Pass, StoreError> {
        // A sign-out tries even a server that is known to be down.
        if call.purpose == Purpose::End || !self.store.shares_fate() {
            return Ok(Pass::Exempt);
        }
        let pass = self.breakers.of(call.op).breaker.admit(self.breakers.now());
        pass.ok_or_else(|| {
            measure::failed(measure::NOT_MADE);
            StoreError::unavailable(BreakerOpen)
        })
    }

    fn note(&self, call: Call, pass: Pass, error: Option<&StoreError>) {
        if error.is_some() {
            Event::StoreError.emit(None);
        }
        if !self.store.shares_fate() {
            return;
        }
        let (MeasuredBreaker { breaker, shown }, now) =
            (self.breakers.of(call.op), self.breakers.now());
        match error {
            Some(StoreError::Timeout) => breaker.failed(pass, Failure::Silent(call.about), now),
            Some(error) if error.scope() == Scope::Server => {
                breaker.failed(pass, Failure::Unreachable, now);
            }
            _ => breaker.answered(pass, now),
        }
        // An ordinary answer does not change the state of the breaker.
        if error.is_some() || pass != Pass::Call {
            shown.follow(|| breaker.is_open());
        }
    }
}

/// The properties of a call that its deadline and the breakers depend on.
#[derive(Clone, Copy)]
struct Call {
    op: Op,
    /// A hash of the call's subject.
    about: u8,
    deadline: Duration,
    purpose: Purpose,
}

/// The purpose of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Serves a request, which the client can repeat.
    Use,
    /// Ends sessions, or finds out which to end. Such a call is made even while the breaker is open.
    End,
}

/// One breaker for reads and one for writes: a server may serve only one kind.
#[derive(Debug)]
struct Breakers {
    start: Instant,
    reads: MeasuredBreaker,
    writes: MeasuredBreaker,
}

/// A breaker, and its state in the metrics.
#[derive(Debug)]
struct MeasuredBreaker {
    breaker: Breaker,
    shown: ShownBreaker,
}

impl Breakers {
    fn new() -> Self {
        let breaker =
            |calls| MeasuredBreaker { breaker: Breaker::new(), shown: ShownBreaker::new(calls) };
        Self { start: Instant::now(), reads: breaker("reads"), writes: breaker("writes") }
    }

    fn of(&self, op: Op) -> &MeasuredBreaker {
        match op {
            Op::Load | Op::List => &self.reads,
            Op::Create | Op::Update | Op::Delete | Op::DeleteAll => &self.writes,
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The subject of a call.
trait Subject {
    fn about(&self) -> u8;
}

impl Subject for RecordId {
    fn about(&self) -> u8 {
        // The last bytes are random.
        self.as_bytes()[15]
    }
}

impl Subject for Principal {
    fn about(&self) -> u8 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(self) as u8
    }
}

/// A future of a store's answer.
pub(crate) trait StoreFuture<T>: Future<Output = Result<T, StoreError>> + Send {}

impl<T, F: Future<Output = Result<T, StoreError>> + Send> StoreFuture<T> for F {}

/// A call was not made, because the store is known to be down.
#[derive(Debug, thiserror::Error)]
#[error("earlier client failed, and the next try is due within half a second")]
pub(crate) struct BreakerOpen;
