//! A connection to a server that is reopened when it breaks or hangs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Gauge, gauge};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::OwnedMutexGuard;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Origin;
use super::dial::Driver;
use crate::address::Endpoint;
use crate::error::Fault;
use crate::metrics::OpenConnection;

/// A connection that all callers share. The first caller that finds none opens it.
///
/// A break is noticed when it happens, not at the next use. A command that is sent on a new
/// connection was therefore never written to the old one. A hang is detected by the age of the
/// oldest unanswered call, and the next call opens another connection. Calls have no time limit
/// here, because callers set their own. A call that is dropped leaves a probe in its place, so that
/// a hang is still detected.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shared>);

struct Shared {
    origin: Arc<Origin>,
    current: Mutex<Current>,
    /// Locked while a connection is being opened. Contains the time of the last failure.
    opening: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

#[derive(Default)]
struct Current {
    live: Option<Arc<Live>>,
    /// The endpoint that calls were redirected to since the last connection was opened.
    diverted: Option<Endpoint>,
}

impl Link {
    pub(crate) fn new(origin: Arc<Origin>) -> Self {
        Self(Arc::new(Shared { origin, current: Mutex::default(), opening: Arc::default() }))
    }

    /// Sends a command. An error of the server is returned as `Err`.
    pub(crate) async fn call(&self, command: &Cmd) -> Result<Value, Fault> {
        if let Origin::Given(given) = &*self.0.origin {
            return given.call(command).await;
        }
        let live = self.live().await?;
        let mut connection = live.connection.clone();
        let waiting = Waiting::new(&live);
        let answer = connection.send_packed_command(command).await;
        Fault::unless_refused(waiting.end(answer)?)
    }

    /// Sends several commands as one. The answers may include errors.
    pub(crate) async fn call_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Fault> {
        if let Origin::Given(given) = &*self.0.origin {
            return given.call_all(commands).await;
        }
        let live = self.live().await?;
        let mut connection = live.connection.clone();
        let waiting = Waiting::new(&live);
        let answers = connection.send_packed_commands(commands, 0, commands.len()).await;
        waiting.end(answers)
    }

    /// Makes later calls use a new connection to this endpoint, unless the current one leads there.
    pub(crate) fn go_to(&self, endpoint: &Endpoint) {
        let mut current = self.0.current();
        if current.live.as_ref().is_some_and(|live| live.endpoint != *endpoint) {
            current.live = None;
        }
        current.diverted = Some(endpoint.clone());
    }

    /// Makes later calls use a new connection.
    pub(crate) fn discard(&self) {
        self.0.current().live = None;
    }

    /// Returns true if there is a connection that answers.
    pub(crate) fn is_open(&self) -> bool {
        self.0.answering().is_some()
    }

    /// Returns the connection, opening one if none answers. If none can be opened, it returns a
    /// hanging one: the server may only be busy for a moment.
    async fn live(&self) -> Result<Arc<Live>, Fault> {
        if let Some(live) = self.0.answering() {
            return Ok(live);
        }
        let last_failure = Arc::clone(&self.0.opening).lock_owned().await;
        if let Some(live) = self.0.answering() {
            return Ok(live);
        }
        let opened = match *last_failure {
            Some(at) if at.elapsed() < PAUSE => Err(Fault::unsent(JustFailed)),
            _ => self.open(last_failure).await,
        };
        opened.or_else(|fault| self.0.unbroken().ok_or(fault))
    }

    /// Opens a connection in a separate task, so that it is not lost if the caller gives up.
    async fn open(
        &self,
        last_failure: OwnedMutexGuard<Option<Instant>>,
    ) -> Result<Arc<Live>, Fault> {
        let opening = tokio::spawn(Arc::clone(&self.0).open(last_failure));
        opening.await.unwrap_or_else(|error| Err(Fault::unsent(error)))
    }
}

impl Shared {
    async fn open(
        self: Arc<Self>,
        mut last_failure: OwnedMutexGuard<Option<Instant>>,
    ) -> Result<Arc<Live>, Fault> {
        loop {
            self.current().diverted = None;
            let opened = self.origin.open().await;
            *last_failure = opened.is_err().then(Instant::now);
            let (endpoint, connection, driver) = opened?;
            let mut current = self.current();
            // A hung server may have been replaced while it was asked. When it wakes up, its answer
            // must not divert calls from the new server.
            if current.diverted.as_ref().is_none_or(|to| *to == endpoint) {
                let live = Arc::new(Live::new(endpoint, connection, driver));
                current.live = Some(Arc::clone(&live));
                return Ok(live);
            }
        }
    }

