//! Connections, kept open and lent to one statement at a time.
//!
//! A connection is looked at before it is lent, so that one that the server closed is not. How many
//! there are is for the server to say: where it refuses one more, callers wait for those there are.

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
    /// How many connections there may be.
    most: usize,
    timeout: Duration,
    state: Mutex<State>,
}

struct State {
    idle: Vec<Idle>,
    /// Those that are idle, lent or being opened.
    open: usize,
    /// How many the server allows: what there was when it last refused one more.
    allowed: usize,
    /// When to ask for more than that, and after how long then.
    ask_again: (Instant, Duration),
    /// The attempt that is under way.
    opening: Option<Attempt>,
    waiting: VecDeque<Waiter>,
    last_failure: Option<(Instant, Arc<Unreachable>)>,
    /// Since when connections are asked whether they live before they are lent: one was found dead, or
    /// to hang, and those that the server was not heard on since may be as well.
    doubted: Option<Instant>,
    /// Connections of an earlier generation lead to a host that is the primary no more.
    generation: u64,
    attempts: u64,
    shown: Shown,
}

/// An attempt to open a connection, and the runtime that does it.
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

/// Whether a statement may be sent a second time when it is not known what became of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resend {
    /// Twice is once, and a first one that arrives after everything else changes nothing.
    Freely,
    Never,
}

impl Pool {
    /// A pool without a connection yet.
    pub(crate) fn new(hosts: Arc<Hosts>, most: usize, timeout: Duration) -> Self {
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
        Self(Arc::new(Shared { hosts, most, timeout, state: Mutex::new(state) }))
    }

    /// Takes in a connection that was opened for something else.
    pub(crate) fn adopt(&self, connection: Connection) {
        self.state().open += 1;
        self.put_back(self.lend(Box::new(connection), 0));
    }

    /// Runs a statement, and again if it may be and that can help.
    pub(crate) async fn rows(
        &self,
        resend: Resend,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let run = async {
            let mut attempts = 0;
            loop {
                attempts += 1;
                let failed = match self.lease().await?.run(statement, arguments).await {
                    Ok(rows) => return Ok(rows),
                    Err(failed) => failed,
                };
                let may_resend = failed.had_no_effect || resend == Resend::Freely;
                if !may_resend || attempts == ATTEMPTS || !self.may_help(&failed.failure) {
                    return Err(failed.failure.into());
                }
            }
        };
        timeout(self.0.timeout, run).await.unwrap_or(Err(StoreError::Timeout))
    }

    /// Whether a statement that failed may do better when it is sent again.
    fn may_help(&self, failure: &Failure) -> bool {
        failure.is_passing() && (!failure.is_demotion() || self.0.hosts.are_several())
    }

