//! One connection to a server, opened again when it breaks or hangs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::dial::Driver;
use super::{Fault, Origin};
use crate::address::Address;

/// A connection that all callers share, opened by the first one that finds none.
///
/// A broken connection is noticed when it breaks, not when it is used next, so that what is sent on a
/// new one was never written to the old one. A server that hangs is noticed by whoever gives up on
/// it: nobody waits twice for the same silence.
pub(crate) struct Link {
    origin: Arc<Origin>,
    current: Mutex<Option<Arc<Live>>>,
    /// Held by the one who opens; when that last failed.
    opening: tokio::sync::Mutex<Option<Instant>>,
}

impl Link {
    pub(crate) fn new(origin: Arc<Origin>) -> Self {
        Self { origin, current: Mutex::default(), opening: tokio::sync::Mutex::new(None) }
    }

    /// Sends a command, and returns the answer of the server, unless that is an error.
    pub(crate) async fn call(&self, command: &Cmd) -> Result<Value, Fault> {
        let live = self.live().await?;
        let mut connection = live.connection.clone();
        let answer = live.wait_for(connection.send_packed_command(command)).await?;
        Fault::unless_refused(answer)
    }

    /// Sends several commands in one piece, and returns the answers, errors among them.
    pub(crate) async fn call_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Fault> {
        let live = self.live().await?;
        let mut connection = live.connection.clone();
        let count = commands.len();
        live.wait_for(connection.send_packed_commands(commands, 0, count)).await
    }

    /// Opens a new connection for the calls that follow, unless it leads to this address already.
    pub(crate) fn go_to(&self, address: &Address) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|live| live.address != *address) {
            *current = None;
        }
    }

    /// Opens a new connection for the calls that follow.
    pub(crate) fn discard(&self) {
        *self.current() = None;
    }

    /// Whether there is a connection.
    pub(crate) fn is_open(&self) -> bool {
        self.open_one().is_some()
    }

    async fn live(&self) -> Result<Arc<Live>, Fault> {
        if let Some(live) = self.open_one() {
            return Ok(live);
        }
        let mut failed = self.opening.lock().await;
        if let Some(live) = self.open_one() {
            return Ok(live);
        }
        if failed.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(Fault::unsent(JustFailed));
        }
        let opened = self.origin.open().await;
        let (address, connection, driver) =
            opened.inspect_err(|_| *failed = Some(Instant::now()))?;
        *failed = None;
        let live = Arc::new(Live::new(address, connection, driver));
        *self.current() = Some(Arc::clone(&live));
        Ok(live)
    }

    fn open_one(&self) -> Option<Arc<Live>> {
        self.current().as_ref().filter(|live| live.is_open()).map(Arc::clone)
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<Arc<Live>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Live {
    address: Address,
    connection: MultiplexedConnection,
    start: Instant,
    closed: Arc<AtomicBool>,
    /// Milliseconds after `start` of the last answer.
    answered: AtomicU64,
    driver: AbortHandle,
}

impl Live {
    fn new(address: Address, connection: MultiplexedConnection, driver: Driver) -> Self {
        let closed = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&closed);
        let driver = tokio::spawn(async move {
            driver.await;
            end.store(true, Ordering::Release);
        });
        Self {
            address,
            connection,
            start: Instant::now(),
            closed,
            answered: AtomicU64::new(0),
            driver: driver.abort_handle(),
        }
    }

    fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    async fn wait_for<T>(
        &self,
        answer: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, Fault> {
        let mut waiting = Waiting { live: self, since: self.now(), answered: false };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let Ok(answer) = answer else {
            return Err(Fault::Silent);
        };
        waiting.answered = true;
        if answer.is_ok() {
            self.answered.store(self.now(), Ordering::Release);
        }
        answer.map_err(Fault::Lost)
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A call that waits for its answer. Dropped without one, it tells a hung connection from a caller who
/// was in a hurry.
struct Waiting<'l> {
    live: &'l Live,
    since: u64,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.answered || self.live.now() - self.since < SILENCE.as_millis() as u64 {
            return;
        }
        if self.live.answered.load(Ordering::Acquire) < self.since {
            self.live.closed.store(true, Ordering::Release);
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the server could not be reached a moment ago")]
struct JustFailed;

/// How long an answer may take, whoever waits for it. The middleware's deadlines are shorter.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection may answer nothing at all before a caller who gives up takes it along.
const SILENCE: Duration = Duration::from_millis(250);

/// How long after a failure the next attempt to connect may come.
const PAUSE: Duration = Duration::from_millis(100);
