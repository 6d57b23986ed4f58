//! A pool of connections, each lent to one statement at a time.
//!
//! A connection is checked before it is lent, so that one the server has closed is not used. The
//! server limits the number of connections: when it refuses another one, callers wait for the
//! existing ones.

use std::collections::VecDeque;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use steadfast_core::StoreError;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::connection::{Argument, Connection, Failed, Row, Statement};
use crate::error::{Failure, Unreachable};
use crate::hosts::Hosts;
use crate::metrics::{Figures, Shown};

/// Connections to the primary. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    hosts: Arc<Hosts>,
    /// The highest number of connections.
    most: usize,
    state: Mutex<State>,
}

struct State {
    idle: Vec<Idle>,
    /// The number of connections that are idle, lent or being opened.
    open: usize,
    /// The number that the server allows: the number open when it last refused another one.
    allowed: usize,
    /// The time at which to try for more, and the next delay.
    ask_again: (Instant, Duration),
    /// The attempt in progress.
    opening: Option<Attempt>,
    waiting: VecDeque<Waiter>,
    last_failure: Option<(Instant, Arc<Unreachable>)>,
    /// The time since which connections are suspect, because one was found dead or hung. Those
    /// without an answer since then are pinged before they are lent.
    doubted: Option<Instant>,
    /// The generation of connections. Those of an earlier generation lead to a former primary.
    generation: u64,
    attempts: u64,
    shown: Shown,
}

/// An attempt to open a connection, and the runtime that makes it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Attempt {
    number: u64,
    runtime: runtime::Id,
}

struct Idle {
    connection: Box<Connection>,
    generation: u64,
    since: Instant,
}

struct Waiter {
    runtime: Handle,
    since: Instant,
    lease: oneshot::Sender<Result<Lease, Arc<Unreachable>>>,
}

impl Pool {
    /// Creates a pool without connections.
    pub(crate) fn new(hosts: Arc<Hosts>, most: usize) -> Self {
        let state = State {
            idle: Vec::new(),
            open: 0,
            allowed: most,
            ask_again: (Instant::now(), SETTLED_FOR),
            opening: None,
            attempts: 0,
            waiting: VecDeque::new(),
            last_failure: None,
            doubted: None,
            generation: 0,
            shown: Shown::default(),
        };
        Self(Arc::new(Shared { hosts, most, state: Mutex::new(state) }))
    }

    /// Adds a connection that was opened for another purpose.
    pub(crate) fn adopt(&self, connection: Box<Connection>) {
        self.state().open += 1;
        self.put_back(self.lend(connection, 0));
    }

    pub(crate) fn hosts(&self) -> &Arc<Hosts> {
        &self.0.hosts
    }

    /// Returns the highest number of connections.
    pub(crate) fn size(&self) -> usize {
        self.0.most
    }