    /// A connection that works, as far as can be known, as soon as there is one.
    async fn lease(&self) -> Result<Lease, StoreError> {
        loop {
            let lease = match self.take() {
                Taken::Idle(lease) => lease,
                // Without an answer where the runtime that was opening a connection ends.
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

    /// Opens one more connection, if somebody waits for one and there may be more.
    ///
    /// One at a time, and not by the caller: a caller that gives up would otherwise end the attempt, and
    /// a host that does not answer be asked by each of them.
    fn open_more(&self) {
        let mut state = self.state();
        let Some((runtime, attempt)) = state.begin_opening(self.0.most) else {
            return;
        };
        let opening = Opening { pool: self.clone(), attempt, is_done: false };
        drop(state);
        runtime.spawn(opening.run());
    }

    /// Gives a connection to the caller that waited longest, or keeps it.
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

    /// What has to be known of a failure for the sake of the other connections.
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

/// The state under its lock. Metrics show what it has come to when it is given back.
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

    /// The connection of a runtime that was used last, and those that are of no use any more: made for
    /// an earlier primary, or so old that a firewall may have forgotten them.
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

    /// Counts one more connection, if there is to be one, and says on which runtime.
    fn begin_opening(&mut self, most: usize) -> Option<(Handle, Attempt)> {
        self.waiting.retain(|waiter| !waiter.lease.is_closed());
        let runtime = self.waiting.front()?.runtime.clone();
        match self.opening {
            Some(attempt) if attempt.runtime == runtime.id() => return None,
            // It may be of a runtime that stands still, and counts again once it is through.
            Some(_) => self.open -= 1,
            None => {}
        }
        self.opening = None;
        if self.open >= self.allowed.min(most) {
            // Of no use on this runtime.
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

    /// Ends an attempt. Whether a connection may come of it: another runtime may have taken its place.
    fn end_opening(&mut self, attempt: Attempt, most: usize) -> bool {
        if self.opening == Some(attempt) {
            self.opening = None;
            return true;
        }
        let has_room = self.open < most;
        self.open += usize::from(has_room);
        has_room
    }

    /// One more was opened: there may be still more.
    fn allow_more(&mut self) {
        self.last_failure = None;
        if self.open > self.allowed {
            self.allowed = self.open;
            self.ask_again = (Instant::now(), SETTLED_FOR);
        }
    }

    /// One more was refused: those there are have to do for a while.
    fn settle_for_less(&mut self) {
        let pause = self.ask_again.1;
        self.allowed = self.open.max(1);
        self.ask_again = (Instant::now() + pause, (pause * 2).min(SETTLED_FOR_AT_MOST));
    }

    /// Fails those who waited for this attempt. For those who came later there will be another one.
    fn fail(&mut self, begun: Instant, failure: &Arc<Unreachable>) {
        let earlier = self.waiting.iter().take_while(|waiter| waiter.since <= begun).count();
        for waiter in self.waiting.drain(..earlier) {
            // It may have given up.
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
                match failure.is_full() {
                    true => state.settle_for_less(),
                    false => state.fail(begun, &Arc::new(failure)),
                }
                drop(state);
            }
        }
        self.pool.open_more();
    }

    /// Asks until there is one connection at least, as long as somebody waits.
    async fn open(&self) -> Result<Connection, Unreachable> {
        loop {
            match self.pool.0.hosts.connect().await {
                Err(failure) if failure.is_full() && self.is_needed() => sleep(PAUSE).await,
                opened => return opened,
            }
        }
    }

    /// Whether there is no other connection that those who wait could be given.
    fn is_needed(&self) -> bool {
        let mut state = self.pool.state();
        state.waiting.retain(|waiter| !waiter.lease.is_closed());
        state.open == 1 && !state.waiting.is_empty()
    }
}

impl Drop for Opening {
    /// The runtime ended in the middle of it. Those of its callers who still wait ask again.
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

/// A connection on loan.
struct Lease {
    pool: Pool,
    connection: Option<Box<Connection>>,
    generation: u64,
    /// Whether the pool counts it as lent.
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

    /// The same, if it works. A server that closed it is not asked; one that was not heard for long is.
    async fn checked(mut self) -> Option<Self> {
        let doubted = self.pool.state().doubted;
        let connection = self.connection.as_mut()?;
        let heard = connection.heard();
        let is_doubted =
            heard.elapsed() > HEARD_WITHIN || doubted.is_some_and(|doubted| heard < doubted);
        let works = connection.is_alive().await
            && (!is_doubted
                || matches!(timeout(ANSWERS_PING_WITHIN, connection.ping()).await, Ok(Ok(()))));
        match works {
            true => Some(self),
            false => {
                self.connection = None;
                None
            }
        }
    }

    /// Waits for the answer that the caller gave up.
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
    match failure.is_refusal() {
        true => StoreError::refused(failure),
        false => StoreError::unavailable(failure),
    }
}

/// How often a statement is sent at most.
const ATTEMPTS: u32 = 3;

/// How long callers share a failure to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a connection may be idle: networks forget one after some minutes, without a word.
const IDLE_FOR: Duration = Duration::from_secs(240);

/// How long a connection on which nothing was heard is believed to work.
const HEARD_WITHIN: Duration = Duration::from_secs(30);

/// A server answers nothing in this time, unless the network is down.
const ANSWERS_PING_WITHIN: Duration = Duration::from_millis(250);

/// How long an answer that was given up is waited for, before its connection is closed.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// How long the pool does with what the server allowed, at first, and then twice as long each time.
const SETTLED_FOR: Duration = Duration::from_secs(1);
const SETTLED_FOR_AT_MOST: Duration = Duration::from_secs(30);
