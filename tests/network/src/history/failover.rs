//! Failovers: a primary is killed under load, and its replica takes over.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use linearizability::{Event, check};
use steadfast_core::SessionStore;
use steadfast_postgres::PostgresStore;
use steadfast_redis::RedisStore;
use testkit::postgres::Postgres;
use testkit::redis::{PASSWORD, RedisWithSentinels, SERVICE, USER};
use testkit::within;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::clients::{Clients, Histories, Part};
use super::loss::{Loss, loss};

/// The service and the kind of a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    pub service: Service,
    /// True if the replica has to confirm. In Redis this concerns calls that end a session or
    /// replace its secret, in PostgreSQL every commit.
    pub is_confirmed: bool,
    pub failure: PrimaryFailure,
    /// The number of answers before the failure. A fifth of it follows afterwards.
    pub answers: i64,
}

/// The failure of the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryFailure {
    /// It is killed.
    Killed,
    /// It is killed after replication was stopped for this long.
    KilledAfter(Duration),
    /// It hangs, and resumes after it was replaced.
    Hung,
}

/// The service whose primary fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Redis with three sentinels.
    Redis,
    /// PostgreSQL with one standby, which an administrator promotes.
    Postgres,
}

/// The effect of one failover on the keys of one part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    pub keys: u64,
    pub calls: u64,
    /// Calls with an unknown outcome.
    pub unanswered: u64,
    /// Keys whose last confirmed changes were undone.
    pub losers: u64,
    /// The undone changes.
    pub undone: u64,
    /// The time between the confirmation of the oldest of them and the failure.
    pub oldest: Duration,
    /// Keys that lost confirmed changes in another way.
    pub broken: u64,
    /// Keys that lost nothing, but were read for a moment in an earlier state, or in one that never
    /// existed.
    pub misread: u64,
}

/// The effect of a failover, by part.
pub type LossesByPart = Vec<(Part, Losses)>;

impl Failover {
    /// Lets the primary fail under load, and checks the histories of the clients.
    pub async fn run(self, seed: u64) -> LossesByPart {
        let mut servers = self.service.start(self.is_confirmed).await;
        let mut stores = Vec::new();
        for _ in 0..NODES {
            stores.push(servers.store(self.is_confirmed).await);
        }
        let clients = Clients::start(stores, CLIENTS, seed).await;
        within(clients.wait_for_answers(self.answers)).await;
        if let PrimaryFailure::KilledAfter(lag) = self.failure {
            block_in_place(|| servers.stop_replication());
            sleep(lag).await;
            if !self.is_confirmed {
                within(clients.wait_for_changes(&Part::ALL)).await;
            }
        }
        let failure = clients.now();
        match self.failure {
            PrimaryFailure::Hung => servers.pause(),
            _ => block_in_place(|| servers.kill()),
        }
        // Its last answers are still in transit.
        sleep(SHORT_PAUSE).await;
        let failed = failure..=clients.now();
        block_in_place(|| servers.replace());
        if self.failure == PrimaryFailure::Hung {
            servers.resume();
        }
        within(clients.wait_for_answers(self.answers / 5)).await;
        let over = clients.now();
        judge(&within(clients.stop()).await, &Times { failed, over })
    }
}

/// The times of a failover.
struct Times {
    /// The time from the failure of the primary until none of its answers was in transit.
    failed: RangeInclusive<u64>,
    /// The time after which the clients had finished, and had read every record once more.
    over: u64,
}

/// Checks every history separately.
fn judge(histories: &Histories, times: &Times) -> LossesByPart {
    let losses = |part| {
        let mut losses = Losses::default();
        for (_, events) in histories.iter().filter(|((of, _), _)| *of == part) {
            losses.add(events, times);
        }
        (part, losses)
    };
    Part::ALL.map(losses).to_vec()
}

impl Losses {
    fn add(&mut self, events: &[Event], times: &Times) {
        self.keys += 1;
        self.calls += events.len() as u64;
        self.unanswered += events.iter().filter(|event| !event.is_certain).count() as u64;
        match loss(events, *times.failed.end()) {
            Ok(Loss { changes: 0, .. }) => {}
            Ok(Loss { changes, oldest }) => {
                self.losers += 1;
                self.undone += changes;
                let age = Duration::from_nanos(times.failed.start().saturating_sub(oldest));
                self.oldest = self.oldest.max(age);
            }
            Err(_) if times.keep_changes(events) => self.misread += 1,
            Err(_) => self.broken += 1,
        }
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            keys: self.keys + other.keys,
            calls: self.calls + other.calls,
            unanswered: self.unanswered + other.unanswered,
            losers: self.losers + other.losers,
            undone: self.undone + other.undone,
            oldest: self.oldest.max(other.oldest),
            broken: self.broken + other.broken,
            misread: self.misread + other.misread,
        }
    }
}