    /// Runs a statement on a connection that seems to work.
    pub(crate) async fn run(
        &self,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<Result<Vec<Row>, Failed>, StoreError> {
        Ok(self.lease().await?.run(statement, arguments).await)
    }

    /// Borrows a connection that seems to work, as soon as there is one.
    async fn lease(&self) -> Result<Lease, StoreError> {
        loop {
            let lease = match self.take() {
                Taken::Idle(lease) => lease,
                // The sender is dropped without an answer if its runtime ends.
                Taken::Later(later) => match later.await {
                    Ok(lease) => lease.map_err(unreachable)?,
                    Err(_) => continue,
                },
                Taken::Nothing(failure) => return Err(unreachable(failure)),
            };
            if let Some(lease) = lease.checked().await {
                return Ok(lease);
            }
        }
    }

    fn take(&self) -> Taken {
        let runtime = Handle::current();
        let mut state = self.state();
        let (idle, stale) = state.take_idle(runtime.id());
        let taken = match (idle, state.recent_failure()) {
            (Some(idle), _) => Taken::Idle(self.lend(idle.connection, idle.generation)),
            (None, Some(failure)) => Taken::Nothing(failure),
            (None, None) => {
                let (lease, later) = oneshot::channel();
                state.waiting.push_back(Waiter { runtime, since: Instant::now(), lease });
                Taken::Later(later)
            }
        };
        drop(state);
        drop(stale);
        if let Taken::Later(_) = taken {
            self.open_more();
        }
        taken
    }

    fn lend(&self, connection: Box<Connection>, generation: u64) -> Lease {
        let connection = Some(connection);
        Lease { pool: self.clone(), connection, generation, is_counted: true, is_given_up: false }
    }

    /// Opens one more connection, if a caller waits and the limits allow it.
    ///
    /// Only one attempt runs at a time, in a task of its own. If the callers made attempts
    /// themselves, one that gives up would end its attempt, and a host that does not answer would
    /// be tried by all of them.
    fn open_more(&self) {
        let mut state = self.state();
        let Some((runtime, attempt)) = state.begin_opening(self.0.most) else {
            return;
        };
        let opening = Opening { pool: self.clone(), attempt, is_done: false };
        drop(state);
        runtime.spawn(opening.run());
    }

    /// Hands a connection to the caller that has waited longest, or keeps it.
    fn put_back(&self, mut lease: Lease) {
        loop {
            let mut state = self.state();
            let Some(connection) = lease.connection.as_ref() else { return };
            if connection.is_over() || lease.generation != state.generation {
                break;
            }
            let Some(waiter) = state.next_waiter(connection.runtime()) else {
                lease.is_counted = false;
                let (connection, generation) = (lease.connection.take(), lease.generation);
                let since = Instant::now();
                state.idle.extend(connection.map(|connection| Idle {
                    connection,
                    generation,
                    since,
                }));
                break;
            };
            drop(state);
            match waiter.lease.send(Ok(lease)) {
                Err(Ok(returned)) => lease = returned,
                _ => return,
            }
        }
        lease.connection = None;
    }

    /// Updates the state of the pool after a failure.
    fn take_note(&self, generation: u64, failure: &Failure) {
        let mut state = self.state();
        if failure.is_demotion() && self.0.hosts.are_several() {
            state.generation = state.generation.max(generation + 1);
        } else if failure.ends_connection() {
            state.doubted = Some(Instant::now());
        }
    }

    fn state(&self) -> Held<'_> {
        Held(self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The locked state. The metrics are updated when it is released.
struct Held<'p>(MutexGuard<'p, State>);

impl Deref for Held<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let figures = self.0.figures();
        self.0.shown.show(figures);
    }
}

enum Taken {
    Idle(Lease),
    Later(oneshot::Receiver<Result<Lease, Arc<Unreachable>>>),
    Nothing(Arc<Unreachable>),
}

impl State {
    fn figures(&self) -> Figures {
        let (idle, opening) = (self.idle.len(), usize::from(self.opening.is_some()));
        let lent = self.open.saturating_sub(idle + opening);
        Figures { idle, lent, opening, waiting: self.waiting.len() }
    }

    /// Takes the most recently used connection of a runtime. Also returns those to be closed:
    /// connections to a former primary, and those that were idle for so long that a firewall may
    /// have dropped them.
    fn take_idle(&mut self, runtime: runtime::Id) -> (Option<Idle>, Vec<Idle>) {
        let generation = self.generation;
        let is_stale =
            |idle: &mut Idle| idle.generation != generation || idle.since.elapsed() > IDLE_FOR;
        let stale: Vec<_> = self.idle.extract_if(.., is_stale).collect();
        self.open -= stale.len();
        let at = self.idle.iter().rposition(|idle| idle.connection.runtime() == runtime);
        (at.map(|at| self.idle.remove(at)), stale)
    }

    fn recent_failure(&self) -> Option<Arc<Unreachable>> {
        let recent = self.last_failure.as_ref().filter(|(at, _)| at.elapsed() < PAUSE)?;
        Some(Arc::clone(&recent.1))
    }

    fn next_waiter(&mut self, runtime: runtime::Id) -> Option<Waiter> {
        self.waiting.retain(|waiter| !waiter.lease.is_closed());
        let at = self.waiting.iter().position(|waiter| waiter.runtime.id() == runtime)?;
        self.waiting.remove(at)
    }

