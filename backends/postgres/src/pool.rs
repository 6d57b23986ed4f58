//! Connections, kept open and lent to one statement at a time.
//!
//! Not the driver's own pool, which connects to one host and asks the server whether a connection lives
//! when it comes back. Here a statement is the question: what was idle at the server's death is dropped
//! with the first one that fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{Connection, Row};
use steadfast_core::StoreError;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::error::{Failure, Unreachable};
use crate::hosts::Hosts;

/// Connections to the primary. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    hosts: Hosts,
    /// One for each connection there may be, connecting ones included.
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// Connections of an earlier generation are as dead as one that was seen to be.
    generation: AtomicU64,
    /// Whose turn it is to connect, and how that went the last time if it failed.
    turn: tokio::sync::Mutex<Option<(Instant, Arc<Unreachable>)>>,
    timeout: Duration,
    runtime: Handle,
}

struct Idle {
    connection: PgConnection,
    generation: u64,
    since: Instant,
}

/// Whether a statement may be sent a second time, on another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resend {
    /// It only reads.
    Freely,
    /// Twice is once; but a first one that is still under way must not come to its end later.
    AfterDeath,
    /// Twice is twice.
    Never,
}

impl Resend {
    fn is_allowed(self, failure: &Failure) -> bool {
        failure.did_nothing()
            || match self {
                Self::Freely => failure.is_end(),
                Self::AfterDeath => failure.is_death(),
                Self::Never => false,
            }
    }
}

impl Pool {
    /// A pool without a connection yet, on the runtime that this is called on.
    pub(crate) fn new(hosts: Hosts, connections: usize, timeout: Duration) -> Self {
        Self(Arc::new(Shared {
            hosts,
            permits: Arc::new(Semaphore::new(connections)),
            idle: Mutex::default(),
            generation: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
            timeout,
            runtime: Handle::current(),
        }))
    }

    pub(crate) fn hosts(&self) -> &Hosts {
        &self.0.hosts
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// Runs a statement, and again if it may be and that can help.
    pub(crate) async fn rows<'q>(
        &self,
        resend: Resend,
        statement: impl Fn() -> Query<'q, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let run = async {
            let lease = || async { self.lease().await.map_err(StoreError::unavailable) };
            match lease().await?.rows(statement()).await {
                Err(failure) if resend.is_allowed(&failure) => {
                    Ok(lease().await?.rows(statement()).await?)
                }
                answer => Ok(answer?),
            }
        };
        timeout(self.0.timeout, run).await.unwrap_or(Err(StoreError::Timeout))
    }

    /// Asks whether the primary is there and can be written to.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let rows = self.rows(Resend::Freely, || sqlx::query(IS_READ_ONLY)).await?;
        let is_read_only = rows.first().map(|row| row.try_get(0));
        match is_read_only.transpose().map_err(StoreError::unavailable)? {
            Some(false) => Ok(()),
            _ => Err(StoreError::unavailable(Failure::ReadOnly)),
        }
    }

    /// A connection, as soon as there is one.
    ///
    /// Connecting goes on when the caller gives up: a host that does not answer would otherwise be asked
    /// anew by each of them, and the next host by none.
    async fn lease(&self) -> Result<Lease, Arc<Unreachable>> {
        let permit = Arc::clone(&self.0.permits).acquire_owned().await;
        let permit = permit.expect("the permits are never closed");
        if let Some(idle) = self.0.take_idle() {
            return Ok(Lease::new(self, idle.connection, idle.generation, permit));
        }
        let (answer, answered) = oneshot::channel();
        self.0.runtime.spawn(self.clone().connect(permit, answer));
        // Without an answer where the runtime ends.
        answered.await.unwrap_or_else(|_| Err(Arc::new(Unreachable { hosts: Vec::new() })))
    }

    /// Connects, one caller at a time. Whoever waited while it failed shares the failure, and so does
    /// whoever comes soon after.
    async fn connect(
        self,
        permit: OwnedSemaphorePermit,
        answer: oneshot::Sender<Result<Lease, Arc<Unreachable>>>,
    ) {
        let asked = Instant::now();
        let mut last_failure = self.0.turn.lock().await;
        if answer.is_closed() {
            return;
        }
        let made = match (self.0.take_idle(), &*last_failure) {
            (Some(idle), _) => Ok((idle.connection, idle.generation)),
            (None, Some((at, failure))) if *at > asked || at.elapsed() < PAUSE => {
                Err(Arc::clone(failure))
            }
            (None, _) => self.0.dial(&mut last_failure).await,
        };
        drop(last_failure);
        let lease = made.map(|(made, generation)| Lease::new(&self, made, generation, permit));
        // A lease that nobody takes goes back to the pool by itself.
        let _ = answer.send(lease);
    }
}