impl Times {
    /// Returns true if every confirmed change is present at the end, regardless of earlier reads.
    fn keep_changes(&self, events: &[Event]) -> bool {
        let counts = |event: &&Event| event.step.changes() || event.invoked >= self.over;
        check(&events.iter().filter(counts).copied().collect::<Vec<_>>()).is_ok()
    }
}

impl Service {
    async fn start(self, is_confirmed: bool) -> Servers {
        match self {
            Self::Redis => Servers::Redis(block_in_place(RedisWithSentinels::start)),
            Self::Postgres => {
                let (primary, standby) = block_in_place(pair);
                postgres(&primary, &standby).migrate().await.expect("the tables can be made");
                if is_confirmed {
                    primary.sql("postgres", "postgres", SYNCHRONOUS);
                }
                primary.wait_until_followed();
                Servers::Postgres(primary, standby)
            }
        }
    }
}

enum Servers {
    Redis(RedisWithSentinels),
    Postgres(Postgres, Postgres),
}

impl Servers {
    /// Opens the store of a node.
    async fn store(&self, is_confirmed: bool) -> Arc<dyn SessionStore> {
        match self {
            Self::Redis(servers) => {
                let addresses = servers.addresses();
                let addresses =
                    addresses.iter().map(|address| address.parse().expect("an address"));
                let copies = usize::from(is_confirmed);
                let builder =
                    RedisStore::builder().user(USER, PASSWORD).wait(copies, CONFIRMS_WITHIN);
                let store = builder.sentinel(addresses.collect(), SERVICE);
                Arc::new(store.expect("the store can be set up"))
            }
            Self::Postgres(primary, standby) => {
                let store = postgres(primary, standby).build().await;
                Arc::new(store.expect("the database can be reached"))
            }
        }
    }

    /// Stops replication.
    fn stop_replication(&self) {
        match self {
            Self::Redis(servers) => {
                servers.servers[1].pause();
                servers.servers[0].ask(&["CLIENT", "KILL", "TYPE", "replica"]);
            }
            Self::Postgres(primary, standby) => {
                standby.pause();
                primary.sql("postgres", "postgres", CUT_OFF);
            }
        }
    }

    fn kill(&mut self) {
        match self {
            Self::Redis(servers) => servers.servers[0].kill(),
            Self::Postgres(primary, _) => primary.kill(),
        }
    }

    fn pause(&self) {
        match self {
            Self::Redis(servers) => servers.servers[0].pause(),
            Self::Postgres(primary, _) => primary.pause(),
        }
    }

    fn resume(&self) {
        match self {
            Self::Redis(servers) => servers.servers[0].resume(),
            Self::Postgres(primary, _) => primary.resume(),
        }
    }

    /// Promotes the replica.
    fn replace(&self) {
        match self {
            Self::Redis(servers) => {
                servers.servers[1].resume();
                servers.wait_for_primary(1);
            }
            Self::Postgres(_, standby) => {
                standby.resume();
                standby.promote();
            }
        }
    }
}

fn pair() -> (Postgres, Postgres) {
    let primary = Postgres::start(&[]);
    let standby = primary.standby();
    (primary, standby)
}

fn postgres(primary: &Postgres, standby: &Postgres) -> steadfast_postgres::PostgresStoreBuilder {
    let hosts = format!("{},{}", primary.address(), standby.address());
    PostgresStore::builder(&format!("postgres://postgres@{hosts}/postgres")).sweep_every(None)
}

impl fmt::Display for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = match (self.service, self.is_confirmed) {
            (Service::Redis, false) => "Redis, without `wait`",
            (Service::Redis, true) => "Redis, `wait` for 1 replica",
            (Service::Postgres, false) => "PostgreSQL, asynchronous standby",
            (Service::Postgres, true) => "PostgreSQL, synchronous standby",
        };
        write!(f, "{service} | {}", self.failure)
    }
}

impl fmt::Display for PrimaryFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed => f.write_str("killed"),
            Self::KilledAfter(lag) => write!(f, "killed with a replication lag of {lag:?}"),
            Self::Hung => f.write_str("hung, and came back"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "values",
            Self::Counter => "counters",
            Self::Secret => "secrets",
            Self::Life => "beginnings and ends",
        })
    }
}

const SYNCHRONOUS: &str =
    "ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()";

const CUT_OFF: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication";

/// Shorter than the timeout of the middleware.
const CONFIRMS_WITHIN: Duration = Duration::from_secs(1);

/// The longest transit time of an answer.
const SHORT_PAUSE: Duration = Duration::from_millis(100);

const NODES: usize = 3;

const CLIENTS: usize = 6;
