//! The servers of the tests, and stores that connect to them.

use std::fmt;
use std::sync::Arc;

use steadfast_core::{Env, ManualClock, SessionStore};
use steadfast_postgres::{PostgresStore, PostgresStoreBuilder, SetupError};
use steadfast_redis::{Address, RedisStore};
use testkit::messages::Protocol;
use testkit::postgres::Postgres;
use testkit::redis::{PASSWORD, Redis, USER};
use testkit::within;

/// A kind of server and connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    Redis,
    RedisOverTls,
    Postgres,
    PostgresOverTls,
}

impl Target {
    pub const ALL: [Self; 4] =
        [Self::Redis, Self::RedisOverTls, Self::Postgres, Self::PostgresOverTls];

    pub fn protocol(self) -> Protocol {
        match self {
            Self::Redis => Protocol::Redis,
            Self::RedisOverTls => Protocol::RedisOverTls,
            Self::Postgres => Protocol::Postgres,
            Self::PostgresOverTls => Protocol::PostgresOverTls,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::RedisOverTls => "Redis, TLS",
            Self::Postgres => "PostgreSQL",
            Self::PostgresOverTls => "PostgreSQL, TLS",
        })
    }
}

/// A server of one kind, and the stores that connect to it.
pub struct Deployment {
    pub target: Target,
    server: Server,
}

enum Server {
    Redis(Redis, Option<testkit::redis::Certificates>),
    Postgres(Postgres, Option<testkit::postgres::Certificates>),
}

/// A number of a space. The stores of one space share its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space(pub usize);

impl Deployment {
    pub async fn start(target: Target) -> Self {
        let server = match target {
            Target::Redis => Server::Redis(Redis::start(), None),
            Target::RedisOverTls => {
                let certificates = testkit::redis::Certificates::of("localhost");
                Server::Redis(Redis::with_tls(&certificates), Some(certificates))
            }
            Target::Postgres => Server::Postgres(Postgres::start(&[]), None),
            Target::PostgresOverTls => {
                let certificates = testkit::postgres::Certificates::issue("localhost");
                let settings = certificates.settings();
                let settings: Vec<_> = settings.iter().map(String::as_str).collect();
                Server::Postgres(Postgres::start(&settings), Some(certificates))
            }
        };
        let deployment = Self { target, server };
        deployment.prepare(Space(0)).await;
        deployment
    }

    /// Creates a space for records that only its own stores see.
    pub async fn prepare(&self, space: Space) {
        if let Server::Postgres(server, certificates) = &self.server {
            let address = server.address();
            let builder = postgres(&address, certificates.as_ref(), space);
            let migrate = |builder: PostgresStoreBuilder| async move { builder.migrate().await };
            retry(|| migrate(builder.clone())).await;
        }
    }

    /// Returns the address of the server.
    pub fn address(&self) -> String {
        match &self.server {
            Server::Redis(server, _) => server.address(),
            Server::Postgres(server, _) => server.address(),
        }
    }

    /// Opens a store that connects to an address: the server's own, or that of a proxy to it.
    pub async fn store(&self, address: &str, space: Space) -> Arc<dyn SessionStore> {
        match &self.server {
            Server::Redis(_, certificates) => {
                Arc::new(redis(address, certificates.as_ref(), space))
            }
            Server::Postgres(_, certificates) => {
                let builder = postgres(address, certificates.as_ref(), space);
                Arc::new(retry(|| builder.clone().build()).await)
            }
        }
    }

    /// Opens a store that connects to the server directly.
    pub async fn direct(&self, space: Space) -> Arc<dyn SessionStore> {
        self.store(&self.address(), space).await
    }

    /// Frees what the server still keeps of deleted records.
    pub fn free_deleted(&self) {
        if let Server::Postgres(server, _) = &self.server {
            server.sql("postgres", "postgres", "VACUUM");
        }
    }
}

fn redis(
    address: &str,
    certificates: Option<&testkit::redis::Certificates>,
    Space(space): Space,
) -> RedisStore {
    let address: Address = address.parse().expect("an address");
    let mut builder = RedisStore::builder().user(USER, PASSWORD).env(fixed_clock());
    builder = builder.prefix(format!("steadfast:{space}").parse().expect("a prefix"));
    let Some(certificates) = certificates else {
        return builder.standalone(address).expect("the store can be set up");
    };
    let tls = steadfast_redis::Tls::authorities(certificates.authority()).expect("an authority");
    let address = Address::new("localhost", address.port());
    builder.tls(tls).standalone(address).expect("the store can be set up")
}

fn postgres(
    address: &str,
    certificates: Option<&testkit::postgres::Certificates>,
    Space(space): Space,
) -> PostgresStoreBuilder {
    let host = match certificates {
        None => address.to_owned(),
        Some(_) => address.replace("127.0.0.1", "localhost"),
    };
    let builder = PostgresStore::builder(&format!("postgres://postgres@{host}/postgres"))
        .schema(&format!("space_{space}"))
        .sweep_every(None)
        .env(fixed_clock());
    match certificates {
        None => builder,
        Some(certificates) => {
            builder.tls(steadfast_postgres::Tls::VerifyFull).root_certificate(certificates.root())
        }
    }
}

/// Repeats an attempt, because the machine may be busy with other cases.
async fn retry<T, A>(attempt: impl Fn() -> A) -> T
where
    A: Future<Output = Result<T, SetupError>>,
{
    within(async {
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => eprintln!("again: {error}"),
            }
        }
    })
    .await
}

/// A clock that stands still, so that every record is known to the millisecond.
fn fixed_clock() -> Env {
    Env::with_clock(ManualClock::default())
}