    /// Returns the connection, unless it is broken or hangs.
    fn answering(&self) -> Option<Arc<Live>> {
        self.unbroken().filter(|live| !live.unanswered().hang())
    }

    fn unbroken(&self) -> Option<Arc<Live>> {
        self.current().live.as_ref().filter(|live| live.is_open()).map(Arc::clone)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        locked(&self.current)
    }
}

struct Live {
    endpoint: Endpoint,
    connection: MultiplexedConnection,
    closed: Arc<AtomicBool>,
    unanswered: Arc<Mutex<Unanswered>>,
    driver: AbortHandle,
}

impl Live {
    fn new(endpoint: Endpoint, connection: MultiplexedConnection, driver: Driver) -> Self {
        let closed = Arc::new(AtomicBool::new(false));
        let end = (SetOnDrop(Arc::clone(&closed)), OpenConnection::new());
        let driver = tokio::spawn(async move {
            // Runs even if the runtime ends before the connection does.
            let _end = end;
            driver.await;
        });
        Self {
            endpoint,
            connection,
            closed,
            unanswered: Arc::default(),
            driver: driver.abort_handle(),
        }
    }

    fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    fn unanswered(&self) -> MutexGuard<'_, Unanswered> {
        locked(&self.unanswered)
    }

    /// Sends a call of its own to learn whether dropped calls have been answered: no caller waits
    /// for their answers.
    fn probe(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if !self.unanswered().begin_probe() {
            return;
        }
        let (mut connection, unanswered) = (self.connection.clone(), Arc::clone(&self.unanswered));
        runtime.spawn(async move {
            loop {
                let number = locked(&unanswered).send();
                let ping = redis::cmd("PING");
                let answer = connection.send_packed_command(&ping).await;
                if answer.is_err() || !locked(&unanswered).end_probe(number) {
                    return;
                }
            }
        });
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A call that waits for its answer.
struct Waiting<'l> {
    live: &'l Live,
    /// `None` once the answer has arrived.
    number: Option<u64>,
    shown: Gauge,
}

impl<'l> Waiting<'l> {
    fn new(live: &'l Live) -> Self {
        let (number, shown) = (Some(live.unanswered().send()), gauge!("steadfast_redis_waiting"));
        shown.increment(1);
        Self { live, number, shown }
    }

    fn end<T>(mut self, answer: redis::RedisResult<T>) -> Result<T, Fault> {
        if let Some(number) = self.number.take() {
            self.live.unanswered().answer(number);
        }
        answer.map_err(Fault::Lost)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shown.decrement(1);
        if self.number.is_some() {
            self.live.probe();
        }
    }
}

/// The unanswered calls of a connection, oldest first. Answers arrive in the order of the calls, so
/// an answer also covers all calls before it, including those whose callers have gone.
#[derive(Default)]
struct Unanswered {
    sent: u64,
    /// The send times of calls, with the number of the last call at each.
    moments: VecDeque<(Instant, u64)>,
    probe: Probe,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Probe {
    #[default]
    None,
    UnderWay,
    /// Another probe is needed: more calls were dropped since the last one was sent.
    Again,
}

impl Unanswered {
    fn send(&mut self) -> u64 {
        let now = Instant::now();
        self.sent += 1;
        match self.moments.back_mut() {
            Some((since, last)) if now - *since < MOMENT => *last = self.sent,
            _ => self.moments.push_back((now, self.sent)),
        }
        self.sent
    }

    fn answer(&mut self, number: u64) {
        while self.moments.front().is_some_and(|(_, last)| *last <= number) {
            self.moments.pop_front();
        }
    }