impl Shared {
    async fn dial(
        &self,
        last_failure: &mut Option<(Instant, Arc<Unreachable>)>,
    ) -> Result<(PgConnection, u64), Arc<Unreachable>> {
        let generation = self.generation.load(Ordering::Acquire);
        match self.hosts.connect().await {
            Ok(connection) => {
                *last_failure = None;
                Ok((connection, generation))
            }
            Err(failure) => {
                let failure = Arc::new(failure);
                *last_failure = Some((Instant::now(), Arc::clone(&failure)));
                Err(failure)
            }
        }
    }

    /// The connection that was used last. One that a firewall may have forgotten is closed.
    fn take_idle(&self) -> Option<Idle> {
        let generation = self.generation.load(Ordering::Acquire);
        let mut idle = self.idle();
        idle.retain(|idle| idle.generation == generation && idle.since.elapsed() < IDLE_FOR);
        idle.pop()
    }

    fn put_back(&self, connection: PgConnection, generation: u64) {
        if generation == self.generation.load(Ordering::Acquire) {
            self.idle().push(Idle { connection, generation, since: Instant::now() });
        }
    }

    /// Gives up on every connection that was made before the one that failed was seen to.
    fn end_generation(&self, generation: u64) {
        let next = generation + 1;
        let _ =
            self.generation.compare_exchange(generation, next, Ordering::AcqRel, Ordering::Acquire);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on loan.
struct Lease {
    pool: Pool,
    connection: Option<PgConnection>,
    generation: u64,
    permit: Option<OwnedSemaphorePermit>,
    /// Whether a statement is under way.
    is_busy: bool,
}

impl Lease {
    fn new(
        pool: &Pool,
        connection: PgConnection,
        generation: u64,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let (connection, permit) = (Some(connection), Some(permit));
        Self { pool: pool.clone(), connection, generation, permit, is_busy: false }
    }

    async fn rows(
        mut self,
        statement: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, Failure> {
        let connection = self.connection.as_mut().expect("it is lent until it is dropped");
        self.is_busy = true;
        let rows = statement.fetch_all(connection).await.map_err(Failure::from);
        self.is_busy = false;
        if rows.as_ref().is_err_and(Failure::is_end) {
            self.connection = None;
            self.pool.0.end_generation(self.generation);
        }
        rows
    }
}

impl Drop for Lease {
    /// Gives the connection back; after the answer, where a caller gave up waiting for it.
    fn drop(&mut self) {
        let (Some(connection), Some(permit)) = (self.connection.take(), self.permit.take()) else {
            return;
        };
        let (shared, generation) = (Arc::clone(&self.pool.0), self.generation);
        if !self.is_busy {
            shared.put_back(connection, generation);
            return;
        }
        self.pool.0.runtime.spawn(async move {
            let _permit = permit;
            match timeout(ANSWERS_WITHIN, settled(connection)).await {
                Ok(Some(connection)) => shared.put_back(connection, generation),
                Ok(None) => shared.end_generation(generation),
                // It may be this statement alone that hangs, behind a lock for example.
                Err(_) => {}
            }
        });
    }
}

/// Waits for what is left of an answer. It may be an error, and then there is the rest after it.
async fn settled(mut connection: PgConnection) -> Option<PgConnection> {
    if let Err(error) = connection.ping().await {
        if Failure::from(error).is_end() {
            return None;
        }
        connection.ping().await.ok()?;
    }
    Some(connection)
}

const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only')::boolean";

/// How long nobody tries to connect after that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a connection may be idle: networks forget one after some minutes, without a word.
const IDLE_FOR: Duration = Duration::from_secs(240);

/// How long an answer that nobody waits for is waited for, before its connection is closed.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
