//! Every call of the middleware to its store goes through here: a deadline, and a breaker for stores
//! that fail as a whole.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::poll_immediate;
use steadfast_core::{
    Admission, Event, Hint, Lookup, Outcome, Patch, Principal, Proof, Record, RecordId, Scope,
    SessionInfo, SessionStore, StoreError,
};
use tokio::time::{Instant, timeout};

/// How long a request waits for the store before it gives up with "not confirmed".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For a load, a list, and an update that keeps the secret: 1 s by default.
    pub usual: Duration,
    /// For what must not stay in doubt: creating, ending, and replacing a secret. 3 s by default.
    pub decisive: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { usual: Duration::from_secs(1), decisive: Duration::from_secs(3) }
    }
}

/// The store, as the middleware calls it.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) deadlines: Deadlines,
    breaker: Arc<Breaker>,
}

impl Calls {
    pub(crate) fn new(store: Arc<dyn SessionStore>) -> Self {
        Self { store, deadlines: Deadlines::default(), breaker: Arc::new(Breaker::new()) }
    }

    pub(crate) fn create(
        &self,
        id: RecordId,
        record: Record,
        admission: Admission,
    ) -> impl Answer<Outcome> {
        self.within(self.deadlines.decisive, self.store.create(id, record, admission))
    }

    pub(crate) fn load<'a>(
        &'a self,
        id: RecordId,
        proof: Option<&'a Proof>,
        hint: &'a Hint,
    ) -> impl Answer<Lookup> + 'a {
        self.within(self.deadlines.usual, self.store.load(id, proof, hint))
    }

    pub(crate) fn update<'a>(
        &'a self,
        id: RecordId,
        patch: &'a Patch,
        hint: &'a Hint,
    ) -> impl Answer<Outcome> + 'a {
        let deadline = match patch.rotation() {
            Some(_) => self.deadlines.decisive,
            None => self.deadlines.usual,
        };
        self.within(deadline, self.store.update(id, patch, hint))
    }

    pub(crate) fn delete(&self, id: RecordId) -> impl Answer<bool> {
        self.within(self.deadlines.decisive, self.store.delete(id, None))
    }

    pub(crate) fn list<'a>(&'a self, whose: &'a Principal) -> impl Answer<Vec<SessionInfo>> + 'a {
        self.within(self.deadlines.usual, self.store.list(whose))
    }

    pub(crate) fn delete_all<'a>(
        &'a self,
        whose: &'a Principal,
        except: Option<RecordId>,
    ) -> impl Answer<u64> + 'a {
        self.within(self.deadlines.decisive, self.store.delete_all(whose, except, None))
    }

    async fn within<T>(&self, deadline: Duration, call: impl Answer<T>) -> Result<T, StoreError> {
        let breaker = self.store.fails_as_a_whole().then_some(&self.breaker);
        breaker.map_or(Ok(()), |breaker| breaker.admit())?;
        let mut call = pin!(call);
        // A store in memory has answered by now: no timer for it, and no room for one.
        let answer = match poll_immediate(call.as_mut()).await {
            Some(answer) => answer,
            None => Box::pin(timeout(deadline, call)).await.unwrap_or(Err(StoreError::Timeout)),
        };
        match (&answer, breaker) {
            (Err(error), Some(breaker)) if error.scope() == Scope::Server => breaker.failed(),
            (_, Some(breaker)) => breaker.answered(),
            (_, None) => {}
        }
        if answer.is_err() {
            Event::StoreError.emit(None);
        }
        answer
    }
}

/// A store's answer, as soon as there is one.
pub(crate) trait Answer<T>: Future<Output = Result<T, StoreError>> + Send {}

impl<T, F: Future<Output = Result<T, StoreError>> + Send> Answer<T> for F {}

/// Spares requests the wait for a store that is known to be dead.
///
/// After [`Breaker::TRIES`] failures in a row, calls fail at once for [`Breaker::PAUSE`]. Then one
/// call is let through: its success closes the breaker, its failure begins another pause. A probe
/// that is dropped counts as failed, because nothing answered.
#[derive(Debug)]
struct Breaker {
    start: Instant,
    failures: AtomicU32,
    /// Milliseconds after `start` until which calls fail at once; 0 while the breaker is closed.
    open_until: AtomicU64,
}

impl Breaker {
    const TRIES: u32 = 5;
    const PAUSE: Duration = Duration::from_millis(500);

    fn new() -> Self {
        Self { start: Instant::now(), failures: AtomicU32::new(0), open_until: AtomicU64::new(0) }
    }

    fn admit(&self) -> Result<(), StoreError> {
        let until = self.open_until.load(Ordering::Acquire);
        if until == 0 {
            return Ok(());
        }
        let is_probe = self.now() >= until
            && self
                .open_until
                .compare_exchange(until, self.pause_from_now(), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        is_probe.then_some(()).ok_or_else(|| StoreError::unavailable(BreakerOpen))
    }

    fn failed(&self) {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        if failures >= Self::TRIES {
            self.open_until.store(self.pause_from_now(), Ordering::Release);
        }
    }

    fn answered(&self) {
        if self.failures.load(Ordering::Acquire) != 0 {
            self.failures.store(0, Ordering::Release);
            self.open_until.store(0, Ordering::Release);
        }
    }

    fn pause_from_now(&self) -> u64 {
        self.now() + Self::PAUSE.as_millis() as u64
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }
}

/// A call was not made, because the store is known to be dead.
#[derive(Debug, thiserror::Error)]
#[error("earlier calls failed, and the next try is due within half a second")]
pub(crate) struct BreakerOpen;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn st_09_a_dead_store_is_probed_once_a_pause() {
        let breaker = Breaker::new();
        for _ in 0..Breaker::TRIES {
            breaker.admit().unwrap();
            breaker.failed();
        }
        assert!(breaker.admit().is_err());
        tokio::time::advance(Breaker::PAUSE).await;
        assert!(breaker.admit().is_ok());
        assert!(breaker.admit().is_err(), "only one probe");
        tokio::time::advance(Breaker::PAUSE).await;
        assert!(breaker.admit().is_ok(), "a probe that never ended does not block the next");
        breaker.answered();
        assert!(breaker.admit().is_ok() && breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_between_answers_do_not_open_it() {
        let breaker = Breaker::new();
        for _ in 0..100 {
            breaker.failed();
            breaker.answered();
        }
        assert!(breaker.admit().is_ok());
    }
}