    /// Begins to open another connection, if one is needed and allowed. Returns the runtime to use.
    fn begin_opening(&mut self, most: usize) -> Option<(Handle, Attempt)> {
        self.waiting.retain(|waiter| !waiter.lease.is_closed());
        let runtime = self.waiting.front()?.runtime.clone();
        match self.opening {
            Some(attempt) if attempt.runtime == runtime.id() => return None,
            // The earlier attempt may belong to a runtime that is blocked. It is counted again if
            // it completes.
            Some(_) => self.open -= 1,
            None => {}
        }
        self.opening = None;
        if self.open >= self.allowed.min(most) {
            // Idle connections of other runtimes cannot be used here: close one to make room.
            let foreign = |idle: &Idle| idle.connection.runtime() != runtime.id();
            if let Some(at) = self.idle.iter().position(foreign) {
                self.idle.remove(at);
                self.open -= 1;
            } else if self.open >= most || Instant::now() < self.ask_again.0 {
                return None;
            }
        }
        self.open += 1;
        self.attempts += 1;
        let attempt = Attempt { number: self.attempts, runtime: runtime.id() };
        self.opening = Some(attempt);
        Some((runtime, attempt))
    }

    /// Ends an attempt. Returns false if an attempt of another runtime has replaced it, and the
    /// connection is not wanted.
    fn end_opening(&mut self, attempt: Attempt, most: usize) -> bool {
        if self.opening == Some(attempt) {
            self.opening = None;
            return true;
        }
        let has_room = self.open < most;
        self.open += usize::from(has_room);
        has_room
    }

    /// Raises the presumed limit after a connection was opened.
    fn allow_more(&mut self) {
        self.last_failure = None;
        if self.open > self.allowed {
            self.allowed = self.open;
            self.ask_again = (Instant::now(), SETTLED_FOR);
        }
    }

    /// Lowers the presumed limit after the server refused a connection.
    fn settle_for_less(&mut self) {
        let pause = self.ask_again.1;
        self.allowed = self.open.max(1);
        self.ask_again = (Instant::now() + pause, (pause * 2).min(SETTLED_FOR_AT_MOST));
    }

    /// Fails the callers that waited for this attempt. Later callers wait for the next one.
    fn fail(&mut self, begun: Instant, failure: &Arc<Unreachable>) {
        let earlier = self.waiting.iter().take_while(|waiter| waiter.since <= begun).count();
        for waiter in self.waiting.drain(..earlier) {
            // The caller may have given up.
            let _ = waiter.lease.send(Err(Arc::clone(failure)));
            self.last_failure = Some((Instant::now(), Arc::clone(failure)));
        }
    }
}

/// An attempt to open a connection.
struct Opening {
    pool: Pool,
    attempt: Attempt,
    is_done: bool,
}

impl Opening {
    async fn run(mut self) {
        let (begun, generation) = (Instant::now(), self.pool.state().generation);
        let opened = self.open().await;
        self.is_done = true;
        let mut state = self.pool.state();
        let counts = state.end_opening(self.attempt, self.pool.0.most);
        match opened {
            Ok(connection) if counts => {
                state.allow_more();
                drop(state);
                self.pool.put_back(self.pool.lend(Box::new(connection), generation));
            }
            Ok(_) => drop(state),
            Err(failure) => {
                state.open -= usize::from(counts);
                if failure.is_full() {
                    state.settle_for_less();
                } else {
                    state.fail(begun, &Arc::new(failure));
                }
                drop(state);
            }
        }
        self.pool.open_more();
    }

    /// Tries until there is at least one connection, as long as a caller waits.
    async fn open(&self) -> Result<Connection, Unreachable> {
        loop {
            match self.pool.0.hosts.connect().await {
                Err(failure) if failure.is_full() && self.is_needed() => sleep(PAUSE).await,
                opened => return opened,
            }
        }
    }

