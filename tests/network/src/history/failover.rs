//! A primary is killed under load, and its replica takes over.

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

/// What is replaced, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    pub service: Service,
    /// Whether the replica has to confirm: what ends a session or replaces its secret in Redis, every
    /// commit in PostgreSQL.
    pub is_confirmed: bool,
    pub fall: Fall,
    /// How many answers the clients get before the fall. They get a fifth of it afterwards.
    pub answers: i64,
}

/// How the primary falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fall {
    /// It is killed.
    Killed,
    /// It is killed after the replica has followed no more for a while.
    KilledAfter(Duration),
    /// It hangs, and goes on when another one has its place.
    Hung,
}

/// What is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Behind three sentinels.
    Redis,
    /// With one standby, which an administrator promotes.
    Postgres,
}

/// What one failover did to the keys of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toll {
    pub keys: u64,
    pub calls: u64,
    /// Calls of which it is not known whether they happened.
    pub unanswered: u64,
    /// Keys whose last confirmed changes were undone.
    pub losers: u64,
    /// The changes.
    pub undone: u64,
    /// How long before the fall the oldest of them was confirmed.
    pub oldest: Duration,
    /// Keys that lost confirmed changes in another way.
    pub broken: u64,
    /// Keys that lost none, but for a moment were read as they were before, or as they never came to be.
    pub misread: u64,
}

/// What a failover did, by what is told apart of a record.
pub type Tolls = Vec<(Part, Toll)>;

impl Failover {
    /// Has the primary fall under load, and judges what the clients were told.
    pub async fn run(self, seed: u64) -> Tolls {
        let mut servers = self.service.start(self.is_confirmed).await;
        let mut stores = Vec::new();
        for _ in 0..NODES {
            stores.push(servers.store(self.is_confirmed).await);
        }
        let clients = Clients::start(stores, CLIENTS, seed).await;
        within(clients.go_on(self.answers)).await;
        if let Fall::KilledAfter(lag) = self.fall {
            block_in_place(|| servers.leave_behind());
            sleep(lag).await;
            if !self.is_confirmed {
                within(clients.go_on_changing(&Part::ALL)).await;
            }
        }
        let fall = clients.now();
        match self.fall {
            Fall::Hung => servers.pause(),
            _ => block_in_place(|| servers.kill()),
        }
        // Its last answers are still on their way.
        sleep(A_MOMENT).await;
        let fallen = fall..=clients.now();
        block_in_place(|| servers.replace());
        if self.fall == Fall::Hung {
            servers.resume();
        }
        within(clients.go_on(self.answers / 5)).await;
        let over = clients.now();
        judge(&within(clients.stop()).await, &Times { fallen, over })
    }
}

/// When what happened.
struct Times {
    /// From when the primary fell until nothing of it was under way any more.
    fallen: RangeInclusive<u64>,
    /// When the clients had done, and looked at every record once more.
    over: u64,
}

/// Weighs every history on its own.
fn judge(histories: &Histories, times: &Times) -> Tolls {
    let toll = |part| {
        let mut toll = Toll::default();
        for (_, events) in histories.iter().filter(|((of, _), _)| *of == part) {
            toll.add(events, times);
        }
        (part, toll)
    };
    Part::ALL.map(toll).to_vec()
}

impl Toll {
    fn add(&mut self, events: &[Event], times: &Times) {
        self.keys += 1;
        self.calls += events.len() as u64;
        self.unanswered += events.iter().filter(|event| !event.is_certain).count() as u64;
        match loss(events, *times.fallen.end()) {
            Ok(Loss { changes: 0, .. }) => {}
            Ok(Loss { changes, oldest }) => {
                self.losers += 1;
                self.undone += changes;
                let age = Duration::from_nanos(times.fallen.start().saturating_sub(oldest));
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
    /// Whether every confirmed change is there in the end, whatever was read before.
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
    /// A store of a node.
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

    /// Has the replica follow no more.
    fn leave_behind(&self) {
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

    /// Has the replica take over.
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
        write!(f, "{service} | {}", self.fall)
    }
}

impl fmt::Display for Fall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed => f.write_str("killed"),
            Self::KilledAfter(lag) => write!(f, "killed, the replica {lag:?} behind"),
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

/// Below the middleware's deadline.
const CONFIRMS_WITHIN: Duration = Duration::from_secs(1);

/// How long an answer is on its way at most.
const A_MOMENT: Duration = Duration::from_millis(100);

const NODES: usize = 3;

const CLIENTS: usize = 6;