    /// Returns true if the oldest call has waited so long that the connection is considered hung.
    fn hang(&self) -> bool {
        self.moments.front().is_some_and(|(since, _)| since.elapsed() > SILENCE)
    }

    /// Returns true if a probe must be sent now.
    fn begin_probe(&mut self) -> bool {
        let is_first = self.probe == Probe::None;
        self.probe = if is_first { Probe::UnderWay } else { Probe::Again };
        is_first
    }

    /// Returns true if another probe must be sent.
    fn end_probe(&mut self, number: u64) -> bool {
        self.answer(number);
        let is_again = self.probe == Probe::Again;
        self.probe = if is_again { Probe::UnderWay } else { Probe::None };
        is_again
    }
}

fn locked<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, thiserror::Error)]
#[error("the last attempt to connect has just failed")]
struct JustFailed;

/// The age of an unanswered call at which the connection is considered hung.
const SILENCE: Duration = Duration::from_millis(400);

/// Calls within this time share an entry, which bounds the number of entries.
const MOMENT: Duration = Duration::from_millis(10);

/// The pause after a failure to connect.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use redis::{RedisConnectionInfo, cmd};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;
    use crate::address::Address;
    use crate::connection::Dialer;

    #[tokio::test]
    async fn a_connection_opened_during_a_switch_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint =
            Endpoint::from(Address::new("127.0.0.1", listener.local_addr().unwrap().port()));
        let dialer = Dialer { login: RedisConnectionInfo::default(), tls: None };
        let link = Link::new(Arc::new(Origin::Fixed(dialer, endpoint)));
        let (hangs, wakes) = (oneshot::channel(), oneshot::channel());
        tokio::spawn(wake_late(listener, hangs.0, wakes.1));
        let call = tokio::spawn({
            let link = link.clone();
            async move { link.call(&cmd("PING")).await }
        });
        hangs.1.await.unwrap();
        link.go_to(&Endpoint::from(Address::new("127.0.0.1", 1)));
        wakes.0.send(()).unwrap();
        let answer = timeout(Duration::from_secs(60), call).await.unwrap().unwrap().unwrap();
        assert_eq!(answer, Value::Int(2), "the number of the connection");
    }

    /// Answers every command with the number of its connection. The first connection only answers
    /// once it is woken.
    async fn wake_late(
        listener: TcpListener,
        hangs: oneshot::Sender<()>,
        wakes: oneshot::Receiver<()>,
    ) {
        let (mut socket, _) = listener.accept().await.unwrap();
        hangs.send(()).unwrap();
        wakes.await.unwrap();
        for number in 1.. {
            tokio::spawn(async move {
                while let Ok(1..) = socket.read(&mut [0; 1 << 10]).await {
                    socket.write_all(format!(":{number}\r\n").as_bytes()).await.unwrap();
                }
            });
            socket = listener.accept().await.unwrap().0;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_judged_by_its_oldest_call() {
        let mut calls = Unanswered::default();
        let first = calls.send();
        tokio::time::advance(SILENCE).await;
        let second = calls.send();
        assert!(!calls.hang());
        tokio::time::advance(MOMENT).await;
        assert!(calls.hang(), "a new call makes the first one no younger");
        calls.answer(first);
        assert!(!calls.hang());
        tokio::time::advance(SILENCE).await;
        assert!(calls.hang(), "now the second one is the oldest");
        calls.answer(second);
        assert!(calls.moments.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_stands_for_all_calls_before_it() {
        let mut calls = Unanswered::default();
        for _ in 0..1_000 {
            calls.send();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(calls.moments.len() <= 101);
        let last = calls.send();
        calls.answer(last);
        assert!(calls.moments.is_empty());
    }

    #[test]
    fn a_call_dropped_during_a_probe_sends_another() {
        let mut calls = Unanswered::default();
        assert!(calls.begin_probe());
        assert!(!calls.begin_probe(), "one is under way");
        assert!(calls.end_probe(0), "and another follows");
        assert!(!calls.end_probe(0));
        assert!(calls.begin_probe());
    }
}