    /// Returns true if the waiting callers have no other connection to wait for.
    fn is_needed(&self) -> bool {
        let mut state = self.pool.state();
        state.waiting.retain(|waiter| !waiter.lease.is_closed());
        state.open == 1 && !state.waiting.is_empty()
    }
}

impl Drop for Opening {
    /// Ends the attempt if its runtime ends. Callers that still wait then start another one.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut state = self.pool.state();
        if state.end_opening(self.attempt, self.pool.0.most) {
            state.open -= 1;
        }
        let waiting = mem::take(&mut state.waiting).into_iter();
        let (ended, waiting): (Vec<_>, Vec<_>) =
            waiting.partition(|waiter| waiter.runtime.id() == self.attempt.runtime);
        state.waiting = waiting.into();
        drop(state);
        drop(ended);
        self.pool.open_more();
    }
}

/// A borrowed connection.
struct Lease {
    pool: Pool,
    connection: Option<Box<Connection>>,
    generation: u64,
    /// True if the pool counts the connection as lent.
    is_counted: bool,
    is_given_up: bool,
}

impl Lease {
    async fn run(
        mut self,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<Row>, Failed> {
        let connection = self.connection.as_mut().expect("it is lent until it is dropped");
        let answer = connection.run(statement, arguments).await;
        if let Err(failed) = &answer {
            self.pool.take_note(self.generation, &failed.failure);
        }
        answer
    }

    /// Returns the connection if it works. A connection without a recent answer is pinged.
    async fn checked(mut self) -> Option<Self> {
        let doubted = self.pool.state().doubted;
        let connection = self.connection.as_mut()?;
        let heard = connection.heard();
        let is_doubted =
            heard.elapsed() > HEARD_WITHIN || doubted.is_some_and(|doubted| heard < doubted);
        let works = connection.is_alive().await
            && (!is_doubted
                || matches!(timeout(ANSWERS_PING_WITHIN, connection.ping()).await, Ok(Ok(()))));
        if works {
            return Some(self);
        }
        // Dropped with the lease, a connection would go back to the pool.
        self.connection = None;
        None
    }

    /// Waits for the answer that the caller no longer wants.
    async fn settle(mut self) {
        let Some(connection) = self.connection.as_mut() else { return };
        let settled = timeout(ANSWERS_WITHIN, connection.settle()).await;
        let failure = match settled {
            Ok(Ok(())) => {
                self.is_given_up = false;
                return;
            }
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Hung,
        };
        self.pool.take_note(self.generation, &failure);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let connection = self.connection.take();
        if !self.is_counted {
            return;
        }
        self.is_counted = false;
        let (pool, generation) = (self.pool.clone(), self.generation);
        match (connection, Handle::try_current()) {
            (Some(connection), _) if !connection.is_busy() && !connection.is_over() => {
                pool.put_back(pool.lend(connection, generation));
            }
            (Some(connection), Ok(runtime)) if !connection.is_over() && !self.is_given_up => {
                let mut lease = pool.lend(connection, generation);
                lease.is_given_up = true;
                runtime.spawn(lease.settle());
            }
            _ => {
                pool.state().open -= 1;
                pool.open_more();
            }
        }
    }
}

fn unreachable(failure: Arc<Unreachable>) -> StoreError {
    if failure.is_refusal() {
        StoreError::refused(failure)
    } else {
        StoreError::unavailable(failure)
    }
}

/// The time that callers share a failure to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest idle time of a connection: firewalls silently drop idle connections after some
/// minutes.
const IDLE_FOR: Duration = Duration::from_secs(240);

/// The time after the last answer during which a connection is presumed to work.
const HEARD_WITHIN: Duration = Duration::from_secs(30);

/// The time limit of a ping. An empty exchange only takes longer if the network is down.
const ANSWERS_PING_WITHIN: Duration = Duration::from_millis(250);

/// The time to wait for an unwanted answer before the connection is closed.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// The initial time that the pool respects a refused connection. It doubles with each refusal.
const SETTLED_FOR: Duration = Duration::from_secs(1);
const SETTLED_FOR_AT_MOST: Duration = Duration::from_secs(30);
